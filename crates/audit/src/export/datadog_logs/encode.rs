//! From a stored event to the log that Datadog receives: a pure function of the text, the destination's names and the
//! time of sending. Batching, compression and the network are elsewhere.

use std::io::Write;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::stored::{Members, plain, ranges, unquote};
use super::tags;
use crate::event::hex;

/// Datadog cuts a log at 1 MB, silently; below that with room for what is added on the way.
pub const LOG_BYTES_MAX: usize = 900_000;
/// Only values over this are worth replacing by a digest, which takes about 110 bytes itself.
const SHRINK_BYTES_MIN: usize = 256;
/// Datadog drops logs over 18 h old, silently; half an hour is left for the request, its retries and clocks that differ.
const AGE_MS_MAX: i64 = (17 * 60 + 30) * 60 * 1000;
/// Datadog drops logs over 2 h ahead, silently; the same margin.
const AHEAD_MS_MAX: i64 = 90 * 60 * 1000;
/// Longest reason in `message`; the whole of it is in `policy.reason_code`.
const REASON_CHARS_MAX: usize = 200;

/// Why an event cannot be put on the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The stored text is not an event.
    #[error("the stored text is not an audit event")]
    Malformed,
    /// No replacing of fields brings it below the limit.
    #[error("the event takes {0} bytes and cannot be shrunk below {LOG_BYTES_MAX}")]
    TooLarge(usize),
}

/// Encodes events for one destination.
#[derive(Clone, Debug)]
pub struct LogEncoder {
    /// `","service":"…","ddsource":"…","ddtags":"…` up to the tags of the configuration, in JSON.
    names: String,
    has_tags: bool,
}

impl LogEncoder {
    /// For a destination with these names and (normalised) tags.
    pub fn new(service: &str, ddsource: &str, tags: &[String]) -> Self {
        let mut names = String::from(",\"service\":");
        push_json(service, &mut names);
        names.push_str(",\"ddsource\":");
        push_json(ddsource, &mut names);
        names.push_str(",\"ddtags\":");
        push_json(&tags.join(","), &mut names);
        // The event's own tags follow inside the string.
        names.pop();
        Self { names, has_tags: !tags.is_empty() }
    }

    /// Appends the log of a stored event to `out`, as it is to be sent at `now_ms` (epoch milliseconds). On an error
    /// `out` is as before.
    ///
    /// # Errors
    /// [`EncodeError`]: such an event can never be sent.
    pub fn encode(&self, text: &[u8], now_ms: i64, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let text = std::str::from_utf8(text).map_err(|_| EncodeError::Malformed)?;
        let start = out.len();
        self.write(text, now_ms, out).ok_or(EncodeError::Malformed)?;
        if out.len() - start <= LOG_BYTES_MAX {
            return Ok(());
        }
        let excess = out.len() - start - LOG_BYTES_MAX;
        out.truncate(start);
        let shrunk = shrink(text, excess).ok_or(EncodeError::Malformed)?;
        self.write(&shrunk, now_ms, out).ok_or(EncodeError::Malformed)?;
        if out.len() - start <= LOG_BYTES_MAX {
            return Ok(());
        }
        let bytes = out.len() - start;
        out.truncate(start);
        Err(EncodeError::TooLarge(bytes))
    }

    fn write(&self, text: &str, now_ms: i64, out: &mut Vec<u8>) -> Option<()> {
        let members = Members::of(text)?;
        let time = LogTime::of(members.created_at, now_ms);
        let mut put = |piece: &str| out.extend_from_slice(piece.as_bytes());
        put("{\"message\":\"");
        write_message(&members, &mut put);
        put("\"");
        put(&self.names);
        self.write_event_tags(&members, &mut put);
        put("\",\"policy\":{");
        put(members.policy);
        put("},\"event\":{\"id\":");
        put(members.event_id);
        put(",\"seq\":");
        put(members.seq);
        put(",\"type\":");
        put(members.event_type);
        put(",\"time\":");
        put(members.created_at);
        put(if time.late { ",\"late\":true" } else { ",\"late\":false" });
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
        put("},\"request\":");
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
        put("},\"timestamp\":");
        put(Decimal::of(time.timestamp_ms).as_str());
        put(",\"status\":\"");
        put(status(&members));
        put("\"}");
        Some(())
    }

