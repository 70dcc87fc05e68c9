//! Configuration of an `azure_monitor` destination: what may be written, and the checked form. Nothing outside is read
//! here; secrets stay sources.

use policy::problems::Problem;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::encode::BODY_BYTES_MAX;
use super::send::AzureMonitorDestination;
use crate::delivery::Limits;
use crate::export::check::{Bounds, Check, sizes};
use crate::export::{ExportError, Kind};
use crate::secret::SecretSource;

/// Azure takes 1 MB a call.
const BOUNDS: Bounds = Bounds {
    events: (1000, 10_000),
    bytes: (BODY_BYTES_MAX as u64, BODY_BYTES_MAX as u64),
    linger_ms: (200, 200),
    timeout_seconds: 30,
};
/// The version of the API that is spoken.
const API_VERSION: &str = "2023-01-01";
const ENDPOINT_EXAMPLE: &str = "https://NAME.REGION-1.ingest.monitor.azure.com";
const NAME_CHARS_MAX: usize = 200;
/// Host of the API that has ended.
const ENDED_HOST: &str = ".ods.opinsights.";
const ENDED: &str = "belongs to the HTTP Data Collector API (workspace key), which Microsoft ended in September 2026: use the \
                     Logs Ingestion API with `endpoint`, `dcr_id`, `stream`, `tenant_id`, `client_id` and \
                     `client_secret`; `deploy/azure/` sets it up";

/// The value of `destination`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AzureMonitorName {
    /// `azure_monitor`.
    #[serde(rename = "azure_monitor")]
    AzureMonitor,
}

/// Which of Microsoft's clouds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AzureCloud {
    /// The worldwide one.
    #[default]
    Public,
    /// US government.
    Government,
    /// Operated by 21Vianet.
    China,
}

impl AzureCloud {
    /// Where tokens come from.
    fn authority(self) -> &'static str {
        match self {
            Self::Public => "https://login.microsoftonline.com",
            Self::Government => "https://login.microsoftonline.us",
            Self::China => "https://login.chinacloudapi.cn",
        }
    }

    /// What a token is asked for.
    pub fn scope(self) -> &'static str {
        match self {
            Self::Public => "https://monitor.azure.com/.default",
            Self::Government => "https://monitor.azure.us/.default",
            Self::China => "https://monitor.azure.cn/.default",
        }
    }
}

/// How request bodies are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AzureCompression {
    /// The one that Azure takes.
    #[default]
    Gzip,
    /// None.
    None,
}

/// A destination of kind `azure_monitor`, as written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAzureMonitor {
    /// Always `azure_monitor`.
    pub destination: AzureMonitorName,
    /// Logs ingestion endpoint of the data collection endpoint or rule:
    /// `https://NAME.REGION-1.ingest.monitor.azure.com`.
    #[schemars(required, with = "String")]
    pub endpoint: Option<String>,
    /// Immutable id of the data collection rule: `dcr-` and 32 hexadecimal digits.
    #[schemars(required, with = "String")]
    pub dcr_id: Option<String>,
    /// Stream that the rule declares, such as `Custom-PolicyGateway_CL`.
    #[schemars(required, with = "String")]
    pub stream: Option<String>,
    /// Directory (tenant) id of the application.
    #[schemars(required, with = "String")]
    pub tenant_id: Option<String>,
    /// Application (client) id.
    #[schemars(required, with = "String")]
    pub client_id: Option<String>,
    /// Client secret: `$NAME` (environment), `file:/path` (re-read on SIGHUP and after a 401 or 403), or the secret itself.
    #[schemars(required, with = "String")]
    pub client_secret: Option<String>,
    /// `public` (default), `government` or `china`.
    pub cloud: Option<AzureCloud>,
    /// Where tokens come from, in place of the cloud's own.
    pub authority: Option<String>,
    /// How bodies are compressed. Default: `gzip` (level 1).
    pub compression: Option<AzureCompression>,
    /// Most events in one request, 1 to 10,000. Default: 1000.
    #[schemars(range(min = 1, max = 10_000))]
    pub batch_events_max: Option<u64>,
    /// Most uncompressed bytes in one request, 1,000 to 1,000,000. Default: 1,000,000.
    #[schemars(range(min = 1000, max = 1_000_000))]
    pub batch_bytes_max: Option<u64>,
    /// Longest wait in milliseconds for a batch to fill, 0 to 200. Default: 200.
    #[schemars(range(max = 200))]
    pub linger_ms: Option<u64>,
    /// Requests in flight at once, 1 to 64. Default: 4.
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: Option<u64>,
    /// Time in seconds for one request, connection included, 1 to 300. Default: 30.
    #[schemars(range(min = 1, max = 300))]
    pub timeout_seconds: Option<u64>,
    /// Of the API that has ended, as are the next: read to say so.
    #[schemars(skip)]
    pub workspace_id: Option<Value>,
    /// See `workspace_id`.
    #[schemars(skip)]
    pub customer_id: Option<Value>,
    /// See `workspace_id`.
    #[schemars(skip)]
    pub workspace_key: Option<Value>,
    /// See `workspace_id`.
    #[schemars(skip)]
    pub shared_key: Option<Value>,
    /// See `workspace_id`.
    #[schemars(skip)]
    pub primary_key: Option<Value>,
    /// See `workspace_id`.
    #[schemars(skip)]
    pub log_type: Option<Value>,
}

/// An `azure_monitor` destination, checked and complete.
#[derive(Clone, Debug, PartialEq)]
pub struct AzureMonitor {
    /// Where requests go, path and API version included; holds no secret.
    pub endpoint: Url,
    /// Where tokens come from.
    pub token_endpoint: Url,
    /// What a token is asked for.
    pub scope: &'static str,
    /// The application.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretSource,
    /// Of request bodies.
    pub compression: AzureCompression,
    /// Batch sizes, waits and timeouts.
    pub limits: Limits,
}

