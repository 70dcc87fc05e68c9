//! The `oidc` section of the configuration: whose tokens count, and as what.

use std::collections::BTreeMap;

use policy::problems::Problem;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::Role;

/// Clocks differ by so much, as a rule.
const LEEWAY_SECONDS: u64 = 60;
/// More would keep tokens alive that their issuer let die.
const LEEWAY_SECONDS_MAX: u64 = 300;

/// An OpenID Connect issuer whose tokens (JWT, signed with RS256, ES256 or EdDSA) may use the management API.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// The issuer's URL, exactly as its tokens have it in `iss`. https, or http on this machine.
    pub issuer: String,
    /// What tokens must be for (`aud`): the id that the issuer knows this gateway by.
    pub audience: String,
    /// The claim that says who may do what: a text or a list of texts, as in `groups` or `realm_access.roles`.
    pub roles_claim: String,
    /// Roles by the claim's values. Where several fit, the first of admin, editor, reviewer, auditor counts.
    pub role_map: BTreeMap<String, Role>,
    /// Where the issuer's keys are. Default: where its `/.well-known/openid-configuration` says.
    pub jwks_uri: Option<String>,
    /// By how many seconds clocks may differ, 0 to 300. Default 60.
    #[schemars(range(max = 300))]
    pub leeway_seconds: Option<u64>,
}

/// The same, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oidc {
    /// As in `iss`.
    pub issuer: String,
    /// As in `aud`.
    pub audience: String,
    /// Names of members, from the token's claims down.
    pub roles_claim: Vec<String>,
    /// Roles by the claim's values.
    pub role_map: BTreeMap<String, Role>,
    /// Where the keys are; none: found by discovery.
    pub jwks_uri: Option<String>,
    /// By how much clocks may differ.
    pub leeway_s: i64,
}

impl OidcConfig {
    /// Checks it.
    ///
    /// # Errors
    /// Every problem, with paths under `prefix` (`oidc`).
    pub fn build(&self, prefix: &str) -> Result<Oidc, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut add =
            |field: &str, message: String| problems.push(Problem::new(format!("{prefix}.{field}"), message));
        if let Err(message) = check_url(&self.issuer) {
            add("issuer", message);
        }
        if let Some(Err(message)) = self.jwks_uri.as_deref().map(check_url) {
            add("jwks_uri", message);
        }
        if self.audience.trim().is_empty() {
            add(
                "audience",
                "say what the issuer calls this gateway: a token for anybody is for nobody".to_owned(),
            );
        }
        let roles_claim: Vec<String> = self.roles_claim.split('.').map(str::to_owned).collect();
        if roles_claim.iter().any(String::is_empty) {
            add("roles_claim", "not a claim: write it like `groups` or `realm_access.roles`".to_owned());
        }
        if self.role_map.is_empty() {
            add("role_map", "it would let nobody in: write it like `{ platform-team: admin }`".to_owned());
        }
        let leeway = self.leeway_seconds.unwrap_or(LEEWAY_SECONDS);
        if leeway > LEEWAY_SECONDS_MAX {
            let message = format!("`{leeway}` is out of range: give a number from 0 to {LEEWAY_SECONDS_MAX}");
            add("leeway_seconds", message);
        }
        let oidc = Oidc {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            roles_claim,
            role_map: self.role_map.clone(),
            jwks_uri: self.jwks_uri.clone(),
            leeway_s: i64::try_from(leeway).unwrap_or(0),
        };
        if problems.is_empty() { Ok(oidc) } else { Err(problems) }
    }
}

/// Keys that came in the clear would be anybody's.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    let wrong = "must be an https URL (or http on this machine), without a query";
    let uri: http::Uri = url.parse().map_err(|_| wrong.to_owned())?;
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let fits = match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => is_here,
        _ => false,
    };
    let is_plain = uri.query().is_none() && uri.authority().is_some_and(|one| !one.as_str().contains('@'));
    if fits && is_plain { Ok(()) } else { Err(wrong.to_owned()) }
}
