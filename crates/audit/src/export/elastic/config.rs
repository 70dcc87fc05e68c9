//! Configuration of an `elastic` destination (Elasticsearch or OpenSearch): what may be written, and the checked form.
//! Nothing outside is read here; secrets stay sources.

use policy::problems::Problem;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::send::ElasticDestination;
use crate::delivery::Limits;
use crate::export::check::{Bounds, Check, sizes};
use crate::export::compress::Compression;
use crate::export::{ExportError, Kind};
use crate::secret::SecretSource;

/// What the vendor advises for one body (5 to 15 MB); `http.max_content_length` is 100 MB.
const BATCH_BYTES: (u64, u64) = (5_000_000, 50_000_000);
/// Default and cap of events in one body.
const BATCH_EVENTS: (u64, u64) = (2000, 20_000);
/// The contract's linger.
const LINGER_MS: (u64, u64) = (200, 10_000);
/// A bulk request may wait in the node's queue.
const TIMEOUT_SECONDS: u64 = 60;
/// The contract's example.
const DATASET: &str = "policy_gateway.audit";
/// The contract's example.
const NAMESPACE: &str = "prod";
/// `service.name` where nothing is said.
const SERVICE: &str = "policy-gateway";
/// Longest dataset or namespace, by Elastic's naming scheme.
const PART_CHARS_MAX: usize = 100;

/// The value of `destination`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ElasticName {
    /// `elastic`.
    #[serde(rename = "elastic")]
    Elastic,
}

/// A destination of kind `elastic`, as written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawElastic {
    /// Always `elastic`.
    pub destination: ElasticName,
    /// URL of the cluster, for example `https://elastic.example.com:9200`; a path before `/_bulk` is kept.
    pub endpoint: String,
    /// API key in its encoded form: `$NAME` (environment), `file:/path` (re-read on SIGHUP and after a 401 or 403), or the
    /// key itself. Instead of `username` and `password`.
    pub api_key: Option<String>,
    /// User for basic authentication, as OpenSearch has it.
    pub username: Option<String>,
    /// Password for basic authentication, in the forms of `api_key`.
    pub password: Option<String>,
    /// The middle of the data stream's name, `logs-<dataset>-<namespace>`. Default: `policy_gateway.audit`.
    pub dataset: Option<String>,
    /// The end of the data stream's name. Default: `prod`.
    pub namespace: Option<String>,
    /// `service.name` of each document. Default: `policy-gateway`.
    pub service: Option<String>,
    /// Copies of a shard, the primary included, that must be there before a bulk request starts: a number or `all`.
    /// Default: the cluster's own setting (1).
    #[schemars(with = "Option<String>")]
    pub wait_for_active_shards: Option<serde_json::Value>,
    /// How bodies are compressed: `gzip` (level 1) or `identity`. Default: `gzip`.
    pub compression: Option<Compression>,
    /// Most events in one request, 1 to 20,000. Default: 2000.
    #[schemars(range(min = 1, max = 20_000))]
    pub batch_events_max: Option<u64>,
    /// Most uncompressed bytes in one request, 1,000 to 50,000,000. Default: 5,000,000.
    #[schemars(range(min = 1000, max = 50_000_000))]
    pub batch_bytes_max: Option<u64>,
    /// Longest wait in milliseconds for a batch to fill, 0 to 10,000. Default: 200.
    #[schemars(range(max = 10_000))]
    pub linger_ms: Option<u64>,
    /// Requests in flight at once, 1 to 64. Default: 4.
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: Option<u64>,
    /// Time in seconds for one request, connection included, 1 to 300. Default: 60.
    #[schemars(range(min = 1, max = 300))]
    pub timeout_seconds: Option<u64>,
}

/// How the cluster knows us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElasticAuth {
    /// `Authorization: ApiKey …`.
    ApiKey(SecretSource),
    /// `Authorization: Basic …`.
    Basic {
        /// The user.
        username: String,
        /// Where the password comes from.
        password: SecretSource,
    },
}

/// An `elastic` destination, checked and complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Elastic {
    /// The bulk endpoint; holds no secret.
    pub endpoint: Url,
    /// How the cluster knows us.
    pub auth: ElasticAuth,
    /// See [`RawElastic::dataset`].
    pub dataset: String,
    /// See [`RawElastic::namespace`].
    pub namespace: String,
    /// `service.name`.
    pub service: String,
    /// Of request bodies.
    pub compression: Compression,
    /// Sizes, waits and times.
    pub limits: Limits,
}

