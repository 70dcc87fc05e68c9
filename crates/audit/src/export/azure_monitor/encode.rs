//! From a stored event to the PascalCase object that the data collection rule's stream declares. Pure: the time of sending is
//! an argument.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::columns::{COLUMNS, Source};
use crate::event::hex;
use crate::export::values::Values;

/// Azure takes 1 MB a call, counted before and after compression; some room is left for what counts it otherwise.
pub(super) const BODY_BYTES_MAX: usize = 1_000_000;
/// Azure cuts a value at 64 KB, silently, which would leave half a JSON. Ours are replaced by their digest before that.
const VALUE_BYTES_MAX: usize = 60_000;
/// Of a large event the values above this go first.
const SHRINK_BYTES_MIN: usize = 256;
/// Azure replaces a `TimeGenerated` over 2 days old by the time of receipt; half an hour is left for retries.
const AGE_MS_MAX: i64 = (47 * 60 + 30) * 60 * 1000;
/// It does the same from one day ahead.
const AHEAD_MS_MAX: i64 = (23 * 60 + 30) * 60 * 1000;

/// Appends the object of a stored event to `out`, as it is to be sent at `now_ms` (epoch milliseconds). On an error
/// `out` is as before.
///
/// # Errors
/// In words: such an event can never be sent.
pub(super) fn object(text: &[u8], now_ms: i64, out: &mut Vec<u8>) -> Result<(), String> {
    let malformed = || "the stored text is not an audit event".to_owned();
    let mut row = row(Values::of(text).ok_or_else(malformed)?, now_ms).ok_or_else(malformed)?;
    for value in row.values_mut() {
        if size(value) > VALUE_BYTES_MAX {
            *value = stub(value);
        }
    }
    // The brackets of the array are around it.
    let room = BODY_BYTES_MAX - 2;
    let start = out.len();
    write(&row, out).ok_or_else(malformed)?;
    if out.len() - start <= room {
        return Ok(());
    }
    let excess = out.len() - start - room;
    out.truncate(start);
    shrink(&mut row, excess);
    write(&row, out).ok_or_else(malformed)?;
    if out.len() - start <= room {
        return Ok(());
    }
    let bytes = out.len() - start;
    out.truncate(start);
    Err(format!("the event takes {bytes} bytes and cannot be shrunk below {room}"))
}

fn write(row: &Map<String, Value>, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    let written = serde_json::to_writer(&mut *out, row).ok();
    if written.is_none() {
        out.truncate(start);
    }
    written
}

fn row(mut values: Values, now_ms: i64) -> Option<Map<String, Value>> {
    let created_ms = i64::try_from(values.created_ns()?.div_euclid(1_000_000)).ok()?;
    let late =
        now_ms.saturating_sub(created_ms) > AGE_MS_MAX || created_ms.saturating_sub(now_ms) > AHEAD_MS_MAX;
    let generated = if late {
        Value::String(format!("{:.3}", Timestamp::from_millisecond(now_ms).ok()?))
    } else {
        values.text("created_at")?.into()
    };
    // Parents of several columns are taken once, and given back without what became a column.
    let (mut usage, mut request) = (values.take("usage"), values.take("request"));
    let (message, severity) = (std::mem::take(&mut values.message), values.severity);
    let mut row = Map::new();
    for column in COLUMNS {
        let value = match column.source {
            Source::Member(["usage", path @ ..]) => take(&mut usage, path),
            Source::Member(["request", path @ ..]) => take(&mut request, path),
            Source::Member([name]) => values.take(name),
            Source::Member(_) => Value::Null,
            Source::TimeGenerated => generated.clone(),
            Source::Late => Value::Bool(late),
            Source::Message => Value::String(message.clone()),
            Source::Severity => Value::String(severity.to_owned()),
            Source::Rest => Value::Null,
        };
        row.insert(column.name.to_owned(), value);
    }
    let mut rest = values.rest();
    for (name, mut parent) in [("usage", usage), ("request", request)] {
        prune(&mut parent);
        if !parent.is_null() {
            rest.insert(name.to_owned(), parent);
        }
    }
    if !rest.is_empty() {
        row.insert("Details".to_owned(), Value::Object(rest));
    }
    Some(row)
}

/// Takes the value at a path out of nested objects; null where there is none.
fn take(parent: &mut Value, path: &[&str]) -> Value {
    match path {
        [] => Value::Null,
        [name] => parent.as_object_mut().and_then(|members| members.shift_remove(*name)).unwrap_or_default(),
        [name, rest @ ..] => parent.get_mut(*name).map(|child| take(child, rest)).unwrap_or_default(),
    }
}

/// Makes objects without members null.
fn prune(value: &mut Value) {
    if let Value::Object(members) = value {
        members.values_mut().for_each(prune);
        members.retain(|_, value| !value.is_null());
        if members.is_empty() {
            *value = Value::Null;
        }
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(_) | Value::Object(_) => serde_json::to_vec(value).map_or(0, |text| text.len()),
        _ => 0,
    }
}

/// What stands for a value that is too large: how large it was, and a digest to find it by in the gateway's own log.
fn stub(value: &Value) -> Value {
    let text = match value {
        Value::String(text) => text.as_bytes().to_vec(),
        value => serde_json::to_vec(value).unwrap_or_default(),
    };
    let digest: [u8; 32] = Sha256::digest(&text).into();
    let stub = json!({"truncated": true, "sha256": hex(&digest), "bytes": text.len()});
    if value.is_string() { Value::String(stub.to_string()) } else { stub }
}

/// Replaces the largest values by stubs until at least `excess` bytes are gone.
fn shrink(row: &mut Map<String, Value>, excess: usize) {
    let mut by_size: Vec<(usize, String)> =
        row.iter().map(|(name, value)| (size(value), name.clone())).collect();
    by_size.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    let mut gone = 0;
    for (bytes, name) in by_size {
        if gone >= excess || bytes <= SHRINK_BYTES_MIN {
            break;
        }
        if let Some(value) = row.get_mut(&name) {
            let stub = stub(value);
            gone += bytes.saturating_sub(size(&stub));
            *value = stub;
        }
    }
}
