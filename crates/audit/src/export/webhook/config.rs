//! Configuration of a `webhook` destination: what may be written, and the checked form. Nothing outside is read here;
//! secrets stay sources.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use policy::problems::Problem;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::send::WebhookDestination;
use crate::delivery::Limits;
use crate::export::check::{Bounds, Check, sizes};
use crate::export::{ExportError, Kind};
use crate::secret::SecretSource;

/// One event a request is what receivers expect; more is for whoever asks for it.
const BATCH_EVENTS: (u64, u64) = (1, 1000);
/// Receivers seldom take more.
const BATCH_BYTES: (u64, u64) = (1_000_000, 5_000_000);
/// The contract's linger.
const LINGER_MS: (u64, u64) = (200, 10_000);
/// The specification advises 15 to 30 seconds.
const TIMEOUT_SECONDS: u64 = 20;
/// What a secret starts with.
const SECRET_PREFIX: &str = "whsec_";
/// Bytes of a secret, by the specification.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The value of `destination`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WebhookName {
    /// `webhook`.
    #[serde(rename = "webhook")]
    Webhook,
}

/// A destination of kind `webhook`, as written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawWebhook {
    /// Always `webhook`.
    pub destination: WebhookName,
    /// Where events are posted to.
    pub endpoint: String,
    /// `whsec_` and the base64 of 24 to 64 random bytes: `$NAME` (environment), `file:/path` (re-read on SIGHUP and after a
    /// 401 or 403), or the secret itself. While it is changed, two with a blank between: each signs.
    pub secret: String,
    /// Most events in one request, 1 to 1000. Default: 1. From 2 on, `data` is `{"events": […]}`.
    #[schemars(range(min = 1, max = 1000))]
    pub batch_events_max: Option<u64>,
    /// Most bytes in one request, 1,000 to 5,000,000. Default: 1,000,000.
    #[schemars(range(min = 1000, max = 5_000_000))]
    pub batch_bytes_max: Option<u64>,
    /// Longest wait in milliseconds for a batch to fill, 0 to 10,000. Default: 200.
    #[schemars(range(max = 10_000))]
    pub linger_ms: Option<u64>,
    /// Requests in flight at once, 1 to 64. Default: 4.
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: Option<u64>,
    /// Time in seconds for one request, connection included, 1 to 300. Default: 20.
    #[schemars(range(min = 1, max = 300))]
    pub timeout_seconds: Option<u64>,
}

/// A `webhook` destination, checked and complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// Where events are posted to.
    pub endpoint: Url,
    /// Where the secret comes from.
    pub secret: SecretSource,
    /// Sizes, waits and times.
    pub limits: Limits,
}

impl Kind for Webhook {
    const NAME: &'static str = "webhook";
    type Raw = RawWebhook;
    type Sender = WebhookDestination;

    fn read(raw: &RawWebhook, path_prefix: &str) -> Result<Self, Vec<Problem>> {
        let mut check = Check::new(path_prefix);
        let endpoint = check.url("endpoint", &raw.endpoint, "https://hooks.example.com/audit");
        let secret = check.secret("secret", &raw.secret);
        if let Some(SecretSource::Literal(secret)) = &secret
            && let Err(message) = keys(secret.expose())
        {
            check.problem("secret", &message);
        }
        let bounds = Bounds {
            events: BATCH_EVENTS,
            bytes: BATCH_BYTES,
            linger_ms: LINGER_MS,
            timeout_seconds: TIMEOUT_SECONDS,
        };
        let limits = check.limits(sizes!(raw), &bounds);
        let made = endpoint.zip(secret).map(|(endpoint, secret)| Self { endpoint, secret, limits });
        check.finish(made)
    }

    fn endpoint(&self) -> &str {
        self.endpoint.as_str()
    }

    fn limits(&self) -> Limits {
        self.limits.clone()
    }

    fn secrets(&self) -> Vec<(&'static str, &SecretSource)> {
        vec![("secret", &self.secret)]
    }

    fn sender(&self) -> Result<WebhookDestination, ExportError> {
        WebhookDestination::new(self.clone())
    }

    fn look_for(&self, event_id: Uuid) -> String {
        format!("webhook-id {event_id}")
    }
}

/// The keys in a secret, to sign with each.
pub(super) fn keys(secret: &str) -> Result<Vec<Vec<u8>>, String> {
    let key = |text: &str| {
        let bytes = STANDARD.decode(text.strip_prefix(SECRET_PREFIX)?).ok()?;
        SECRET_BYTES.contains(&bytes.len()).then_some(bytes)
    };
    let keys: Option<Vec<Vec<u8>>> = secret.split_ascii_whitespace().map(key).collect();
    keys.filter(|keys| !keys.is_empty()).ok_or_else(|| {
        "must be `whsec_` and the base64 of 24 to 64 random bytes: make one with `echo whsec_$(openssl rand -base64 32)`"
            .to_owned()
    })
}
