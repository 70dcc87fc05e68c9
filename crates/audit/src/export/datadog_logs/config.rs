//! Configuration of a `datadog_logs` destination: what may be written, and the checked form. Nothing outside is
//! read here; secrets stay sources.

use std::time::Duration;

use policy::problems::Problem;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::send::DatadogDestination;
use super::tags;
use crate::delivery::Limits;
use crate::export::check::Check;
use crate::export::compress::Compression;
use crate::export::{ExportError, Kind};
use crate::secret::SecretSource;

/// Datadog takes at most so many logs in one request.
const BATCH_EVENTS_CAP: u64 = 1000;
/// Datadog takes at most so many uncompressed bytes in one request.
const BATCH_BYTES_CAP: u64 = 5_000_000;
/// Below this a batch would hardly carry one event.
const BATCH_BYTES_FLOOR: u64 = 1000;
/// The contract's linger, and the longest that may be asked for: it is the delay a SIEM sees on a quiet day.
const LINGER_MS_CAP: u64 = 200;
/// The contract's default.
const CONCURRENCY: u64 = 4;
/// Each request in flight holds a batch in memory.
const CONCURRENCY_CAP: u64 = 64;
/// What Datadog's own agent waits.
const TIMEOUT_SECONDS: u64 = 10;
/// Past this a hung connection would stall the queue for no gain.
const TIMEOUT_SECONDS_CAP: u64 = 300;
/// `service` and `ddsource` where nothing is said.
const NAME: &str = "policy-gateway";
/// Datadog's own limit for a tag is 200; a longer service or source is cut or refused.
const NAME_CHARS_MAX: usize = 200;

/// The value of `destination`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DatadogName {
    /// `datadog_logs`.
    #[serde(rename = "datadog_logs")]
    DatadogLogs,
}

/// A destination of kind `datadog_logs`, as written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawDatadogLogs {
    /// Always `datadog_logs`.
    pub destination: DatadogName,
    /// URL of the intake, for example `https://http-intake.logs.datadoghq.com/api/v2/logs`. Instead of `site`.
    pub endpoint: Option<String>,
    /// Datadog site, for example `datadoghq.eu`. Instead of `endpoint`.
    pub site: Option<String>,
    /// API key: `$NAME` (environment), `file:/path` (re-read on SIGHUP and after a 401 or 403), or the key itself.
    pub api_key: String,
    /// The `service` of the logs. Default: `policy-gateway`.
    pub service: Option<String>,
    /// The `ddsource` of the logs. Default: `policy-gateway`. Keep it for ever: pipelines and dashboards filter by it.
    pub ddsource: Option<String>,
    /// Tags of every log, each `key:value`.
    pub tags: Option<Vec<String>>,
    /// The same as one string, separated by commas. Instead of `tags`.
    pub ddtags: Option<String>,
    /// How bodies are compressed. Default: `gzip` (level 1).
    pub compression: Option<Compression>,
    /// Most events in one request, 1 to 1000. Default: 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub batch_events_max: Option<u64>,
    /// Most uncompressed bytes in one request, 1,000 to 5,000,000. Default: 5,000,000.
    #[schemars(range(min = 1000, max = 5_000_000))]
    pub batch_bytes_max: Option<u64>,
    /// Longest wait in milliseconds for a batch to fill, 0 to 200. Default: 200.
    #[schemars(range(max = 200))]
    pub linger_ms: Option<u64>,
    /// Requests in flight at once, 1 to 64. Default: 4.
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: Option<u64>,
    /// Time in seconds for one request, connection included, 1 to 300. Default: 10.
    #[schemars(range(min = 1, max = 300))]
    pub timeout_seconds: Option<u64>,
}

/// A `datadog_logs` destination, checked and complete.
#[derive(Clone, Debug, PartialEq)]
pub struct DatadogLogs {
    /// Where requests go; holds no secret.
    pub endpoint: Url,
    /// Where the API key comes from.
    pub api_key: SecretSource,
    /// `service` of each log.
    pub service: String,
    /// `ddsource` of each log.
    pub ddsource: String,
    /// Normalised tags of each log.
    pub tags: Vec<String>,
    /// Of request bodies.
    pub compression: Compression,
    /// Most events per request.
    pub batch_events_max: usize,
    /// Most uncompressed bytes per request.
    pub batch_bytes_max: usize,
    /// Longest wait for a batch to fill.
    pub linger: Duration,
    /// Requests in flight at once.
    pub concurrency: usize,
    /// For one request.
    pub timeout: Duration,
}

impl DatadogLogs {
    /// What the delivery engine needs to know.
    pub fn limits(&self) -> Limits {
        Limits {
            batch_events_max: self.batch_events_max,
            batch_bytes_max: self.batch_bytes_max,
            linger: self.linger,
            concurrency: self.concurrency,
            timeout: self.timeout,
            rate: None,
        }
    }
}

impl Kind for DatadogLogs {
    const NAME: &'static str = "datadog_logs";
    type Raw = RawDatadogLogs;
    type Sender = DatadogDestination;

    fn read(raw: &RawDatadogLogs, path_prefix: &str) -> Result<Self, Vec<Problem>> {
        raw.validate(path_prefix)
    }

    fn endpoint(&self) -> &str {
        self.endpoint.as_str()
    }

    fn limits(&self) -> Limits {
        self.limits()
    }

    fn secrets(&self) -> Vec<(&'static str, &SecretSource)> {
        vec![("api_key", &self.api_key)]
    }

