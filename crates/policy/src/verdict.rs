//! The words a verdict is made of, and how input and output verdicts become one. How a text comes by its
//! findings is in `input` and `output`.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::Category;
use crate::entities::EntityType;
use crate::input::InputVerdict;
use crate::output::OutputFindings;
use crate::revision::Revision;
use crate::subject::Subject;

/// What a policy says of a request or an answer, from mild to severe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Passes, perhaps with redactions.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
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
}

impl ReasonCode {
    /// The wire name, as in `x-policy-reason-code`.
    pub fn as_str(self) -> &'static str {
        match self {
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
    /// Redactions of both stages.
    pub redactions: Redactions,
}

/// Joins the verdict on the input with what was found in the output. For an answer that was never fetched,
/// or with several channels, pass the merged findings (see [`OutputFindings::merge`]), empty if there are none.
pub fn conclude(
    revision: &Revision,
    _subject: &Subject,
    input: &InputVerdict,
    output: &OutputFindings,
) -> Verdict {
    let violated = !output.denylist_hits.is_empty() || !output.triggered_categories.is_empty();
    let output_decision = if violated { revision.violation_decision() } else { Decision::Allow };
    let output_decision = output.entity_decision.map_or(output_decision, |found| found.max(output_decision));
    let decision = input.decision.max(output_decision);
    let mut redactions = input.redactions.clone();
    for (entity, count) in &output.redactions {
        *redactions.entry(*entity).or_default() += count;
    }
    let denylist_hits = revision.denylist_union(&input.denylist_hits, &output.denylist_hits);
    let mut triggered_categories = input.triggered_categories.clone();
    triggered_categories.extend(&output.triggered_categories);
    triggered_categories.sort_unstable();
    triggered_categories.dedup();
    Verdict {
        decision,
        reason_code: ReasonCode::of(decision, !redactions.is_empty()),
        stage: if output_decision > input.decision { Stage::Output } else { Stage::Input },
        denylist_hits,
        allowlist_hits: input.allowlist_hits.clone(),
        triggered_categories,
        redactions,
    }
}
