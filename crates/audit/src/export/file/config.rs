//! Configuration of a `file` destination: what may be written, and the checked form. Nothing outside is read here.

use std::path::PathBuf;
use std::time::Duration;

use policy::problems::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::sink::FileDestination;
use crate::delivery::Limits;
use crate::export::check::Check;
use crate::export::{ExportError, Kind};
use crate::secret::SecretSource;

/// Events between two fsyncs.
const BATCH_EVENTS: usize = 2000;
/// Bytes between two fsyncs.
const BATCH_BYTES: usize = 4_000_000;
/// The contract's linger.
const LINGER: Duration = Duration::from_millis(200);
/// A disk that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Default size of a file.
const ROTATE_BYTES: u64 = 100_000_000;
/// Below this, files would hold a batch or less.
const ROTATE_BYTES_MIN: u64 = 100_000;
/// A terabyte.
const ROTATE_BYTES_MAX: u64 = 1_000_000_000_000;
/// Default age of a file.
const ROTATE_HOURS: u64 = 24;
/// A year.
const ROTATE_HOURS_MAX: u64 = 24 * 366;

/// The value of `destination`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FileName {
    /// `file`.
    #[serde(rename = "file")]
    File,
}

/// A destination of kind `file`, as written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawFile {
    /// Always `file`.
    pub destination: FileName,
    /// The file, relative to the working directory. Its directory must exist. Rotated files stand beside it, with the
    /// time of their rotation behind the name.
    pub path: String,
    /// A file is rotated before it would pass so many bytes, 100,000 or more. Default: 100,000,000.
    #[schemars(range(min = 100_000))]
    pub rotate_bytes: Option<u64>,
    /// A file is rotated once it is so many hours old, 1 to 8784. Default: 24.
    #[schemars(range(min = 1, max = 8784))]
    pub rotate_hours: Option<u64>,
}

/// A `file` destination, checked and complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The file.
    pub path: PathBuf,
    /// As written, for people.
    pub shown: String,
    /// Largest file.
    pub rotate_bytes: u64,
    /// Oldest file.
    pub rotate_after: Duration,
}

impl Kind for File {
    const NAME: &'static str = "file";
    type Raw = RawFile;
    type Sender = FileDestination;

    fn read(raw: &RawFile, path_prefix: &str) -> Result<Self, Vec<Problem>> {
        let mut check = Check::new(path_prefix);
        let path = PathBuf::from(&raw.path);
        if path.file_name().is_none() || raw.path.ends_with('/') || raw.path.contains('\0') {
            check.problem("path", "must name a file, for example `/var/log/policy-gateway/audit.jsonl`");
        }
        let rotate_bytes =
            check.number("rotate_bytes", raw.rotate_bytes, ROTATE_BYTES, ROTATE_BYTES_MIN, ROTATE_BYTES_MAX);
        let hours = check.number("rotate_hours", raw.rotate_hours, ROTATE_HOURS, 1, ROTATE_HOURS_MAX);
        let rotate_after = Duration::from_secs(hours * 3600);
        check.finish(Some(Self { path, shown: raw.path.clone(), rotate_bytes, rotate_after }))
    }

    fn endpoint(&self) -> &str {
        &self.shown
    }

    fn limits(&self) -> Limits {
        Limits {
            batch_events_max: BATCH_EVENTS,
            batch_bytes_max: BATCH_BYTES,
            linger: LINGER,
            // Lines in the order of the log.
            concurrency: 1,
            timeout: TIMEOUT,
            rate: None,
        }
    }

    fn secrets(&self) -> Vec<(&'static str, &SecretSource)> {
        Vec::new()
    }

    fn sender(&self) -> Result<FileDestination, ExportError> {
        Ok(FileDestination::new(self.clone()))
    }

    fn look_for(&self, event_id: Uuid) -> String {
        format!("{event_id} in {}", self.shown)
    }
}