impl Elastic {
    /// `logs-<dataset>-<namespace>`.
    pub fn data_stream(&self) -> String {
        format!("logs-{}-{}", self.dataset, self.namespace)
    }
}

impl Kind for Elastic {
    const NAME: &'static str = "elastic";
    type Raw = RawElastic;
    type Sender = ElasticDestination;

    fn read(raw: &RawElastic, path_prefix: &str) -> Result<Self, Vec<Problem>> {
        let mut check = Check::new(path_prefix);
        let endpoint = check.url("endpoint", &raw.endpoint, "https://elastic.example.com:9200");
        let shards = shards(&mut check, raw.wait_for_active_shards.as_ref());
        let endpoint = endpoint.map(|url| bulk_url(url, shards.as_deref()));
        let auth = auth(&mut check, raw);
        let dataset = part(&mut check, "dataset", raw.dataset.as_deref().unwrap_or(DATASET));
        let namespace = part(&mut check, "namespace", raw.namespace.as_deref().unwrap_or(NAMESPACE));
        let service = check.text("service", raw.service.as_deref().unwrap_or(SERVICE), 200);
        let compression = raw.compression.unwrap_or_default();
        if !matches!(compression, Compression::Gzip | Compression::Identity) {
            check.problem("compression", "must be `gzip` or `identity`: Elasticsearch reads no other");
        }
        let bounds = Bounds {
            events: BATCH_EVENTS,
            bytes: BATCH_BYTES,
            linger_ms: LINGER_MS,
            timeout_seconds: TIMEOUT_SECONDS,
        };
        let limits = check.limits(sizes!(raw), &bounds);
        let made = endpoint.zip(auth).map(|(endpoint, auth)| Self {
            endpoint,
            auth,
            dataset,
            namespace,
            service,
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
        match &self.auth {
            ElasticAuth::ApiKey(source) => vec![("api_key", source)],
            ElasticAuth::Basic { password, .. } => vec![("password", password)],
        }
    }

    fn sender(&self) -> Result<ElasticDestination, ExportError> {
        ElasticDestination::new(self.clone())
    }

    fn look_for(&self, event_id: Uuid) -> String {
        format!("_id {event_id} in {}", self.data_stream())
    }
}

fn auth(check: &mut Check<'_>, raw: &RawElastic) -> Option<ElasticAuth> {
    match (&raw.api_key, &raw.username, &raw.password) {
        (Some(key), None, None) => check.secret("api_key", key).map(ElasticAuth::ApiKey),
        (None, Some(username), Some(password)) => {
            if username.contains(':') || username.is_empty() {
                check.problem("username", "must not be empty or hold a colon");
            }
            let password = check.secret("password", password)?;
            Some(ElasticAuth::Basic { username: username.clone(), password })
        }
        (None, None, None) => {
            check.problem("api_key", "is missing: give it, or `username` and `password`");
            None
        }
        (Some(_), _, _) => {
            check.problem("username", "contradicts `api_key`: remove `username` and `password`, or the key");
            None
        }
        (None, Some(_), None) => {
            check.problem("password", "is missing beside `username`");
            None
        }
        (None, None, Some(_)) => {
            check.problem("username", "is missing beside `password`");
            None
        }
    }
}

/// A part of a data stream's name: neither has a hyphen, or the parts could not be told apart.
fn part(check: &mut Check<'_>, field: &str, value: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
    if value.is_empty() || value.len() > PART_CHARS_MAX || !value.chars().all(fits) {
        let message = format!("must be 1 to {PART_CHARS_MAX} of the characters `a-z`, `0-9`, `_` and `.`");
        check.problem(field, &message);
    }
    value.to_owned()
}

fn shards(check: &mut Check<'_>, value: Option<&serde_json::Value>) -> Option<String> {
    let value = value?;
    match (value.as_u64(), value.as_str()) {
        (Some(number), _) if (1..=32).contains(&number) => Some(number.to_string()),
        (_, Some("all")) => Some("all".to_owned()),
        _ => {
            check.problem("wait_for_active_shards", "must be a number from 1 to 32, or `all`");
            None
        }
    }
}

fn bulk_url(mut url: Url, shards: Option<&str>) -> Url {
    let base = url.path().trim_end_matches('/').trim_end_matches("/_bulk").to_owned();
    url.set_path(&format!("{base}/_bulk"));
    if let Some(shards) = shards {
        url.query_pairs_mut().append_pair("wait_for_active_shards", shards);
    }
    url
}
