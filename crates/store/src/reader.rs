//! The store as whoever only reads sees it, beside a running gateway or without one: queries, cursors, dead letters
//! and verification. Its calls block; it belongs to one thread at a time.

use std::path::{Path, PathBuf};

use audit::event::unhex;
use audit::outbox::{Cursor, DeadLetter};
use audit::verify::{
    Asked, DecisionRecord, Examined, Verified, Verifier, VerifyError, examine_row, in_order,
};
use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use crate::error::StoreError;
use crate::orders::{load_cursors, read_cursor, read_dead};
use crate::query::{Events, Filter};
use crate::retention::{Anchor, anchor};
use crate::rows::Row;
use crate::schema::{failed, meta, open_reader};

/// A read-only connection. Make one per thread.
#[derive(Debug)]
pub struct Reader {
    pub(crate) db: Connection,
    path: PathBuf,
}

/// Why a log did not verify.
#[derive(Debug, thiserror::Error)]
pub enum VerifyFailure {
    /// It was read, and is not as it was written.
    #[error(transparent)]
    Bad(#[from] VerifyError),
    /// It could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Reader {
    /// # Errors
    /// [`StoreError`] where there is no store, or one that cannot be read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { db: open_reader(path)?, path: path.to_owned() })
    }

    pub(crate) fn failed(&self) -> impl Fn(rusqlite::Error) -> StoreError {
        failed(&self.path, "read")
    }

    pub(crate) fn damaged(&self, first: u64, last: u64) -> StoreError {
        let detail = format!("events {first} to {last} are not what was written");
        StoreError::Damaged { path: self.path.clone(), detail }
    }

    /// The events that fit the filter. Memory is bounded by a row (1 MiB), whatever the filter.
    pub fn query(&self, filter: &Filter) -> Events<'_> {
        Events::new(self, filter)
    }

    /// All events from `seq` on.
    pub fn events_from(&self, seq: u64) -> Events<'_> {
        Events::new(self, &Filter { after_seq: Some(seq.saturating_sub(1)), ..Filter::default() })
    }

    /// Seq of the last event; 0 where there is none.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn head(&self) -> Result<u64, StoreError> {
        let head: Option<i64> = self
            .db
            .query_row("SELECT last_seq FROM batches ORDER BY first_seq DESC LIMIT 1", [], |row| row.get(0))
            .optional()
            .map_err(self.failed())?;
        Ok(head.unwrap_or(0).cast_unsigned())
    }

    /// Id of the chain.
    ///
    /// # Errors
    /// [`StoreError`]; there is a chain from the first start on.
    pub fn chain(&self) -> Result<Uuid, StoreError> {
        let text: Option<String> = meta(&self.db, "chain").map_err(self.failed())?;
        text.and_then(|text| Uuid::try_parse(&text).ok()).ok_or_else(|| StoreError::Damaged {
            path: self.path.clone(),
            detail: "it has no chain id".to_owned(),
        })
    }

    /// Where the retained log begins.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn anchor(&self) -> Result<Anchor, StoreError> {
        anchor(&self.db).map_err(self.failed())
    }

    /// Every destination's cursor, by name.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn cursors(&self) -> Result<Vec<(String, Cursor)>, StoreError> {
        let mut cursors: Vec<_> = load_cursors(&self.db).map_err(self.failed())?.into_iter().collect();
        cursors.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(cursors)
    }

    /// A destination's cursor, where it has one.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn cursor(&self, destination: &str) -> Result<Option<Cursor>, StoreError> {
        read_cursor(&self.db, destination).map_err(self.failed())
    }

    /// A destination's dead letters after `after`, by seq.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn dead_letters(
        &self,
        destination: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        read_dead(&self.db, destination, after, limit).map_err(self.failed())
    }

    /// As [`Reader::verify_asking`], with nothing asked beyond the log itself.
    ///
    /// # Errors
    /// As there.
    pub fn verify(&self) -> Result<Verified, VerifyFailure> {
        self.verify_asking(&Asked::default())
    }

    /// Verifies the whole retained log, each event against the decision record that it closes, and all of it against what
    /// is asked. Memory is bounded by some rows and the decisions open at a time. A gateway may run meanwhile: what it
    /// appends is verified as far as it is there.
    ///
    /// # Errors
    /// The first event that is not as it was written, or why the store cannot be read.
    pub fn verify_asking(&self, asked: &Asked) -> Result<Verified, VerifyFailure> {
        loop {
            let begin = self.begin()?;
            match self.verify_from(&begin, asked.clone()) {
                // Retention took away what was about to be read: what is left is verified anew.
                Err(VerifyFailure::Bad(_)) if self.begin()? != begin => {}
                result => return result,
            }
        }
    }

    /// Where the log begins, and up to when decision records are gone.
    fn begin(&self) -> Result<(Anchor, Option<i64>), StoreError> {
        let gone_ms = meta(&self.db, "decisions_gone_ms").map_err(self.failed())?;
        Ok((self.anchor()?, gone_ms))
    }

    fn verify_from(
        &self,
        (anchor, gone_ms): &(Anchor, Option<i64>),
        asked: Asked,
    ) -> Result<Verified, VerifyFailure> {
        let prev_hash = unhex(anchor.prev_hash.as_bytes()).ok_or_else(|| self.damaged(0, 0))?;
        let mut verifier = Verifier::asking(asked)
            .anchored(anchor.first_seq, prev_hash, anchor.tree())
            .with_decisions(*gone_ms);
        let rows =
            EvidenceRows { reader: self, seq: anchor.first_seq, decisions_row: 0, ahead: None, batch: None };
        in_order(rows.map(|row| row.map_err(VerifyFailure::from)), Looked::at, |looked| {
            match looked {
                Looked::Decisions(id, None) => return Err(self.damaged_decisions(id).into()),
                Looked::Decisions(_, Some(records)) => {
                    records.into_iter().for_each(|record| verifier.decision(record));
                }
                Looked::Events(events) => {
                    for event in events {
                        verifier.examined(event)?;
                    }
                }
            }
            Ok(())
        })?;
        Ok(verifier.finish()?)
    }

    fn damaged_decisions(&self, id: i64) -> StoreError {
        let detail = format!("row {id} of the decision records is not what was written");
        StoreError::Damaged { path: self.path.clone(), detail }
    }

    /// The first row with events from `seq` on.
    fn next_batch(&self, seq: u64) -> Result<Option<(u64, u64, Vec<u8>)>, StoreError> {
        self.db
            .prepare_cached(
                "SELECT first_seq, last_seq, body FROM batches WHERE first_seq >= ?1 ORDER BY first_seq LIMIT 1",
            )
            .and_then(|mut select| {
                select
                    .query_row([seq.cast_signed()], |row| {
                        let (first, last): (i64, i64) = (row.get(0)?, row.get(1)?);
                        Ok((first.cast_unsigned(), last.cast_unsigned(), row.get_ref(2)?.as_bytes()?.to_vec()))
                    })
                    .optional()
            })
            .map_err(self.failed())
    }

    /// The first row of decision records after `id`: its id, the head before it, its body.
    fn next_decisions(&self, id: i64) -> Result<Option<(i64, u64, Vec<u8>)>, StoreError> {
        self.db
            .prepare_cached("SELECT id, seq_before, body FROM decisions WHERE id > ?1 ORDER BY id LIMIT 1")
            .and_then(|mut select| {
                select
                    .query_row([id], |row| {
                        let seq_before: i64 = row.get(1)?;
                        Ok((row.get(0)?, seq_before.cast_unsigned(), row.get_ref(2)?.as_bytes()?.to_vec()))
                    })
                    .optional()
            })
            .map_err(self.failed())
    }
}

