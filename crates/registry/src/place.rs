//! What a save, a promotion or a rollback makes of a policy: which revision is stable and which is the candidate from
//! then on. Pure; making it durable and putting it in force is done elsewhere.

use policy::PolicyDocument;

use crate::kept::PolicyState;

/// Where a revision stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It is applied.
    Stable,
    /// It is tried out beside the stable one.
    Candidate,
    /// It is history.
    Inactive,
}

impl Standing {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Candidate => "candidate",
            Self::Inactive => "inactive",
        }
    }

    /// Of a revision of this policy.
    pub fn of(policy: &PolicyState, number: u64) -> Self {
        if policy.stable == Some(number) {
            Self::Stable
        } else if policy.candidate == Some(number) {
            Self::Candidate
        } else {
            Self::Inactive
        }
    }
}

/// A document with its `rollout` off as it is with it.
pub fn without_rollout(mut document: PolicyDocument) -> PolicyDocument {
    document.rollout.shadow.enabled = false;
    document.rollout.canary.enabled = false;
    document
}

/// The policy once this revision is stable. That ends the candidate.
pub fn stable(policy: &PolicyState, number: u64, at: &str) -> PolicyState {
    let former = if policy.stable == Some(number) { policy.former_stable } else { policy.stable };
    PolicyState {
        stable: Some(number),
        candidate: None,
        former_stable: former,
        allow_without_stable: false,
        updated_at: at.to_owned(),
        ..policy.clone()
    }
}

/// The policy once this revision is the candidate, in the place of any other.
pub fn candidate(policy: &PolicyState, number: u64, at: &str) -> PolicyState {
    PolicyState { candidate: Some(number), updated_at: at.to_owned(), ..policy.clone() }
}

/// The policy once its candidate is off.
pub fn aborted(policy: &PolicyState, at: &str) -> PolicyState {
    PolicyState { candidate: None, updated_at: at.to_owned(), ..policy.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kept::Source;

    fn policy(stable: Option<u64>, candidate: Option<u64>, former_stable: Option<u64>) -> PolicyState {
        PolicyState {
            policy_id: "p".into(),
            stable,
            candidate,
            former_stable,
            allow_without_stable: stable.is_none(),
            source: Source::Api,
            created_at: "then".into(),
            updated_at: "then".into(),
            newest: 5,
            newest_digest: String::new(),
        }
    }

    #[test]
    fn a_stable_save_ends_the_candidate_and_remembers_what_was() {
        let after = stable(&policy(Some(2), Some(5), Some(1)), 6, "now");
        assert_eq!((after.stable, after.candidate, after.former_stable), (Some(6), None, Some(2)));
        assert_eq!((after.created_at.as_str(), after.updated_at.as_str()), ("then", "now"));
        let again = stable(&policy(Some(2), Some(5), Some(1)), 2, "now");
        assert_eq!((again.stable, again.former_stable), (Some(2), Some(1)), "it did not come before itself");
        assert!(!stable(&policy(None, Some(1), None), 2, "now").allow_without_stable);
    }

    #[test]
    fn a_candidate_stands_beside_the_stable_one_until_it_is_replaced_or_aborted() {
        let after = candidate(&policy(Some(2), Some(5), Some(1)), 6, "now");
        assert_eq!((after.stable, after.candidate, after.former_stable), (Some(2), Some(6), Some(1)));
        assert_eq!(Standing::of(&after, 6), Standing::Candidate);
        assert_eq!(Standing::of(&after, 5), Standing::Inactive);
        let after = aborted(&after, "later");
        assert_eq!((after.stable, after.candidate), (Some(2), None));
        assert_eq!(Standing::of(&after, 2), Standing::Stable);
    }
}
