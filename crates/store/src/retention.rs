//! Deleting what is old enough: events that were delivered everywhere, decision records, reviews that ended. It goes in
//! slices between commits, so that none of them waits long; a slice deletes whole rows and moves the anchor, from which
//! `audit verify` starts, in the same transaction.

use audit::merkle::Peaks;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::commit::State;
use crate::error::StoreError;
use crate::escalations;
use crate::orders::{Cursors, Reply};
use crate::rows::NO_HASH;
use crate::schema::{meta, set_meta};
use crate::tree::{forget, from_hex, to_hex};

/// A slice deletes rows of this many bytes, or one row: a few milliseconds.
const SLICE_BYTES: i64 = 2 << 20;

/// A slice deletes at most so many reviews, of a few kilobytes each.
const SLICE_TICKETS: usize = 100;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What a run of retention deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Events deleted.
    pub events: u64,
    /// Rows of decision records deleted.
    pub decision_rows: u64,
    /// Reviews deleted.
    pub tickets: u64,
    /// The first event still there; 1 where none was ever deleted.
    pub first_seq: u64,
}

/// Where the retained log begins. Stored as JSON in `meta.anchor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The first event still there.
    pub first_seq: u64,
    /// Hash of the one before it, hex.
    pub prev_hash: String,
    /// Peaks of the Merkle tree of the events before it, hex, the largest subtree's first.
    #[serde(default)]
    pub peaks: Vec<String>,
}

impl Anchor {
    /// The Merkle tree of the events before it, where it is known.
    pub fn tree(&self) -> Option<Peaks> {
        from_hex(self.first_seq.checked_sub(1)?, &self.peaks)
    }
}

/// Reads the anchor; that of a whole log where nothing was deleted.
pub(crate) fn anchor(db: &Connection) -> rusqlite::Result<Anchor> {
    let text: Option<String> = meta(db, "anchor")?;
    let read = text.and_then(|text| serde_json::from_str(&text).ok());
    Ok(read.unwrap_or_else(|| Anchor { first_seq: 1, prev_hash: NO_HASH.to_owned(), peaks: Vec::new() }))
}

/// A run of retention, under way.
#[derive(Debug)]
pub(crate) struct Sweep {
    horizon_ms: i64,
    destinations: Option<Vec<String>>,
    pub(crate) reply: Option<Reply<Retained, StoreError>>,
    done: Retained,
    step: Step,
}

/// What a run deletes next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Events,
    Decisions,
    Tickets,
}

impl Sweep {
    /// Deletes what is older than `days` before `now_ms` and was passed by all of `destinations`, or by every
    /// destination that has a cursor where `None`.
    pub(crate) fn new(now_ms: i64, days: u32, destinations: Option<Vec<String>>) -> Self {
        Self {
            horizon_ms: now_ms.saturating_sub(i64::from(days).saturating_mul(DAY_MS)),
            destinations,
            reply: None,
            done: Retained::default(),
            step: Step::Events,
        }
    }

    /// Every event up to this one was delivered, or dead-lettered, everywhere.
    fn delivered(&self, cursors: &Cursors, state: &State) -> u64 {
        match &self.destinations {
            // A destination without a cursor has yet to begin: nothing is known to be settled for it.
            Some(named) => {
                named.iter().map(|name| cursors.get(name).map_or(0, |cursor| cursor.position)).min()
            }
            None => cursors.values().map(|cursor| cursor.position).min(),
        }
        .unwrap_or(state.head.seq)
    }

    /// Deletes the next slice within the running transaction; the result once there is nothing left to delete.
    pub(crate) fn slice(
        &mut self,
        db: &Connection,
        cursors: &Cursors,
        state: &State,
    ) -> rusqlite::Result<Option<Retained>> {
        let (more, next) = match self.step {
            Step::Events => (self.delete_events(db, self.delivered(cursors, state))?, Some(Step::Decisions)),
            Step::Decisions => (self.delete_decisions(db, state)?, Some(Step::Tickets)),
            Step::Tickets => (self.delete_tickets(db)?, None),
        };
        match next {
            _ if more => {}
            Some(next) => self.step = next,
            None => {
                self.done.first_seq = anchor(db)?.first_seq;
                return Ok(Some(self.done));
            }
        }
        Ok(None)
    }

