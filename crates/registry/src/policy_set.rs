//! The revisions of a policy that are in force: the stable one, and the candidate that is tried out beside it. Which of
//! them judges a call is decided by `policy::rollout`; what a rollback keeps of a candidate is in `rollback`.

use std::sync::Arc;

use policy::rollout::{Bucket, Choice, choose};
use policy::{Pair, Revision};

use crate::rollback::Rollback;

/// A policy in force. It has a stable revision, a candidate, or both.
#[derive(Clone, Debug)]
pub struct PolicySet {
    stable: Option<Arc<Revision>>,
    candidate: Option<Candidate>,
    /// Both, to be judged by at once.
    pair: Option<Arc<Pair>>,
}

/// A revision that is tried out.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its document's `rollout` says how.
    pub revision: Arc<Revision>,
    /// The digest of its document without `rollout`: what buckets and rollbacks go by.
    pub digest: [u8; 32],
    /// Whether it was taken back; shared by every snapshot that has this candidate.
    pub rollback: Arc<Rollback>,
}

impl PolicySet {
    /// A policy without a candidate.
    pub fn stable(revision: Arc<Revision>) -> Self {
        Self { stable: Some(revision), candidate: None, pair: None }
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
        Self { stable, candidate: Some(candidate), pair }
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

    /// The policy's name.
    pub fn policy_id(&self) -> &str {
        self.revisions().next().map_or("", |revision| revision.policy_id())
    }

    /// The revisions in force: one or two, the stable one first.
    pub fn revisions(&self) -> impl Iterator<Item = &Arc<Revision>> {
        self.stable.iter().chain(self.candidate.iter().map(|candidate| &candidate.revision))
    }

    /// What becomes of a call: of this target, by this user or, where it names none, with this key.
    pub fn choose(&self, target: &str, user: Option<&str>, key_id: &str) -> Choice {
        let Some(candidate) = &self.candidate else { return Choice::STABLE };
        let revision = &candidate.revision;
        let bucket = || Bucket::of(revision.policy_id(), &candidate.digest, user, key_id);
        let rollout = &revision.document().rollout;
        choose(self.stable.is_some(), rollout, candidate.is_taken_back(), target, bucket)
    }
}

impl Candidate {
    /// Whether a rollback keeps it off now.
    pub fn is_taken_back(&self) -> bool {
        self.rollback.is_off(self.revision.number(), self.revision.document().rollout.rollback_resume)
    }
}
