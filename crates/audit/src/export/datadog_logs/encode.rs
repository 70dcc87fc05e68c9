//! From a stored event to the log that Datadog receives: a pure function of the text, the destination's names and the
//! time of sending. Batching, compression and the network are elsewhere.

use std::io::Write;

use super::tags;
use crate::export::body::Encode;
use crate::export::pieces::{
    Severity, created_ms, json, write_event, write_message, write_policy, write_rest,
};
use crate::export::shrink::{EncodeError, fit};
use crate::outbox::StoredEvent;
use crate::stored::{Members, unquote};

/// Datadog cuts a log at 1 MB, silently; below that with room for what is added on the way.
pub const LOG_BYTES_MAX: usize = 900_000;
/// Datadog drops logs over 18 h old, silently; half an hour is left for the request, its retries and clocks that differ.
const AGE_MS_MAX: i64 = (17 * 60 + 30) * 60 * 1000;
/// Datadog drops logs over 2 h ahead, silently; the same margin.
const AHEAD_MS_MAX: i64 = 90 * 60 * 1000;

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
        let (service, ddsource, joined) = (json(service), json(ddsource), json(&tags.join(",")));
        let mut names = format!(",\"service\":{service},\"ddsource\":{ddsource},\"ddtags\":{joined}");
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
        fit(text, LOG_BYTES_MAX, out, |text, out| self.write(text, now_ms, out))
    }

    fn write(&self, text: &str, now_ms: i64, out: &mut Vec<u8>) -> Option<()> {
        let members = Members::of(text)?;
        let time = LogTime::of(created_ms(&members), now_ms);
        let mut put = |piece: &str| out.extend_from_slice(piece.as_bytes());
        put("{\"message\":\"");
        write_message(&members, &mut put);
        put("\"");
        put(&self.names);
        self.write_event_tags(&members, &mut put);
        put("\",");
        write_policy(&members, &mut put);
        put(",");
        write_event(&members, Some(time.late), &mut put);
        put(",");
        write_rest(&members, &mut put);
        put(",\"timestamp\":");
        put(Decimal::of(time.timestamp_ms).as_str());
        put(",\"status\":\"");
        put(Severity::of(&members).name());
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

impl Encode for LogEncoder {
    fn encode(&self, event: &StoredEvent, now_ms: i64, out: &mut Vec<u8>) -> Result<(), String> {
        Self::encode(self, &event.text, now_ms, out).map_err(|error| error.to_string())
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
    fn of(created_ms: Option<i64>, now_ms: i64) -> Self {
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
