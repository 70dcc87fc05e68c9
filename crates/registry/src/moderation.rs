//! The section `moderation` of the configuration: who scores texts by category. As written, and checked into what a
//! snapshot carries. How a provider is asked is the gateway's business.

use std::sync::Arc;
use std::time::Duration;

use policy::PolicyDocument;
use policy::problems::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{UpstreamConfig, UpstreamKindConfig};
use crate::upstream::Upstream;

/// OpenAI's own endpoint and its model that knows all thirteen categories.
const OPENAI_URL: &str = "https://api.openai.com/v1";
const OPENAI_MODEL: &str = "omni-moderation-latest";
/// A classifier answers within a second; a model may reason first.
const OPENAI_TIMEOUT_SECONDS: u64 = 5;
const JUDGE_TIMEOUT_SECONDS: u64 = 20;
/// A request waits for its moderation: nobody waits longer.
const TIMEOUT_SECONDS_MAX: u64 = 120;
const RETRIES: u32 = 1;
const RETRIES_MAX: u32 = 5;
/// Outcomes kept, some 200 bytes each.
const CACHE_ENTRIES: usize = 16 * 1024;
const CACHE_ENTRIES_MAX: usize = 1024 * 1024;
/// Half the way from a threshold to either end.
const JUDGE_BAND: f32 = 0.5;

/// Who scores texts by category.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModerationConfig {
    /// Who scores. Default `embedded`.
    pub provider: Option<ModerationProvider>,
    /// Base URL of the provider `openai`, or of a server compatible with it. Default `https://api.openai.com/v1`.
    pub base_url: Option<String>,
    /// Secret of the provider `openai`: `$NAME` (environment), `file:/path` or the text itself.
    pub api_key: Option<String>,
    /// Model that is asked. `openai`: default `omni-moderation-latest`. `judge`: a chat model of the upstream, required.
    pub model: Option<String>,
    /// Upstream that the provider `judge` asks, by its name.
    pub upstream: Option<String>,
    /// Time in seconds that one try may take. Default 5 for `openai`, 20 for `judge`.
    #[schemars(range(min = 1, max = 120))]
    pub timeout_seconds: Option<u64>,
    /// Further tries where one fails for a reason that may pass. Default 1.
    #[schemars(range(max = 5))]
    pub retries: Option<u32>,
    /// Outcomes that are kept in memory, under a keyed digest of the text and never the text. 0: none. Default 16384.
    #[schemars(range(max = 1_048_576))]
    pub cache_entries: Option<usize>,
    /// Ask the provider only about texts of which the embedded classifier is not sure: its score for a flagged category
    /// is nearer to the category's threshold than this share of the way to 0, or to 1. More than 0; 1 asks about every
    /// text. Default 0.5 for `judge`, 1 for `openai`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub uncertain_band: Option<f32>,
}

/// Who scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModerationProvider {
    /// The classifier inside the gateway.
    #[default]
    Embedded,
    /// OpenAI's moderation endpoint, or one compatible with it.
    OpenAi,
    /// A chat model of an upstream.
    Judge,
    /// Nobody: no policy may flag a category.
    None,
}

/// [`ModerationConfig`], checked.
#[derive(Clone, Debug)]
pub struct Moderation {
    /// Who scores.
    pub provider: Provider,
    /// Outcomes kept in memory.
    pub cache_entries: usize,
}

impl Default for Moderation {
    fn default() -> Self {
        Self { provider: Provider::Embedded, cache_entries: CACHE_ENTRIES }
    }
}

/// Who scores.
#[derive(Clone, Debug)]
pub enum Provider {
    /// The classifier inside the gateway.
    Embedded,
    /// Somebody who is asked over the network.
    Remote(Remote),
    /// Nobody.
    None,
}

/// Somebody who is asked over the network.
#[derive(Clone, Debug)]
pub struct Remote {
    /// How it is asked.
    pub kind: RemoteKind,
    /// Where it is asked, and how long a try may take.
    pub endpoint: Arc<Upstream>,
    /// The model that is asked.
    pub model: String,
    /// Further tries.
    pub retries: u32,
    /// See [`ModerationConfig::uncertain_band`]; more than 0, at most 1.
    pub uncertain_band: f32,
}

