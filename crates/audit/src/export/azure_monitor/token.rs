//! Access tokens by the client credentials flow of Microsoft Entra
//! (<https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>): asked for once, kept until
//! shortly before they end, asked for anew when the destination does not take one.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderValue};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::config::AzureMonitor;
use crate::delivery::SendOutcome;
use crate::export::ExportError;
use crate::export::http::{Answer, Credential, Http, NoAnswer, advice};
use crate::secret::{Secret, SecretError};

/// A token is some kilobytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// A token is not used in the last minutes of its life: the request with it takes its time, and clocks differ.
const MARGIN: Duration = Duration::from_secs(300);

/// Why there is no token, with the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoToken {
    /// The token endpoint does not answer.
    #[error("no token: {0}")]
    NoAnswer(#[from] NoAnswer),
    /// It is in trouble, or asks for fewer requests.
    #[error("no token: the token endpoint answers {status}: {}", advice(*.status))]
    Busy {
        /// HTTP status.
        status: u16,
        /// Its `Retry-After`.
        after: Option<Duration>,
    },
    /// It refuses.
    #[error("no token: the token endpoint answers {0}")]
    Refused(String),
}

impl From<NoToken> for SendOutcome {
    fn from(no_token: NoToken) -> Self {
        let why = no_token.to_string();
        match no_token {
            NoToken::NoAnswer(_) => Self::Retry { after: None, why },
            NoToken::Busy { after, .. } => Self::Retry { after, why },
            NoToken::Refused(_) => Self::Hold { why },
        }
    }
}

struct Held {
    header: HeaderValue,
    until: Instant,
}

/// The tokens of one application.
pub(super) struct Tokens {
    http: Http,
    client_id: String,
    scope: &'static str,
    secret: Credential,
    held: Mutex<Option<Held>>,
}

impl Tokens {
    /// Reads the secret and sets up the client; asks for nothing yet.
    ///
    /// # Errors
    /// [`ExportError`].
    pub(super) fn new(config: &AzureMonitor) -> Result<Self, ExportError> {
        let mut headers = HeaderMap::new();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let http = Http::new(&config.token_endpoint, config.limits.timeout, headers, "`authority`")?;
        let secret = Credential::new(
            config.client_secret.clone(),
            Box::new(|secret: &Secret| secret.expose().to_owned()),
        )?;
        let (client_id, scope) = (config.client_id.clone(), config.scope);
        Ok(Self { http, client_id, scope, secret, held: Mutex::new(None) })
    }

    /// The `Authorization` header. One request asks, all that fly meanwhile wait for it.
    ///
    /// # Errors
    /// [`NoToken`].
    pub(super) async fn header(&self) -> Result<HeaderValue, NoToken> {
        let mut held = self.held.lock().await;
        if let Some(token) = held.as_ref().filter(|token| token.until > Instant::now()) {
            return Ok(token.header.clone());
        }
        let fresh = self.ask().await?;
        let header = fresh.header.clone();
        *held = Some(fresh);
        Ok(header)
    }

    /// Forgets a token that was not taken, unless another took its place.
    pub(super) async fn forget(&self, header: &HeaderValue) {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|token| token.header == *header) {
            *held = None;
        }
    }

    /// Reads the secret anew, and forgets the token that the old one got.
    ///
    /// # Errors
    /// [`SecretError`].
    pub(super) async fn reload(&self) -> Result<(), SecretError> {
        self.secret.reload().await?;
        *self.held.lock().await = None;
        Ok(())
    }

    /// Where the secret comes from, in words.
    pub(super) fn origin(&self) -> String {
        self.secret.origin()
    }

    async fn ask(&self) -> Result<Held, NoToken> {
        #[derive(Deserialize)]
        struct Token {
            access_token: String,
            expires_in: u64,
        }
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.client_id)
            .append_pair("client_secret", self.secret.secret().expose())
            .append_pair("scope", self.scope)
            .finish();
        let asked = Instant::now();
        let answer = self.http.post(HeaderMap::new(), Bytes::from(form), ANSWER_BYTES_MAX).await?;
        if !answer.is_success() {
            return Err(self.refused(&answer));
        }
        let odd = || {
            NoToken::Refused(format!(
                "{} with {}, which is not a token: check `authority`, and whether a proxy or a login page answers in its place",
                answer.status,
                answer.kind()
            ))
        };
        let token: Token = answer.json().ok_or_else(odd)?;
        let mut header =
            HeaderValue::from_str(&format!("Bearer {}", token.access_token)).map_err(|_| odd())?;
        header.set_sensitive(true);
        let life = Duration::from_secs(token.expires_in);
        // Of a short life the first half is used.
        let until = asked + life.saturating_sub(MARGIN).max(life / 2);
        Ok(Held { header, until })
    }

    fn refused(&self, answer: &Answer) -> NoToken {
        #[derive(Deserialize)]
        struct Refusal {
            #[serde(default)]
            error: String,
            #[serde(default)]
            error_codes: Vec<u64>,
        }
        let (status, after) = (answer.status, answer.retry_after());
        if matches!(status, 408 | 429 | 500..=599) {
            return NoToken::Busy { status, after };
        }
        let refusal = answer.json::<Refusal>();
        // The description repeats ids and times; the code is what one looks up.
        let code = refusal.as_ref().and_then(|refusal| refusal.error_codes.first().copied());
        let named = match (&refusal, code) {
            (_, Some(code)) => format!(" (AADSTS{code})"),
            (Some(refusal), None) => self.secret.detail(&refusal.error),
            (None, None) => String::new(),
        };
        NoToken::Refused(format!("{status}{named}: {}", self.advice(status, code)))
    }

    fn advice(&self, status: u16, code: Option<u64>) -> String {
        let origin = self.secret.origin();
        match code {
            Some(7_000_215) => {
                format!("the secret from {origin} is wrong: give the secret's value, not its id")
            }
            Some(7_000_222) => {
                format!("the secret from {origin} has expired: make a new one for the application")
            }
            Some(700_016) => {
                "there is no such application in this tenant: check `client_id` and `tenant_id`".to_owned()
            }
            Some(90_002 | 900_023) => "there is no such tenant: check `tenant_id`, and `cloud`".to_owned(),
            _ if (300..400).contains(&status) => advice(status).to_owned(),
            _ => format!("check `tenant_id`, `client_id` and the secret from {origin}"),
        }
    }
}
