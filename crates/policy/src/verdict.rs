//! The words a verdict is made of, and how input and output verdicts become one. How a text comes by its
//! findings is in `input` and `output`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::document::Category;
use crate::entities::EntityType;
use crate::input::InputVerdict;
use crate::moderation::Moderated;
use crate::output::OutputFindings;
use crate::revision::Revision;
use crate::unscanned::Unscanned;

/// What a policy says of a request or an answer, from mild to severe.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Passes, perhaps with redactions.
    #[default]
    Allow,
    /// Passes with the offending text taken out.
    Rewrite,
    /// The answer is replaced by a short compliant summary.
    Summary,
    /// Waits for a person.
    Escalate,
    /// Does not pass.
    Refuse,
}

impl Decision {
    /// The wire name, as in `x-policy-decision`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Rewrite => "rewrite",
            Self::Summary => "summary",
            Self::Escalate => "escalate",
            Self::Refuse => "refuse",
        }
    }
}

/// Why, in one word: what `rules.reason_codes` lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReasonCode {
    /// Nothing was found.
    Allow,
    /// Personal data or secrets were replaced, and that is all that happened.
    Redact,
    /// Offending text was taken out, or an instruction added.
    Rewrite,
    /// The answer was replaced by a summary.
    Summary,
    /// Waits for a person.
    Escalate,
    /// Did not pass.
    Refuse,
    /// A policy's own, from one of its overrides: capital letters, digits and `_`.
    Custom(Arc<str>),
}

/// Characters in a policy's own reason code. It stands in headers and is a column's value at destinations.
const REASON_CODE_CHARS_MAX: usize = 64;

impl ReasonCode {
    const STANDARD: [Self; 6] =
        [Self::Allow, Self::Redact, Self::Rewrite, Self::Summary, Self::Escalate, Self::Refuse];

    /// Reads a code by its wire name.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(code) = Self::STANDARD.into_iter().find(|code| code.as_str() == name) {
            return Some(code);
        }
        let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let fits = (1..=REASON_CODE_CHARS_MAX).contains(&name.len()) && name.chars().all(allowed);
        fits.then(|| Self::Custom(name.into()))
    }

    /// Whether it is a policy's own.
    pub fn is_custom(&self) -> bool {
        matches!(self, Self::Custom(_))
    }

    /// The wire name, as in `x-policy-reason-code`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Custom(code) => code,
            Self::Allow => "ALLOW",
            Self::Redact => "REDACT",
            Self::Rewrite => "REWRITE",
            Self::Summary => "SUMMARY",
            Self::Escalate => "ESCALATE",
            Self::Refuse => "REFUSE",
        }
    }

    /// The code of a decision; `redacted` tells the two kinds of allow apart.
    pub fn of(decision: Decision, redacted: bool) -> Self {
        match decision {
            Decision::Allow if redacted => Self::Redact,
            Decision::Allow => Self::Allow,
            Decision::Rewrite => Self::Rewrite,
            Decision::Summary => Self::Summary,
            Decision::Escalate => Self::Escalate,
            Decision::Refuse => Self::Refuse,
        }
    }
}

impl Serialize for ReasonCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ReasonCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).ok_or_else(|| {
            let standard = Self::STANDARD.map(|code| format!("`{}`", code.as_str())).join(", ");
            D::Error::custom(format!(
                "expected {standard}, or a code of your own: 1 to {REASON_CODE_CHARS_MAX} capital letters, digits and `_`"
            ))
        })
    }
}

impl JsonSchema for ReasonCode {
    fn schema_name() -> Cow<'static, str> {
        "ReasonCode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let described = [
            "Nothing was found.",
            "Personal data or secrets were replaced, and that is all that happened.",
            "Offending text was taken out, or an instruction added.",
            "The answer was replaced by a summary.",
            "Waits for a person.",
            "Did not pass.",
        ];
        let mut choices: Vec<serde_json::Value> = Self::STANDARD
            .iter()
            .zip(described)
            .map(|(code, text)| serde_json::json!({"const": code.as_str(), "description": text}))
            .collect();
        choices.push(serde_json::json!({
            "type": "string",
            "pattern": format!("^[A-Z0-9_]{{1,{REASON_CODE_CHARS_MAX}}}$"),
            "description": "A policy's own, the `reason_code` of one of its overrides.",
        }));
        schemars::json_schema!({"description": "Why, in one word.", "anyOf": choices})
    }
}

/// Where the judged text that set the decision stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The request's messages.
    Input,
    /// The model's answer.
    Output,
}

impl Stage {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// Entities replaced, by type. Types without any are absent.
pub type Redactions = BTreeMap<EntityType, u64>;

/// What a policy says of a whole exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The most severe of both stages.
    pub decision: Decision,
    /// Why.
    pub reason_code: ReasonCode,
    /// The stage that set the decision: the input, unless the output was more severe.
    pub stage: Stage,
    /// Denylist terms found in either stage, in the policy's spelling and order, each once.
    pub denylist_hits: Vec<Arc<str>>,
    /// Allowlist terms found in the last user message, in the policy's spelling and order.
    pub allowlist_hits: Vec<Arc<str>>,
    /// Listed categories that fired in either stage.
    pub triggered_categories: Vec<Category>,
    /// What scoring said in both stages.
    pub moderated: Moderated,
    /// Redactions of both stages.
    pub redactions: Redactions,
    /// Parts of both stages that were not read.
    pub unscanned: Unscanned,
}

/// Joins the verdict on the input with what was found in the output. For an answer that was never fetched,
/// or with several channels, pass the merged findings (see [`OutputFindings::merge`]), empty if there are none.
pub fn conclude(revision: &Revision, input: &InputVerdict, output: &OutputFindings) -> Verdict {
    let output_decision = output.fired.decision();
    let mut fired = input.fired.clone();
    // Where both come to the same, the input set it, and the code with it.
    if output_decision > input.decision || input.decision == Decision::Allow {
        fired.merge(&output.fired);
    }
    let decision = fired.decision();
    let mut redactions = input.redactions.clone();
    for (entity, count) in &output.redactions {
        *redactions.entry(*entity).or_default() += count;
    }
    let denylist_hits = revision.denylist_union(&input.denylist_hits, &output.denylist_hits);
    let mut unscanned = input.unscanned;
    unscanned.merge(&output.unscanned);
    let mut triggered_categories = input.triggered_categories.clone();
    triggered_categories.extend(&output.triggered_categories);
    triggered_categories.sort_unstable();
    triggered_categories.dedup();
    let mut moderated = input.moderated.clone();
    moderated.merge(&output.moderated);
    Verdict {
        decision,
        reason_code: fired.reason_code(!redactions.is_empty()),
        stage: if output_decision > input.decision { Stage::Output } else { Stage::Input },
        denylist_hits,
        allowlist_hits: input.allowlist_hits.clone(),
        triggered_categories,
        moderated,
        redactions,
        unscanned,
    }
}