/// How somebody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteKind {
    /// By OpenAI's moderation API.
    OpenAi,
    /// By a chat completion.
    Judge,
}

impl RemoteKind {
    /// As events and metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Judge => "judge",
        }
    }
}

impl ModerationConfig {
    /// Checks it and resolves its secret. `upstreams` are those of the same configuration.
    ///
    /// # Errors
    /// Every problem, with paths under `prefix` (`moderation`).
    pub fn build(&self, prefix: &str, upstreams: &[Upstream]) -> Result<Moderation, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut add = |name: &str, message: String| {
            problems.push(Problem { path: format!("{prefix}.{name}"), message });
        };
        let provider = self.provider.unwrap_or_default();
        let retries = self.retries.unwrap_or(RETRIES);
        if retries > RETRIES_MAX {
            add(
                "retries",
                format!("`{retries}` is out of range: give a whole number from 0 to {RETRIES_MAX}"),
            );
        }
        let cache_entries = self.cache_entries.unwrap_or(CACHE_ENTRIES);
        if cache_entries > CACHE_ENTRIES_MAX {
            add("cache_entries", format!("is out of range: give at most {CACHE_ENTRIES_MAX}"));
        }
        let band = |default: f32| self.uncertain_band.unwrap_or(default);
        if !(band(1.0) > 0.0 && band(1.0) <= 1.0) {
            add("uncertain_band", "must be more than 0 and at most 1".to_owned());
        }
        let default = if provider == ModerationProvider::Judge {
            JUDGE_TIMEOUT_SECONDS
        } else {
            OPENAI_TIMEOUT_SECONDS
        };
        let seconds = self.timeout_seconds.unwrap_or(default);
        if !(1..=TIMEOUT_SECONDS_MAX).contains(&seconds) {
            let range = format!("give a whole number from 1 to {TIMEOUT_SECONDS_MAX}");
            add("timeout_seconds", format!("`{seconds}` is out of range: {range}"));
        }
        let built = match provider {
            ModerationProvider::Embedded => Some(Provider::Embedded),
            ModerationProvider::None => Some(Provider::None),
            ModerationProvider::OpenAi => self
                .openai(prefix, &mut problems)
                .map(|endpoint| {
                    let model = self.model.clone().unwrap_or_else(|| OPENAI_MODEL.to_owned());
                    (RemoteKind::OpenAi, endpoint, model, band(1.0))
                })
                .map(|remote| self.remote(remote, seconds, retries)),
            ModerationProvider::Judge => {
                self.judge(prefix, upstreams, &mut problems).map(|(endpoint, model)| {
                    self.remote((RemoteKind::Judge, endpoint, model, band(JUDGE_BAND)), seconds, retries)
                })
            }
        };
        match built {
            Some(provider) if problems.is_empty() => Ok(Moderation { provider, cache_entries }),
            _ => Err(problems),
        }
    }

    fn remote(
        &self,
        (kind, endpoint, model, uncertain_band): (RemoteKind, Upstream, String, f32),
        seconds: u64,
        retries: u32,
    ) -> Provider {
        let timeout = Duration::from_secs(seconds);
        let endpoint =
            Upstream { timeout, connect_timeout: endpoint.connect_timeout.min(timeout), ..endpoint };
        Provider::Remote(Remote { kind, endpoint: Arc::new(endpoint), model, retries, uncertain_band })
    }

    fn openai(&self, prefix: &str, problems: &mut Vec<Problem>) -> Option<Upstream> {
        let config = UpstreamConfig {
            name: "moderation".to_owned(),
            kind: UpstreamKindConfig::OpenAi,
            base_url: self.base_url.clone().unwrap_or_else(|| OPENAI_URL.to_owned()),
            api_key: self.api_key.clone(),
            models: None,
            timeout_seconds: None,
            connect_timeout_seconds: None,
        };
        config.build(prefix).map_err(|found| problems.extend(found)).ok()
    }

    fn judge(
        &self,
        prefix: &str,
        upstreams: &[Upstream],
        problems: &mut Vec<Problem>,
    ) -> Option<(Upstream, String)> {
        let mut add = |name: &str, message: String| {
            problems.push(Problem { path: format!("{prefix}.{name}"), message });
        };
        let named = self.upstream.as_deref().unwrap_or_default();
        let upstream = upstreams.iter().find(|upstream| upstream.name == named);
        match (&self.upstream, upstream) {
            (None, _) => {
                add("upstream", "is missing: name the upstream that the judge is asked at".to_owned());
            }
            (Some(named), None) => {
                add("upstream", format!("`{named}` is none of `upstreams`: correct it, or add it there"));
            }
            _ => {}
        }
        let model = self.model.clone().filter(|model| !model.trim().is_empty());
        if model.is_none() {
            add("model", "is missing: name the model that judges".to_owned());
        }
        Some((upstream?.clone(), model?))
    }
}

