//! How a store is opened: its limits and their defaults. The limits that nobody needs to set are constants beside the
//! code that keeps them.

use crate::idle::IdleSignal;

/// Records that may wait for the writer. At 1 KiB each it bounds the queue to some 4 MiB; a disk that takes
/// 50 ms for an fsync still clears it at 80,000 records/s.
pub const QUEUE_MAX_DEFAULT: usize = 4096;

/// Room kept free for closing records once the disk is full: the closings of some 8,000 open requests.
pub const BALLAST_BYTES_DEFAULT: u64 = 8 << 20;

/// Limits of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Decision records that may wait for the writer before new ones are refused (at least 1).
    pub queue_max: usize,
    /// Size of the ballast file beside the database, in bytes; 0 for none.
    pub ballast_bytes: u64,
    /// Days that events are kept, once every destination has them; `None` keeps them for ever.
    pub retention_days: Option<u32>,
    /// The database never grows past this many bytes; reaching it blocks the log like a full disk. `None` leaves it
    /// to the disk.
    pub file_bytes_max: Option<u64>,
    /// Says when those who append have nothing else to do, so that commits are fewer under load; `None` commits whatever
    /// is there as soon as the commit before is done.
    pub idle: Option<IdleSignal>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            queue_max: QUEUE_MAX_DEFAULT,
            ballast_bytes: BALLAST_BYTES_DEFAULT,
            retention_days: None,
            file_bytes_max: None,
            idle: None,
        }
    }
}
