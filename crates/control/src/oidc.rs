//! JSON Web Tokens of an OpenID Connect issuer in place of a token of the configuration: the issuer's keys, kept and
//! fetched anew as they rotate, and what a token must say. How a URL is fetched is behind [`Fetch`]; signatures are in
//! `jws`.

mod claims;
mod config;
mod jws;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use audit::delivery::Clock;
use serde::Deserialize;
use tokio::sync::Mutex;

pub use config::{Oidc, OidcConfig};

use crate::auth::Caller;
use crate::ports::{Fetch, PortError};
use crate::reply::Failure;
pub(crate) use jws::is_jwt;
use jws::{Jwk, Unusable};

/// Where an issuer describes itself (OpenID Connect Discovery 1.0, section 4).
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// A key that nobody knows is looked for at the issuer no more often than this: whoever invents key ids must not make the
/// gateway ask for each.
const REFRESH_MIN_MS: i64 = 30_000;
/// Keys are fetched anew so often, so that one that the issuer withdrew is not good for long.
const REFRESH_EVERY: Duration = Duration::from_secs(600);
/// The next try after one that failed.
const RETRY: Duration = Duration::from_secs(30);
/// Keys of an issuer: a handful. More would be no key set.
const KEYS_MAX: usize = 100;

/// An issuer, and its keys as last fetched.
pub struct Issuer {
    oidc: Oidc,
    fetch: Arc<dyn Fetch>,
    clock: Arc<dyn Clock>,
    keys: ArcSwap<Vec<Jwk>>,
    /// When the keys were last asked for, Unix milliseconds; held while they are.
    asked_ms: Mutex<Option<i64>>,
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

impl Issuer {
    /// Nothing is fetched yet: the first token, or [`Issuer::keep_fresh`], does.
    pub fn new(oidc: Oidc, fetch: Arc<dyn Fetch>, clock: Arc<dyn Clock>) -> Self {
        Self { oidc, fetch, clock, keys: ArcSwap::default(), asked_ms: Mutex::new(None) }
    }

    /// What it was made of.
    pub fn oidc(&self) -> &Oidc {
        &self.oidc
    }

    /// Fetches the keys once.
    ///
    /// # Errors
    /// Why they cannot be had.
    pub async fn try_keys(&self) -> Result<(), PortError> {
        self.refresh(0).await
    }

    /// Fetches the keys now and then, and never ends. What goes wrong is told; the keys that were there stay.
    pub async fn keep_fresh(&self, told: impl Fn(&PortError)) {
        loop {
            let wait = match self.refresh(0).await {
                Ok(()) => REFRESH_EVERY,
                Err(error) => {
                    told(&error);
                    RETRY
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// The bearer of a token.
    ///
    /// # Errors
    /// [`Failure`], which says what is wrong with it.
    pub(crate) async fn caller(&self, token: &str) -> Result<Caller, Failure> {
        let parsed = jws::parse(token).map_err(refused)?;
        let key = match parsed.key(&self.keys.load()) {
            Some(key) => key,
            None => {
                let asked = self.refresh(REFRESH_MIN_MS).await;
                match parsed.key(&self.keys.load()) {
                    Some(key) => key,
                    // Nobody can say whether the token is good.
                    None if self.keys.load().is_empty() => {
                        let why = asked.err().map_or_else(|| "it has no keys".to_owned(), |error| error.0);
                        let message = format!(
                            "the token cannot be checked: the keys of its issuer are not there: {why}"
                        );
                        return Err(Failure::unavailable(message));
                    }
                    None => return Err(refused(parsed.unknown_key())),
                }
            }
        };
        let claims = parsed.verify(&key).map_err(refused)?;
        let now_s = self.clock.now_ms().div_euclid(1000);
        claims::caller(&claims, &self.oidc, now_s).map_err(|error| match error {
            claims::Refused::Token(message) => refused(Unusable(message)),
            claims::Refused::Role(message) => Failure::forbidden(message),
        })
    }

    /// Fetches the keys, unless they were asked for within `min_ms`. One at a time: whoever waits has the same answer.
    async fn refresh(&self, min_ms: i64) -> Result<(), PortError> {
        let mut asked_ms = self.asked_ms.lock().await;
        let now_ms = self.clock.now_ms();
        if asked_ms.is_some_and(|asked_ms| now_ms.saturating_sub(asked_ms) < min_ms) {
            return Ok(());
        }
        *asked_ms = Some(now_ms);
        let keys = self.fetch_keys().await?;
        self.keys.store(Arc::new(keys));
        Ok(())
    }

    async fn fetch_keys(&self) -> Result<Vec<Jwk>, PortError> {
        let url = match &self.oidc.jwks_uri {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let text = self.fetch.get(url.clone()).await?;
        let set: KeySet = serde_json::from_slice(&text)
            .map_err(|_| PortError(format!("what `{url}` answers is no JSON Web Key Set")))?;
        // One that cannot be used here (another algorithm, for encryption) is none of ours.
        let keys: Vec<Jwk> = set.keys.into_iter().take(KEYS_MAX).filter_map(|key| Jwk::read(&key)).collect();
        if keys.is_empty() {
            let message =
                format!("`{url}` has no key that can be used: RS256, ES256 and EdDSA are known here");
            return Err(PortError(message));
        }
        Ok(keys)
    }

    async fn discover(&self) -> Result<String, PortError> {
        let url = format!("{}{DISCOVERY}", self.oidc.issuer.trim_end_matches('/'));
        let text = self.fetch.get(url.clone()).await?;
        let found: Discovered = serde_json::from_slice(&text)
            .map_err(|_| PortError(format!("what `{url}` answers describes no OpenID Connect issuer")))?;
        if found.issuer != self.oidc.issuer {
            let message = format!(
                "`{url}` describes the issuer `{}`, not `{}`: write `oidc.issuer` as it does",
                found.issuer, self.oidc.issuer
            );
            return Err(PortError(message));
        }
        config::check_url(&found.jwks_uri)
            .map_err(|message| PortError(format!("`jwks_uri` of `{url}` {message}")))?;
        Ok(found.jwks_uri)
    }
}

fn refused(unusable: Unusable) -> Failure {
    Failure::unauthorized(&unusable.0)
}
