//! What a start makes of the log that it finds: decisions that no event closed are closed as interrupted. So that this
//! does not read the whole history, the writer leaves a mark every now and then: which decisions were open at that
//! point. A start reads on from the last mark.

use std::collections::BTreeMap;
use std::path::Path;

use audit::event::{QuotaCharge, hex, leaf_hash};
use audit::usage::Spent;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::commit::{Commit, Open, SinceMark, State, transact};
use crate::error::StoreError;
use crate::queue::{Kind, Queued};
use crate::rows::Row;
use crate::schema::{failed, meta, set_meta};

/// A mark is left after this much: what a start has to read at most, some 50 ms' worth.
pub(crate) const MARK_BYTES: usize = 16 << 20;

/// Interrupted decisions are closed in transactions of this many.
const CLOSE_MAX: usize = 1000;

/// See `meta.open` in `schema`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Mark {
    /// Last row of decision records that it knows.
    decisions: u64,
    /// Last event that it knows.
    seq: u64,
    /// Open decisions, and the row of the last record of each.
    open: Vec<(Uuid, u64)>,
}

/// Leaves a mark, and the bounds of the events since the last one, within the running transaction.
pub(crate) fn leave_mark(db: &Connection, state: &State) -> rusqlite::Result<()> {
    let open = state.open.iter().map(|(id, row)| (*id, *row)).collect();
    let mark = Mark { decisions: state.decisions, seq: state.head.seq, open };
    let text = serde_json::to_string(&mark)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    set_meta(db, "open", text)?;
    let since = &state.since_mark;
    if state.head.seq >= since.first_seq {
        db.prepare_cached(
            "INSERT INTO spans(first_seq, last_seq, first_ms, last_ms) VALUES(?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            since.first_seq.cast_signed(),
            state.head.seq.cast_signed(),
            since.first_ms,
            since.last_ms
        ])?;
    }
    Ok(())
}

/// Finds the open decisions and closes them. Returns how many those were.
pub(crate) fn recover(db: &Connection, path: &Path, state: &mut State) -> Result<u64, StoreError> {
    find_open(db, path, state)?;
    if state.open.is_empty() {
        return Ok(0);
    }
    let mut ids_by_row: BTreeMap<u64, Vec<Uuid>> = BTreeMap::new();
    for (id, row) in &state.open {
        ids_by_row.entry(*row).or_default().push(*id);
    }
    let mut closings = Vec::new();
    let mut closed = 0;
    for (row, ids) in ids_by_row {
        let records = read_decisions(db, path, row)?.ok_or_else(|| damaged(path, row))?;
        for (id, text) in last_records(state, &records, &ids) {
            let (text, charges) = interrupted(&text).ok_or_else(|| damaged(path, row))?;
            let spent = Spent::parse(&text);
            closings.push(Queued { event_id: id, text, kind: Kind::Closing, charges, spent, waiter: None });
        }
        if closings.len() >= CLOSE_MAX {
            closed += close(db, path, state, &mut closings)?;
        }
    }
    closed += close(db, path, state, &mut closings)?;
    if let Some(id) = state.open.keys().next() {
        let detail = format!("the decision record of event {id} is missing");
        return Err(StoreError::Damaged { path: path.to_owned(), detail });
    }
    transact(db, || leave_mark(db, state)).map_err(failed(path, "written"))?;
    state.since_mark = SinceMark::new(state.head.seq + 1);
    Ok(closed)
}

fn close(
    db: &Connection,
    path: &Path,
    state: &mut State,
    closings: &mut Vec<Queued>,
) -> Result<u64, StoreError> {
    let commit = Commit::prepare(state, closings, &[], jiff::Timestamp::now().as_millisecond());
    transact(db, || commit.write(db, state)).map_err(failed(path, "written"))?;
    commit.take_over(state);
    let count = closings.len() as u64;
    closings.clear();
    Ok(count)
}

/// Reads on from the last mark: decisions open, events close.
fn find_open(db: &Connection, path: &Path, state: &mut State) -> Result<(), StoreError> {
    let failed = failed(path, "read");
    let mark = match meta::<String>(db, "open").map_err(&failed)? {
        Some(text) => serde_json::from_str(&text).map_err(|error| StoreError::Damaged {
            path: path.to_owned(),
            detail: format!("the mark of open decisions: {error}"),
        })?,
        None => Mark::default(),
    };
    let mut open: Open = mark.open.into_iter().collect();
    for row in mark.decisions + 1..=state.decisions {
        // A row that is not there was retained no longer; what it opened was closed before.
        for text in read_decisions(db, path, row)?.iter().flat_map(Row::texts) {
            state.since_mark.bytes += text.len();
            open.insert(state.members.event_id(&text).ok_or_else(|| damaged(path, row))?, row);
        }
    }
    let mut since = SinceMark::new(mark.seq + 1);
    since.bytes = state.since_mark.bytes;
    let mut after = mark.seq;
    while after < state.head.seq {
        let Some((row, first_ms, last_ms)) = read_batch(db, path, after)? else { break };
        since.bytes += row.body.len();
        since.first_ms = since.first_ms.min(first_ms);
        since.last_ms = since.last_ms.max(last_ms);
        after = row.last;
        for text in row.texts() {
            if let Some(id) = state.members.event_id(&text) {
                open.remove(&id);
            }
        }
    }
    state.since_mark = since;
    state.open = open;
    Ok(())
}

