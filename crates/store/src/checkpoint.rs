//! When the write-ahead log is copied into the database file, and by whom: a thread of its own copies the bulk while the
//! writer goes on, and the writer only the rest, so that the log can begin anew.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::error::StoreError;
use crate::schema::open_copier;

/// The thread copies once this much was written. Its sync keeps the disk from others' for as long as it takes: smaller
/// means shorter waits and more of them.
const COPY_BYTES: usize = 1 << 20;

/// Once this much was written the log is to begin anew. Larger means fewer waits for the writer, and more disk.
const RENEW_BYTES: usize = 16 << 20;

/// While the log is blocked the writer copies by itself, from this much on.
const COPY_BLOCKED_BYTES: usize = 4 << 20;

/// What a commit writes beside its bodies, roughly: pages of the trees.
const COMMIT_OVERHEAD_BYTES: usize = 16 << 10;

/// The thread makes way for those who answer calls, and still gets some of a processor that it shares with them: about a
/// tenth at this nice value (<https://man7.org/linux/man-pages/man7/sched.7.html>).
const COPIER_NICE: i32 = 10;

/// How often a writer without work looks whether the thread is done.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    /// Written since the log last began anew …
    bytes: usize,
    /// … and since the thread was last asked.
    bytes_new: usize,
    is_copying: bool,
    copier: Copier,
}

impl Checkpoints {
    pub(crate) fn start(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { bytes: 0, bytes_new: 0, is_copying: false, copier: Copier::start(path)? })
    }

    /// A commit wrote bodies of so many bytes.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.bytes += bytes + COMMIT_OVERHEAD_BYTES;
        self.bytes_new += bytes + COMMIT_OVERHEAD_BYTES;
    }

    /// When to come back even without a commit.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.is_copying.then(|| Instant::now() + LOOK_INTERVAL)
    }

    /// Has copied what is due.
    pub(crate) fn step(&mut self, db: &Connection) -> rusqlite::Result<()> {
        if self.is_copying {
            let copied = match self.copier.answers.try_recv() {
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => Ok(()),
                Ok(copied) => copied,
            };
            self.is_copying = false;
            copied?;
            if self.bytes >= RENEW_BYTES {
                return self.copy(db);
            }
        }
        if self.bytes_new >= COPY_BYTES {
            self.bytes_new = 0;
            self.is_copying = self.copier.asks.send(()).is_ok();
            if !self.is_copying {
                return self.copy(db);
            }
        }
        Ok(())
    }

    /// As [`Checkpoints::step`], but done when this returns: for a log that is blocked.
    pub(crate) fn step_now(&mut self, db: &Connection) -> rusqlite::Result<()> {
        if self.is_copying {
            return self.step(db);
        }
        if self.bytes < COPY_BLOCKED_BYTES { Ok(()) } else { self.copy(db) }
    }

    fn copy(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let rest = copy(db)?;
        // Otherwise a reader was in the way: not at every commit.
        self.bytes = if rest == 0 { 0 } else { RENEW_BYTES / 2 };
        Ok(())
    }

    /// Copies everything and empties the log.
    pub(crate) fn last(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.copier.stop();
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }
}

/// Copies what no reader needs where it is. Returns how many pages are left: all of them, as it were, where somebody else
/// copies just now.
fn copy(db: &Connection) -> rusqlite::Result<i64> {
    let mut checkpoint = db.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?;
    checkpoint.query_row([], |row| {
        let (busy, log, copied): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(if busy == 0 { log - copied } else { i64::MAX })
    })
}

/// The thread that copies. It ends with this.
///
/// INVARIANT: an error of it loses nothing. SQLite takes a page for copied only once the database is synced, so all
/// that was committed is still in the log.
///
/// INVARIANT: `file` is closed with the last connection of this process. Closing it before would end the locks of all.
#[derive(Debug)]
struct Copier {
    asks: Sender<()>,
    answers: Receiver<rusqlite::Result<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Copier {
    fn start(path: &Path) -> Result<Self, StoreError> {
        let db = open_copier(path)?;
        let file = File::open(path).map_err(|source| StoreError::File { path: path.to_owned(), source })?;
        let (asks, asked) = mpsc::channel::<()>();
        let (answer, answers) = mpsc::channel();
        let run = move || {
            // Without it everything works, a little slower.
            let _ = rustix::process::setpriority_process(None, COPIER_NICE);
            while asked.recv().is_ok() && answer.send(copy_bulk(&db, &file)).is_ok() {}
        };
        let thread = std::thread::Builder::new()
            .name("store-copier".to_owned())
            .spawn(run)
            .map_err(|source| StoreError::File { path: path.to_owned(), source })?;
        Ok(Self { asks, answers, thread: Some(thread) })
    }

    fn stop(&mut self) {
        (self.asks, _) = mpsc::channel();
        if let Some(thread) = self.thread.take() {
            // A panic of it has nothing to add: the writer copies by itself then.
            let _ = thread.join();
        }
    }
}

impl Drop for Copier {
    /// The file is free for the next process once this returns.
    fn drop(&mut self) {
        self.stop();
    }
}

/// SQLite syncs the database only once nothing is left to copy, and so would keep the writer waiting for all that was
/// copied here: it is synced here as well.
fn copy_bulk(db: &Connection, file: &File) -> rusqlite::Result<()> {
    copy(db)?;
    file.sync_data().map_err(|error| {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
        rusqlite::Error::SqliteFailure(code, Some(error.to_string()))
    })
}
