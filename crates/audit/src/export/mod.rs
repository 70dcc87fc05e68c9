//! Destinations: their configuration and what each puts on the wire. A destination is one folder (`config.rs`, pure
//! `encode.rs`, `send.rs`, tests) and a line in the table below. What all of them share lies beside the folders:
//! `common` settings, `check` of configurations, `http`, bodies, pieces of events. Deliberately absent: when and how
//! often something is sent, which is `delivery`'s.

pub mod azure_monitor;
#[cfg(test)]
mod bare_server;
pub mod body;
mod check;
mod common;
pub mod compress;
pub mod datadog_logs;
pub mod elastic;
pub mod file;
pub mod http;
mod lines;
pub mod otlp;
pub(crate) mod pieces;
mod probe;
pub mod s3;
mod secrets;
pub mod shrink;
pub mod splunk_hec;
pub mod stdout;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;
mod values;
pub mod webhook;

use std::collections::BTreeSet;
use std::fmt;

use policy::problems::Problem;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::delivery::{BodyBuilder, Destination, Encoded, Limits, Parcel, Push, Screen, SendOutcome};
use crate::egress::{self, Egress};
use crate::outbox::StoredEvent;
use crate::secret::{SecretError, SecretSource};

pub use common::Common;
pub use probe::{TestError, TestReport, test};
pub use secrets::{SECRET_FIELDS, each_secret, take_secrets};

/// Names of the contract that this version does not build yet.
const NOT_BUILT: &[&str] = &["kafka"];
/// An id stands in URLs, metric labels and file names.
const ID_CHARS_MAX: usize = 64;

/// A kind of destination: its checked configuration, and how to get from there to a sender.
pub trait Kind: Clone + fmt::Debug + PartialEq + Send + Sync + 'static {
    /// The contract's name: `datadog_logs`.
    const NAME: &'static str;
    /// The configuration as written, but for `id` and the settings of [`Common`], which are none of a kind's business.
    type Raw: DeserializeOwned + JsonSchema;
    /// What sends.
    type Sender: Destination;

    /// Checks everything and fills in the defaults; reads nothing from outside.
    ///
    /// # Errors
    /// Every problem, with its path under `path_prefix`.
    fn read(raw: &Self::Raw, path_prefix: &str) -> Result<Self, Vec<Problem>>;

    /// Where it goes, without anything secret.
    fn endpoint(&self) -> &str;

    /// Batch sizes, waits and timeouts.
    fn limits(&self) -> Limits;

    /// Where its secrets come from, each with the field that it is in.
    fn secrets(&self) -> Vec<(&'static str, &SecretSource)>;

    /// Reads the secrets and sets up the client.
    ///
    /// # Errors
    /// [`ExportError`].
    fn sender(&self) -> Result<Self::Sender, ExportError>;

    /// See [`ExportConfig::borrows_credentials`].
    fn borrows_credentials(&self) -> Option<&'static str> {
        None
    }

    /// What to search for there to find an event.
    fn look_for(&self, event_id: Uuid) -> String {
        format!("event id {event_id}")
    }
}

