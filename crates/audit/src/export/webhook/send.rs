//! One signed request, and what its answer means.

use std::sync::{PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

use super::config::{Webhook, keys};
use super::encode::WebhookBody;
use crate::delivery::{Destination, Parcel, SendOutcome};
use crate::export::ExportError;
use crate::export::http::{self, Answer, Http};
use crate::secret::{SecretError, SecretSource};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// Receivers say little; nothing of it is kept.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A webhook, ready to send.
pub struct WebhookDestination {
    config: Webhook,
    http: Http,
    keys: RwLock<Vec<Vec<u8>>>,
}

fn read_keys(source: &SecretSource) -> Result<Vec<Vec<u8>>, SecretError> {
    let secret = source.resolve()?;
    keys(secret.expose()).map_err(|message| SecretError::Unfit { origin: source.origin(), message })
}

impl WebhookDestination {
    /// Reads the secret and sets up the client.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn new(config: Webhook) -> Result<Self, ExportError> {
        let keys = RwLock::new(read_keys(&config.secret)?);
        let headers =
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let http = Http::new(&config.endpoint, config.limits.timeout, headers, "`endpoint`")?;
        Ok(Self { config, http, keys })
    }

    /// Id, time and a signature by each key.
    fn headers(&self, parcel: &Parcel) -> Result<HeaderMap, String> {
        let seconds = parcel.now_ms.div_euclid(1000).to_string();
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let signatures: Option<Vec<String>> =
            keys.iter().map(|key| sign(key, &parcel.note, &seconds, &parcel.body)).collect();
        let signatures = signatures.ok_or("the body could not be signed")?.join(" ");
        let value = |text: &str| HeaderValue::from_str(text).map_err(|error| error.to_string());
        Ok(HeaderMap::from_iter([
            (ID, value(&parcel.note)?),
            (TIMESTAMP, value(&seconds)?),
            (SIGNATURE, value(&signatures)?),
        ]))
    }

    fn judge(&self, answer: &Answer) -> SendOutcome {
        let status = answer.status;
        if answer.is_success() {
            if !is_page(answer) {
                return SendOutcome::Delivered;
            }
            let why = format!(
                "the endpoint answers {status} with a web page: check `endpoint`, and whether a proxy or a login page \
                 answers in the receiver's place"
            );
            return SendOutcome::Hold { why };
        }
        let origin = self.config.secret.origin();
        let advice = match status {
            400 | 422 => format!(
                "it does not accept the event; where it says so of all, it may not accept the signature: check `secret` \
                 ({origin})"
            ),
            401 | 403 => format!("it does not accept the signature: check `secret` ({origin})"),
            404 => format!("there is no `{}`: check `endpoint`", self.config.endpoint.path()),
            410 => "it wants no more events: give another `endpoint`, or remove the destination".to_owned(),
            _ => http::advice(status).to_owned(),
        };
        let why = format!("the endpoint answers {status}: {advice}");
        let status = if status == 422 { 400 } else { status };
        http::by_status(status, answer.retry_after(), why).unwrap_or(SendOutcome::Delivered)
    }
}

impl Destination for WebhookDestination {
    type Builder = WebhookBody;

    fn begin(&self, _now_ms: i64) -> Result<WebhookBody, String> {
        let limits = &self.config.limits;
        Ok(WebhookBody::new(limits.batch_events_max, limits.batch_bytes_max))
    }

    async fn send(&self, parcel: Parcel) -> SendOutcome {
        let headers = match self.headers(&parcel) {
            Ok(headers) => headers,
            Err(why) => return SendOutcome::Retry { after: None, why },
        };
        match self.http.post(headers, parcel.body, ANSWER_BYTES_MAX).await {
            Ok(answer) => self.judge(&answer),
            Err(no_answer) => no_answer.into(),
        }
    }

    async fn reload_secrets(&self) -> Result<(), SecretError> {
        let source = self.config.secret.clone();
        let origin = source.origin();
        let read = tokio::task::spawn_blocking(move || read_keys(&source)).await;
        let keys = read.map_err(|_| SecretError::Empty { origin })??;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// A batch's id is made of its bounds; a single event has its own.
    fn keeps_bounds(&self) -> bool {
        self.config.limits.batch_events_max > 1
    }
}

/// `v1,` and the base64 of the HMAC-SHA256 over `{id}.{seconds}.{body}`.
fn sign(key: &[u8], id: &str, seconds: &str, body: &[u8]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    for part in [id.as_bytes(), b".", seconds.as_bytes(), b".", body] {
        mac.update(part);
    }
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// A page for people: no receiver answers so.
fn is_page(answer: &Answer) -> bool {
    let kind =
        answer.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let body = answer.body.as_deref().unwrap_or_default().trim_ascii_start();
    kind.starts_with("text/html") && body.first() == Some(&b'<')
}
