//! Appends to the file, on a thread that may block. Nothing of an earlier try that failed is left behind, a line that a
//! power cut tore is cut off, and a file that was moved or deleted from outside is made anew.

use std::fs::{File as Handle, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::config::File;
use crate::delivery::{Destination, Parcel, SendOutcome};
use crate::export::Kind;
use crate::export::body::Body;
use crate::export::lines::{self, LineEncoder};
use crate::secret::SecretError;

/// For the gateway, and for a group that ships logs.
const MODE: u32 = 0o640;
/// The last line is looked for in pieces of this size, from the end.
const TAIL_BYTES: u64 = 64 * 1024;
/// Rotated files that may have the same second in their names.
const NAMES_MAX: u32 = 1000;

/// A file destination. The file is opened with the first event.
pub struct FileDestination {
    config: File,
    open: Arc<Mutex<Option<Open>>>,
}

/// The file as it is open.
struct Open {
    file: Handle,
    /// Device and inode: whether the path still leads here.
    id: (u64, u64),
    bytes: u64,
    since_ms: i64,
}

impl FileDestination {
    /// For this configuration. Touches nothing yet.
    pub fn new(config: File) -> Self {
        Self { config, open: Arc::default() }
    }
}

impl Destination for FileDestination {
    type Builder = Body<LineEncoder>;

    fn begin(&self, now_ms: i64) -> Result<Body<LineEncoder>, String> {
        lines::body(&self.config.limits(), now_ms)
    }

    async fn send(&self, parcel: Parcel) -> SendOutcome {
        let (open, config) = (Arc::clone(&self.open), self.config.clone());
        let Parcel { body, now_ms, .. } = parcel;
        let written = tokio::task::spawn_blocking(move || {
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            append(&config, &mut open, &body, now_ms)
        });
        match written.await {
            Ok(Ok(())) => SendOutcome::Delivered,
            Ok(Err(error)) => failed(&self.config.path, &error),
            Err(_) => SendOutcome::Retry { after: None, why: "the write was broken off".to_owned() },
        }
    }

    async fn reload_secrets(&self) -> Result<(), SecretError> {
        // As log rotation from outside asks for with a SIGHUP: the path may lead to another file now.
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}

fn failed(path: &Path, error: &io::Error) -> SendOutcome {
    let advice = match error.kind() {
        ErrorKind::NotFound => "make its directory",
        ErrorKind::PermissionDenied => "let the gateway's user write there",
        ErrorKind::ReadOnlyFilesystem => {
            "the disk is read-only: mount it for writing, or give another `path`"
        }
        ErrorKind::IsADirectory => "it is a directory: give a file",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room on the disk",
        _ => "check the disk",
    };
    let why = format!("`{}` cannot be written ({error}): {advice}", path.display());
    match error.kind() {
        ErrorKind::NotFound
        | ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::IsADirectory => SendOutcome::Hold { why },
        _ => SendOutcome::Retry { after: None, why },
    }
}

/// Appends lines, durably.
fn append(config: &File, slot: &mut Option<Open>, body: &Bytes, now_ms: i64) -> io::Result<()> {
    if slot.as_ref().is_some_and(|open| leads_to(&config.path).ok() != Some(open.id)) {
        *slot = None;
    }
    let mut open = match slot.take() {
        Some(open) => open,
        None => Open::new(&config.path, now_ms)?,
    };
    let body_bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
    let age = Duration::from_millis(now_ms.saturating_sub(open.since_ms).max(0).unsigned_abs());
    let too_large = open.bytes.saturating_add(body_bytes) > config.rotate_bytes;
    if open.bytes > 0 && (too_large || age >= config.rotate_after) {
        rotate(&config.path, now_ms)?;
        open = Open::new(&config.path, now_ms)?;
    }
    if let Err(error) = open.append(body) {
        // Half a line would spoil the next; what cannot be cut off now is cut off when the file is opened again.
        let _ = open.file.set_len(open.bytes);
        return Err(error);
    }
    open.bytes += body_bytes;
    if leads_to(&config.path).ok() != Some(open.id) {
        return Err(io::Error::other("it was moved or deleted meanwhile, and is written anew"));
    }
    *slot = Some(open);
    Ok(())
}

impl Open {
    fn new(path: &Path, now_ms: i64) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)?;
        let metadata = file.metadata()?;
        let bytes = cut_torn_line(&mut file, metadata.len())?;
        if bytes == 0 {
            sync_directory(path)?;
        }
        // Where the file system keeps no time of birth, a restart makes the file young again.
        let born = if bytes == 0 { None } else { metadata.created().ok() };
        let since_ms = born.and_then(unix_ms).unwrap_or(now_ms);
        Ok(Self { file, id: (metadata.dev(), metadata.ino()), bytes, since_ms })
    }

    fn append(&mut self, body: &[u8]) -> io::Result<()> {
        self.file.write_all(body)?;
        self.file.sync_data()
    }
}

/// Cuts off what stands behind the last line end: its event was never counted as delivered. Returns what is left.
fn cut_torn_line(file: &mut Handle, bytes: u64) -> io::Result<u64> {
    let mut end = bytes;
    let mut piece = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(start))?;
        piece.clear();
        Read::by_ref(file).take(end - start).read_to_end(&mut piece)?;
        if let Some(at) = memchr::memrchr(b'\n', &piece) {
            let whole = start + u64::try_from(at).unwrap_or(0) + 1;
            if whole < bytes {
                file.set_len(whole)?;
            }
            return Ok(whole);
        }
        end = start;
    }
    if bytes > 0 {
        file.set_len(0)?;
    }
    Ok(0)
}

/// Moves the file out of the way, durably.
fn rotate(path: &Path, now_ms: i64) -> io::Result<()> {
    let time = jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default();
    let stamp = time.strftime("%Y%m%dT%H%M%SZ").to_string();
    for number in 0..NAMES_MAX {
        let suffix = if number == 0 { format!(".{stamp}") } else { format!(".{stamp}-{number}") };
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let rotated = PathBuf::from(name);
        if rotated.try_exists()? {
            continue;
        }
        std::fs::rename(path, rotated)?;
        return sync_directory(path);
    }
    Err(io::Error::other("no name is left for the rotated file"))
}

/// A new name is durable only with its directory.
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Handle::open(parent)?.sync_all()
}

fn leads_to(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn unix_ms(time: SystemTime) -> Option<i64> {
    i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_millis()).ok()
}