    fn sender(&self) -> Result<DatadogDestination, ExportError> {
        DatadogDestination::new(self.clone())
    }

    fn look_for(&self, event_id: Uuid) -> String {
        format!("@event.id:{event_id}")
    }
}

impl RawDatadogLogs {
    /// Checks everything and fills in the defaults.
    ///
    /// # Errors
    /// Every problem, with its path under `path_prefix`.
    pub fn validate(&self, path_prefix: &str) -> Result<DatadogLogs, Vec<Problem>> {
        let mut check = Check::new(path_prefix);
        let endpoint = self.endpoint(&mut check);
        let api_key = check.secret("api_key", &self.api_key);
        let service = check.text("service", self.service.as_deref().unwrap_or(NAME), NAME_CHARS_MAX);
        let ddsource = check.text("ddsource", self.ddsource.as_deref().unwrap_or(NAME), NAME_CHARS_MAX);
        let tags = self.tags(&mut check);
        let number = &mut |name, value, default, min, max| check.number(name, value, default, min, max);
        let events = number("batch_events_max", self.batch_events_max, BATCH_EVENTS_CAP, 1, BATCH_EVENTS_CAP);
        let bytes = number(
            "batch_bytes_max",
            self.batch_bytes_max,
            BATCH_BYTES_CAP,
            BATCH_BYTES_FLOOR,
            BATCH_BYTES_CAP,
        );
        let linger_ms = number("linger_ms", self.linger_ms, LINGER_MS_CAP, 0, LINGER_MS_CAP);
        let concurrency = number("concurrency", self.concurrency, CONCURRENCY, 1, CONCURRENCY_CAP);
        let timeout =
            number("timeout_seconds", self.timeout_seconds, TIMEOUT_SECONDS, 1, TIMEOUT_SECONDS_CAP);
        let made = endpoint.zip(api_key).map(|(endpoint, api_key)| DatadogLogs {
            endpoint,
            api_key,
            service,
            ddsource,
            tags,
            compression: self.compression.unwrap_or_default(),
            batch_events_max: to_usize(events),
            batch_bytes_max: to_usize(bytes),
            linger: Duration::from_millis(linger_ms),
            concurrency: to_usize(concurrency),
            timeout: Duration::from_secs(timeout),
        });
        check.finish(made)
    }

    fn endpoint(&self, check: &mut Check<'_>) -> Option<Url> {
        match (&self.endpoint, &self.site) {
            (Some(_), Some(_)) => {
                check.problem("site", "contradicts `endpoint`: remove one of the two");
                None
            }
            (None, None) => {
                check.problem(
                    "endpoint",
                    "is missing: give the intake's URL, or `site` (for example `datadoghq.com`)",
                );
                None
            }
            (Some(endpoint), None) => check.found("endpoint", parse_endpoint(endpoint)),
            (None, Some(site)) => check.found("site", parse_site(site)),
        }
    }

    fn tags(&self, check: &mut Check<'_>) -> Vec<String> {
        let (field, given): (&str, Vec<&str>) = match (&self.tags, &self.ddtags) {
            (Some(_), Some(_)) => {
                check.problem("ddtags", "contradicts `tags`: remove one of the two");
                return Vec::new();
            }
            (Some(tags), None) => ("tags", tags.iter().map(String::as_str).collect()),
            (None, Some(ddtags)) => {
                ("ddtags", ddtags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect())
            }
            (None, None) => return Vec::new(),
        };
        let mut normal = Vec::with_capacity(given.len());
        for (index, tag) in given.into_iter().enumerate() {
            let place = if field == "tags" { format!("tags[{index}]") } else { field.to_owned() };
            if tag.contains(',') {
                check.problem(&place, "holds a comma, which separates tags: give two entries");
                continue;
            }
            match tags::normalise(tag) {
                Some(tag) => normal.push(tag),
                None => {
                    check.problem(&place, &format!("`{tag}` holds no letter that a tag could start with"));
                }
            }
        }
        if normal.len() > tags::CONFIGURED_MAX {
            let most = tags::CONFIGURED_MAX;
            check.problem(field, &format!("holds {} tags: Datadog leaves room for {most}", normal.len()));
        }
        normal
    }
}

fn parse_endpoint(text: &str) -> Result<Url, String> {
    const EXAMPLE: &str = "for example `https://http-intake.logs.datadoghq.com/api/v2/logs`";
    let url = Url::parse(text.trim()).map_err(|error| format!("is not a URL ({error}): give {EXAMPLE}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("must be an http or https URL, {EXAMPLE}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or password: the key goes into `api_key`".to_owned());
    }
    if url.query().is_some() {
        return Err("must not hold a query: the key goes into `api_key`, tags go into `tags`".to_owned());
    }
    if url.fragment().is_some() {
        return Err("must not hold a `#` part".to_owned());
    }
    // Anywhere else the root may be where a private proxy listens.
    if url.path() == "/" && url.host_str().is_some_and(|host| host.starts_with("http-intake.logs.")) {
        return Err(format!("lacks the intake's path `/api/v2/logs`: give {EXAMPLE}"));
    }
    Ok(url)
}

fn parse_site(site: &str) -> Result<Url, String> {
    let site = site.trim();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    if site.is_empty() || !site.bytes().all(fits) || site.starts_with('.') || site.ends_with('.') {
        return Err(format!("`{site}` is not a host: give for example `datadoghq.com` or `datadoghq.eu`"));
    }
    Url::parse(&format!("https://http-intake.logs.{site}/api/v2/logs")).map_err(|error| error.to_string())
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