/// A row as it was read.
enum EvidenceRow {
    Decisions { id: i64, body: Vec<u8> },
    Events { count: u64, body: Vec<u8> },
}

/// Rows of events from `seq` on, each after the decision records that they may close.
struct EvidenceRows<'r> {
    reader: &'r Reader,
    seq: u64,
    /// Decision records up to this row were given.
    decisions_row: i64,
    /// The next row of them, of a commit that comes after the events at hand.
    ahead: Option<(i64, u64, Vec<u8>)>,
    /// Events at hand: their first and last seq.
    batch: Option<(u64, u64, Vec<u8>)>,
}

impl EvidenceRows<'_> {
    fn read(&mut self) -> Result<Option<EvidenceRow>, StoreError> {
        if self.batch.is_none() {
            self.batch = self.reader.next_batch(self.seq)?;
        }
        let Some((first, ..)) = &self.batch else { return Ok(None) };
        if self.ahead.is_none() {
            self.ahead = self.reader.next_decisions(self.decisions_row)?;
        }
        if let Some((id, _, body)) = self.ahead.take_if(|(_, seq_before, _)| *seq_before < *first) {
            self.decisions_row = id;
            return Ok(Some(EvidenceRow::Decisions { id, body }));
        }
        let Some((first, last, body)) = self.batch.take() else { return Ok(None) };
        self.seq = last.saturating_add(1);
        Ok(Some(EvidenceRow::Events { count: self.seq.saturating_sub(first), body }))
    }
}

impl Iterator for EvidenceRows<'_> {
    type Item = Result<EvidenceRow, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// A row, looked at by itself.
enum Looked {
    Decisions(i64, Option<Vec<DecisionRecord>>),
    Events(Vec<Examined>),
}

impl Looked {
    fn at(row: EvidenceRow) -> Self {
        match row {
            EvidenceRow::Events { count, body } => Self::Events(examine_row(&body, count)),
            EvidenceRow::Decisions { id, body } => {
                let records = Row::parse_all(body)
                    .and_then(|row| row.texts().map(|text| DecisionRecord::of(&text)).collect());
                Self::Decisions(id, records)
            }
        }
    }
}
