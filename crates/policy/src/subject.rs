//! What a rule may turn on besides the text: facts of the call that are the same from its first byte to its last.
//! Where they come from (headers, body fields, keys) is the caller's business.

use std::sync::Arc;

/// The call a text belongs to, as far as rules distinguish calls. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The call's `policy_target`.
    pub target: Arc<str>,
    /// A reviewer let the request pass: of what the policy escalates, terms stay in the answer.
    pub granted: bool,
}

impl Subject {
    /// A call for this target.
    pub fn new(target: &str) -> Self {
        Self { target: target.into(), granted: false }
    }
}
