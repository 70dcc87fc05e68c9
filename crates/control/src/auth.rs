//! Who is asking: bearer tokens of the management API, compared in constant time.

use audit::secret::Secret;
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
    /// The token that they will show again; none for one that is another the next time.
    pub(crate) token: Option<Secret>,
}

/// The tokens in force, as digests.
pub(crate) struct Tokens(Vec<([u8; 32], Caller)>);

impl Tokens {
    pub(crate) fn new(tokens: Vec<AdminToken>) -> Self {
        let caller = |token: AdminToken| {
            let digest = digest(token.token.expose());
            (digest, Caller { name: token.name, role: token.role, token: Some(token.token) })
        };
        Self(tokens.into_iter().map(caller).collect())
    }

    /// The bearer of a token that is one of these.
    pub(crate) fn caller(&self, presented: &str) -> Option<Caller> {
        let presented = digest(presented);
        // All of them, so that the time tells nothing of which one it was or whether there was one.
        let mut found = None;
        for (token, caller) in &self.0 {
            if same(token, &presented) {
                found = Some(caller);
            }
        }
        found.cloned()
    }
}

/// The token that a request came with.
///
/// # Errors
/// [`Failure`] where there is none.
pub(crate) fn presented(headers: &HeaderMap) -> Result<&str, Failure> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Err(Failure::unauthorized("no token: send `Authorization: Bearer <admin token>`"));
    };
    value.to_str().ok().and_then(bearer).ok_or_else(|| {
        Failure::unauthorized(
            "the `Authorization` header is no bearer token: send `Authorization: Bearer <admin token>`",
        )
    })
}

/// That it is nobody's.
pub(crate) fn unknown(has_issuer: bool) -> Failure {
    let more = if has_issuer { ", or a JSON Web Token of `oidc.issuer`" } else { "" };
    let message = format!("the token is not known: use one of `admin_tokens` in the configuration{more}");
    Failure::unauthorized(&message)
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
