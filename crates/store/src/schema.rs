//! The tables, and how a connection is opened to them. This page is the specification of the file.
//!
//! # Durable format 1
//!
//! - `batches`: the events of one commit, in one row (two or more where they pass a MiB). `body` is a JSON array with
//!   one event per line, `[e1,\ne2,\n…]`; JSON text has no raw line end, so splitting at `,\n` is exact. `first_ms` and
//!   `last_ms` bound the events' `created_at`, in Unix milliseconds.
//! - `decisions`: the decision records of one commit, likewise. `seq_before` is the log's head before that commit: the
//!   closing of each has a later `seq`. `first_ms` and `last_ms` are the time of the commit.
//! - `spans`: for stretches of `batches`, the bounds of their times, so that a query can leave out most of them.
//! - `cursors`, `dead_letters`: each destination's place in the log, and what it would not take; `skipped` counts the
//!   events up to its place that its filters or sampling left out. `ahead`: batches past that place that were tried with
//!   bounds that have to stay over a restart, or that the destination has already (`settled`).
//! - `revisions`: policy documents, by policy and number. Immutable.
//! - `policies`: which revisions of a policy are in force, and who declares it (`file` or `api`); `policy_changes`: each
//!   change of that, in order.
//! - `projects`, `keys`: what the management API created. `body` is a project as JSON; `digest` is HMAC-SHA256, under
//!   `key_secret` of `meta`, of the SHA-256 of a key, which itself is nowhere. `key_uses`: when keys, of files too, were last
//!   presented, to the minute.
//! - `exports`: destinations that the management API created. `body` is their configuration as JSON, in which literal secrets
//!   are encrypted with the configuration's `secrets_key`.
//! - `answers`: what requests of the management API with an `Idempotency-Key` were answered, for a day. `id` and `request` are
//!   digests; `status` is null while a request has begun and not ended; `body` is encrypted where it holds a secret.
//! - `rollouts`: what is tried out, by `key`: a policy's id for its candidate, the id and ` rules` for single rules of its
//!   stable revision. `digest` (of the document without `rollout`, or of the rules), and while it is taken back by
//!   itself, which `revision` was, since and until when. Events up to `after_seq` are none of its window.
//! - `escalations`: review tickets, `body` as JSON (`escalation::Ticket`); the other columns repeat what is looked for.
//!   `over_ms` is when a ticket means nothing any more, in Unix milliseconds. `escalation_content` is what a policy opted
//!   to keep for a reviewer, encrypted, until the ticket ends; `escalation_notices` wait to be sent: about the
//!   ticket of that `number`, or about a rollback's `event`.
//! - `quota_counters`: what closed calls have used of each quota and rate limit in the window that ends at `end_s` (Unix
//!   time in seconds), by `bucket` (16 bytes). Raised in the transaction that makes the closing records durable, so that
//!   the counters and the log never disagree. Rows of windows that are over are deleted as new ones come.
//! - `tree_tiles`, `checkpoints`: the Merkle tree over the events' hashes (RFC 6962): the node above each 256 of them, by
//!   number from 0, and the signed notes that were recorded about the first `size` events. The notes are copies of those in the
//!   events; they go with the events that they are about, the tiles stay.
//! - `told_once`: marks of events that are told once, kept until `until_s` (Unix time in seconds): written together with
//!   the event.
//! - `usage_days`: what calls used, summed up by `day` (of the call, UTC, counted from 1970-01-01) and `series`; `cost_pusd`
//!   in picodollars (10^-12 US dollars). `usage_user_days`: the same by `user` too, so that its rows of a day and series
//!   add up to that of `usage_days`; user 0 is whoever was not named. `usage_series` is a combination of
//!   project, policy, model and key, found by a digest of it; `usage_users` are the names of users. Raised in the
//!   transaction that makes the closing records durable, and never deleted.
//! - `meta`: `fingerprint_key` (32 random bytes that key the fingerprints of escalated requests), `key_secret` (32 random bytes), `chain` (id
//!   of this store's chain), `anchor` (where the retained log begins: JSON `{first_seq,
//!   prev_hash, peaks}`, the peaks being those of the tree of what is gone), `tree` (how far the tree is kept: JSON `{size, peaks,
//!   key}`, with the public key of the last checkpoint), `open` (the decisions that were open at some point of the log: JSON `{decisions, seq, open}`; a start
//!   reads on from there), `opened_ms` and `probe` (times of writes that only had to succeed), `decisions_gone_ms` (decision records up to this time were retained no longer).
//!
//! The view `audit_events` shows single events to whoever opens the file with the `sqlite3` shell.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::error::StoreError;

