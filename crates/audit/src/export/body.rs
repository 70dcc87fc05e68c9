//! A request body that grows event by event and is compressed as it grows, so that the uncompressed body never exists
//! as a whole. What one event looks like is the destination's encoder's.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::compress::{Compression, Compressor};
use crate::delivery::{BodyBuilder, Encoded, Push};
use crate::outbox::StoredEvent;

/// Events are compressed in pieces of about this size: below it the calls show, above it the processor's cache does.
const COMPRESS_STEP: usize = 16 * 1024;

/// Turns a stored event into what the destination gets of it.
pub trait Encode: Send + Sync + 'static {
    /// Appends the event to `out`, as it is to be sent at `now_ms` (epoch milliseconds). On an error `out` is as before.
    ///
    /// # Errors
    /// In words: such an event can never be sent.
    fn encode(&self, event: &StoredEvent, now_ms: i64, out: &mut Vec<u8>) -> Result<(), String>;
}

/// What stands around and between the events of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Before the first.
    pub open: &'static str,
    /// Between two.
    pub between: &'static str,
    /// Behind the last.
    pub close: &'static str,
}

/// A JSON array.
pub const ARRAY: Framing = Framing { open: "[", between: ",", close: "]" };
/// One event a line, the last line ended too.
pub const LINES: Framing = Framing { open: "", between: "\n", close: "\n" };

/// How much a body may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Most events.
    pub events_max: usize,
    /// Most bytes before compression.
    pub bytes_max: usize,
}

/// See the module.
pub struct Body<E> {
    encoder: Arc<E>,
    compressor: Compressor,
    framing: Framing,
    room: Room,
    now_ms: i64,
    events: usize,
    bytes: usize,
    /// The last events, each with what stands before it, not compressed yet.
    waiting: Vec<u8>,
    failed: Option<io::Error>,
}

impl<E: Encode> Body<E> {
    /// An empty body, to be sent about `now_ms` (epoch milliseconds).
    ///
    /// # Errors
    /// The compression's, in words.
    pub fn new(
        encoder: Arc<E>,
        compression: Compression,
        framing: Framing,
        room: Room,
        now_ms: i64,
    ) -> Result<Self, String> {
        Ok(Self {
            encoder,
            compressor: Compressor::new(compression).map_err(|error| failed(&error))?,
            framing,
            room,
            now_ms,
            events: 0,
            bytes: 0,
            waiting: Vec::with_capacity(COMPRESS_STEP + COMPRESS_STEP / 4),
            failed: None,
        })
    }

    fn compress(&mut self) {
        if let Err(error) = self.compressor.write(&self.waiting) {
            self.failed = Some(error);
        }
        self.waiting.clear();
    }
}

impl<E: Encode> BodyBuilder for Body<E> {
    fn push(&mut self, event: &StoredEvent) -> Push {
        if self.events >= self.room.events_max {
            return Push::Full;
        }
        let start = self.waiting.len();
        let before = if self.events == 0 { self.framing.open } else { self.framing.between };
        self.waiting.extend_from_slice(before.as_bytes());
        if let Err(reason) = self.encoder.encode(event, self.now_ms, &mut self.waiting) {
            self.waiting.truncate(start);
            return Push::Unfit(reason);
        }
        let event_bytes = self.waiting.len() - start;
        // A first event goes in whatever its size: alone it is under the destination's limits.
        if self.events > 0 && self.bytes + event_bytes + self.framing.close.len() > self.room.bytes_max {
            self.waiting.truncate(start);
            return Push::Full;
        }
        self.events += 1;
        self.bytes += event_bytes;
        if self.waiting.len() >= COMPRESS_STEP {
            self.compress();
        }
        Push::Taken
    }

    fn finish(mut self) -> Result<Encoded, String> {
        self.waiting.extend_from_slice(self.framing.close.as_bytes());
        self.compress();
        let closed = match self.failed {
            Some(error) => Err(error),
            None => self.compressor.finish(),
        };
        let body = closed.map_err(|error| failed(&error))?;
        let bytes = self.bytes + self.framing.close.len();
        let bytes_uncompressed = u64::try_from(bytes).unwrap_or(u64::MAX);
        Ok(Encoded { body: Bytes::from(body), bytes_uncompressed, note: String::new() })
    }
}

fn failed(error: &io::Error) -> String {
    format!("the body cannot be compressed: {error}")
}