/// Makes the enums over all kinds and the matches on them.
macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident($config:ty);)+) => {
        /// The kinds of destinations.
        #[derive(Clone, Debug, PartialEq)]
        pub enum DestinationConfig {
            $($(#[$doc])* $variant($config),)+
        }

        /// Any destination, ready to send.
        pub enum Exporter {
            $($(#[$doc])* $variant(<$config as Kind>::Sender),)+
        }

        /// A body of any destination.
        pub enum ExportBody {
            $($(#[$doc])* $variant(<<$config as Kind>::Sender as Destination>::Builder),)+
        }

        /// Names that are built.
        const BUILT: &[&str] = &[$(<$config as Kind>::NAME),+];

        impl DestinationConfig {
            fn read(name: &str, entry: &Value, path_prefix: &str) -> Option<Result<Self, Vec<Problem>>> {
                $(if name == <$config as Kind>::NAME {
                    let raw = policy::problems::read_all::<<$config as Kind>::Raw>(entry, path_prefix);
                    let config = raw.and_then(|raw| <$config as Kind>::read(&raw, path_prefix));
                    return Some(config.map(Self::$variant));
                })+
                None
            }

            fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <$config as Kind>::NAME,)+
                }
            }

            fn endpoint(&self) -> &str {
                match self {
                    $(Self::$variant(config) => Kind::endpoint(config),)+
                }
            }

            fn limits(&self) -> Limits {
                match self {
                    $(Self::$variant(config) => Kind::limits(config),)+
                }
            }

            fn secrets(&self) -> Vec<(&'static str, &SecretSource)> {
                match self {
                    $(Self::$variant(config) => Kind::secrets(config),)+
                }
            }

            fn look_for(&self, event_id: Uuid) -> String {
                match self {
                    $(Self::$variant(config) => Kind::look_for(config, event_id),)+
                }
            }

            fn borrows_credentials(&self) -> Option<&'static str> {
                match self {
                    $(Self::$variant(config) => Kind::borrows_credentials(config),)+
                }
            }
        }

        impl Exporter {
            /// Reads the secrets and sets up the client.
            ///
            /// # Errors
            /// [`ExportError`].
            pub fn new(export: &ExportConfig) -> Result<Self, ExportError> {
                let (sender, is_guarded) = egress::within(export.egress.as_ref(), || match &export.destination {
                    $(DestinationConfig::$variant(config) => config.sender().map(Self::$variant),)+
                });
                // A kind that sets up its connections otherwise would go anywhere.
                if export.egress.is_some() && sender.is_ok() && !is_guarded {
                    return Err(ExportError::Unguarded(export.destination_name()));
                }
                sender
            }
        }

        impl Destination for Exporter {
            type Builder = ExportBody;

            fn begin(&self, now_ms: i64) -> Result<ExportBody, String> {
                match self {
                    $(Self::$variant(destination) => destination.begin(now_ms).map(ExportBody::$variant),)+
                }
            }

            async fn send(&self, parcel: Parcel) -> SendOutcome {
                // Boxed: a flight must not be as large as the largest kind's.
                match self {
                    $(Self::$variant(destination) => Box::pin(destination.send(parcel)).await,)+
                }
            }

            async fn reload_secrets(&self) -> Result<(), SecretError> {
                match self {
                    $(Self::$variant(destination) => destination.reload_secrets().await,)+
                }
            }

            fn keeps_bounds(&self) -> bool {
                match self {
                    $(Self::$variant(destination) => destination.keeps_bounds(),)+
                }
            }

            async fn confirm(&self, tokens: Vec<String>) -> Result<Vec<bool>, String> {
                match self {
                    $(Self::$variant(destination) => Box::pin(destination.confirm(tokens)).await,)+
                }
            }

            fn confirm_every(&self) -> std::time::Duration {
                match self {
                    $(Self::$variant(destination) => destination.confirm_every(),)+
                }
            }
        }

        impl BodyBuilder for ExportBody {
            fn push(&mut self, event: &StoredEvent) -> Push {
                match self {
                    $(Self::$variant(body) => body.push(event),)+
                }
            }

            fn finish(self) -> Result<Encoded, String> {
                match self {
                    $(Self::$variant(body) => body.finish(),)+
                }
            }
        }

        /// The schema of one entry of `exports`: a kind's own settings and those that all kinds share.
        fn schemas(generator: &mut SchemaGenerator) -> Vec<Schema> {
            vec![$(common::with_common(<$config as Kind>::Raw::json_schema(generator), generator)),+]
        }
    };
}

kinds! {
    /// Datadog Logs.
    DatadogLogs(datadog_logs::DatadogLogs);
    /// Splunk's HTTP Event Collector.
    SplunkHec(splunk_hec::SplunkHec);
    /// Elasticsearch and OpenSearch.
    Elastic(elastic::Elastic);
    /// S3 and compatible stores.
    S3(s3::S3);
    /// Azure Monitor.
    AzureMonitor(azure_monitor::AzureMonitor);
    /// OpenTelemetry collectors.
    Otlp(otlp::Otlp);
    /// Signed requests to a URL of one's own.
    Webhook(webhook::Webhook);
    /// The standard output.
    Stdout(stdout::Stdout);
    /// A file.
    File(file::File);
}

/// One entry of `exports`, as written in the configuration; for its schema.
#[derive(Clone, Copy, Debug)]
pub struct RawExport;

impl JsonSchema for RawExport {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RawExport".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let kinds = schemas(generator);
        schemars::json_schema!({
            "description": "One entry of `exports`, as written in the configuration.",
            "anyOf": kinds,
        })
    }
}

