//! The sections of the configuration that describe desired state: `upstreams`, `projects` and `pricing`. As written
//! (`…Config`), and checked into what a [`crate::Snapshot`] is built from. Files and `$NAME` substitution are not
//! done here; secret fields arrive as they were written.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use audit::secret::{Secret, SecretSource};
use policy::problems::Problem;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::budget::BudgetConfig;
use crate::key::KeyDigest;
use crate::pricing::{Price, Pricing};
use crate::project::{Entitlements, Project, ProjectStatus};
use crate::snapshot::{DesiredKey, DesiredProject};
use crate::upstream::{Upstream, UpstreamKind};

/// What OpenAI's own SDKs wait for an answer: a long completion may take minutes to begin when it is not streamed.
const TIMEOUT: Duration = Duration::from_secs(600);
/// A host that takes longer to accept a connection will not serve it either.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A day: no timeout needs more, and it keeps sums far from overflow.
const TIMEOUT_SECONDS_MAX: u64 = 24 * 3600;
/// Ids stand in headers, tags and metrics.
const ID_BYTES_MAX: usize = 128;

/// A model provider's endpoint.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Names it in entitlements, logs and metrics.
    pub name: String,
    /// What it speaks.
    pub kind: UpstreamKindConfig,
    /// Base URL as an SDK would take it; for OpenAI it ends with `/v1`.
    pub base_url: String,
    /// Secret: `$NAME` (environment), `file:/path` or the text itself. Absent: no `Authorization` header is sent.
    pub api_key: Option<String>,
    /// Models that it serves; `*` stands for every model. Upstreams are asked in order; the first that serves a
    /// model gets the call. Default `["*"]`.
    pub models: Option<Vec<String>>,
    /// Time in seconds that the head of an answer may take. Default 600.
    #[schemars(range(min = 1, max = 86400))]
    pub timeout_seconds: Option<u64>,
    /// Time in seconds that connecting may take, TLS included. Default 10.
    #[schemars(range(min = 1, max = 86400))]
    pub connect_timeout_seconds: Option<u64>,
}

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamKindConfig {
    /// OpenAI's API, or a server compatible with it.
    #[serde(rename = "openai")]
    OpenAi,
    /// Anthropic's API. Not built yet in this version.
    Anthropic,
}

/// A project and its keys.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectConfig {
    /// Stands in audit events as `project_id`: 1 to 128 letters, digits, `-`, `_`, `.`, `:` or `/`.
    pub id: String,
    /// For people. Default: the id.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// `disabled` answers every request of its keys with 403. Default `active`.
    pub status: Option<ProjectStatus>,
    /// The policy that judges its requests. Without one they are refused with 400.
    pub policy_id: Option<String>,
    /// Keys that applications present as `Authorization: Bearer`.
    #[serde(default)]
    pub keys: Vec<KeyConfig>,
    /// What its keys may use beyond the project and its own policy.
    pub entitlements: Option<EntitlementsConfig>,
    /// The one of `plans` that its keys are on. Absent: no rate limit.
    pub plan: Option<String>,
    /// What it may spend, in US dollars or tokens. Absent: anything.
    pub budget: Option<BudgetConfig>,
}

/// A key: the secret alone, or with a name and an end.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(with = "KeyForms")]
pub struct KeyConfig {
    /// Secret: `$NAME` (environment), `file:/path` or the key itself (`ak_` and 1 to 200 letters, digits, `_`, `-`).
    pub key: String,
    /// For people.
    pub name: Option<String>,
    /// RFC 3339 time from which it is refused.
    pub expires_at: Option<String>,
    /// One of `plans`, in place of its project's.
    pub plan: Option<String>,
}

/// What the keys of a project may use. `*` stands for everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntitlementsConfig {
    /// Policies that a request may name beside the project's own.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Projects that a request may name beside the key's own.
    #[serde(default)]
    pub projects: Vec<String>,
    /// Models that may be used. Empty or absent: all.
    #[serde(default)]
    pub models: Vec<String>,
    /// Upstreams that may be used. Empty or absent: all.
    #[serde(default)]
    pub upstreams: Vec<String>,
}

/// What calls cost, for the usage in audit events.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PricingConfig {
    /// The price of every model that `models` does not name. Default: 5 US dollars per million tokens.
    pub default: Option<PriceConfig>,
    /// Prices by model.
    #[serde(default)]
    pub models: BTreeMap<String, PriceConfig>,
}

/// A price: one per million tokens of the total, or one each for prompt and answer.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceConfig {
    /// US dollars per million tokens of the total.
    #[schemars(range(min = 0))]
    pub usd_per_million_tokens: Option<f64>,
    /// US dollars per million tokens of the prompt.
    #[schemars(range(min = 0))]
    pub input_usd_per_million_tokens: Option<f64>,
    /// US dollars per million tokens of the answer.
    #[schemars(range(min = 0))]
    pub output_usd_per_million_tokens: Option<f64>,
}

