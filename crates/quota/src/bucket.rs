//! What is counted together. A bucket's id is a digest of 16 bytes, so that a million users take little memory and no
//! user's name stands in a counter.

use audit::event::{BucketId, QuotaScope};
use sha2::{Digest, Sha256};

use crate::window::Window;

/// A key's, whatever its policy: rate limits.
pub fn key_bucket(key_id: &str, window: Window) -> BucketId {
    bucket(QuotaScope::Key, "", key_id, window)
}

/// A user's under a policy. `None` stands for everybody who comes with this key and is not named.
pub fn user_bucket(policy_id: &str, user: Option<&str>, key_id: &str, window: Window) -> BucketId {
    match user {
        Some(user) => bucket(QuotaScope::User, policy_id, user, window),
        // A user can have any name, but not this scope with it.
        None => bucket(QuotaScope::Key, policy_id, key_id, window),
    }
}

/// A project's under a policy.
pub fn project_bucket(policy_id: &str, project_id: &str, window: Window) -> BucketId {
    bucket(QuotaScope::Project, policy_id, project_id, window)
}

/// A project's under its budget.
pub fn budget_bucket(project_id: &str, window: Window) -> BucketId {
    hashed(b'b', "", project_id, window)
}

/// INVARIANT: a change here loses every counter that is kept.
fn bucket(scope: QuotaScope, policy_id: &str, subject: &str, window: Window) -> BucketId {
    let scope = match scope {
        QuotaScope::Key => b'k',
        QuotaScope::User => b'u',
        QuotaScope::Project => b'p',
    };
    hashed(scope, policy_id, subject, window)
}

fn hashed(scope: u8, policy_id: &str, subject: &str, window: Window) -> BucketId {
    let mut hash = Sha256::new();
    let window = match window {
        Window::Minute => b'm',
        Window::Hourly => b'h',
        Window::Daily => b'd',
        Window::Weekly => b'w',
        Window::Monthly => b'M',
    };
    hash.update([scope, window]);
    hash.update((policy_id.len() as u64).to_le_bytes());
    hash.update(policy_id);
    hash.update(subject);
    let digest: [u8; 32] = hash.finalize().into();
    let mut id = [0; 16];
    id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    BucketId(id)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nothing_shares_a_bucket_that_should_not() {
        let day = Window::Daily;
        let all = [
            key_bucket("key_1", Window::Minute),
            key_bucket("key_2", Window::Minute),
            user_bucket("p", Some("ann"), "key_1", day),
            user_bucket("p", Some("ann"), "key_1", Window::Weekly),
            user_bucket("p", None, "key_1", day),
            user_bucket("p", Some("key_1"), "key_1", day),
            user_bucket("pa", Some("nn"), "key_1", day),
            project_bucket("p", "ann", day),
            project_bucket("", "pann", day),
            budget_bucket("pann", day),
            budget_bucket("pann", Window::Monthly),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        assert_eq!(user_bucket("p", Some("ann"), "key_1", day), user_bucket("p", Some("ann"), "key_2", day));
    }

    #[test]
    fn an_id_stays_what_it_is() {
        let id = String::from(user_bucket("support-guardrails", Some("user-12345"), "", Window::Daily));
        assert_eq!(
            BucketId::try_from(id.clone()),
            Ok(user_bucket("support-guardrails", Some("user-12345"), "", Window::Daily))
        );
        assert_eq!(id.len(), 32);
    }
}
