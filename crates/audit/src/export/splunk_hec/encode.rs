//! From a stored event to Splunk's envelope: a pure function of the text and the destination's names.

use std::fmt::Write;

use crate::export::body::Encode;
use crate::export::pieces::{
    Severity, created_ms, json, write_event, write_message, write_policy, write_rest,
};
use crate::export::shrink::fit;
use crate::outbox::StoredEvent;
use crate::stored::Members;

use super::config::SplunkHec;

/// Splunk cuts a line (`TRUNCATE`) only where its sourcetype says so, but indexes megabytes badly.
pub const EVENT_BYTES_MAX: usize = 900_000;

/// Encodes events for one destination.
#[derive(Clone, Debug)]
pub struct HecEncoder {
    /// `,"host":…,"source":…,"sourcetype":…,"index":…,"event":{"message":"`, in JSON.
    names: String,
}

impl HecEncoder {
    /// For a destination with these names.
    pub fn new(config: &SplunkHec) -> Self {
        let mut names = String::new();
        let given = [
            ("host", config.host.as_deref()),
            ("source", Some(config.source.as_str())),
            ("sourcetype", Some(config.sourcetype.as_str())),
            ("index", config.index.as_deref()),
        ];
        for (name, value) in given.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            names.push_str(",\"");
            names.push_str(name);
            names.push_str("\":");
            names.push_str(&json(value));
        }
        names.push_str(",\"event\":{\"message\":\"");
        Self { names }
    }

    fn write(&self, text: &str, now_ms: i64, out: &mut Vec<u8>) -> Option<()> {
        let members = Members::of(text)?;
        // Seconds with a fraction; whole milliseconds need no rounding.
        let time_ms = created_ms(&members).unwrap_or(now_ms).max(0);
        let mut time = String::with_capacity(24);
        // Writing to a string does not fail.
        let _ = write!(time, "{{\"time\":{}.{:03}", time_ms / 1000, time_ms % 1000);
        let mut put = |piece: &str| out.extend_from_slice(piece.as_bytes());
        put(&time);
        put(&self.names);
        write_message(&members, &mut put);
        put("\",\"severity\":\"");
        put(Severity::of(&members).name());
        put("\",");
        write_policy(&members, &mut put);
        put(",");
        write_event(&members, None, &mut put);
        put(",");
        write_rest(&members, &mut put);
        // Indexed, so that duplicates are found without reading the event.
        put("},\"fields\":{\"event_id\":");
        put(members.event_id);
        put("}}");
        Some(())
    }
}

impl Encode for HecEncoder {
    fn encode(&self, event: &StoredEvent, now_ms: i64, out: &mut Vec<u8>) -> Result<(), String> {
        fit(&event.text, EVENT_BYTES_MAX, out, |text, out| self.write(text, now_ms, out))
            .map_err(|error| error.to_string())
    }
}