fn read_decisions(db: &Connection, path: &Path, id: u64) -> Result<Option<Row>, StoreError> {
    let body: Option<Vec<u8>> = db
        .prepare_cached("SELECT CAST(body AS BLOB) FROM decisions WHERE id = ?1")
        .and_then(|mut select| select.query_row([id.cast_signed()], |row| row.get(0)).optional())
        .map_err(failed(path, "read"))?;
    body.map(|body| Row::parse_all(body).ok_or_else(|| damaged(path, id))).transpose()
}

/// The row of events after `after`, with its bounds.
fn read_batch(db: &Connection, path: &Path, after: u64) -> Result<Option<(Row, i64, i64)>, StoreError> {
    let found = db
        .prepare_cached(
            "SELECT first_seq, last_seq, first_ms, last_ms, CAST(body AS BLOB) FROM batches
             WHERE first_seq > ?1 ORDER BY first_seq LIMIT 1",
        )
        .and_then(|mut select| {
            select
                .query_row([after.cast_signed()], |row| {
                    let (first, last): (i64, i64) = (row.get(0)?, row.get(1)?);
                    Ok((first.cast_unsigned(), last.cast_unsigned(), row.get(2)?, row.get(3)?, row.get(4)?))
                })
                .optional()
        })
        .map_err(failed(path, "read"))?;
    let Some((first, last, first_ms, last_ms, body)) = found else { return Ok(None) };
    match Row::parse(first, last, body) {
        Some(row) => Ok(Some((row, first_ms, last_ms))),
        None => Err(StoreError::Damaged {
            path: path.to_owned(),
            detail: format!("events {first} to {last} are not what was written"),
        }),
    }
}

fn damaged(path: &Path, row: u64) -> StoreError {
    StoreError::Damaged {
        path: path.to_owned(),
        detail: format!("row {row} of the decision records is not what was written"),
    }
}

/// The last record of each id in a row.
fn last_records(state: &State, row: &Row, ids: &[Uuid]) -> Vec<(Uuid, Bytes)> {
    let mut found: Vec<(Uuid, Bytes)> = Vec::with_capacity(ids.len());
    for text in row.texts().rev() {
        if let Some(id) = state.members.event_id(&text)
            && ids.contains(&id)
            && !found.iter().any(|(earlier, _)| *earlier == id)
        {
            found.push((id, text));
        }
    }
    found.reverse();
    found
}

/// The closing event of a decision that nobody closed, and what it held of quotas, which counts as used: nobody knows
/// what of the answer had left. It works on the JSON and not on `AuditEvent`, so that members that a later version had
/// written are kept.
fn interrupted(decision: &[u8]) -> Option<(Vec<u8>, Vec<QuotaCharge>)> {
    let mut event: Map<String, Value> = serde_json::from_slice(decision).ok()?;
    if let Some(Value::Object(request)) = event.get_mut("request") {
        request.insert("outcome".to_owned(), Value::from("interrupted"));
    }
    event.insert("usage".to_owned(), Value::Null);
    event.insert("decision_hash".to_owned(), Value::from(hex(&leaf_hash(decision))));
    let charges = match event.get("quota") {
        Some(quota) => Vec::deserialize(quota).ok()?,
        None => Vec::new(),
    };
    Some((serde_json::to_vec(&event).ok()?, charges))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_event_keeps_everything_else() {
        let decision =
            br#"{"policy_id":"p","later":[1.50],"usage":{"x":1},"request":{"route":"/v1","outcome":null}}"#;
        let text = String::from_utf8(interrupted(decision).unwrap().0).unwrap();
        let hash = hex(&leaf_hash(decision));
        assert_eq!(
            text,
            format!(
                r#"{{"policy_id":"p","later":[1.5],"usage":null,"request":{{"route":"/v1","outcome":"interrupted"}},"decision_hash":"{hash}"}}"#
            )
        );
        assert_eq!(interrupted(b"[1]"), None);
    }
}
