//! Configuration of a `splunk_hec` destination: what may be written, and the checked form. Nothing outside is read here;
//! secrets stay sources.

use policy::problems::Problem;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::send::SplunkDestination;
use crate::delivery::Limits;
use crate::export::check::{Bounds, Check, sizes};
use crate::export::compress::Compression;
use crate::export::{ExportError, Kind};
use crate::secret::SecretSource;

/// Where events go below the collector's base URL.
const EVENT_PATH: &str = "/services/collector/event";
/// What Splunk Cloud advises for one body; a collector of one's own takes far more.
const BATCH_BYTES: (u64, u64) = (1_000_000, 10_000_000);
/// Default and cap of events in one body.
const BATCH_EVENTS: (u64, u64) = (1000, 10_000);
/// The contract's linger.
const LINGER_MS: (u64, u64) = (200, 10_000);
/// A busy collector answers late.
const TIMEOUT_SECONDS: u64 = 30;
/// `source` and `sourcetype` where nothing is said.
const SOURCE: &str = "policy-gateway";
/// Default sourcetype.
const SOURCETYPE: &str = "policy:gateway:audit";
/// Longest name of an index, a host and the like.
const NAME_CHARS_MAX: usize = 256;
/// Not acknowledged after this long, a body is sent again: Splunk's own forwarders wait five minutes.
const ACK_SECONDS: (u64, u64, u64) = (300, 10, 3600);

/// The value of `destination`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SplunkName {
    /// `splunk_hec`.
    #[serde(rename = "splunk_hec")]
    SplunkHec,
}

/// Whether events count as delivered only once Splunk has indexed them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AckMode {
    /// Where the token has indexer acknowledgement on; else a received event counts as delivered.
    #[default]
    Auto,
    /// Always; a token without indexer acknowledgement holds the destination.
    Required,
    /// Never: a received event counts as delivered, though it may still be lost on the way to the index.
    Off,
}

/// A destination of kind `splunk_hec`, as written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSplunkHec {
    /// Always `splunk_hec`.
    pub destination: SplunkName,
    /// URL of the collector, for example `https://splunk.example.com:8088`; its path is `/services/collector/event` unless
    /// another is given.
    pub endpoint: String,
    /// HEC token: `$NAME` (environment), `file:/path` (re-read on SIGHUP and after a 401 or 403), or the token itself.
    pub token: String,
    /// The index; it must be among the token's allowed ones. Default: the token's own.
    pub index: Option<String>,
    /// Default: `policy:gateway:audit`.
    pub sourcetype: Option<String>,
    /// Default: `policy-gateway`.
    pub source: Option<String>,
    /// Default: what Splunk makes of the connection.
    pub host: Option<String>,
    /// Whether events count as delivered only once Splunk has indexed them. Default: `auto`.
    pub ack: Option<AckMode>,
    /// Not acknowledged after so many seconds, a body is sent again; 10 to 3600. Default: 300.
    #[schemars(range(min = 10, max = 3600))]
    pub ack_timeout_seconds: Option<u64>,
    /// How bodies are compressed: `gzip` (level 1) or `identity`. Default: `gzip`.
    pub compression: Option<Compression>,
    /// Most events in one request, 1 to 10,000. Default: 1000.
    #[schemars(range(min = 1, max = 10_000))]
    pub batch_events_max: Option<u64>,
    /// Most uncompressed bytes in one request, 1,000 to 10,000,000. Default: 1,000,000, as Splunk Cloud advises.
    #[schemars(range(min = 1000, max = 10_000_000))]
    pub batch_bytes_max: Option<u64>,
    /// Longest wait in milliseconds for a batch to fill, 0 to 10,000. Default: 200.
    #[schemars(range(max = 10_000))]
    pub linger_ms: Option<u64>,
    /// Requests in flight at once, 1 to 64. Default: 4.
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: Option<u64>,
    /// Time in seconds for one request, connection included, 1 to 300. Default: 30.
    #[schemars(range(min = 1, max = 300))]
    pub timeout_seconds: Option<u64>,
}

