//! Configuration of an `otlp` destination: what may be written, and the checked form. Nothing outside is read here;
//! headers stay sources.

use std::collections::BTreeMap;

use policy::problems::Problem;
use reqwest::Url;
use reqwest::header::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::send::OtlpDestination;
use crate::delivery::Limits;
use crate::export::check::{Bounds, Check, sizes};
use crate::export::{ExportError, Kind};
use crate::secret::SecretSource;

/// The path of the logs signal where the endpoint names none (OTLP specification, "OTLP/HTTP Request").
const HTTP_PATH: &str = "/v1/logs";
/// The one method of the logs service.
const GRPC_PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// Most collectors take batches of some thousand records without a setting. gRPC servers take 4 MiB (4,194,304 bytes,
/// decompressed) unless told otherwise; 20 MB is OTLP's advice for the largest request of all.
const BOUNDS: Bounds = Bounds {
    events: (1000, 10_000),
    bytes: (3_500_000, 20_000_000),
    linger_ms: (200, 200),
    timeout_seconds: 10,
};
/// `service.name` where nothing is said.
const SERVICE: &str = "policy-gateway";
const TEXT_CHARS_MAX: usize = 200;
/// A resource is sent with every request.
const RESOURCE_MAX: usize = 64;
const HEADERS_MAX: usize = 32;
/// Headers that the protocol itself sets.
const OWN_HEADERS: [&str; 12] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-timeout",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// The value of `destination`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OtlpName {
    /// `otlp`.
    #[serde(rename = "otlp")]
    Otlp,
}

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OtlpProtocol {
    /// POST of Protocol Buffers; port 4318 by custom.
    #[default]
    Http,
    /// gRPC; port 4317 by custom.
    Grpc,
}

/// How request bodies are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OtlpCompression {
    /// Every server must take it.
    #[default]
    Gzip,
    /// None.
    None,
}

/// A destination of kind `otlp`, as written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawOtlp {
    /// Always `otlp`.
    pub destination: OtlpName,
    /// URL of the collector: `http://collector:4318` (the path is `/v1/logs` unless you give another), with
    /// `protocol: grpc` `http://collector:4317`.
    pub endpoint: String,
    /// How it is spoken. Default: `http`.
    pub protocol: Option<OtlpProtocol>,
    /// Headers of every request, such as `authorization`. Each value: `$NAME` (environment), `file:/path` (re-read on
    /// SIGHUP and after a 401 or 403), or the value itself.
    pub headers: Option<BTreeMap<String, String>>,
    /// The resource's `service.name`. Default: `policy-gateway`.
    pub service: Option<String>,
    /// More attributes of the resource, such as `deployment.environment.name: prod`.
    pub resource: Option<BTreeMap<String, String>>,
    /// How bodies are compressed. Default: `gzip` (level 1).
    pub compression: Option<OtlpCompression>,
    /// Most events in one request, 1 to 10,000. Default: 1000.
    #[schemars(range(min = 1, max = 10_000))]
    pub batch_events_max: Option<u64>,
    /// Most uncompressed bytes in one request, 1,000 to 20,000,000. Default: 3,500,000, which fits the 4 MiB that gRPC
    /// servers take.
    #[schemars(range(min = 1000, max = 20_000_000))]
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

/// An `otlp` destination, checked and complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Otlp {
    /// Where requests go, path included; holds no secret.
    pub endpoint: Url,
    /// How it is spoken.
    pub protocol: OtlpProtocol,
    /// Headers of every request, lower case.
    pub headers: Vec<(String, SecretSource)>,
    /// Attributes of the resource.
    pub resource: Map<String, Value>,
    /// Of request bodies.
    pub compression: OtlpCompression,
    /// Batch sizes, waits and timeouts.
    pub limits: Limits,
}

impl Kind for Otlp {
    const NAME: &'static str = "otlp";
    type Raw = RawOtlp;
    type Sender = OtlpDestination;

    fn read(raw: &RawOtlp, path_prefix: &str) -> Result<Self, Vec<Problem>> {
        raw.validate(path_prefix)
    }

