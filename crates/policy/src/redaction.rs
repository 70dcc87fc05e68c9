//! What a policy does about personal data and secrets: the document's `redaction` block, and the same compiled. What
//! is written in place of a value is `masker`'s; finding values is `entities`'.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::entities::{EntitySet, EntityType};
use crate::problems::Problem;

/// Which types of personal data and secrets are looked for, and what is done about them. Inert while
/// `rules.redact` is false.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redaction {
    /// The types looked for; absent: the default set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entities: Option<Vec<EntityType>>,
    /// What is done about them.
    pub action: RedactionAction,
    /// What is done about single types instead.
    pub actions: BTreeMap<EntityType, RedactionAction>,
    /// Put the original values of a request back into its answer. Needs `mask`.
    pub restore: bool,
    /// Goes into the key of `hash`. Without it, who knows the policy's id can find short values out by trying.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_salt: Option<String>,
}

/// What is done about a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedactionAction {
    /// A numbered placeholder stands for it: `[EMAIL_1]`.
    #[default]
    Mask,
    /// A keyed hash stands for it, the same in every request: `[EMAIL_0123456789ab]`.
    Hash,
    /// The customary part is left: the last four digits of a card, say.
    Partial,
    /// It makes the decision at least `refuse`; where text is released all the same, it is masked.
    Refuse,
    /// It makes the decision at least `escalate`; where text is released all the same, it is masked.
    Escalate,
}

impl RedactionAction {
    fn is_mask_or_decision(self) -> bool {
        matches!(self, Self::Mask | Self::Refuse | Self::Escalate)
    }
}

impl Redaction {
    /// Whether nothing is set.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The types looked for.
    pub(crate) fn set(&self) -> EntitySet {
        match &self.entities {
            Some(named) => named.iter().copied().collect(),
            None => EntitySet::default_set(),
        }
    }

    /// What is done about a type.
    pub fn action_of(&self, entity: EntityType) -> RedactionAction {
        self.actions.get(&entity).copied().unwrap_or(self.action)
    }

    /// The key of `hash`.
    pub(crate) fn hash_key(&self, policy_id: &str) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(policy_id.as_bytes());
        if let Some(salt) = &self.hash_salt {
            digest.update([0]);
            digest.update(salt.as_bytes());
        }
        digest.finalize().into()
    }

    /// All problems of meaning.
    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
        const PATH: &str = "rules.redaction";
        if let Some(named) = &self.entities {
            if named.is_empty() {
                let message =
                    "is empty: name a type, leave it out for the default set, or set `rules.redact` to false";
                problems.push(Problem::new(format!("{PATH}.entities"), message));
            }
            for (index, entity) in named.iter().enumerate() {
                if named.iter().take(index).any(|earlier| earlier == entity) {
                    let message = format!("`{}` is listed already: remove it", entity.as_str());
                    problems.push(Problem::new(format!("{PATH}.entities[{index}]"), message));
                }
            }
        }
        let set = self.set();
        for (entity, action) in &self.actions {
            let path = format!("{PATH}.actions.{}", entity.as_str());
            if !set.has(*entity) {
                let message = "is not among the types looked for: add it to `rules.redaction.entities`";
                problems.push(Problem::new(path, message));
            } else if self.restore && !action.is_mask_or_decision() {
                problems.push(Problem::new(path, CANNOT_RESTORE));
            }
        }
        if self.restore && self.action != RedactionAction::Mask {
            problems.push(Problem::new(format!("{PATH}.action"), CANNOT_RESTORE));
        }
        if self.hash_salt.as_ref().is_some_and(|salt| salt.trim().is_empty()) {
            let message = "is empty: give a long random text, or leave it out";
            problems.push(Problem::new(format!("{PATH}.hash_salt"), message));
        }
    }
}

/// A hash or a part may stand for several values, and a client could not tell it from text of the model's own.
const CANNOT_RESTORE: &str =
    "only numbered placeholders can be put back: use `mask`, or set `rules.redaction.restore` to false";
