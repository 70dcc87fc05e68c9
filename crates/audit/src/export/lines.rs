//! JSON lines: each event as the log has it, byte for byte, so that `audit verify` can check what arrived.

use std::sync::Arc;

use super::body::{Body, Encode, LINES, Room};
use super::compress::Compression;
use crate::delivery::Limits;
use crate::outbox::StoredEvent;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineEncoder;

impl Encode for LineEncoder {
    fn encode(&self, event: &StoredEvent, _now_ms: i64, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(&event.text);
        Ok(())
    }
}

/// An empty body of lines.
pub(super) fn body(limits: &Limits, now_ms: i64) -> Result<Body<LineEncoder>, String> {
    let room = Room { events_max: limits.batch_events_max, bytes_max: limits.batch_bytes_max };
    Body::new(Arc::new(LineEncoder), Compression::Identity, LINES, room, now_ms)
}
