//! The policy document: every block of the outside contract as data, with its defaults, its digests and its
//! JSON schema. What makes a document invalid or not yet supported is in `validate`; what it does, in
//! `revision`.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::entities::EntityType;
use crate::moderation::Moderation;
use crate::problems::{self, Problem};
use crate::redaction::Redaction;
use crate::validate;
use crate::verdict::{Decision, ReasonCode};

/// A policy: what may be asked and answered, and what happens otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// The policy's name in events, headers and configuration: letters, digits and `-_.:/`, at most 128.
    pub policy_id: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who answers for this policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What the policy is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What is looked for and what happens then.
    pub rules: Rules,
    /// Organisation-wide controls.
    #[serde(default)]
    pub org_controls: OrgControls,
    /// How a new revision is tried out.
    #[serde(default)]
    pub rollout: Rollout,
    /// What stands in for a refusal.
    #[serde(default)]
    pub refusal_replacement: RefusalReplacement,
}

/// What is looked for in messages and answers, and what happens when it is found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Words or phrases of which the last user message must have at least one; empty: no such rule.
    pub allowlist: Vec<String>,
    /// Words or phrases that may appear in no message and no answer.
    pub denylist: Vec<String>,
    /// Moderation categories that fire `response_pattern`; a parent covers its children.
    pub flagged_categories: Vec<Category>,
    /// Thresholds and modes of these categories, and what becomes of a text that has no score.
    #[serde(skip_serializing_if = "Moderation::is_default")]
    pub moderation: Moderation,
    /// Replace personal data and secrets with placeholders.
    pub redact: bool,
    /// Which of them, and what is done about them; inert while `redact` is false.
    #[serde(skip_serializing_if = "Redaction::is_default")]
    pub redaction: Redaction,
    /// What a denylist hit or a flagged category does.
    pub response_pattern: ResponsePattern,
    /// Turn every refusal into `refusal_replacement.mode`.
    pub rewrite_instead_of_refuse: bool,
    /// The form a refusal takes on the wire.
    pub response_mode: ResponseMode,
    /// Judge system and developer messages too.
    pub scan_system: bool,
    /// The reason codes this policy may emit; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_codes: Option<Vec<ReasonCode>>,
    /// What images, audio and files in judged messages and answers come to: their content cannot be read.
    #[serde(skip_serializing_if = "Unscannable::is_default")]
    pub unscannable: Unscannable,
    /// Exceptions for single terms, categories, entity types or targets.
    pub overrides: Vec<Override>,
    /// What a rewrite and a summary tell the model.
    #[serde(skip_serializing_if = "Templates::is_default")]
    pub templates: Templates,
}

/// What a rewrite and a summary tell the model, each as a system message. Absent ones have defaults; none may have a
/// term of the denylist; at most 4,000 characters each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Templates {
    /// Goes last into a request that was rewritten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite_instruction: Option<String>,
    /// Asks for an answer in place of one that violates the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite_prompt: Option<String>,
    /// Goes last into a request that is to be answered by a summary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary_instruction: Option<String>,
    /// Asks for a summary in place of an answer that violates the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary_prompt: Option<String>,
}

impl Templates {
    /// Whether the policy gives none.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a violation does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResponsePattern {
    /// Take the offending text out and go on; ask again for an answer that violates.
    Rewrite,
    /// Replace the answer by a short compliant summary.
    Summary,
    /// Ask a person.
    Escalate,
    /// Do not pass.
    #[default]
    Refuse,
}

impl ResponsePattern {
    /// The decision it leads to.
    pub fn decision(self) -> Decision {
        match self {
            Self::Rewrite => Decision::Rewrite,
            Self::Summary => Decision::Summary,
            Self::Escalate => Decision::Escalate,
            Self::Refuse => Decision::Refuse,
        }
    }
}

/// What content that cannot be read comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unscannable {
    /// It passes, and is counted on the event.
    #[default]
    Allow,
    /// Do not pass.
    Refuse,
    /// Ask a person.
    Escalate,
}

