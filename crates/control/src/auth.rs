//! Who is asking: bearer tokens of the management API, compared in constant time.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};

use crate::config::{AdminToken, Role};
use crate::reply::Failure;

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The token's name: what stands in the audit log as the author of a change.
    pub(crate) name: String,
    /// What they may do.
    pub(crate) role: Role,
}

/// The tokens in force, as digests.
pub(crate) struct Tokens(Vec<([u8; 32], Caller)>);

impl Tokens {
    pub(crate) fn new(tokens: Vec<AdminToken>) -> Self {
        let caller =
            |token: AdminToken| (digest(token.token.expose()), Caller { name: token.name, role: token.role });
        Self(tokens.into_iter().map(caller).collect())
    }

    /// The bearer.
    ///
    /// # Errors
    /// [`Failure`] where there is no token, or none that is known.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Result<Caller, Failure> {
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
        for (token, caller) in &self.0 {
            if same(token, &presented) {
                found = Some(caller);
            }
        }
        found.cloned().ok_or_else(|| {
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
