//! When the write-ahead log is copied into the database file.

use std::time::Instant;

use rusqlite::Connection;

/// Copied once this much was written. Smaller means more fsyncs of the database, larger a longer stall and more disk.
const CHECKPOINT_BYTES: usize = 4 << 20;

/// What a commit writes beside its bodies, roughly: pages of the trees.
const COMMIT_OVERHEAD_BYTES: usize = 16 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    bytes: usize,
}

impl Checkpoints {
    /// A commit wrote bodies of so many bytes.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.bytes += bytes + COMMIT_OVERHEAD_BYTES;
    }

    /// When to come back even without a commit.
    pub(crate) fn due(&self) -> Option<Instant> {
        None
    }

    /// Copies what is due.
    pub(crate) fn step(&mut self, db: &Connection) -> rusqlite::Result<()> {
        if self.bytes < CHECKPOINT_BYTES {
            return Ok(());
        }
        let (_busy, log, copied): (i64, i64, i64) = db
            .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        if log == copied {
            self.bytes = 0;
        } else {
            // A reader was in the way: not at every commit.
            self.bytes /= 2;
        }
        Ok(())
    }

    /// Copies everything and empties the log.
    pub(crate) fn last(&mut self, db: &Connection) -> rusqlite::Result<()> {
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }
}
