//! From a stored event to an action and a document of `_bulk`: a pure function of the text and the destination's names.

use jiff::Timestamp;

use super::config::Elastic;
use crate::export::body::Encode;
use crate::export::pieces::{
    Severity, created_ms, json, write_event, write_message, write_policy, write_rest,
};
use crate::export::shrink::fit;
use crate::outbox::StoredEvent;
use crate::stored::Members;

/// Documents of megabytes are indexed badly; a term over 32 KB is not indexed at all.
pub const EVENT_BYTES_MAX: usize = 900_000;

/// Encodes events for one destination.
#[derive(Clone, Debug)]
pub struct BulkEncoder {
    /// `{"create":{"_index":"…","_id":`.
    action: String,
    /// `,"data_stream":{…},"service":{…},"log":{"level":"`.
    names: String,
}

impl BulkEncoder {
    /// For a destination with these names.
    pub fn new(config: &Elastic) -> Self {
        Self {
            action: format!("{{\"create\":{{\"_index\":{},\"_id\":", json(&config.data_stream())),
            names: format!(
                ",\"data_stream\":{{\"type\":\"logs\",\"dataset\":{},\"namespace\":{}}},\"service\":{{\"name\":{}}},\
                 \"log\":{{\"level\":\"",
                json(&config.dataset),
                json(&config.namespace),
                json(&config.service),
            ),
        }
    }

    fn write(&self, text: &str, now_ms: i64, out: &mut Vec<u8>) -> Option<()> {
        let members = Members::of(text)?;
        let at = created_ms(&members).unwrap_or(now_ms);
        let at = Timestamp::from_millisecond(at).unwrap_or_default();
        let at = format!("{at:.3}");
        let mut put = |piece: &str| out.extend_from_slice(piece.as_bytes());
        put(&self.action);
        put(members.event_id);
        put("}}\n{\"@timestamp\":\"");
        put(&at);
        put("\"");
        put(&self.names);
        put(Severity::of(&members).name());
        put("\"},\"message\":\"");
        write_message(&members, &mut put);
        put("\",");
        write_event(&members, None, &mut put);
        put(",");
        write_policy(&members, &mut put);
        put(",");
        write_rest(&members, &mut put);
        put("}");
        Some(())
    }
}

impl Encode for BulkEncoder {
    fn encode(&self, event: &StoredEvent, now_ms: i64, out: &mut Vec<u8>) -> Result<(), String> {
        fit(&event.text, EVENT_BYTES_MAX, out, |text, out| self.write(text, now_ms, out))
            .map_err(|error| error.to_string())
    }
}