impl UpstreamConfig {
    /// Checks it and resolves its secret.
    ///
    /// # Errors
    /// Every problem, with paths under `prefix` (`upstreams[0]`).
    pub fn build(&self, prefix: &str) -> Result<Upstream, Vec<Problem>> {
        let mut problems = Problems::under(prefix);
        problems.check_id("name", &self.name);
        if self.kind != UpstreamKindConfig::OpenAi {
            problems.add("kind", "not built yet in this version: use `openai`");
        }
        if let Err(message) = check_base_url(&self.base_url) {
            problems.add("base_url", message);
        }
        let api_key = self.api_key.as_deref().and_then(|raw| problems.resolve("api_key", raw));
        let models = self.models.clone().unwrap_or_else(|| vec!["*".to_owned()]);
        if models.is_empty() {
            problems.add("models", "it would serve no model: name some, or give [\"*\"]");
        }
        if let Some(at) = models.iter().position(|model| model.trim().is_empty()) {
            problems.add(&format!("models[{at}]"), "a model has a name: give one, or take the entry out");
        }
        let timeout = problems.seconds("timeout_seconds", self.timeout_seconds, TIMEOUT);
        let connect_timeout =
            problems.seconds("connect_timeout_seconds", self.connect_timeout_seconds, CONNECT_TIMEOUT);
        problems.none_or(Upstream {
            name: self.name.clone(),
            kind: UpstreamKind::OpenAi,
            base_url: self.base_url.trim_end_matches('/').to_owned(),
            api_key,
            models,
            timeout,
            connect_timeout,
        })
    }
}

impl ProjectConfig {
    /// Checks it and takes the digests of its keys. Names of policies, projects and upstreams are checked where the
    /// snapshot is built.
    ///
    /// # Errors
    /// Every problem, with paths under `prefix` (`projects[0]`).
    pub fn build(&self, prefix: &str) -> Result<DesiredProject, Vec<Problem>> {
        let mut problems = Problems::under(prefix);
        problems.check_id("id", &self.id);
        let mut keys = Vec::with_capacity(self.keys.len());
        for (at, key) in self.keys.iter().enumerate() {
            keys.extend(key.build(&format!("keys[{at}]"), &mut problems));
        }
        let entitlements = self.entitlements.clone().unwrap_or_default();
        let path = format!("{}.budget", problems.prefix);
        let budget = match self.budget.map(|budget| budget.build(&path)).transpose() {
            Ok(budget) => budget,
            Err(found) => {
                problems.found.extend(found);
                None
            }
        };
        problems.none_or(DesiredProject {
            project: Project {
                id: self.id.clone(),
                name: self.name.clone().unwrap_or_else(|| self.id.clone()),
                description: self.description.clone().unwrap_or_default(),
                status: self.status.unwrap_or_default(),
                policy_id: self.policy_id.clone(),
                entitlements: entitlements.into(),
                plan: self.plan.clone(),
                budget,
            },
            keys,
        })
    }
}

impl From<EntitlementsConfig> for Entitlements {
    fn from(config: EntitlementsConfig) -> Self {
        let EntitlementsConfig { policies, projects, models, upstreams } = config;
        Self { policies, projects, models, upstreams }
    }
}

impl KeyConfig {
    fn build(&self, path: &str, problems: &mut Problems) -> Option<DesiredKey> {
        let expires_at_ms = match self.expires_at.as_deref().map(str::parse::<jiff::Timestamp>) {
            None => None,
            Some(Ok(time)) => Some(time.as_millisecond()),
            Some(Err(_)) => {
                problems.add(
                    &format!("{path}.expires_at"),
                    "not an RFC 3339 time: write it like `2030-01-31T00:00:00Z`",
                );
                None
            }
        };
        let key = problems.resolve(path, &self.key)?;
        match KeyDigest::of(key.expose()) {
            Ok(digest) => Some(DesiredKey {
                digest: digest.into(),
                name: self.name.clone(),
                expires_at_ms,
                revoked: false,
                plan: self.plan.clone(),
            }),
            Err(error) => {
                problems.add(path, error.to_string());
                None
            }
        }
    }
}

impl PricingConfig {
    /// Checks it.
    ///
    /// # Errors
    /// Every problem, with paths under `prefix` (`pricing`).
    pub fn build(&self, prefix: &str) -> Result<Pricing, Vec<Problem>> {
        let mut problems = Problems::under(prefix);
        let default = match &self.default {
            Some(price) => price.build("default", &mut problems),
            None => Some(Price::Total(crate::pricing::DEFAULT_USD_PER_MILLION_TOKENS)),
        };
        let mut models = HashMap::with_capacity(self.models.len());
        for (model, price) in &self.models {
            if let Some(price) = price.build(&format!("models.{model}"), &mut problems) {
                models.insert(model.clone(), price);
            }
        }
        problems.none_or(default.map(|default| Pricing::new(default, models)).unwrap_or_default())
    }
}

