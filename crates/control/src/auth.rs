//! Who is asking: bearer tokens of the management API, compared in constant time.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};

use crate::config::{AdminToken, Role};
use crate::reply::Failure;

/// The tokens in force, as digests.
pub(crate) struct Tokens(Vec<([u8; 32], Role)>);

impl Tokens {
    pub(crate) fn new(tokens: Vec<AdminToken>) -> Self {
        Self(tokens.into_iter().map(|token| (digest(token.token.expose()), token.role)).collect())
    }

    /// The role of the bearer.
    pub(crate) fn role_of(&self, headers: &HeaderMap) -> Result<Role, Failure> {
        let Some(value) = headers.get(AUTHORIZATION) else {
            return Err(Failure::unauthorized("no token: send `Authorization: Bearer <admin token>`"));
        };
        let Some(presented) = value.to_str().ok().and_then(bearer) else {
            return Err(Failure::unauthorized(
                "the `Authorization` header is no bearer token: send `Authorization: Bearer <admin token>`",
            ));
        };
        let presented = digest(presented);
        // All of them, so that the time tells nothing of which one it was or whether there was one.
        let mut found = None;
        for (token, role) in &self.0 {
            if same(token, &presented) {
                found = Some(*role);
            }
        }
        found.ok_or_else(|| {
            Failure::unauthorized("the token is not known: use one of `admin_tokens` in the configuration")
        })
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Tokens are compared by digest: equal lengths, and no prefix of a secret is ever compared.
fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
}
