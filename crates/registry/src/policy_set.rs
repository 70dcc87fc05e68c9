//! The revisions of a policy that are in force: the stable one, and the candidate that is tried out beside it. Which of
//! them judges a call is decided by `policy::rollout`; what a rollback keeps of a candidate is in `rollback`.

use std::sync::Arc;

use policy::document::Rollout;
use policy::rollout::{Applied, Beside, Bucket, Choice, Mode, RuleChoice, choose, choose_rules};
use policy::{Pair, Revision};

use crate::rollback::Rollback;

/// A policy in force. It has a stable revision, a candidate, or both.
#[derive(Clone, Debug)]
pub struct PolicySet {
    stable: Option<Arc<Revision>>,
    candidate: Option<Candidate>,
    /// Both, to be judged by at once.
    pair: Option<Arc<Pair>>,
    /// The rules of the stable revision that are tried out, and that revision twice.
    rules: Option<(Candidate, Arc<Pair>)>,
}

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Ruling {
    /// Between the revisions.
    pub choice: Choice,
    /// Between rules of the one that acts. Rules are judged with and without only where no other revision stands beside.
    pub rules: RuleChoice,
}

/// What is tried out of a policy: a revision, or single rules of the stable one.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The revision that it is, or is of.
    pub revision: Arc<Revision>,
    /// The policy's id, and for rules a word more: what its state is kept by.
    pub key: String,
    /// How it is tried out, and when it is taken back.
    pub rollout: Rollout,
    /// The digest of its document without `rollout`, or of the rules: what rollbacks, and buckets of revisions, go by.
    pub digest: [u8; 32],
    /// Whether it was taken back; shared by every snapshot that has this candidate.
    pub rollback: Arc<Rollback>,
}

impl PolicySet {
    /// A policy without a candidate.
    pub fn stable(revision: Arc<Revision>) -> Self {
        Self { stable: Some(revision), candidate: None, pair: None, rules: None }
    }

    /// A policy with a candidate. Without a stable revision nothing is applied, so that only who asked for it in so many
    /// words (`allow_without_stable`) may leave it out.
    pub fn with_candidate(stable: Option<Arc<Revision>>, candidate: Candidate) -> Self {
        let pair = stable.as_ref().map(|stable| {
            let (stable, candidate) = (Arc::clone(stable), Arc::clone(&candidate.revision));
            // A canary acts, a shadow never does.
            let canary = candidate.document().rollout.canary.enabled;
            Arc::new(if canary { Pair::new(candidate, stable) } else { Pair::new(stable, candidate) })
        });
        Self { stable, candidate: Some(candidate), pair, rules: None }
    }

    /// The same, with the stable revision's rules that are tried out.
    #[must_use]
    pub fn and_rules(self, rules: Option<Candidate>) -> Self {
        let rules = rules.map(|rules| {
            let (one, other) = (Arc::clone(&rules.revision), Arc::clone(&rules.revision));
            (rules, Arc::new(Pair::new(one, other)))
        });
        Self { rules, ..self }
    }

    /// The revision that is applied.
    pub fn stable_revision(&self) -> Option<&Arc<Revision>> {
        self.stable.as_ref()
    }

    /// The revision that is tried out.
    pub fn candidate(&self) -> Option<&Candidate> {
        self.candidate.as_ref()
    }

    /// Both revisions, the one first that acts where both are judged.
    pub fn pair(&self) -> Option<&Arc<Pair>> {
        self.pair.as_ref()
    }

    /// The rules of the stable revision that are tried out.
    pub fn rules(&self) -> Option<&Candidate> {
        self.rules.as_ref().map(|(rules, _)| rules)
    }

    /// The stable revision with itself, to be judged with and without such rules at once.
    pub fn rules_pair(&self) -> Option<&Arc<Pair>> {
        self.rules.as_ref().map(|(_, pair)| pair)
    }

    /// All that is tried out.
    pub fn tried(&self) -> impl Iterator<Item = &Candidate> {
        self.candidate.iter().chain(self.rules())
    }

    /// The policy's name.
    pub fn policy_id(&self) -> &str {
        self.revisions().next().map_or("", |revision| revision.policy_id())
    }

    /// The revisions in force: one or two, the stable one first.
    pub fn revisions(&self) -> impl Iterator<Item = &Arc<Revision>> {
        self.stable.iter().chain(self.candidate.iter().map(|candidate| &candidate.revision))
    }

    /// What becomes of a call: of this target, by this user or, where it names none, with this key.
    pub fn choose(&self, target: &str, user: Option<&str>, key_id: &str) -> Ruling {
        let choice = self.choose_revision(target, user, key_id);
        let acting = match (choice.applied, &self.candidate) {
            (Applied::Candidate, Some(candidate)) => Some(&candidate.revision),
            (Applied::Nothing, _) => None,
            _ => self.stable.as_ref(),
        };
        let Some(acting) = acting.filter(|acting| !acting.tried_rules().is_empty()) else {
            return Ruling { choice, rules: RuleChoice::default() };
        };
        let is_stable = choice.applied == Applied::Stable;
        let taken_back = is_stable && self.rules().is_some_and(Candidate::is_taken_back);
        let bucket = |digest: &[u8; 32]| Bucket::of(acting.policy_id(), digest, user, key_id);
        let mut rules = choose_rules(acting.tried_rules(), taken_back, target, bucket);
        if !is_stable || choice.beside != Beside::Nothing {
            (rules.without, rules.with, rules.is_taken_back) = (None, None, false);
        }
        let choice = match rules.mode() {
            Mode::Enforced => choice,
            mode => Choice { mode, ..choice },
        };
        Ruling { choice, rules }
    }

    fn choose_revision(&self, target: &str, user: Option<&str>, key_id: &str) -> Choice {
        let Some(candidate) = &self.candidate else { return Choice::STABLE };
        let revision = &candidate.revision;
        let bucket = || Bucket::of(revision.policy_id(), &candidate.digest, user, key_id);
        choose(self.stable.is_some(), &candidate.rollout, candidate.is_taken_back(), target, bucket)
    }
}

impl Candidate {
    /// Whether it is rules of a revision rather than a revision.
    pub fn is_of_rules(&self) -> bool {
        self.key != self.revision.policy_id()
    }

    /// Whether a rollback keeps it off now.
    pub fn is_taken_back(&self) -> bool {
        self.rollback.is_off(self.revision.number(), self.rollout.rollback_resume)
    }
}