/// A destination, checked and complete. Secrets are still sources: nothing was read from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportConfig {
    /// `[a-z0-9_-]`, unique; the destination's cursor is kept under it. Changing it starts a new cursor.
    pub id: String,
    /// What it is and where it goes.
    pub destination: DestinationConfig,
    /// What of the log it gets to see, and how fast.
    pub common: Common,
    /// What it may reach, checked at each connection; none for one that a file declares, which may go anywhere.
    pub egress: Option<Egress>,
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
    /// Nobody could say where a destination of the management API goes.
    #[error("`{0}` can be declared in the configuration file only")]
    Unguarded(&'static str),
}

impl ExportConfig {
    /// The contract's name of the kind: `datadog_logs`.
    pub fn destination_name(&self) -> &'static str {
        self.destination.name()
    }

    /// Where it goes, without anything secret.
    pub fn endpoint(&self) -> &str {
        self.destination.endpoint()
    }

    /// Batch sizes, waits, timeouts and the rate.
    pub fn limits(&self) -> Limits {
        Limits { rate: self.common.rate_limit, ..self.destination.limits() }
    }

    /// What to search for there to find an event.
    pub fn look_for(&self, event_id: Uuid) -> String {
        self.destination.look_for(event_id)
    }

    /// What of the log it gets to see; reads the secret of pseudonyms, where there is one.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn screen(&self) -> Result<Screen, SecretError> {
        self.common.screen()
    }

    /// Where its secrets come from, each with the field that it is in.
    pub fn secrets(&self) -> Vec<(&'static str, &SecretSource)> {
        let pseudonyms = self.common.pseudonymise_users.iter().map(|source| ("pseudonymise_users", source));
        self.destination.secrets().into_iter().chain(pseudonyms).collect()
    }

    /// The field that is missing where it would sign in as the gateway itself, with what its surroundings hold (variables of the
    /// environment, a machine's role). Whoever may edit a file may lend that out, the management API may not.
    pub fn borrows_credentials(&self) -> Option<&'static str> {
        self.destination.borrows_credentials()
    }

    /// Whether the secrets can be had now, without keeping them: for `check`.
    ///
    /// # Errors
    /// The first [`SecretError`], with the field it is in.
    pub fn check_secrets(&self) -> Result<(), (&'static str, SecretError)> {
        self.secrets()
            .into_iter()
            .try_for_each(|(field, secret)| secret.resolve().map(drop).map_err(|error| (field, error)))
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
    let Some(name) = name.as_str() else {
        return Err(at("destination", format!("must be a string: give {}", known())));
    };
    if NOT_BUILT.contains(&name) {
        let built = BUILT.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let message =
            format!("`{name}` is not built yet in this version: remove the entry, or use one of {built}");
        return Err(at("destination", message));
    }
    let mut problems = Vec::new();
    let (rest, id, common) = common::take(entry, path_prefix, &mut problems);
    let Some(destination) = DestinationConfig::read(name, &rest, path_prefix) else {
        return Err(at("destination", format!("`{name}` is not known: give {}", known())));
    };
    let id = id.unwrap_or_else(|| name.to_owned());
    problems.extend(id_problem(&id, path_prefix));
    match destination {
        Ok(destination) if problems.is_empty() => Ok(ExportConfig { id, destination, common, egress: None }),
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            Err(problems)
        }
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
    let names = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if NOT_BUILT.is_empty() {
        return names(BUILT);
    }
    format!("{} (not built yet in this version: {})", names(BUILT), names(NOT_BUILT))
}
