//! The configuration file as it is written. Every section has its type here or in the crate that owns it; the schema
//! is made from the same types and their comments. What the values must satisfy is in `validate`.

use std::collections::BTreeMap;

use control::config::AdminTokenConfig;
use control::oidc::OidcConfig;
use escalation::config::{EscalationsConfig, SmtpConfig};
use gateway::config::LimitsConfig;
use registry::config::{PricingConfig, ProjectConfig, UpstreamConfig};
use registry::moderation::ModerationConfig;
use registry::plan::PlanConfig;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// Configuration of Policy Gateway, one YAML or JSON file. `$NAME` or `${NAME}` in a value is read from the
/// environment; `$$` is a plain `$`.
#[derive(Deserialize, JsonSchema)]
#[schemars(title = "Policy Gateway configuration")]
#[serde(deny_unknown_fields)]
pub(crate) struct RawConfig {
    /// Address of the data plane, the management API and the console, `HOST:PORT`. Default `127.0.0.1:8080`.
    pub(crate) listen: Option<String>,
    /// Where everything durable is kept: `sqlite://PATH`, relative to the working directory. Default
    /// `sqlite://data/gateway.db`.
    pub(crate) store: Option<String>,
    /// Redis or Valkey for several gateways that share their counters. Not built yet in this version.
    pub(crate) shared_counters: Option<String>,
    /// Model providers, in the order in which they are asked for a model.
    #[serde(default)]
    pub(crate) upstreams: Vec<UpstreamConfig>,
    /// Policy files (YAML or JSON), as paths or patterns relative to this file.
    #[serde(default)]
    pub(crate) policies: Vec<String>,
    /// Projects and their keys.
    #[serde(default)]
    pub(crate) projects: Vec<ProjectConfig>,
    /// Plans that projects and keys may be on, by name.
    #[serde(default)]
    pub(crate) plans: BTreeMap<String, PlanConfig>,
    /// Who may use the management API.
    #[serde(default)]
    pub(crate) admin_tokens: Vec<AdminTokenConfig>,
    /// An OpenID Connect issuer whose tokens may use the management API too.
    pub(crate) oidc: Option<OidcConfig>,
    /// What calls cost.
    pub(crate) pricing: Option<PricingConfig>,
    /// Who scores texts by the categories that policies flag.
    pub(crate) moderation: Option<ModerationConfig>,
    /// The audit log.
    pub(crate) audit: Option<AuditConfig>,
    /// Destinations that every audit event is delivered to.
    #[serde(default)]
    #[schemars(with = "Vec<audit::export::RawExport>")]
    pub(crate) exports: Vec<Value>,
    /// Limits of the data plane.
    pub(crate) limits: Option<LimitsConfig>,
    /// Secret that encrypts what the management API is given to keep: `$NAME`, `file:/path` or the text itself.
    /// Policies with `org_controls.retain_content` need it too.
    pub(crate) secrets_key: Option<String>,
    /// The mail server that notices of escalations go through.
    pub(crate) smtp: Option<SmtpConfig>,
    /// How reviewers hear of escalations.
    pub(crate) escalations: Option<EscalationsConfig>,
    /// What destinations and webhooks that the management API saves may reach and read.
    pub(crate) egress: Option<EgressConfig>,
}

/// The audit log.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditConfig {
    /// What happens to requests while the log cannot be written. Default `refuse`.
    pub(crate) on_unavailable: Option<OnUnavailable>,
    /// Days after which events may be deleted once every destination has them, and reviews that are over. Absent: never.
    #[schemars(range(min = 1, max = 36500))]
    pub(crate) retention_days: Option<u32>,
    /// Private key that signs checkpoints of the log, as `audit keygen` writes it: `$NAME` (environment), `file:/path` or the
    /// text itself. Absent: no checkpoints are made.
    pub(crate) signing_key: Option<String>,
    /// The private key before that, written likewise, for as long as it takes to hand over: the first checkpoint of the new
    /// key is signed by both.
    pub(crate) previous_signing_key: Option<String>,
    /// Public keys, of now and before, that `audit verify` believes.
    #[serde(default)]
    pub(crate) public_keys: Vec<String>,
}

/// What happens to requests while the audit log cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnUnavailable {
    /// They are answered 503.
    #[default]
    Refuse,
    /// They are served unrecorded, and counted.
    Serve,
}

/// What destinations and webhooks that the management API saves may reach and read: by default public addresses over https,
/// and no environment variable.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EgressConfig {
    /// Names of environment variables that they may use as `$NAME`.
    #[serde(default)]
    pub(crate) env: Vec<String>,
    /// Hosts (`siem.internal`, `*.internal`), addresses and networks (`10.0.0.0/8`) that they may reach although these are not
    /// public, or not over https.
    #[serde(default)]
    pub(crate) allow: Vec<String>,
}
