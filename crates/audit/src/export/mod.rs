//! Destinations: their configuration and what each puts on the wire. A destination is one folder (`config.rs`, pure
//! `encode.rs`, `send.rs`, tests) and a variant here. Deliberately absent: when and how often something is
//! sent, which is `delivery`'s.

pub mod datadog_logs;
mod probe;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use bytes::Bytes;
use policy::problems::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::delivery::{BodyBuilder, Destination, Encoded, Limits, Push, SendOutcome};
use crate::outbox::StoredEvent;
use crate::secret::SecretError;
use datadog_logs::{DatadogBody, DatadogDestination, DatadogLogs, RawDatadogLogs};

pub use probe::{TestError, TestReport, test};

/// Names of the contract that this version does not build yet.
const NOT_BUILT: [&str; 8] =
    ["splunk_hec", "elastic", "s3", "azure_monitor", "webhook", "otlp", "stdout", "file"];
/// Names that are built.
const BUILT: [&str; 1] = ["datadog_logs"];
/// An id stands in URLs, metric labels and file names.
const ID_CHARS_MAX: usize = 64;

/// One entry of `exports`, as written in the configuration; for its schema.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawExport {
    /// Datadog Logs.
    DatadogLogs(RawDatadogLogs),
}

/// A destination, checked and complete. Secrets are still sources: nothing was read from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportConfig {
    /// `[a-z0-9_-]`, unique; the destination's cursor is kept under it. Changing it starts a new cursor.
    pub id: String,
    /// What it is and where it goes.
    pub destination: DestinationConfig,
}

/// The kinds of destinations.
#[derive(Clone, Debug, PartialEq)]
pub enum DestinationConfig {
    /// Datadog Logs.
    DatadogLogs(DatadogLogs),
}

/// Why a configured destination cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A secret is missing or unusable.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The HTTP client cannot be set up (no TLS provider, no certificates).
    #[error("the HTTP client cannot be set up: {0}")]
    Client(String),
}

impl ExportConfig {
    /// The contract's name of the kind: `datadog_logs`.
    pub fn destination_name(&self) -> &'static str {
        match &self.destination {
            DestinationConfig::DatadogLogs(_) => "datadog_logs",
        }
    }

    /// Where it goes, without anything secret.
    pub fn endpoint(&self) -> &str {
        match &self.destination {
            DestinationConfig::DatadogLogs(config) => config.endpoint.as_str(),
        }
    }

    /// Batch sizes, waits and timeouts.
    pub fn limits(&self) -> Limits {
        match &self.destination {
            DestinationConfig::DatadogLogs(config) => config.limits(),
        }
    }

    /// Whether the secrets can be had now, without keeping them: for `check`.
    ///
    /// # Errors
    /// The first [`SecretError`].
    pub fn check_secrets(&self) -> Result<(), SecretError> {
        match &self.destination {
            DestinationConfig::DatadogLogs(config) => config.api_key.resolve().map(drop),
        }
    }
}

/// Any destination, ready to send.
pub enum Exporter {
    /// Datadog Logs.
    DatadogLogs(DatadogDestination),
}

/// A body of any destination.
pub enum ExportBody {
    /// Datadog Logs.
    DatadogLogs(DatadogBody),
}

impl Exporter {
    /// Reads the secrets and sets up the client.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn new(export: &ExportConfig) -> Result<Self, ExportError> {
        match &export.destination {
            DestinationConfig::DatadogLogs(config) => {
                Ok(Self::DatadogLogs(DatadogDestination::new(config.clone())?))
            }
        }
    }
}

impl Destination for Exporter {
    type Builder = ExportBody;

    fn begin(&self, now_ms: i64) -> Result<ExportBody, String> {
        match self {
            Self::DatadogLogs(destination) => destination.begin(now_ms).map(ExportBody::DatadogLogs),
        }
    }

    async fn send(&self, body: Bytes) -> SendOutcome {
        match self {
            Self::DatadogLogs(destination) => destination.send(body).await,
        }
    }

    async fn reload_secrets(&self) -> Result<(), SecretError> {
        match self {
            Self::DatadogLogs(destination) => destination.reload_secrets().await,
        }
    }
}

