//! Rollout arithmetic: who is in a share, which revision is applied to a call and which is judged beside it, and when a
//! candidate's decisions are a spike. Pure: subjects, times and what was taken back are arguments; what a choice does to
//! a call is the gateway's business.

mod rules;
mod spike;
#[cfg(test)]
mod tests;

use sha2::{Digest, Sha256};

use crate::document::{Rollout, Share};

pub(crate) use rules::tried_rules;
pub use rules::{RuleChoice, TriedRule, choose_rules, digest_of_rules};
pub use spike::{SpikeRule, Tally, Window};

/// Tells these hashes from any others over the same bytes.
const DOMAIN: &[u8] = b"policy-gateway rollout 1";

/// Where a subject stands among all subjects of a policy, in percent: at least 0, below 100.
///
/// INVARIANT: the same in every build, process and gateway. The hash is SHA-256 over the domain, the policy id with its
/// length, the digest, a tag for the kind of subject, and the subject; its first 53 bits are the place.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Bucket(f64);

impl Bucket {
    /// The bucket of a user, or of the key where the call names no user. `digest` is the candidate's
    /// [`crate::PolicyDocument::digest_without_rollout`], so that a change of the share moves nobody.
    pub fn of(policy_id: &str, digest: &[u8; 32], user: Option<&str>, key_id: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(DOMAIN);
        hasher.update((policy_id.len() as u64).to_le_bytes());
        hasher.update(policy_id);
        hasher.update(digest);
        match user {
            Some(user) => {
                hasher.update(b"u");
                hasher.update(user);
            }
            None => {
                hasher.update(b"k");
                hasher.update(key_id);
            }
        }
        let hash: [u8; 32] = hasher.finalize().into();
        let first = hash.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
        let share = (first >> 11) as f64 / (1_u64 << 53) as f64;
        Self(share * 100.0)
    }

    /// In percent.
    pub fn percent(self) -> f64 {
        self.0
    }
}

impl Share {
    /// Whether it is on and concerns this target.
    pub fn concerns(&self, target: &str) -> bool {
        self.enabled && (self.targets.is_empty() || self.targets.iter().any(|listed| listed == target))
    }

    /// Whether the bucket is in it, the target aside.
    pub fn includes(&self, bucket: Bucket) -> bool {
        bucket.0 < self.sample_percent
    }
}

impl Rollout {
    /// Whether a document with this block is a candidate beside the stable revision, rather than that itself.
    pub fn is_on(&self) -> bool {
        self.shadow.enabled || self.canary.enabled
    }
}

/// How a revision applied to a call: the contract's `rollout_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The stable revision, as ever.
    Enforced,
    /// The candidate, logged only.
    Shadow,
    /// The candidate.
    Canary,
    /// The stable revision, because the candidate was taken back.
    Rollback,
}

/// Which verdict is applied to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Applied {
    /// The stable revision's.
    Stable,
    /// The candidate's.
    Candidate,
    /// None: there is no stable revision. The candidate is judged and logged.
    Nothing,
}

/// What is judged beside the main event's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Beside {
    /// Nothing.
    Nothing,
    /// The stable revision: its verdict stands on the main event, beside the candidate's.
    Stable,
    /// The candidate: its verdict is an event of its own.
    Candidate,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Choice {
    /// Which verdict is applied.
    pub applied: Applied,
    /// The main event's mode.
    pub mode: Mode,
    /// What is judged beside.
    pub beside: Beside,
}

impl Choice {
    /// A policy without a candidate.
    pub const STABLE: Self = Self { applied: Applied::Stable, mode: Mode::Enforced, beside: Beside::Nothing };

    /// Whether the main event's verdict is applied.
    pub fn is_enforced(self) -> bool {
        self.applied != Applied::Nothing
    }
}

/// Chooses between the revisions of a policy that has a candidate.
///
/// `rollout` is the candidate's block, `taken_back` whether a rollback keeps it off. While it does, every call that the
/// rollout concerns is marked so, sampled or not. `bucket` is asked for only where it matters.
pub fn choose(
    has_stable: bool,
    rollout: &Rollout,
    taken_back: bool,
    target: &str,
    bucket: impl FnOnce() -> Bucket,
) -> Choice {
    let (mode, beside) = if rollout.canary.concerns(target) {
        if taken_back {
            (Mode::Rollback, Beside::Nothing)
        } else if rollout.canary.includes(bucket()) {
            (Mode::Canary, Beside::Stable)
        } else {
            (Mode::Enforced, Beside::Nothing)
        }
    } else if rollout.shadow.concerns(target) && rollout.shadow.includes(bucket()) {
        (Mode::Shadow, Beside::Candidate)
    } else {
        (Mode::Enforced, Beside::Nothing)
    };
    match (has_stable, mode) {
        (false, mode) => Choice { applied: Applied::Nothing, mode, beside: Beside::Nothing },
        (true, Mode::Canary) => Choice { applied: Applied::Candidate, mode, beside },
        // The shadow's event is the second one; the main event is stable's, as ever.
        (true, Mode::Shadow) => Choice { mode: Mode::Enforced, beside, ..Choice::STABLE },
        (true, mode) => Choice { mode, beside, ..Choice::STABLE },
    }
}