/// `PRAGMA user_version` of what is specified above.
const FORMAT: i64 = 1;

/// `PRAGMA application_id`: "PGW1".
const APPLICATION_ID: i64 = 0x5047_5731;

/// Larger pages mean fewer writes per commit, but a bigger smallest commit. See the `append` benchmark.
const PAGE_BYTES: u32 = 8192;

/// The writer only appends, so little of the tree is worth keeping.
const WRITER_CACHE_KIB: u32 = 2048;

/// A reader goes through rows once.
const READER_CACHE_KIB: u32 = 512;

/// How long a lock that somebody else's tool holds is waited for. Past it the log is blocked, and tries again.
const WRITER_PATIENCE: Duration = Duration::from_secs(1);

/// As [`WRITER_PATIENCE`], for readers, who wait only for another's recovery of the file.
const READER_PATIENCE: Duration = Duration::from_secs(5);

/// The file is cut back to this size where a long read had let it grow.
const WAL_KEPT_BYTES: u32 = 64 << 20;

/// A prepared statement is reused for each commit.
const STATEMENTS_MAX: usize = 64;

const TABLES: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE batches(
  first_seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,
  body TEXT NOT NULL);
CREATE TABLE decisions(
  id INTEGER PRIMARY KEY, seq_before INTEGER NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,
  body TEXT NOT NULL);
CREATE TABLE spans(
  first_seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL);
