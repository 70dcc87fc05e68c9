//! What a rule may turn on besides the text: facts of the call that are the same from its first byte to its last.
//! Where they come from (headers, body fields, keys) is the caller's business.

use std::sync::Arc;

use crate::moderation::Scorer;

/// The call a text belongs to, as far as rules distinguish calls. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The call's `policy_target`.
    pub target: Arc<str>,
    /// A reviewer let the request pass: of what the policy escalates, terms stay in the answer.
    pub granted: bool,
    /// Rules that are tried out and do not reach it.
    pub off: Off,
    /// Who judges the categories of its texts. Without anybody no category fires.
    pub scorer: Scorer,
}

/// Overrides that are off in a call, by their place in the document: what they name is not looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Off(pub(crate) Option<Arc<[usize]>>);

impl Off {
    /// Whether any is.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn has(&self, index: usize) -> bool {
        self.0.as_ref().is_some_and(|off| off.contains(&index))
    }
}

impl Subject {
    /// A call for this target.
    pub fn new(target: &str) -> Self {
        Self { target: target.into(), granted: false, off: Off::default(), scorer: Scorer::default() }
    }

    /// The same with somebody who judges the categories of its texts.
    #[must_use]
    pub fn scored_by(self, scorer: Scorer) -> Self {
        Self { scorer, ..self }
    }
}
