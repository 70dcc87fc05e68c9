//! What can go wrong with the store as a whole, in words for the operator: each message names the file and what to
//! do about it. How a single append fails is `audit::log::AppendError`.

use std::io;
use std::path::PathBuf;

/// Why the store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the store open for writing.
    #[error(
        "the store `{path}` is in use by another gateway{holder}: stop that one first, or give this one its own `store:` path"
    )]
    Locked {
        /// The database file.
        path: PathBuf,
        /// ` (process 123)`, or nothing where the holder did not say.
        holder: String,
    },
    /// There is no such file.
    #[error("there is no store at `{path}`: check the `store:` path, or start the gateway once to create it")]
    Missing {
        /// The database file.
        path: PathBuf,
    },
    /// The file is a database, but not one of ours, or no database at all.
    #[error("`{path}` is not a Policy Gateway store: move it away or give another `store:` path")]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// A newer gateway wrote it.
    #[error("the store `{path}` has format {found}, this gateway knows up to {known}: use the newer gateway")]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Format found.
        found: i64,
        /// Newest format known here.
        known: i64,
    },
    /// What is in the file cannot be right.
    #[error(
        "the store `{path}` is damaged ({detail}): keep a copy, run `audit verify`, and restore from a backup"
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// No room to open it.
    #[error("no space left on the disk that holds the store `{path}`: free some and start again")]
    NoSpace {
        /// The database file.
        path: PathBuf,
    },
    /// A file beside the database could not be made or read.
    #[error(
        "cannot use `{path}`: {source}: check that the directory exists and that this user may write to it"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database said no.
    #[error("the store `{path}` could not be {doing}: {source}")]
    Database {
        /// The database file.
        path: PathBuf,
        /// `opened`, `read`, `written`.
        doing: &'static str,
        /// What it said.
        source: rusqlite::Error,
    },
    /// The log is blocked, failed or closed; the text says which.
    #[error("the store cannot be written: {0}")]
    Unavailable(String),
}
