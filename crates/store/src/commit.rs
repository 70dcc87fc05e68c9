//! One commit of the writer: what it is made of, how it gets into the database, and what its failure means. The state
//! of the chain lives here and moves only once a commit is durable.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OptionalExtension, ffi, params};
use uuid::Uuid;

use crate::counters::Charges;
use crate::error::StoreError;
use crate::queue::{IdHasher, Kind, Queued};
use crate::rows::{DecisionRows, EventRows, Head, Members, Row, chain_member};
use crate::schema::{failed, meta, set_meta};
use crate::usage::UsageSums;

/// Open decisions, with the row of the last record of each.
pub(crate) type Open = HashMap<Uuid, u64, BuildHasherDefault<IdHasher>>;

/// Where the log stands, as last made durable.
#[derive(Debug)]
pub(crate) struct State {
    chain_member: String,
    pub(crate) head: Head,
    /// Id of the last row of decision records.
    pub(crate) decisions: u64,
    pub(crate) open: Open,
    pub(crate) members: Members,
    /// What was committed since the last mark.
    pub(crate) since_mark: SinceMark,
}

/// Bounds of the events since the last mark.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SinceMark {
    pub(crate) bytes: usize,
    pub(crate) first_seq: u64,
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
}

impl SinceMark {
    pub(crate) fn new(first_seq: u64) -> Self {
        Self { bytes: 0, first_seq, first_ms: i64::MAX, last_ms: i64::MIN }
    }

    fn add(&mut self, row: &Row) {
        self.first_ms = self.first_ms.min(row.first_ms);
        self.last_ms = self.last_ms.max(row.last_ms);
    }
}

impl State {
    /// Reads where the log stands; `open` and `since_mark` are recovery's to fill.
    pub(crate) fn load(db: &Connection, path: &Path) -> Result<Self, StoreError> {
        let failed = failed(path, "read");
        let chain = match meta::<String>(db, "chain").map_err(&failed)? {
            Some(chain) => Uuid::try_parse(&chain)
                .map_err(|error| StoreError::Damaged { path: path.to_owned(), detail: error.to_string() })?,
            None => {
                let chain = Uuid::now_v7();
                set_meta(db, "chain", chain.to_string()).map_err(&failed)?;
                chain
            }
        };
        let decisions: Option<i64> =
            db.query_row("SELECT max(id) FROM decisions", [], |row| row.get(0)).map_err(&failed)?;
        let head = Self::load_head(db, path, chain)?;
        Ok(Self {
            chain_member: chain_member(chain),
            since_mark: SinceMark::new(head.seq + 1),
            head,
            decisions: decisions.unwrap_or(0).cast_unsigned(),
            open: Open::default(),
            members: Members::new(),
        })
    }

    /// The last event must be whole: what is to come is chained onto it.
    fn load_head(db: &Connection, path: &Path, chain: Uuid) -> Result<Head, StoreError> {
        let last = db
            .query_row(
                "SELECT first_seq, last_seq, CAST(body AS BLOB) FROM batches ORDER BY first_seq DESC LIMIT 1",
                [],
                |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?)),
            )
            .optional()
            .map_err(failed(path, "read"))?;
        let Some((first, last, body)) = last else { return Ok(Head::start()) };
        let (first, last) = (first.cast_unsigned(), last.cast_unsigned());
        let event = Row::parse(first, last, body).and_then(|row| row.event(last));
        let link = event.as_ref().and_then(|event| audit::verify::Link::of(&event.text));
        match link {
            Some(link) if link.seq == last && link.chain == chain && link.computed == link.hash => {
                Ok(Head { seq: last, hash: audit::event::hex(&link.hash) })
            }
            _ => Err(StoreError::Damaged {
                path: path.to_owned(),
                detail: format!("the last event, {last}, is not what was written"),
            }),
        }
    }
}

/// A commit, ready to be written.
#[derive(Debug)]
pub(crate) struct Commit {
    events: EventRows,
    decisions: DecisionRows,
    /// Ids with the index of their row among this commit's.
    opened: Vec<(Uuid, u64)>,
    closed: Vec<Uuid>,
    charges: Charges,
    usage: UsageSums,
}

