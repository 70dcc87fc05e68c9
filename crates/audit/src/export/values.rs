//! A stored event as JSON values, for destinations with types of their own. Those that take JSON as it is cut it from the
//! stored text instead, which keeps numbers and escapes as they were hashed.

use serde_json::{Map, Value};

use super::pieces::summary;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Values {
    members: Map<String, Value>,
    /// One line for people: `policy decision: rewrite`.
    pub(super) message: String,
    /// `info`, `notice`, `warn` or `error`.
    pub(super) severity: &'static str,
}

impl Values {
    /// Takes a stored text apart; `None` where it is not an event.
    pub(super) fn of(text: &[u8]) -> Option<Self> {
        let (message, severity) = summary(std::str::from_utf8(text).ok()?)?;
        Some(Self { members: serde_json::from_slice(text).ok()?, message, severity })
    }

    /// A member that is a string.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name).and_then(Value::as_str)
    }

    /// Takes a member out; null where there is none.
    pub(super) fn take(&mut self, name: &str) -> Value {
        self.members.shift_remove(name).unwrap_or_default()
    }

    /// What was not taken yet, in the stored order.
    pub(super) fn rest(self) -> Map<String, Value> {
        self.members
    }

    /// When the event was created, epoch nanoseconds.
    pub(super) fn created_ns(&self) -> Option<i128> {
        Some(self.text("created_at")?.parse::<jiff::Timestamp>().ok()?.as_nanosecond())
    }

    /// How long its request took, in nanoseconds; 0 where there was none.
    pub(super) fn took_ns(&self) -> u64 {
        let total = self.members.get("request").and_then(|request| request.pointer("/latency_ms/total"));
        let seconds = total.and_then(Value::as_f64).unwrap_or_default() / 1000.0;
        let took = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
        u64::try_from(took.as_nanos()).unwrap_or_default()
    }
}