    fn endpoint(&self) -> &str {
        self.endpoint.as_str()
    }

    fn limits(&self) -> Limits {
        self.limits.clone()
    }

    fn secrets(&self) -> Vec<(&'static str, &SecretSource)> {
        self.headers.iter().map(|(_, source)| ("headers", source)).collect()
    }

    fn sender(&self) -> Result<OtlpDestination, ExportError> {
        OtlpDestination::new(self.clone())
    }

    fn look_for(&self, event_id: Uuid) -> String {
        format!("the attribute log.record.uid = {event_id}")
    }
}

impl RawOtlp {
    /// Checks everything and fills in the defaults.
    ///
    /// # Errors
    /// Every problem, with its path under `path_prefix`.
    pub fn validate(&self, path_prefix: &str) -> Result<Otlp, Vec<Problem>> {
        let mut check = Check::new(path_prefix);
        let protocol = self.protocol.unwrap_or_default();
        let endpoint = endpoint(&self.endpoint, protocol, &mut check);
        let headers = self.headers(&mut check);
        let resource = self.resource(&mut check);
        let limits = check.limits(sizes!(self), &BOUNDS);
        let compression = self.compression.unwrap_or_default();
        let made =
            endpoint.map(|endpoint| Otlp { endpoint, protocol, headers, resource, compression, limits });
        check.finish(made)
    }

    fn headers(&self, check: &mut Check<'_>) -> Vec<(String, SecretSource)> {
        let given = self.headers.iter().flatten();
        if given.clone().count() > HEADERS_MAX {
            check.problem("headers", &format!("holds more than {HEADERS_MAX} headers"));
        }
        let mut headers = Vec::new();
        for (name, value) in given {
            let place = format!("headers.{name}");
            let name = name.to_ascii_lowercase();
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                check.problem(&place, "is not the name of an HTTP header");
            } else if OWN_HEADERS.contains(&name.as_str()) {
                check.problem(&place, "is set by the protocol itself: remove it");
            } else if headers.iter().any(|(other, _)| *other == name) {
                check.problem(&place, "is given twice");
            } else if let Some(value) = check.secret(&place, value) {
                headers.push((name, value));
            }
        }
        headers
    }

    fn resource(&self, check: &mut Check<'_>) -> Map<String, Value> {
        let service = check.text("service", self.service.as_deref().unwrap_or(SERVICE), TEXT_CHARS_MAX);
        let mut resource = Map::new();
        resource.insert("service.name".to_owned(), service.into());
        resource.insert("service.version".to_owned(), env!("CARGO_PKG_VERSION").into());
        let given = self.resource.iter().flatten();
        if given.clone().count() > RESOURCE_MAX {
            check.problem("resource", &format!("holds more than {RESOURCE_MAX} attributes"));
        }
        for (name, value) in given {
            let place = format!("resource.{name}");
            if name == "service.name" {
                check.problem(&place, "has a field of its own: give `service`");
                continue;
            }
            check.text(&place, name, TEXT_CHARS_MAX);
            let value = check.text(&place, value, TEXT_CHARS_MAX);
            resource.insert(name.clone(), value.into());
        }
        resource
    }
}

fn endpoint(text: &str, protocol: OtlpProtocol, check: &mut Check<'_>) -> Option<Url> {
    let example = match protocol {
        OtlpProtocol::Http => "http://collector:4318",
        OtlpProtocol::Grpc => "http://collector:4317",
    };
    let mut url = check.url("endpoint", text, example)?;
    match protocol {
        OtlpProtocol::Http if url.path() == "/" => url.set_path(HTTP_PATH),
        OtlpProtocol::Http => {}
        OtlpProtocol::Grpc if matches!(url.path(), "/" | GRPC_PATH) => url.set_path(GRPC_PATH),
        OtlpProtocol::Grpc => {
            let path = url.path();
            check.problem(
                "endpoint",
                &format!(
                    "has the path `{path}`, which gRPC has no place for: give `{example}`, or `protocol: http`"
                ),
            );
            return None;
        }
    }
    Some(url)
}