impl Commit {
    /// Puts the records, and those that orders make, into rows, chained onto the head. `now_ms` stands in where an event has no readable time.
    pub(crate) fn prepare(state: &State, records: &[Queued], ordered: &[Queued], now_ms: i64) -> Self {
        let count = records.len() + ordered.len();
        let records = || records.iter().chain(ordered);
        let (mut event_bytes, mut event_count, mut decision_bytes) = (0, 0, 0);
        for record in records() {
            if record.kind == Kind::Decision {
                decision_bytes += record.text.len() + 2;
            } else {
                event_bytes += record.text.len();
                event_count += 1;
            }
        }
        let mut commit = Self {
            events: EventRows::new(state.head.clone(), event_bytes, event_count),
            decisions: DecisionRows::default(),
            opened: Vec::with_capacity(count - event_count),
            closed: Vec::with_capacity(event_count),
            charges: Charges::new(now_ms),
            usage: UsageSums::new(now_ms),
        };
        for record in records() {
            if record.kind == Kind::Decision {
                let index = commit.decisions.push(&record.text, now_ms, decision_bytes);
                commit.opened.push((record.event_id, index));
            } else {
                let ms = state.members.created_ms(&record.text).unwrap_or(now_ms);
                commit.events.push(&record.text, &state.chain_member, ms);
                commit.closed.push(record.event_id);
                commit.charges.add(&record.charges);
                commit.usage.add(record.spent.as_ref());
            }
        }
        commit.events.finish();
        commit.decisions.finish();
        commit
    }

    /// The head once this is durable.
    pub(crate) fn head(&self) -> u64 {
        self.events.head.seq
    }

    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.opened.len() as u64, self.closed.len() as u64)
    }

    /// Writes the rows within the running transaction.
    pub(crate) fn write(&self, db: &Connection, state: &State) -> rusqlite::Result<()> {
        for (row, id) in self.decisions.rows.iter().zip(state.decisions + 1..) {
            let mut insert = db.prepare_cached(
                "INSERT INTO decisions(id, seq_before, first_ms, last_ms, body) VALUES(?1, ?2, ?3, ?4, ?5)",
            )?;
            let seq_before = state.head.seq.cast_signed();
            insert.execute(params![
                id.cast_signed(),
                seq_before,
                row.first_ms,
                row.last_ms,
                Text(&row.body)
            ])?;
        }
        for row in &self.events.rows {
            let mut insert = db.prepare_cached(
                "INSERT INTO batches(first_seq, last_seq, first_ms, last_ms, body) VALUES(?1, ?2, ?3, ?4, ?5)",
            )?;
            let (first, last) = (row.first.cast_signed(), row.last.cast_signed());
            insert.execute(params![first, last, row.first_ms, row.last_ms, Text(&row.body)])?;
        }
        self.charges.write(db)?;
        self.usage.write(db)
    }

    /// Takes the commit, now durable, over into the state. Returns its events' rows.
    pub(crate) fn take_over(self, state: &mut State) -> Vec<Row> {
        let base = state.decisions + 1;
        state.open.extend(self.opened.into_iter().map(|(id, index)| (id, base + index)));
        for id in &self.closed {
            state.open.remove(id);
        }
        state.decisions += self.decisions.rows.len() as u64;
        for row in &self.decisions.rows {
            state.since_mark.bytes += row.body.len();
        }
        for row in &self.events.rows {
            state.since_mark.bytes += row.body.len();
            state.since_mark.add(row);
        }
        state.head = self.events.head;
        self.events.rows
    }

    /// Bytes of the bodies.
    pub(crate) fn bytes(&self) -> usize {
        self.events.rows.iter().chain(&self.decisions.rows).map(|row| row.body.len()).sum()
    }
}

/// A body, bound as text without a copy or a second look at its bytes.
struct Text<'a>(&'a [u8]);

impl rusqlite::ToSql for Text<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(rusqlite::types::ToSqlOutput::Borrowed(rusqlite::types::ValueRef::Text(self.0)))
    }
}

