//! Policy as data and judge.

use serde::{Deserialize, Serialize};

/// What a policy says of a request or an answer, from mild to severe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