impl Kind for AzureMonitor {
    const NAME: &'static str = "azure_monitor";
    type Raw = RawAzureMonitor;
    type Sender = AzureMonitorDestination;

    fn read(raw: &RawAzureMonitor, path_prefix: &str) -> Result<Self, Vec<Problem>> {
        raw.validate(path_prefix)
    }

    fn endpoint(&self) -> &str {
        self.endpoint.as_str()
    }

    fn limits(&self) -> Limits {
        self.limits.clone()
    }

    fn secrets(&self) -> Vec<(&'static str, &SecretSource)> {
        vec![("client_secret", &self.client_secret)]
    }

    fn sender(&self) -> Result<AzureMonitorDestination, ExportError> {
        AzureMonitorDestination::new(self.clone())
    }

    fn look_for(&self, event_id: Uuid) -> String {
        format!("where EventId == \"{event_id}\" (in the stream's table, some minutes from now)")
    }
}

impl RawAzureMonitor {
    /// Checks everything and fills in the defaults.
    ///
    /// # Errors
    /// Every problem, with its path under `path_prefix`.
    pub fn validate(&self, path_prefix: &str) -> Result<AzureMonitor, Vec<Problem>> {
        let mut check = Check::new(path_prefix);
        if self.asks_for_the_ended(&mut check) {
            // What else is missing follows from that.
            return check.finish(None);
        }
        let cloud = self.cloud.unwrap_or_default();
        let endpoint = self.endpoint(&mut check);
        let token_endpoint = self.token_endpoint(cloud, &mut check);
        let client_id = given(&self.client_id, "client_id", &mut check);
        let client_id = client_id.map(|id| check.text("client_id", id, NAME_CHARS_MAX));
        let client_secret = given(&self.client_secret, "client_secret", &mut check);
        let client_secret = client_secret.and_then(|secret| check.secret("client_secret", secret));
        let limits = check.limits(sizes!(self), &BOUNDS);
        let made = match (endpoint, token_endpoint, client_id, client_secret) {
            (Some(endpoint), Some(token_endpoint), Some(client_id), Some(client_secret)) => {
                Some(AzureMonitor {
                    endpoint,
                    token_endpoint,
                    scope: cloud.scope(),
                    client_id,
                    client_secret,
                    compression: self.compression.unwrap_or_default(),
                    limits,
                })
            }
            _ => None,
        };
        check.finish(made)
    }

    fn asks_for_the_ended(&self, check: &mut Check<'_>) -> bool {
        let fields = [
            ("workspace_id", &self.workspace_id),
            ("customer_id", &self.customer_id),
            ("workspace_key", &self.workspace_key),
            ("shared_key", &self.shared_key),
            ("primary_key", &self.primary_key),
            ("log_type", &self.log_type),
        ];
        let mut asks = false;
        for (field, _) in fields.iter().filter(|(_, value)| value.is_some()) {
            check.problem(field, ENDED);
            asks = true;
        }
        if self.endpoint.as_deref().is_some_and(|endpoint| endpoint.contains(ENDED_HOST)) {
            check.problem("endpoint", ENDED);
            asks = true;
        }
        asks
    }

    fn endpoint(&self, check: &mut Check<'_>) -> Option<Url> {
        let endpoint = given(&self.endpoint, "endpoint", check);
        let url = endpoint.and_then(|endpoint| check.url("endpoint", endpoint, ENDPOINT_EXAMPLE));
        let dcr_id = given(&self.dcr_id, "dcr_id", check);
        let hex = |rest: &str| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if dcr_id.is_some_and(|id| !id.strip_prefix("dcr-").is_some_and(hex)) {
            check.problem(
                "dcr_id",
                "is not an immutable id (`dcr-` and 32 hexadecimal digits): take it from the rule's JSON view, not its name \
                 or resource id",
            );
        }
        let stream = given(&self.stream, "stream", check);
        if stream.is_some_and(|stream| !is_stream(stream)) {
            check.problem("stream", "is not a stream of a rule: give for example `Custom-PolicyGateway_CL`");
        }
        let mut url = url?;
        if url.path() != "/" {
            check.problem("endpoint", &format!("must not hold a path: give `{ENDPOINT_EXAMPLE}`"));
            return None;
        }
        url.set_path(&format!("/dataCollectionRules/{}/streams/{}", dcr_id?, stream?));
        url.set_query(Some(&format!("api-version={API_VERSION}")));
        Some(url)
    }

    fn token_endpoint(&self, cloud: AzureCloud, check: &mut Check<'_>) -> Option<Url> {
        let authority = self.authority.as_deref().unwrap_or(cloud.authority());
        let url = check.url("authority", authority, cloud.authority());
        let tenant = given(&self.tenant_id, "tenant_id", check)?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        if tenant.is_empty() || !tenant.bytes().all(fits) {
            check.problem("tenant_id", "is not a directory: give its id, or its domain name");
            return None;
        }
        let mut url = url?;
        let path = format!("{}/{tenant}/oauth2/v2.0/token", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Some(url)
    }
}

/// A field that must be there.
fn given<'a>(value: &'a Option<String>, field: &str, check: &mut Check<'_>) -> Option<&'a str> {
    if value.is_none() {
        check.problem(field, &format!("required field `{field}` is missing"));
    }
    value.as_deref()
}

fn is_stream(stream: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (stream.starts_with("Custom-") || stream.starts_with("Microsoft-")) && stream.bytes().all(is_word)
}