/// Runs `work` in a transaction. It is durable when this returns; on an error nothing of it is left.
pub(crate) fn transact<T>(
    db: &Connection,
    work: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let result = work().and_then(|value| db.prepare_cached("COMMIT")?.execute([]).map(|_| value));
    if result.is_err() && !db.is_autocommit() {
        // Some errors roll back by themselves, the others are rolled back here. Should that fail too, then so
        // does the next BEGIN, whose error is fatal.
        let _ = db.execute_batch("ROLLBACK");
    }
    result
}

/// What a failed write means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No room: the ballast may help, somebody must free some.
    Full(String),
    /// It may pass.
    Passing(String),
    /// The file cannot be trusted any more.
    Fatal(String),
}

impl Trouble {
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Full(reason) | Self::Passing(reason) | Self::Fatal(reason) => reason,
        }
    }

    /// Of a database error. Everything that is not known to pass is fatal: SQLite has rolled back after an error listed
    /// here (<https://www.sqlite.org/rescode.html>), but nobody knows what a failed fsync left on the disk.
    pub(crate) fn of(error: &rusqlite::Error, path: &Path) -> Self {
        let file = path.display();
        let rusqlite::Error::SqliteFailure(code, _) = error else {
            return Self::Fatal(format!("`{file}`: {error}"));
        };
        match (code.code, code.extended_code) {
            (ErrorCode::DiskFull, _) => {
                Self::Full(format!("no space left for `{file}`: free some on its disk"))
            }
            (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => {
                Self::Passing(format!("another program holds a lock on `{file}`: close it there"))
            }
            (ErrorCode::ReadOnly, ffi::SQLITE_READONLY_DBMOVED) => {
                Self::Fatal(format!("`{file}` was removed or replaced while the gateway ran"))
            }
            (ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied, _)
            | (
                ErrorCode::SystemIoFailure,
                ffi::SQLITE_IOERR_WRITE
                | ffi::SQLITE_IOERR_TRUNCATE
                | ffi::SQLITE_IOERR_LOCK
                | ffi::SQLITE_IOERR_RDLOCK
                | ffi::SQLITE_IOERR_NOMEM
                | ffi::SQLITE_IOERR_SHMOPEN
                | ffi::SQLITE_IOERR_SHMSIZE
                | ffi::SQLITE_IOERR_SHMLOCK
                | ffi::SQLITE_IOERR_SHMMAP,
            )
            | (ErrorCode::OutOfMemory, _) => Self::Passing(format!("`{file}` cannot be written: {error}")),
            _ => Self::Fatal(format!("`{file}`: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(extended: i32) -> Trouble {
        Trouble::of(&rusqlite::Error::SqliteFailure(ffi::Error::new(extended), None), Path::new("g.db"))
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert!(matches!(trouble(ffi::SQLITE_FULL), Trouble::Full(_)));
        for code in [
            ffi::SQLITE_BUSY,
            ffi::SQLITE_BUSY_SNAPSHOT,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_IOERR_SHMSIZE,
            ffi::SQLITE_NOMEM,
        ] {
            assert!(matches!(trouble(code), Trouble::Passing(_)), "{code}");
        }
        for code in [
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_DIR_FSYNC,
            ffi::SQLITE_IOERR_READ,
            ffi::SQLITE_IOERR_SHORT_READ,
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_NOTADB,
            ffi::SQLITE_READONLY_DBMOVED,
            ffi::SQLITE_CONSTRAINT,
            ffi::SQLITE_ERROR,
        ] {
            assert!(matches!(trouble(code), Trouble::Fatal(_)), "{code}");
        }
    }

    #[test]
    fn a_failed_transaction_leaves_nothing_open() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE t(a INTEGER PRIMARY KEY)").unwrap();
        transact(&db, || db.execute("INSERT INTO t VALUES(1)", [])).unwrap();
        transact(&db, || {
            db.execute("INSERT INTO t VALUES(2)", [])?;
            db.execute("INSERT INTO t VALUES(1)", [])
        })
        .unwrap_err();
        assert!(db.is_autocommit());
        let count: i64 = db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1);
    }
}