impl Unscannable {
    /// The decision it leads to.
    pub fn decision(self) -> Decision {
        match self {
            Self::Allow => Decision::Allow,
            Self::Refuse => Decision::Refuse,
            Self::Escalate => Decision::Escalate,
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
    fn is_default(&self) -> bool {
        *self == Self::Allow
    }
}

/// The form a refusal takes on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResponseMode {
    /// A completion with `finish_reason: "content_filter"` and the message as `refusal`.
    #[default]
    Completion,
    /// Status 403 with an error body.
    Error,
}

/// A moderation category, by OpenAI's names
/// (<https://platform.openai.com/docs/guides/moderation#content-classifications>), and two of our own about what is done
/// to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Category {
    /// Hate against a protected group.
    #[serde(rename = "hate")]
    Hate,
    /// Hate that includes violence or serious harm.
    #[serde(rename = "hate/threatening")]
    HateThreatening,
    /// Harassing language towards any target.
    #[serde(rename = "harassment")]
    Harassment,
    /// Harassment that includes violence or serious harm.
    #[serde(rename = "harassment/threatening")]
    HarassmentThreatening,
    /// Acts of self-harm promoted or depicted.
    #[serde(rename = "self-harm")]
    SelfHarm,
    /// The speaker intends self-harm.
    #[serde(rename = "self-harm/intent")]
    SelfHarmIntent,
    /// Instructions for self-harm.
    #[serde(rename = "self-harm/instructions")]
    SelfHarmInstructions,
    /// Content meant to arouse.
    #[serde(rename = "sexual")]
    Sexual,
    /// Sexual content that includes a minor.
    #[serde(rename = "sexual/minors")]
    SexualMinors,
    /// Death, violence or injury depicted.
    #[serde(rename = "violence")]
    Violence,
    /// The same in graphic detail.
    #[serde(rename = "violence/graphic")]
    ViolenceGraphic,
    /// Advice on committing illicit acts.
    #[serde(rename = "illicit")]
    Illicit,
    /// The same with violence or weapons.
    #[serde(rename = "illicit/violent")]
    IllicitViolent,
    /// Text that would have the model follow it in place of its instructions. A signal and no boundary.
    #[serde(rename = "prompt-injection")]
    PromptInjection,
    /// Text that would talk the model out of its rules. A signal and no boundary.
    #[serde(rename = "jailbreak")]
    Jailbreak,
}

impl Category {
    /// All of them, in the order of their numbers; OpenAI's first.
    pub const ALL: [Self; 15] = [
        Self::Hate,
        Self::HateThreatening,
        Self::Harassment,
        Self::HarassmentThreatening,
        Self::SelfHarm,
        Self::SelfHarmIntent,
        Self::SelfHarmInstructions,
        Self::Sexual,
        Self::SexualMinors,
        Self::Violence,
        Self::ViolenceGraphic,
        Self::Illicit,
        Self::IllicitViolent,
        Self::PromptInjection,
        Self::Jailbreak,
    ];

    /// OpenAI's thirteen.
    pub const OPENAI: [Self; 13] = [
        Self::Hate,
        Self::HateThreatening,
        Self::Harassment,
        Self::HarassmentThreatening,
        Self::SelfHarm,
        Self::SelfHarmIntent,
        Self::SelfHarmInstructions,
        Self::Sexual,
        Self::SexualMinors,
        Self::Violence,
        Self::ViolenceGraphic,
        Self::Illicit,
        Self::IllicitViolent,
    ];

    /// By its wire name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.as_str() == name)
    }

    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hate => "hate",
            Self::HateThreatening => "hate/threatening",
            Self::Harassment => "harassment",
            Self::HarassmentThreatening => "harassment/threatening",
            Self::SelfHarm => "self-harm",
            Self::SelfHarmIntent => "self-harm/intent",
            Self::SelfHarmInstructions => "self-harm/instructions",
            Self::Sexual => "sexual",
            Self::SexualMinors => "sexual/minors",
            Self::Violence => "violence",
            Self::ViolenceGraphic => "violence/graphic",
            Self::Illicit => "illicit",
            Self::IllicitViolent => "illicit/violent",
            Self::PromptInjection => "prompt-injection",
            Self::Jailbreak => "jailbreak",
        }
    }

    /// The category that covers it, if it is not itself at the top.
    pub fn parent(self) -> Option<Self> {
        match self {
            Self::HateThreatening => Some(Self::Hate),
            Self::HarassmentThreatening => Some(Self::Harassment),
            Self::SelfHarmIntent | Self::SelfHarmInstructions => Some(Self::SelfHarm),
            Self::SexualMinors => Some(Self::Sexual),
            Self::ViolenceGraphic => Some(Self::Violence),
            Self::IllicitViolent => Some(Self::Illicit),
            Self::Hate
            | Self::Harassment
            | Self::SelfHarm
            | Self::Sexual
            | Self::Violence
            | Self::Illicit
            | Self::PromptInjection
            | Self::Jailbreak => None,
        }
    }
}