impl Moderation {
    /// What a policy asks of moderation that it cannot have.
    pub fn check(&self, document: &PolicyDocument) -> Vec<Problem> {
        if matches!(self.provider, Provider::None) && !document.rules.flagged_categories.is_empty() {
            let message = "`moderation.provider` is `none`, so that nobody scores any text: choose another provider, \
                           or leave the list empty";
            return vec![Problem::new("rules.flagged_categories", message)];
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn build(config: Value) -> Result<Moderation, Vec<String>> {
        let upstream =
            json!({"name": "main", "kind": "openai", "base_url": "http://127.0.0.1:1/v1", "api_key": "k"});
        let upstream =
            serde_json::from_value::<UpstreamConfig>(upstream).unwrap().build("upstreams[0]").unwrap();
        let config: ModerationConfig = serde_json::from_value(config).unwrap();
        config
            .build("moderation", &[upstream])
            .map_err(|problems| problems.into_iter().map(|problem| problem.path).collect())
    }

    fn remote(config: Value) -> Remote {
        match build(config).unwrap().provider {
            Provider::Remote(remote) => remote,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn says_who_scores_with_its_defaults() {
        assert!(matches!(build(json!({})).unwrap().provider, Provider::Embedded));
        assert!(matches!(build(json!({"provider": "none"})).unwrap().provider, Provider::None));
        let openai = remote(json!({"provider": "openai", "api_key": "sk"}));
        assert_eq!((openai.endpoint.base_url.as_str(), openai.model.as_str()), (OPENAI_URL, OPENAI_MODEL));
        assert_eq!((openai.endpoint.timeout.as_secs(), openai.retries, openai.uncertain_band), (5, 1, 1.0));
        let judge =
            remote(json!({"provider": "judge", "upstream": "main", "model": "small", "timeout_seconds": 3}));
        assert_eq!(
            (judge.kind, judge.endpoint.name.as_str(), judge.model.as_str()),
            (RemoteKind::Judge, "main", "small")
        );
        assert_eq!((judge.endpoint.timeout.as_secs(), judge.uncertain_band), (3, 0.5));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let wrong = |config| build(config).unwrap_err();
        // What another provider would use is inert.
        let inert =
            json!({"provider": "embedded", "base_url": "no URL", "api_key": "$NONE", "upstream": "none"});
        assert!(matches!(build(inert).unwrap().provider, Provider::Embedded));
        assert_eq!(
            wrong(json!({"provider": "openai", "base_url": "ftp://a", "retries": 9, "uncertain_band": 0,
                "timeout_seconds": 0, "cache_entries": 2_000_000})),
            [
                "moderation.retries",
                "moderation.cache_entries",
                "moderation.uncertain_band",
                "moderation.timeout_seconds",
                "moderation.base_url"
            ]
        );
        assert_eq!(wrong(json!({"provider": "judge"})), ["moderation.upstream", "moderation.model"]);
        assert_eq!(
            wrong(json!({"provider": "judge", "upstream": "other", "model": "m"})),
            ["moderation.upstream"]
        );
    }

    #[test]
    fn nobody_can_honour_a_flagged_category_where_nobody_scores() {
        let document =
            PolicyDocument::parse(&json!({"policy_id": "p", "rules": {"flagged_categories": ["hate"]}}));
        let document = document.unwrap();
        assert_eq!(Moderation::default().check(&document), []);
        let none = build(json!({"provider": "none"})).unwrap();
        assert_eq!(none.check(&document)[0].path, "rules.flagged_categories");
    }
}