/// A `splunk_hec` destination, checked and complete.
#[derive(Clone, Debug, PartialEq)]
pub struct SplunkHec {
    /// Where events go; holds no secret.
    pub endpoint: Url,
    /// Where the token comes from.
    pub token: SecretSource,
    /// The token's own where `None`.
    pub index: Option<String>,
    /// Of each event.
    pub sourcetype: String,
    /// Of each event.
    pub source: String,
    /// Of each event.
    pub host: Option<String>,
    /// What counts as delivered.
    pub ack: AckMode,
    /// After this long without an acknowledgement a body is sent again.
    pub ack_within: std::time::Duration,
    /// Of request bodies.
    pub compression: Compression,
    /// Sizes, waits and times.
    pub limits: Limits,
}

impl Kind for SplunkHec {
    const NAME: &'static str = "splunk_hec";
    type Raw = RawSplunkHec;
    type Sender = SplunkDestination;

    fn read(raw: &RawSplunkHec, path_prefix: &str) -> Result<Self, Vec<Problem>> {
        let mut check = Check::new(path_prefix);
        let endpoint = check.url("endpoint", &raw.endpoint, "https://splunk.example.com:8088");
        let endpoint = endpoint.and_then(|url| check.found("endpoint", with_path(url)));
        let token = check.secret("token", &raw.token);
        let name = |check: &mut Check<'_>, field: &str, value: &Option<String>| {
            value.as_ref().map(|value| check.text(field, value, NAME_CHARS_MAX))
        };
        let index = name(&mut check, "index", &raw.index);
        let sourcetype = name(&mut check, "sourcetype", &raw.sourcetype);
        let source = name(&mut check, "source", &raw.source);
        let host = name(&mut check, "host", &raw.host);
        let compression = raw.compression.unwrap_or_default();
        if !matches!(compression, Compression::Gzip | Compression::Identity) {
            check.problem("compression", "must be `gzip` or `identity`: Splunk reads no other");
        }
        let (default, min, max) = ACK_SECONDS;
        let ack_seconds = check.number("ack_timeout_seconds", raw.ack_timeout_seconds, default, min, max);
        let bounds = Bounds {
            events: BATCH_EVENTS,
            bytes: BATCH_BYTES,
            linger_ms: LINGER_MS,
            timeout_seconds: TIMEOUT_SECONDS,
        };
        let limits = check.limits(sizes!(raw), &bounds);
        let made = endpoint.zip(token).map(|(endpoint, token)| Self {
            endpoint,
            token,
            index,
            sourcetype: sourcetype.unwrap_or_else(|| SOURCETYPE.to_owned()),
            source: source.unwrap_or_else(|| SOURCE.to_owned()),
            host,
            ack: raw.ack.unwrap_or_default(),
            ack_within: std::time::Duration::from_secs(ack_seconds),
            compression,
            limits,
        });
        check.finish(made)
    }

    fn endpoint(&self) -> &str {
        self.endpoint.as_str()
    }

    fn limits(&self) -> Limits {
        self.limits.clone()
    }

    fn secrets(&self) -> Vec<(&'static str, &SecretSource)> {
        vec![("token", &self.token)]
    }

    fn sender(&self) -> Result<SplunkDestination, ExportError> {
        SplunkDestination::new(self.clone())
    }

    fn look_for(&self, event_id: Uuid) -> String {
        let index = self.index.as_deref().unwrap_or("*");
        format!("index={index} event_id={event_id}")
    }
}

/// The URL of the event endpoint, be that or the collector's base given.
fn with_path(mut url: Url) -> Result<Url, String> {
    let path = url.path().trim_end_matches('/').to_owned();
    if path.ends_with("/raw") {
        return Err(format!("is the endpoint for raw text: give `{EVENT_PATH}`, or no path"));
    }
    match path.as_str() {
        "" | "/services/collector" => url.set_path(EVENT_PATH),
        _ => url.set_path(&path),
    }
    Ok(url)
}