impl PriceConfig {
    fn build(self, path: &str, problems: &mut Problems) -> Option<Price> {
        let amounts = [
            ("usd_per_million_tokens", self.usd_per_million_tokens),
            ("input_usd_per_million_tokens", self.input_usd_per_million_tokens),
            ("output_usd_per_million_tokens", self.output_usd_per_million_tokens),
        ];
        for (name, amount) in amounts {
            if amount.is_some_and(|amount| !amount.is_finite() || amount < 0.0) {
                problems.add(&format!("{path}.{name}"), "a price is a number of US dollars, zero or more");
            }
        }
        match (amounts[0].1, amounts[1].1, amounts[2].1) {
            (Some(total), None, None) => Some(Price::Total(total)),
            (None, Some(input), Some(output)) => Some(Price::InputOutput { input, output }),
            _ => {
                problems.add(
                    path,
                    "give `usd_per_million_tokens`, or both `input_usd_per_million_tokens` and \
                     `output_usd_per_million_tokens`",
                );
                None
            }
        }
    }
}

/// Problems of one section, their paths under its prefix.
struct Problems {
    prefix: String,
    found: Vec<Problem>,
}

impl Problems {
    fn under(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), found: Vec::new() }
    }

    fn add(&mut self, name: &str, message: impl Into<String>) {
        self.found.push(Problem { path: format!("{}.{name}", self.prefix), message: message.into() });
    }

    fn none_or<T>(self, built: T) -> Result<T, Vec<Problem>> {
        if self.found.is_empty() { Ok(built) } else { Err(self.found) }
    }

    fn check_id(&mut self, name: &str, id: &str) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
        if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(plain) {
            self.add(name, "use 1 to 128 letters, digits, `-`, `_`, `.`, `:` or `/`");
        }
    }

    fn resolve(&mut self, name: &str, raw: &str) -> Option<Secret> {
        match SecretSource::parse(raw).and_then(|source| source.resolve()) {
            Ok(secret) => Some(secret),
            Err(error) => {
                self.add(name, error.to_string());
                None
            }
        }
    }

    fn seconds(&mut self, name: &str, seconds: Option<u64>, default: Duration) -> Duration {
        match seconds {
            None => default,
            Some(seconds) if (1..=TIMEOUT_SECONDS_MAX).contains(&seconds) => Duration::from_secs(seconds),
            Some(seconds) => {
                self.add(
                    name,
                    format!(
                        "`{seconds}` is out of range: give a whole number from 1 to {TIMEOUT_SECONDS_MAX}"
                    ),
                );
                default
            }
        }
    }
}

/// The URL is not part of the message: it may hold what came from the environment.
fn check_base_url(text: &str) -> Result<(), String> {
    let hint = "write it like `https://api.openai.com/v1`";
    if text.contains('#') || text.contains('?') {
        return Err(format!("a base URL has no query and no fragment: {hint}"));
    }
    let uri: http::Uri = text.parse().map_err(|_| format!("not a URL: {hint}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format!("it must start with `https://` or `http://`: {hint}"));
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err("a base URL holds no user name or password: give the key as `api_key`".to_owned())
        }
        Some(authority) if !authority.host().is_empty() => Ok(()),
        _ => Err(format!("it names no host: {hint}")),
    }
}

/// The long form of a key; what schema and reader share.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeyObject {
    /// Secret: `$NAME` (environment), `file:/path` or the key itself (`ak_` and 1 to 200 letters, digits, `_`, `-`).
    key: String,
    /// For people.
    name: Option<String>,
    /// RFC 3339 time from which it is refused.
    expires_at: Option<String>,
    /// One of `plans`, in place of its project's.
    plan: Option<String>,
}

/// The forms of a key, for the schema only.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum KeyForms {
    /// Secret: `$NAME` (environment), `file:/path` or the key itself (`ak_` and 1 to 200 letters, digits, `_`, `-`).
    Key(String),
    /// With a name or an end.
    Object(KeyObject),
}

impl<'de> Deserialize<'de> for KeyConfig {
    // By hand: an untagged enum would swallow what is wrong inside the object.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;

        impl<'de> Visitor<'de> for Forms {
            type Value = KeyConfig;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a key as text, or an object with `key`")
            }

            fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<KeyConfig, E> {
                Ok(KeyConfig { key: key.to_owned(), name: None, expires_at: None, plan: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<KeyConfig, A::Error> {
                let object = KeyObject::deserialize(MapAccessDeserializer::new(map))?;
                let KeyObject { key, name, expires_at, plan } = object;
                Ok(KeyConfig { key, name, expires_at, plan })
            }
        }

        deserializer.deserialize_any(Forms)
    }
}

#[cfg(test)]
mod tests;
