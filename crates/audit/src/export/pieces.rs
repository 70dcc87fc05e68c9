//! The pieces of an event that every destination gets in the same shape: message, severity, `policy`, `event`, `request`,
//! `usage` and `audit`. Values are cut from the stored text and never re-serialised, so that they stay as they were
//! hashed. What stands around them is each destination's own.

use jiff::Timestamp;

use crate::stored::{Members, plain};

/// Longest reason in a message; the whole of it is in `policy.reason_code`.
const REASON_CHARS_MAX: usize = 200;

/// How grave an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Nothing happened.
    Info,
    /// Something was changed.
    Notice,
    /// Something was stopped.
    Warn,
    /// Something went wrong.
    Error,
}

impl Severity {
    pub(crate) fn of(members: &Members<'_>) -> Self {
        let failed = [",\"outcome\":\"upstream_error\"", ",\"outcome\":\"interrupted\""];
        if failed.iter().any(|outcome| members.request.contains(outcome)) {
            return Self::Error;
        }
        match plain(members.decision) {
            Some("allow") if members.reason_code == "\"REDACT\"" => Self::Notice,
            Some("allow") => Self::Info,
            Some("rewrite" | "summary") => Self::Notice,
            Some(_) => Self::Warn,
            None => match plain(members.event_type) {
                Some("error" | "gap") => Self::Error,
                Some("quota" | "rollback") => Self::Warn,
                Some("revision" | "admin") => Self::Notice,
                _ => Self::Info,
            },
        }
    }

    /// `info`, `notice`, `warn`, `error`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Message and severity of a stored text, for destinations with types of their own; `None` where it is not an event.
#[allow(dead_code, reason = "for kinds that do not cut JSON from the text; none may be built in")]
pub(crate) fn summary(text: &str) -> Option<(String, &'static str)> {
    let members = Members::of(text)?;
    let mut message = String::new();
    write_message(&members, &mut |piece: &str| message.push_str(piece));
    Some((message, Severity::of(&members).name()))
}

/// When the event happened, epoch milliseconds.
pub(crate) fn created_ms(members: &Members<'_>) -> Option<i64> {
    let time: Timestamp = plain(members.created_at)?.parse().ok()?;
    Some(time.as_millisecond())
}

/// `policy decision: rewrite`; needs no escapes in JSON.
pub(crate) fn write_message(members: &Members<'_>, put: &mut impl FnMut(&str)) {
    if let Some(decision) = plain(members.decision) {
        put("policy decision: ");
        put(decision);
        return;
    }
    let event_type = plain(members.event_type).unwrap_or("event");
    put("policy ");
    put(event_type);
    put(": ");
    match plain(members.reason_code) {
        Some(reason) => put(reason
            .char_indices()
            .nth(REASON_CHARS_MAX)
            .map_or(reason, |(end, _)| reason.get(..end).unwrap_or_default())),
        None => put(match event_type {
            "simulation" => "simulated",
            "revision" => "revision changed",
            "rollback" => "candidate rolled back",
            "quota" => "quota reached",
            "error" => "request failed",
            "admin" => "configuration changed",
            "checkpoint" => "log head signed",
            "heartbeat" => "alive",
            "gap" => "log could not be written",
            _ => "recorded",
        }),
    }
}

/// `"policy":{…}`: the contract's fourteen.
pub(crate) fn write_policy(members: &Members<'_>, put: &mut impl FnMut(&str)) {
    put("\"policy\":{");
    put(members.policy);
    put("}");
}

/// `"event":{…}`; `late` where the destination has to be told that it gets another time than the event's own.
pub(crate) fn write_event(members: &Members<'_>, late: Option<bool>, put: &mut impl FnMut(&str)) {
    put("\"event\":{\"id\":");
    put(members.event_id);
    put(",\"seq\":");
    put(members.seq);
    put(",\"type\":");
    put(members.event_type);
    put(",\"time\":");
    put(members.created_at);
    match late {
        Some(true) => put(",\"late\":true"),
        Some(false) => put(",\"late\":false"),
        None => {}
    }
    for (name, value) in [
        (",\"request_id\":", members.request_id),
        (",\"policy_revision\":", members.policy_revision),
        (",\"data_classification\":", members.data_classification),
        (",\"stage\":", members.stage),
        (",\"redactions\":", members.redactions),
        (",\"escalation_id\":", members.escalation_id),
    ] {
        put(name);
        put(value);
    }
    for (name, value) in &members.more {
        put(",\"");
        put(name);
        put("\":");
        put(value);
    }
    put("}");
}

/// `"request":…,"usage":…,"audit":{…}`.
pub(crate) fn write_rest(members: &Members<'_>, put: &mut impl FnMut(&str)) {
    put("\"request\":");
    put(members.request);
    put(",\"usage\":");
    put(members.usage);
    put(",\"audit\":{\"chain\":");
    put(members.chain);
    put(",\"prev_hash\":");
    put(members.prev_hash);
    if let Some(decision_hash) = members.decision_hash {
        put(",\"decision_hash\":");
        put(decision_hash);
    }
    put(",\"hash\":");
    put(members.hash);
    put("}");
}

/// A string as JSON.
pub(crate) fn json(text: &str) -> String {
    // Serialising a string does not fail.
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}
