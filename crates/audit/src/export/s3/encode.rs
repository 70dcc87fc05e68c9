//! From stored events to an object: its lines, its name, and the note that travels between them. The bytes depend on the
//! events alone, never on the time or the try, so that a batch that is sent again makes the same object.

use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::config::{S3Compression, S3Format};
use crate::delivery::{BodyBuilder, Encoded, Push};
use crate::event::hex;
use crate::export::compress::{Compression, Compressor};
use crate::outbox::StoredEvent;
use crate::stored::{Members, plain};

/// What the name of an object is made of, beside the bounds of its batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// UTC day of the first event, `2026-01-16`.
    pub(super) date: String,
    /// Id of the chain.
    pub(super) chain: String,
    /// SHA-256 of the lines before compression, hex: what tells whether an object that is there already is this one.
    pub(super) sha256: String,
    /// How many events there are.
    pub(super) events: usize,
}

/// The key of the object of a batch.
pub(super) fn key(prefix: &str, note: &Note, first: u64, last: u64, suffix: &str) -> String {
    format!("{prefix}date={}/part-{}-{first}-{last}{suffix}", note.date, note.chain)
}

/// The key where another object stands under the batch's own: the lines' digest tells them apart.
pub(super) fn other_key(prefix: &str, note: &Note, first: u64, last: u64, suffix: &str) -> String {
    let digest = note.sha256.get(..16).unwrap_or_default();
    key(prefix, note, first, last, &format!("-{digest}{suffix}"))
}

/// The end of a key.
pub(super) fn suffix(format: S3Format, compression: S3Compression) -> &'static str {
    match (format, compression) {
        (S3Format::Jsonl, S3Compression::Gzip) => ".jsonl.gz",
        (S3Format::Jsonl, S3Compression::Zstd) => ".jsonl.zst",
        (S3Format::Jsonl, S3Compression::None) => ".jsonl",
    }
}

/// Its media type. Compressed objects say so here and not in `Content-Encoding`, or some clients would unpack them on the
/// way and leave a file whose name lies.
pub(super) fn content_type(format: S3Format, compression: S3Compression) -> &'static str {
    match (format, compression) {
        (S3Format::Jsonl, S3Compression::Gzip) => "application/gzip",
        (S3Format::Jsonl, S3Compression::Zstd) => "application/zstd",
        (S3Format::Jsonl, S3Compression::None) => "application/x-ndjson",
    }
}

/// An object in the making.
pub struct S3Body {
    compressor: Compressor,
    digest: Sha256,
    events_max: usize,
    bytes_max: usize,
    events: usize,
    bytes: usize,
    first: Option<(String, String)>,
    failed: Option<io::Error>,
}

impl S3Body {
    /// An empty object.
    ///
    /// # Errors
    /// The compression's.
    pub(super) fn new(compression: S3Compression, events_max: usize, bytes_max: usize) -> io::Result<Self> {
        let compression = match compression {
            S3Compression::Gzip => Compression::Gzip,
            S3Compression::Zstd => Compression::Zstd,
            S3Compression::None => Compression::Identity,
        };
        Ok(Self {
            compressor: Compressor::new(compression)?,
            digest: Sha256::new(),
            events_max,
            bytes_max,
            events: 0,
            bytes: 0,
            first: None,
            failed: None,
        })
    }

    fn write(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.bytes += bytes.len();
        if let Err(error) = self.compressor.write(bytes) {
            self.failed = Some(error);
        }
    }
}

/// UTC day and chain of an event.
fn place(text: &[u8]) -> Option<(String, String)> {
    let members = Members::of(std::str::from_utf8(text).ok()?)?;
    let created: jiff::Timestamp = plain(members.created_at)?.parse().ok()?;
    let chain: uuid::Uuid = plain(members.chain)?.parse().ok()?;
    Some((created.strftime("%Y-%m-%d").to_string(), chain.to_string()))
}

impl BodyBuilder for S3Body {
    fn push(&mut self, event: &StoredEvent) -> Push {
        let line_bytes = event.text.len() + 1;
        if self.events >= self.events_max || (self.events > 0 && self.bytes + line_bytes > self.bytes_max) {
            return Push::Full;
        }
        if self.first.is_none() {
            self.first = place(&event.text);
            if self.first.is_none() {
                return Push::Unfit("the stored text is not an audit event".to_owned());
            }
        }
        self.write(&event.text);
        self.write(b"\n");
        self.events += 1;
        Push::Taken
    }

    fn finish(self) -> Result<Encoded, String> {
        let wrong = |error: io::Error| format!("the object cannot be compressed: {error}");
        if let Some(error) = self.failed {
            return Err(wrong(error));
        }
        let Some((date, chain)) = self.first else { return Err("the object holds no event".to_owned()) };
        let body = self.compressor.finish().map_err(wrong)?;
        let sha256: [u8; 32] = self.digest.finalize().into();
        let note = Note { date, chain, sha256: hex(&sha256), events: self.events };
        let note = serde_json::to_string(&note).map_err(|error| error.to_string())?;
        let bytes_uncompressed = u64::try_from(self.bytes).unwrap_or(u64::MAX);
        Ok(Encoded { body: Bytes::from(body), bytes_uncompressed, note })
    }
}
