//! From a request's bytes to its entries: content encodings with bounded inflation, and the shapes a body
//! may have. What an entry may hold is in `check`.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::IntakeError;

/// Most bytes of a request after inflation, by Datadog's documentation of the logs API.
/// <https://docs.datadoghq.com/api/latest/logs/#send-logs>
pub const BODY_BYTES_MAX: usize = 5_000_000;

/// Most entries in one array, from the same page.
pub const ENTRIES_MAX: usize = 1_000;

/// Most bytes on the wire: what the limit above may grow to when a codec makes it longer.
pub(crate) const WIRE_BYTES_MAX: usize = BODY_BYTES_MAX + (64 << 10);

/// Largest zstd window taken, as a power of two: 8 MiB, more than the whole body may hold.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How a body was packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// RFC 1952, one or more members.
    Gzip,
    /// RFC 1950 (zlib), as HTTP means it.
    Deflate,
    /// RFC 8878, one or more frames.
    Zstd,
}

impl Encoding {
    /// Reads the `Content-Encoding` header.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, IntakeError> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let Some(value) = values.next() else { return Ok(Self::Identity) };
        let name = value.to_str().unwrap_or_default().trim().to_ascii_lowercase();
        match name.as_str() {
            _ if values.next().is_some() => Err(IntakeError::bad("more than one Content-Encoding")),
            "identity" => Ok(Self::Identity),
            "gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            "zstd" => Ok(Self::Zstd),
            _ => Err(IntakeError::bad(format!(
                "Content-Encoding '{name}' is not one of identity, gzip, deflate, zstd"
            ))),
        }
    }

    /// Unpacks a body; reads no more than the limit and one byte.
    pub(crate) fn inflate(self, body: Bytes) -> Result<Bytes, IntakeError> {
        let inflated = match self {
            Self::Identity => Ok(body),
            Self::Gzip => read_bounded(MultiGzDecoder::new(body.as_ref())),
            Self::Deflate => {
                let mut decoder = ZlibDecoder::new(body.as_ref());
                let inflated = read_bounded(&mut decoder);
                match inflated {
                    // The decoder stops at the stream's end and says nothing of what follows.
                    Ok(bytes) if bytes.len() <= BODY_BYTES_MAX && decoder.total_in() < body.len() as u64 => {
                        return Err(IntakeError::bad("bytes after the end of the deflate stream"));
                    }
                    inflated => inflated,
                }
            }
            Self::Zstd => zstd::stream::read::Decoder::with_buffer(body.as_ref()).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                read_bounded(decoder)
            }),
        };
        match inflated {
            Ok(bytes) if bytes.len() > BODY_BYTES_MAX => Err(IntakeError::TooLarge),
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(IntakeError::bad(format!("body is not valid {self:?}: {error}"))),
        }
    }
}

fn read_bounded(decoder: impl Read) -> io::Result<Bytes> {
    let mut inflated = Vec::new();
    decoder.take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut inflated)?;
    Ok(Bytes::from(inflated))
}

/// One entry of a body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// The log as an object.
    pub(crate) log: Value,
    /// Bytes of its text as sent.
    pub(crate) bytes: usize,
}

/// Reads the entries of an inflated body.
pub(crate) fn entries(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Entry>, IntakeError> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mime = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match mime.as_str() {
        "application/json" => json_entries(body),
        "text/plain" => text_entries(body),
        "" => Err(IntakeError::bad("no Content-Type")),
        _ => Err(IntakeError::bad(format!("Content-Type '{mime}' is not application/json or text/plain"))),
    }
}

fn json_entries(body: &[u8]) -> Result<Vec<Entry>, IntakeError> {
    let is_array = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let parsed: Result<Vec<&RawValue>, _> = if is_array {
        serde_json::from_slice(body)
    } else {
        serde_json::from_slice(body).map(|one| vec![one])
    };
    let raw = parsed.map_err(|error| IntakeError::bad(format!("invalid JSON: {error}")))?;
    check_count(raw.len())?;
    raw.into_iter().map(|one| entry(one.get())).collect()
}

fn entry(text: &str) -> Result<Entry, IntakeError> {
    match serde_json::from_str(text) {
        Ok(log @ Value::Object(_)) => Ok(Entry { log, bytes: text.len() }),
        Ok(_) => Err(IntakeError::bad("a log is not a JSON object")),
        Err(error) => Err(IntakeError::bad(format!("invalid JSON in a log: {error}"))),
    }
}

fn text_entries(body: &[u8]) -> Result<Vec<Entry>, IntakeError> {
    let text = std::str::from_utf8(body).map_err(|_| IntakeError::bad("body is not UTF-8"))?;
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    check_count(lines.len())?;
    let entry = |line: &str| Entry { log: serde_json::json!({"message": line}), bytes: line.len() };
    Ok(lines.into_iter().map(entry).collect())
}

fn check_count(entries: usize) -> Result<(), IntakeError> {
    if entries > ENTRIES_MAX {
        return Err(IntakeError::bad(format!("{entries} entries, over {ENTRIES_MAX}")));
    }
    Ok(())
}

/// Counts the entries of a JSON body without looking into them.
pub(crate) fn count(body: &[u8]) -> Result<usize, IntakeError> {
    let parsed: Result<Vec<&RawValue>, _> = serde_json::from_slice(body);
    parsed.map(|entries| entries.len()).map_err(|error| IntakeError::bad(format!("invalid JSON: {error}")))
}