/// An exception: exactly one of `term`, `category`, `entity` and `target` says for what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Override {
    /// A term of the denylist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
    /// A moderation category.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// An entity type that redaction knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<EntityType>,
    /// A policy target: every violation in its calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Targets that an exception for a term, category or entity type is limited to; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// The decision in place of the policy's; `rules.rewrite_instead_of_refuse` does not change it. `allow` leaves
    /// the text as it is; `rewrite` of an entity type replaces it, as redaction does by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Decision>,
    /// The reason code in place of the decision's: capital letters, digits and `_`, at most 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<ReasonCode>,
    /// A rollout of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

/// Organisation-wide controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OrgControls {
    /// Requests need a project key. Always true: there is no other mode.
    pub project_keys: bool,
    /// Whether the quotas below apply; absent: they do where they name a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_quotas: Option<bool>,
    /// Every decision is recorded. Always true: there is no other mode.
    pub audit_logs: bool,
    /// A label for events, for example `confidential`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_classification: Option<String>,
    /// What one user may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_quota: Option<Quota>,
    /// What one project may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_quota: Option<Quota>,
    /// Whose judged messages are kept, encrypted, for reviewers to read.
    #[serde(skip_serializing_if = "says_nothing")]
    pub retain_content: RetainContent,
}

/// Whose judged messages are kept for reviewers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetainContent {
    /// Nobody's.
    #[default]
    None,
    /// Those of escalated requests, until a review is decided or expired.
    Escalations,
}

impl OrgControls {
    /// The user's quota, where there is one and quotas apply.
    pub fn active_user_quota(&self) -> Option<Quota> {
        self.active(self.user_quota)
    }

    /// The project's quota, likewise.
    pub fn active_project_quota(&self) -> Option<Quota> {
        self.active(self.project_quota)
    }

    fn active(&self, quota: Option<Quota>) -> Option<Quota> {
        quota.filter(|quota| self.user_quotas != Some(false) && quota.limits())
    }
}

impl Default for OrgControls {
    fn default() -> Self {
        Self {
            project_keys: true,
            user_quotas: None,
            audit_logs: true,
            data_classification: None,
            user_quota: None,
            project_quota: None,
            retain_content: RetainContent::None,
        }
    }
}

/// Limits over a calendar window in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// Requests in a window; 0: no limit.
    pub requests: u64,
    /// Tokens in a window; 0: no limit.
    pub tokens: u64,
    /// The window.
    pub window: QuotaWindow,
}

impl Quota {
    /// Whether it limits anything.
    pub fn limits(&self) -> bool {
        self.requests > 0 || self.tokens > 0
    }
}

/// A calendar window in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuotaWindow {
    /// From hour to hour.
    Hourly,
    /// From midnight to midnight.
    #[default]
    Daily,
    /// From Monday to Monday.
    Weekly,
    /// From the first of a month to the next.
    Monthly,
}

/// How a new revision is tried out before it becomes stable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// Judge a share of the requests beside the stable revision, and only log.
    pub shadow: Share,
    /// Apply to a share of the users.
    pub canary: Share,
    /// Return to the stable revision when too many of the candidate's decisions are severe.
    pub rollback_on_spike: bool,
    /// The share of severe decisions, 0 to 1, that counts as a spike.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub rollback_threshold: f64,
    /// Requests in the window below which nothing is concluded.
    pub rollback_min_requests: u64,
    /// Length of the window, in minutes; more than 0.
    pub rollback_window_minutes: u64,
    /// How long a candidate stays off after a rollback, in minutes.
    pub rollback_cooldown_minutes: u64,
    /// The decisions that count as severe.
    pub rollback_decisions: Vec<Decision>,
    /// Whether a candidate returns by itself after the cooldown.
    pub rollback_resume: RollbackResume,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            shadow: Share::default(),
            canary: Share::default(),
            rollback_on_spike: true,
            rollback_threshold: 0.25,
            rollback_min_requests: 20,
            rollback_window_minutes: 15,
            rollback_cooldown_minutes: 30,
            rollback_decisions: vec![Decision::Refuse, Decision::Escalate],
            rollback_resume: RollbackResume::Manual,
        }
    }
}

