//! What Azure's ingestion refuses, and what it does to a row in silence
//! (<https://learn.microsoft.com/azure/azure-monitor/service-limits#logs-ingestion-api>).

use std::collections::BTreeMap;
use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

/// Most bytes of a call, before and after compression: 1 MB.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Most bytes of a value; more is cut.
pub const VALUE_BYTES_MAX: usize = 64 << 10;
/// An older `TimeGenerated` is replaced by the time of receipt.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(48);
/// So is one that is further ahead.
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24);

/// What a stream declares: name to type.
pub type Columns = BTreeMap<String, String>;

/// The columns that the first stream of an ARM template's data collection rule declares.
pub fn columns_of_template(template: &Value) -> Option<Columns> {
    let rules = template.get("resources")?.as_array()?.iter();
    let mut streams =
        rules.filter_map(|resource| resource.pointer("/properties/streamDeclarations")?.as_object());
    let columns = streams.next()?.values().next()?.get("columns")?.as_array()?;
    let column = |column: &Value| {
        Some((column.get("name")?.as_str()?.to_owned(), column.get("type")?.as_str()?.to_owned()))
    };
    columns.iter().map(column).collect()
}

/// A row that was answered 204.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Row {
    /// Counted from 1.
    pub index: u64,
    /// As sent.
    pub row: Map<String, Value>,
    /// What the real one would have done to it without a word.
    pub silently: Vec<String>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{1}")]
    Bad(&'static str, String),
    #[error("the token is missing, has ended or is of another application")]
    Unauthorized,
    #[error("there is no such data collection rule, or no such stream in it")]
    NotFound,
    #[error("maximum allowed content length: {BODY_BYTES_MAX} bytes (1 MB)")]
    TooLarge,
    #[error("told to answer this status")]
    Scripted(StatusCode),
}

impl Refusal {
    pub(super) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::Bad(code, message.into())
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Bad(..) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Scripted(status) => *status,
        }
    }

    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Bad(code, _) => code,
            Self::Unauthorized => "InvalidToken",
            Self::NotFound => "NotFound",
            Self::TooLarge => "ContentLengthLimitExceeded",
            Self::Scripted(_) => "Scripted",
        }
    }
}

/// The rows of a body.
pub(super) fn rows(headers: &HeaderMap, body: Bytes) -> Result<Vec<Map<String, Value>>, Refusal> {
    let body = match headers.get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None => body,
        Some(b"gzip") => gunzip(&body)?,
        Some(_) => {
            return Err(Refusal::bad("InvalidContentEncoding", "the body may be packed with gzip only"));
        }
    };
    if body.len() > BODY_BYTES_MAX {
        return Err(Refusal::TooLarge);
    }
    serde_json::from_slice(&body)
        .map_err(|error| Refusal::bad("InvalidPayload", format!("the body is no array of objects: {error}")))
}

fn gunzip(body: &[u8]) -> Result<Bytes, Refusal> {
    let mut plain = Vec::new();
    let read = MultiGzDecoder::new(body).take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut plain);
    read.map_err(|error| Refusal::bad("InvalidPayload", format!("the body is not gzip: {error}")))?;
    Ok(plain.into())
}

/// What becomes of a row.
pub(super) fn check(row: Map<String, Value>, columns: Option<&Columns>, now: Timestamp) -> Row {
    let mut silently = Vec::new();
    match row.get("TimeGenerated").and_then(Value::as_str).map(str::parse::<Timestamp>) {
        Some(Ok(time)) => {
            let age = now.duration_since(time);
            if age > AGE_MAX || -age > AHEAD_MAX {
                silently.push("TimeGenerated is replaced by the time of receipt".to_owned());
            }
        }
        _ => silently.push("TimeGenerated is no time: the time of receipt is taken".to_owned()),
    }
    for (name, value) in &row {
        if size(value) > VALUE_BYTES_MAX {
            silently.push(format!("{name} is cut at {VALUE_BYTES_MAX} bytes"));
        }
        let Some(columns) = columns else { continue };
        match columns.get(name) {
            None => silently.push(format!("{name} is dropped: the stream does not declare it")),
            Some(kind) if !fits(kind, value) => {
                silently.push(format!("{name} becomes null: it is not of type {kind}"));
            }
            Some(_) => {}
        }
    }
    Row { index: 0, row, silently }
}

fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        other => other.to_string().len(),
    }
}

fn fits(kind: &str, value: &Value) -> bool {
    match (kind, value) {
        (_, Value::Null) | ("dynamic", _) => true,
        ("string", value) => value.is_string(),
        ("datetime", value) => value.as_str().is_some_and(|text| text.parse::<Timestamp>().is_ok()),
        ("boolean", value) => value.is_boolean(),
        ("int" | "long", value) => value.is_i64(),
        ("real", value) => value.is_number(),
        _ => false,
    }
}
