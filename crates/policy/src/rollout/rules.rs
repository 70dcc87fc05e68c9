//! Single rules that are tried out: overrides with a rollout of their own. Where it does not reach a call, what the
//! override names is not looked for in it; all other rules of the policy hold as ever.

use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Bucket, Mode};
use crate::document::{Override, PolicyDocument, Rollout};
use crate::subject::Off;

/// An override whose rollout is on.
#[derive(Clone, Debug, PartialEq)]
pub struct TriedRule {
    /// Which of `rules.overrides`.
    pub index: usize,
    /// What it names, in the policy's own spelling.
    pub name: String,
    /// How it is tried out.
    pub rollout: Rollout,
    /// Of the override without its rollout: what buckets go by.
    pub digest: [u8; 32],
}

/// The overrides of a document that are tried out.
pub(crate) fn tried_rules(document: &PolicyDocument) -> Vec<TriedRule> {
    let tried = |(index, rule): (usize, &Override)| {
        let rollout = rule.rollout.clone().filter(Rollout::is_on)?;
        let category = rule.category.map(|category| category.as_str().to_owned());
        let entity = rule.entity.map(|entity| entity.as_str().to_owned());
        let name = rule.term.clone().or(category).or(entity).or_else(|| rule.target.clone())?;
        Some(TriedRule { index, name, rollout, digest: digest(rule) })
    };
    document.rules.overrides.iter().enumerate().filter_map(tried).collect()
}

fn digest(rule: &Override) -> [u8; 32] {
    let mut value = serde_json::to_value(Override { rollout: None, ..rule.clone() }).unwrap_or(Value::Null);
    value.sort_all_objects();
    Sha256::digest(value.to_string()).into()
}

/// What the rules that are tried out come to in a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleChoice {
    /// The rules that do not act on it.
    pub off: Off,
    /// Where rules of a canary act on it: those that would be off without them.
    pub without: Option<Off>,
    /// Where rules are a shadow to it: those that would be off if they acted.
    pub with: Option<Off>,
    /// Whether a rule of a canary would concern it, had it not been taken back.
    pub is_taken_back: bool,
}

impl RuleChoice {
    /// The mode that they give the main event.
    pub fn mode(&self) -> Mode {
        match self.without {
            Some(_) => Mode::Canary,
            None if self.is_taken_back => Mode::Rollback,
            None => Mode::Enforced,
        }
    }
}

/// Chooses which rules act on a call. `taken_back` keeps those of canaries off.
pub fn choose_rules(
    tried: &[TriedRule],
    taken_back: bool,
    target: &str,
    bucket: impl Fn(&[u8; 32]) -> Bucket,
) -> RuleChoice {
    let (mut off, mut canary, mut shadow) = (Vec::new(), Vec::new(), Vec::new());
    let mut is_taken_back = false;
    for TriedRule { index, rollout, digest, .. } in tried {
        let reaches =
            |share: &crate::document::Share| share.concerns(target) && share.includes(bucket(digest));
        if rollout.canary.concerns(target) && taken_back {
            is_taken_back = true;
            off.push(*index);
        } else if reaches(&rollout.canary) {
            canary.push(*index);
        } else {
            off.push(*index);
            if reaches(&rollout.shadow) {
                shadow.push(*index);
            }
        }
    }
    let without = (!canary.is_empty()).then(|| Off::of(off.iter().chain(&canary).copied()));
    let with =
        (!shadow.is_empty()).then(|| Off::of(off.iter().copied().filter(|index| !shadow.contains(index))));
    RuleChoice { off: Off::of(off.iter().copied()), without, with, is_taken_back }
}

/// What stands for all rules of a policy that are tried out.
pub fn digest_of_rules(tried: &[TriedRule]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for rule in tried {
        hasher.update(rule.digest);
    }
    hasher.finalize().into()
}

impl Off {
    fn of(indexes: impl Iterator<Item = usize>) -> Self {
        let indexes: Arc<[usize]> = indexes.collect();
        Self((!indexes.is_empty()).then_some(indexes))
    }
}