    /// Whether there may be more.
    fn delete_events(&mut self, db: &Connection, delivered: u64) -> rusqlite::Result<bool> {
        // The newest row stays: what is to come is chained onto it.
        let newest: Option<i64> = db
            .prepare_cached("SELECT max(first_seq) FROM batches")?
            .query_row([], |row| row.get(0))
            .optional()?
            .flatten();
        let mut select = db.prepare_cached(
            "SELECT first_seq, last_seq, last_ms, octet_length(body) FROM batches ORDER BY first_seq",
        )?;
        let mut rows = select.query([])?;
        let (mut first, mut last, mut bytes, mut more) = (None, 0, 0, false);
        while let Some(row) = rows.next()? {
            let (first_seq, last_seq, last_ms): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let goes = last_ms < self.horizon_ms
                && last_seq.cast_unsigned() <= delivered
                && newest.is_some_and(|newest| first_seq < newest);
            if !goes || bytes >= SLICE_BYTES {
                more = goes;
                break;
            }
            first.get_or_insert(first_seq);
            last = last_seq;
            bytes += row.get::<_, i64>(3)?;
        }
        drop(rows);
        let Some(first) = first else { return Ok(false) };
        let tree = forget(db, &anchor(db)?, last.cast_unsigned())?;
        let prev_hash: String = db
            .prepare_cached(
                "SELECT substr(body, -67, 64) FROM batches WHERE last_seq = ?1 AND first_seq >= ?2",
            )?
            .query_row([last, first], |row| row.get(0))?;
        db.prepare_cached("DELETE FROM batches WHERE first_seq >= ?1 AND first_seq <= ?2")?
            .execute([first, last])?;
        db.prepare_cached("DELETE FROM spans WHERE last_seq <= ?1")?.execute([last])?;
        let peaks = tree.as_ref().map(to_hex).unwrap_or_default();
        let anchor = Anchor { first_seq: last.cast_unsigned() + 1, prev_hash, peaks };
        let text = serde_json::to_string(&anchor)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        set_meta(db, "anchor", text)?;
        self.done.events += (last - first + 1).cast_unsigned();
        Ok(more)
    }

    /// Whether there may be more.
    fn delete_decisions(&mut self, db: &Connection, state: &State) -> rusqlite::Result<bool> {
        let oldest_open = state.open.values().min().copied().unwrap_or(u64::MAX);
        let oldest_open = i64::try_from(oldest_open).unwrap_or(i64::MAX);
        // The newest row stays: the ids go on from it.
        let mut select = db.prepare_cached(
            "SELECT id, last_ms, octet_length(body) FROM decisions
             WHERE id < ?1 AND id < (SELECT max(id) FROM decisions) ORDER BY id",
        )?;
        let mut rows = select.query([oldest_open])?;
        let (mut last, mut gone_ms, mut count, mut bytes, mut more) = (0, i64::MIN, 0, 0, false);
        while let Some(row) = rows.next()? {
            let last_ms: i64 = row.get(1)?;
            let goes = last_ms < self.horizon_ms;
            if !goes || bytes >= SLICE_BYTES {
                more = goes;
                break;
            }
            last = row.get(0)?;
            gone_ms = gone_ms.max(last_ms);
            bytes += row.get::<_, i64>(2)?;
            count += 1;
        }
        drop(rows);
        if count == 0 {
            return Ok(false);
        }
        db.prepare_cached("DELETE FROM decisions WHERE id <= ?1")?.execute(params![last])?;
        let before: i64 = meta(db, "decisions_gone_ms")?.unwrap_or(i64::MIN);
        set_meta(db, "decisions_gone_ms", gone_ms.max(before))?;
        self.done.decision_rows += count;
        Ok(more)
    }

    /// Whether there may be more.
    fn delete_tickets(&mut self, db: &Connection) -> rusqlite::Result<bool> {
        let gone = escalations::delete_over(db, self.horizon_ms, SLICE_TICKETS)?;
        self.done.tickets += gone as u64;
        Ok(gone >= SLICE_TICKETS)
    }
}