    fn write_event_tags(&self, members: &Members<'_>, put: &mut impl FnMut(&str)) {
        let mut separator = if self.has_tags { "," } else { "" };
        for (key, raw) in
            [("project", members.project_id), ("data_classification", members.data_classification)]
        {
            let Some(value) = unquote(raw).filter(|value| !value.is_empty()) else { continue };
            put(separator);
            separator = ",";
            if is_normal(key, &value) {
                put(key);
                put(":");
                put(&value);
            } else {
                put(&tags::key_value(key, &value));
            }
        }
    }
}

/// Most ids are in normal form already, and then need no allocation.
fn is_normal(key: &str, value: &str) -> bool {
    key.len() + value.len() < 200
        && !value.ends_with(':')
        && value.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b':' | b'.' | b'/')
        })
}

/// The time that the log gets, and whether that is not its own.
struct LogTime {
    timestamp_ms: i64,
    late: bool,
}

impl LogTime {
    fn of(created_at: &str, now_ms: i64) -> Self {
        let created_ms = plain(created_at)
            .and_then(|text| text.parse::<Timestamp>().ok())
            .map(|time| time.as_millisecond());
        match created_ms {
            Some(ms)
                if now_ms.saturating_sub(ms) <= AGE_MS_MAX && ms.saturating_sub(now_ms) <= AHEAD_MS_MAX =>
            {
                Self { timestamp_ms: ms, late: false }
            }
            _ => Self { timestamp_ms: now_ms, late: true },
        }
    }
}

/// A number as text, without an allocation.
struct Decimal {
    digits: [u8; 20],
    length: usize,
}

impl Decimal {
    fn of(number: i64) -> Self {
        let mut digits = [0; 20];
        let mut rest: &mut [u8] = &mut digits;
        // Twenty bytes hold every i64.
        let left = match write!(rest, "{number}") {
            Ok(()) => rest.len(),
            Err(_) => 20,
        };
        Self { digits, length: 20 - left }
    }

    fn as_str(&self) -> &str {
        self.digits.get(..self.length).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or("0")
    }
}

fn write_message(members: &Members<'_>, put: &mut impl FnMut(&str)) {
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

/// Datadog's `status` of the log.
fn status(members: &Members<'_>) -> &'static str {
    let failed = [",\"outcome\":\"upstream_error\"", ",\"outcome\":\"interrupted\""];
    if failed.iter().any(|outcome| members.request.contains(outcome)) {
        return "error";
    }
    match plain(members.decision) {
        Some("allow") if members.reason_code == "\"REDACT\"" => "notice",
        Some("allow") => "info",
        Some("rewrite" | "summary") => "notice",
        Some(_) => "warn",
        None => match plain(members.event_type) {
            Some("error" | "gap") => "error",
            Some("quota" | "rollback") => "warn",
            Some("revision" | "admin") => "notice",
            _ => "info",
        },
    }
}

/// The stored text with its largest values replaced by their digests, until at least `excess` bytes are gone.
fn shrink(text: &str, excess: usize) -> Option<String> {
    let members = ranges(text)?;
    let mut by_size: Vec<_> = members
        .iter()
        .map(|(_, value)| value.clone())
        .filter(|value| value.len() > SHRINK_BYTES_MIN)
        .collect();
    by_size.sort_by_key(|value| std::cmp::Reverse(value.len()));
    let mut gone = 0;
    let mut replaced = Vec::new();
    for value in by_size {
        if gone >= excess {
            break;
        }
        let digest: [u8; 32] = Sha256::digest(text.get(value.clone())?.as_bytes()).into();
        let stub =
            format!("{{\"truncated\":true,\"sha256\":\"{}\",\"bytes\":{}}}", hex(&digest), value.len());
        gone += value.len().saturating_sub(stub.len());
        replaced.push((value, stub));
    }
    replaced.sort_by_key(|(value, _)| value.start);
    let mut shrunk = String::with_capacity(text.len().saturating_sub(gone));
    let mut from = 0;
    for (value, stub) in replaced {
        shrunk.push_str(text.get(from..value.start)?);
        shrunk.push_str(&stub);
        from = value.end;
    }
    shrunk.push_str(text.get(from..)?);
    Some(shrunk)
}

fn push_json(text: &str, out: &mut String) {
    // Serialising a string does not fail.
    out.push_str(&serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned()));
}