/// A share of the traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Share {
    /// Whether it is on.
    pub enabled: bool,
    /// Percentage of the traffic, 0 to 100.
    #[schemars(range(min = 0.0, max = 100.0))]
    #[serde(serialize_with = "shortest_number")]
    pub sample_percent: f64,
    /// Targets it is limited to; empty: all.
    pub targets: Vec<String>,
}

impl Default for Share {
    fn default() -> Self {
        Self { enabled: false, sample_percent: 5.0, targets: Vec::new() }
    }
}

/// Whether a candidate returns after a rollback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RollbackResume {
    /// Only when promoted or saved again.
    #[default]
    Manual,
    /// By itself, after the cooldown.
    Auto,
}

/// What stands in for a refusal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RefusalReplacement {
    /// What a refusal becomes under `rules.rewrite_instead_of_refuse`.
    pub mode: ResponsePattern,
    /// The text of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// An e-mail address or URL to notify of escalations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalation_path: Option<String>,
    /// How long a review may take, and what then.
    #[serde(skip_serializing_if = "says_nothing")]
    pub escalation: EscalationTerms,
}

impl Default for RefusalReplacement {
    fn default() -> Self {
        Self {
            mode: ResponsePattern::Rewrite,
            message: None,
            escalation_path: None,
            escalation: EscalationTerms::default(),
        }
    }
}

/// How long a review may take, and what then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EscalationTerms {
    /// Minutes that a reviewer has, and that a denial holds: 1 to 525600.
    #[schemars(range(min = 1, max = 525_600))]
    pub sla_minutes: u32,
    /// What holds when nobody decided in time.
    pub default_verdict: DefaultVerdict,
    /// Minutes for which an approved request passes: 1 to 525600.
    #[schemars(range(min = 1, max = 525_600))]
    pub grant_minutes: u32,
}

impl Default for EscalationTerms {
    fn default() -> Self {
        Self { sla_minutes: 1440, default_verdict: DefaultVerdict::Deny, grant_minutes: 60 }
    }
}

/// What holds when nobody decided in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DefaultVerdict {
    /// The request is refused.
    #[default]
    Deny,
    /// The request passes, as if approved.
    Approve,
}

impl PolicyDocument {
    /// Reads and validates a document.
    ///
    /// # Errors
    /// All problems of shape and meaning at once.
    pub fn parse(value: &Value) -> Result<Self, Vec<Problem>> {
        let mut read = problems::read_partly::<Self>(value);
        let found = read.document.as_ref().map(validate::check).unwrap_or_default();
        read.add(found);
        match read.document {
            Some(document) if read.problems.is_empty() => Ok(document),
            _ => Err(read.problems),
        }
    }

    /// The decisions that some call may come to by this policy.
    pub fn reachable_decisions(&self) -> BTreeSet<Decision> {
        validate::reachable(self)
    }

    /// Whether it can come to `escalate`.
    pub fn can_escalate(&self) -> bool {
        validate::reachable(self).contains(&Decision::Escalate)
    }

    /// SHA-256 of the document as canonical JSON: keys sorted, defaults filled in.
    pub fn digest(&self) -> [u8; 32] {
        digest(&self.to_value())
    }

    /// The same without the `rollout` block: equal for two documents that differ only in their rollout.
    pub fn digest_without_rollout(&self) -> [u8; 32] {
        let mut value = self.to_value();
        if let Value::Object(map) = &mut value {
            map.shift_remove("rollout");
        }
        digest(&value)
    }

    /// The JSON schema of a policy document.
    pub fn schema() -> Value {
        schemars::schema_for!(Self).to_value()
    }

    fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or(Value::Null)
    }
}

fn digest(value: &Value) -> [u8; 32] {
    let mut text = String::with_capacity(1024);
    canonical(value, &mut text);
    Sha256::digest(text.as_bytes()).into()
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_unstable_by_key(|(key, _)| *key);
            for (index, (key, value)) in members.into_iter().enumerate() {
                out.push(if index == 0 { '{' } else { ',' });
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                canonical(value, out);
            }
            out.push_str(if map.is_empty() { "{}" } else { "}" });
        }
        Value::Array(list) => {
            out.push('[');
            for (index, value) in list.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                canonical(value, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// What says no more than its absence is not written out.
fn says_nothing<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Writes 10 rather than 10.0, as people do.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn shortest_number<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "guarded by the range check")]
    if number.fract() == 0.0 && (0.0..=100.0).contains(number) {
        serializer.serialize_u8(*number as u8)
    } else {
        serializer.serialize_f64(*number)
    }
}