CREATE TABLE cursors(
  destination TEXT PRIMARY KEY, start INTEGER NOT NULL, position INTEGER NOT NULL, dead INTEGER NOT NULL,
  skipped INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL, last_error TEXT, updated_at TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE dead_letters(
  destination TEXT NOT NULL, seq INTEGER NOT NULL, reason TEXT NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY(destination, seq));
CREATE TABLE ahead(
  destination TEXT NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, settled INTEGER NOT NULL,
  skipped INTEGER NOT NULL, PRIMARY KEY(destination, first_seq)) WITHOUT ROWID;
CREATE TABLE revisions(
  policy_id TEXT NOT NULL, number INTEGER NOT NULL, digest TEXT NOT NULL, digest_without_rollout TEXT NOT NULL,
  document TEXT NOT NULL, created_at TEXT NOT NULL, author TEXT NOT NULL, PRIMARY KEY(policy_id, number));
CREATE TABLE policies(
  policy_id TEXT PRIMARY KEY, stable INTEGER, candidate INTEGER, former_stable INTEGER,
  allow_without_stable INTEGER NOT NULL, source TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL)
  WITHOUT ROWID;
CREATE TABLE policy_changes(
  id INTEGER PRIMARY KEY, policy_id TEXT NOT NULL, at TEXT NOT NULL, author TEXT NOT NULL, action TEXT NOT NULL,
  stable INTEGER, candidate INTEGER);
CREATE INDEX policy_changes_of ON policy_changes(policy_id, id);
CREATE TABLE projects(
  project_id TEXT PRIMARY KEY, body TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE keys(
  key_id TEXT PRIMARY KEY, project_id TEXT NOT NULL, digest TEXT NOT NULL UNIQUE, name TEXT, prefix TEXT NOT NULL,
  created_at TEXT NOT NULL, expires_at_ms INTEGER, revoked_at TEXT) WITHOUT ROWID;
CREATE TABLE key_uses(key_id TEXT PRIMARY KEY, used_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE exports(
  id TEXT PRIMARY KEY, body TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE answers(
  id TEXT PRIMARY KEY, request TEXT NOT NULL, created_ms INTEGER NOT NULL, status INTEGER, body BLOB) WITHOUT ROWID;
CREATE INDEX answers_by_time ON answers(created_ms);
CREATE TABLE rollouts(
  key TEXT PRIMARY KEY, digest TEXT NOT NULL, state TEXT NOT NULL, revision INTEGER, since_ms INTEGER,
  until_ms INTEGER, after_seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE escalations(
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, fingerprint BLOB NOT NULL, state TEXT NOT NULL,
  policy_id TEXT NOT NULL, project_id TEXT, expires_ms INTEGER NOT NULL, over_ms INTEGER NOT NULL, body TEXT NOT NULL);
CREATE INDEX escalations_by_fingerprint ON escalations(fingerprint, number);
CREATE INDEX escalations_open ON escalations(expires_ms) WHERE state = 'open';
CREATE INDEX escalations_over ON escalations(over_ms);
CREATE TABLE escalation_content(number INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE escalation_notices(
  id INTEGER PRIMARY KEY, number INTEGER, kind TEXT NOT NULL, path TEXT NOT NULL, attempts INTEGER NOT NULL,
  next_ms INTEGER NOT NULL, last_error TEXT, event TEXT);
CREATE INDEX escalation_notices_next ON escalation_notices(next_ms);
CREATE INDEX escalation_notices_ticket ON escalation_notices(number);
CREATE TABLE quota_counters(
  end_s INTEGER NOT NULL, bucket BLOB NOT NULL, start_s INTEGER NOT NULL, requests INTEGER NOT NULL,
  tokens INTEGER NOT NULL, PRIMARY KEY(end_s, bucket)) WITHOUT ROWID;
CREATE TABLE tree_tiles(number INTEGER PRIMARY KEY, hash BLOB NOT NULL);
CREATE TABLE checkpoints(
  size INTEGER PRIMARY KEY, event_id TEXT NOT NULL, created_at TEXT NOT NULL, note TEXT NOT NULL);
CREATE TABLE told_once(until_s INTEGER NOT NULL, key BLOB NOT NULL, PRIMARY KEY(until_s, key)) WITHOUT ROWID;
CREATE TABLE usage_series(
  id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, project_id TEXT, policy_id TEXT, model TEXT, key_id TEXT);
CREATE TABLE usage_users(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE usage_days(
  day INTEGER NOT NULL, series INTEGER NOT NULL, requests INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL, total_tokens INTEGER NOT NULL, cost_pusd INTEGER NOT NULL,
  PRIMARY KEY(day, series)) WITHOUT ROWID;
CREATE TABLE usage_user_days(
  day INTEGER NOT NULL, series INTEGER NOT NULL, user INTEGER NOT NULL, requests INTEGER NOT NULL,
  prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, total_tokens INTEGER NOT NULL,
  cost_pusd INTEGER NOT NULL, PRIMARY KEY(day, series, user)) WITHOUT ROWID;
CREATE VIEW audit_events AS
  SELECT batches.first_seq + entry.key AS seq,
    entry.value ->> 'created_at' AS created_at, entry.value ->> 'event_type' AS event_type,
    entry.value ->> 'policy_id' AS policy_id, entry.value ->> 'project_id' AS project_id,
    entry.value ->> 'policy_user' AS policy_user, entry.value ->> 'decision' AS decision,
    entry.value ->> 'reason_code' AS reason_code, entry.value ->> 'event_id' AS event_id, entry.value AS event
  FROM batches, json_each(batches.body) AS entry;
";

/// Wraps what the database says.
pub(crate) fn failed(path: &Path, doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    move |source| {
        let path = path.clone();
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase) => StoreError::Foreign { path },
            Some(rusqlite::ErrorCode::DatabaseCorrupt) => {
                StoreError::Damaged { path, detail: source.to_string() }
            }
            Some(rusqlite::ErrorCode::DiskFull) => StoreError::NoSpace { path },
            _ => StoreError::Database { path, doing, source },
        }
    }
}

/// The one connection that writes. The tables are made where the file is empty.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let failed = failed(path, "opened");
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(&failed)?;
    db.busy_timeout(WRITER_PATIENCE).map_err(&failed)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // After a failed fsync nothing more may be written, and closing would check-point.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(&failed)?;
    let known = is_ours(&db, path)?;
    if !known {
        db.pragma_update(None, "page_size", PAGE_BYTES).map_err(&failed)?;
    }
    let mode: String =
        db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(&failed)?;
    if mode != "wal" {
        let detail = format!("its disk does not do write-ahead logging (`{mode}`): put it on a local disk");
        return Err(StoreError::Unavailable(detail));
    }
    db.pragma_update(None, "synchronous", "full").map_err(&failed)?;
    db.pragma_update(None, "wal_autocheckpoint", 0).map_err(&failed)?;
    db.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES).map_err(&failed)?;
    db.pragma_update(None, "cache_size", -i64::from(WRITER_CACHE_KIB)).map_err(&failed)?;
    if !known {
        let sql = format!(
            "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={FORMAT}; COMMIT"
        );
        db.execute_batch(&sql).map_err(&failed)?;
    }
    Ok(db)
}

/// A connection that only copies the write-ahead log into the database, beside the writer's. The tables are there.
pub(crate) fn open_copier(path: &Path) -> Result<Connection, StoreError> {
    let failed = failed(path, "opened");
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(&failed)?;
    db.busy_timeout(READER_PATIENCE).map_err(&failed)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(&failed)?;
    db.pragma_update(None, "synchronous", "full").map_err(&failed)?;
    db.pragma_update(None, "cache_size", -i64::from(READER_CACHE_KIB)).map_err(&failed)?;
    // Opens the file itself, not another that is put in its place later.
    is_ours(&db, path)?;
    db.busy_timeout(Duration::ZERO).map_err(&failed)?;
    Ok(db)
}

/// A connection that only reads, beside a running gateway or without one.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    if !path.exists() {
        return Err(StoreError::Missing { path: path.to_owned() });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(failed(path, "opened"))?;
    let known = match is_ours(&db, path) {
        // A directory that may not be written to, and nobody who writes: the file alone is all there is.
        Err(StoreError::Database { source, .. })
            if source.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen) && !has_wal(path) =>
        {
            return open_immutable(path);
        }
        known => known?,
    };
    if !known {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    tune_reader(db, path)
}

fn has_wal(path: &Path) -> bool {
    std::fs::metadata(crate::files::beside(path, "-wal")).is_ok_and(|metadata| metadata.len() > 0)
}

fn open_immutable(path: &Path) -> Result<Connection, StoreError> {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(*byte));
            }
            byte => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri.push_str("?immutable=1");
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let db = Connection::open_with_flags(uri, flags).map_err(failed(path, "opened"))?;
    if !is_ours(&db, path)? {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    tune_reader(db, path)
}

fn tune_reader(db: Connection, path: &Path) -> Result<Connection, StoreError> {
    let failed = failed(path, "opened");
    db.busy_timeout(READER_PATIENCE).map_err(&failed)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    db.pragma_update(None, "cache_size", -i64::from(READER_CACHE_KIB)).map_err(&failed)?;
    Ok(db)
}

/// Whether the tables are there; `false` for an empty file.
fn is_ours(db: &Connection, path: &Path) -> Result<bool, StoreError> {
    let failed = failed(path, "opened");
    let application: i64 =
        db.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(&failed)?;
    let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(&failed)?;
    let tables: i64 =
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(&failed)?;
    match (application, found, tables) {
        (0, 0, 0) => Ok(false),
        (APPLICATION_ID, FORMAT, _) => Ok(true),
        (APPLICATION_ID, found, _) if found > FORMAT => {
            Err(StoreError::Newer { path: path.to_owned(), found, known: FORMAT })
        }
        _ => Err(StoreError::Foreign { path: path.to_owned() }),
    }
}

/// A value of `meta`.
pub(crate) fn meta<T: rusqlite::types::FromSql>(db: &Connection, key: &str) -> rusqlite::Result<Option<T>> {
    db.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()
}

/// Sets a value of `meta`.
pub(crate) fn set_meta(db: &Connection, key: &str, value: impl rusqlite::ToSql) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO meta(key, value) VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value = ?2",
    )?
    .execute(rusqlite::params![key, value])
    .map(drop)
}
