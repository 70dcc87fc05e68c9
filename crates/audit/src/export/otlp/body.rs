//! The body of an OTLP export request, grown record by record. Protocol Buffers put lengths before contents, so the whole is
//! put together, framed and compressed at the end.

use std::io::Write;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use flate2::write::GzEncoder;

use super::config::{Otlp, OtlpCompression, OtlpProtocol};
use super::encode::{Envelope, log_record};
use crate::delivery::{BodyBuilder, Encoded, Push};
use crate::outbox::StoredEvent;

/// Level 1: audit logs repeat themselves so much that more buys little.
const LEVEL: u32 = 1;
/// Before a gRPC message: whether it is compressed, and its length.
const FRAME_HEAD_BYTES: usize = 5;

/// See the module.
pub struct OtlpBody {
    envelope: Arc<Envelope>,
    protocol: OtlpProtocol,
    compression: OtlpCompression,
    events_max: usize,
    bytes_max: usize,
    events: usize,
    records: Vec<u8>,
}

impl OtlpBody {
    /// An empty body.
    pub(super) fn new(envelope: Arc<Envelope>, config: &Otlp) -> Self {
        Self {
            envelope,
            protocol: config.protocol,
            compression: config.compression,
            events_max: config.limits.batch_events_max,
            bytes_max: config.limits.batch_bytes_max,
            events: 0,
            records: Vec::new(),
        }
    }
}

impl BodyBuilder for OtlpBody {
    fn push(&mut self, event: &StoredEvent) -> Push {
        if self.events >= self.events_max {
            return Push::Full;
        }
        let start = self.records.len();
        if let Err(reason) = log_record(&event.text, &mut self.records) {
            return Push::Unfit(reason);
        }
        // A first event goes in whatever its size: a server that finds it too large says so.
        if self.events > 0 && self.records.len() + self.envelope.overhead() > self.bytes_max {
            self.records.truncate(start);
            return Push::Full;
        }
        self.events += 1;
        Push::Taken
    }

    fn finish(self) -> Result<Encoded, String> {
        let request = self.envelope.close(&self.records);
        drop(self.records);
        let bytes_uncompressed = u64::try_from(request.len()).unwrap_or(u64::MAX);
        let message = match self.compression {
            OtlpCompression::None => request,
            OtlpCompression::Gzip => {
                gzip(&request).map_err(|error| format!("the body cannot be compressed: {error}"))?
            }
        };
        let body = match self.protocol {
            OtlpProtocol::Http => Bytes::from(message),
            OtlpProtocol::Grpc => frame(&message, self.compression == OtlpCompression::Gzip)?,
        };
        Ok(Encoded { body, bytes_uncompressed, note: String::new() })
    }
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(LEVEL));
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// A length-prefixed message, as gRPC has it over HTTP/2.
fn frame(message: &[u8], is_compressed: bool) -> Result<Bytes, String> {
    let length = u32::try_from(message.len()).map_err(|_| "the body is over 4 GiB".to_owned())?;
    let mut frame = BytesMut::with_capacity(FRAME_HEAD_BYTES + message.len());
    frame.put_u8(u8::from(is_compressed));
    frame.put_u32(length);
    frame.extend_from_slice(message);
    Ok(frame.freeze())
}

/// The message of an answer that holds exactly one, uncompressed; `None` for anything else.
pub(super) fn unframe(answer: &[u8]) -> Option<&[u8]> {
    let (head, message) = answer.split_at_checked(FRAME_HEAD_BYTES)?;
    let (flag, length) = head.split_first()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    (*flag == 0 && usize::try_from(length).ok()? == message.len()).then_some(message)
}