impl BodyBuilder for ExportBody {
    fn push(&mut self, event: &StoredEvent) -> Push {
        match self {
            Self::DatadogLogs(body) => body.push(event),
        }
    }

    fn finish(self) -> Result<Encoded, String> {
        match self {
            Self::DatadogLogs(body) => body.finish(),
        }
    }
}

/// Reads one entry of `exports`; its id is `id`, or else the destination's name.
///
/// # Errors
/// Every problem, with its path under `path_prefix`.
pub fn parse(value: &Value, path_prefix: &str) -> Result<ExportConfig, Vec<Problem>> {
    let at = |field: &str, message: String| vec![Problem { path: format!("{path_prefix}.{field}"), message }];
    let Some(entry) = value.as_object() else {
        let message = "must be an object with a `destination`".to_owned();
        return Err(vec![Problem { path: path_prefix.to_owned(), message }]);
    };
    let Some(name) = entry.get("destination") else {
        return Err(at("destination", format!("is missing: give {}", known())));
    };
    match name.as_str() {
        Some("datadog_logs") => {
            let raw: RawDatadogLogs = policy::problems::read_all(value, path_prefix)?;
            let id = raw.id.clone().unwrap_or_else(|| "datadog_logs".to_owned());
            let mut problems = id_problem(&id, path_prefix);
            match raw.validate(path_prefix) {
                Ok(config) if problems.is_empty() => {
                    Ok(ExportConfig { id, destination: DestinationConfig::DatadogLogs(config) })
                }
                Ok(_) => Err(problems),
                Err(more) => {
                    problems.extend(more);
                    Err(problems)
                }
            }
        }
        Some(name) if NOT_BUILT.contains(&name) => Err(at(
            "destination",
            format!("`{name}` is not built yet in this version: remove the entry, or use `datadog_logs`"),
        )),
        Some(name) => Err(at("destination", format!("`{name}` is not known: give {}", known()))),
        None => Err(at("destination", format!("must be a string: give {}", known()))),
    }
}

/// Reads the whole `exports` list. Entries without an `id` that share a destination's name get `-2`, `-3`, … in the
/// order of the file.
///
/// # Errors
/// Every problem of every entry, with its path under `path_prefix` (`exports[1].site`).
pub fn parse_all(value: &Value, path_prefix: &str) -> Result<Vec<ExportConfig>, Vec<Problem>> {
    let Some(entries) = value.as_array() else {
        let message = "must be a list of destinations".to_owned();
        return Err(vec![Problem { path: path_prefix.to_owned(), message }]);
    };
    let mut problems = Vec::new();
    let mut exports: Vec<(bool, String, ExportConfig)> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let path = format!("{path_prefix}[{index}]");
        match parse(entry, &path) {
            Ok(export) => exports.push((entry.get("id").is_some_and(|id| !id.is_null()), path, export)),
            Err(more) => problems.extend(more),
        }
    }
    let mut taken = BTreeSet::new();
    for (explicit, path, export) in &exports {
        if *explicit && !taken.insert(export.id.clone()) {
            let message = format!("`{}` is the id of another destination: give each its own", export.id);
            problems.push(Problem { path: format!("{path}.id"), message });
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(exports.into_iter().map(|(explicit, _, export)| number(explicit, export, &mut taken)).collect())
}

fn number(explicit: bool, mut export: ExportConfig, taken: &mut BTreeSet<String>) -> ExportConfig {
    if !explicit {
        let name = export.destination_name();
        let mut repeat = 1;
        while !taken.insert(export.id.clone()) {
            repeat += 1;
            export.id = format!("{name}-{repeat}");
        }
    }
    export
}

fn id_problem(id: &str, path_prefix: &str) -> Vec<Problem> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    if !id.is_empty() && id.len() <= ID_CHARS_MAX && id.bytes().all(fits) {
        return Vec::new();
    }
    let message = format!("must be 1 to {ID_CHARS_MAX} of the characters `a-z`, `0-9`, `_` and `-`");
    vec![Problem { path: format!("{path_prefix}.id"), message }]
}

fn known() -> String {
    let built = BUILT.map(|name| format!("`{name}`")).join(", ");
    let later = NOT_BUILT.map(|name| format!("`{name}`")).join(", ");
    format!("{built} (not built yet in this version: {later})")
}
