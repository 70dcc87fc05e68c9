//! The files around the database: creating it with the right mode, the process lock, noticing that it was removed
//! under the running process, the room left on its disk, and the ballast. No SQL.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// Only the gateway's user may read the log.
const MODE: u32 = 0o600;

/// The ballast is written in pieces of this size.
const BALLAST_PIECE_BYTES: usize = 64 * 1024;

/// Room that must be free beside the ballast before the disk counts as usable again. Less, and the log would go
/// back and forth between blocked and writable.
const MARGIN_BYTES: u64 = 1 << 20;

/// `<path><suffix>`, beside the database.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> StoreError + '_ {
    move |source| match source.kind() {
        io::ErrorKind::StorageFull => StoreError::NoSpace { path: path.to_owned() },
        _ => StoreError::File { path: path.to_owned(), source },
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes entries of the file's directory durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

/// Creates the directory and an empty database file where they are missing. SQLite gives the files that it makes
/// beside it the same mode.
pub(crate) fn create(path: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(directory(path)).map_err(file_error(path))?;
    match OpenOptions::new().write(true).create_new(true).mode(MODE).open(path) {
        Ok(file) => {
            file.sync_all().map_err(file_error(path))?;
            sync_directory(path).map_err(file_error(path))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(file_error(path)(error)),
    }
}

/// Holds the store for this process until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// # Errors
    /// [`StoreError::Locked`], naming the holder, where another process has it.
    pub(crate) fn take(database: &Path) -> Result<Self, StoreError> {
        let path = beside(database, ".lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .open(&path)
            .map_err(file_error(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who holds it is a courtesy: unreadable says nothing.
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim().parse::<u32>() {
                    Ok(process) => format!(" (process {process})"),
                    Err(_) => String::new(),
                };
                return Err(StoreError::Locked { path: database.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(StoreError::File { path, source }),
        }
        // A full disk must not keep the gateway from starting; the number only serves the message above.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

/// The files as they were when opened, by device and inode: a removed or replaced file would swallow every
/// commit without an error.
#[derive(Debug)]
pub(crate) struct Identity {
    files: Vec<(PathBuf, u64, u64)>,
}

impl Identity {
    /// Of those of `paths` that exist.
    pub(crate) fn of(paths: &[PathBuf]) -> Self {
        let files = paths.iter().filter_map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((path.clone(), metadata.dev(), metadata.ino()))
        });
        Self { files: files.collect() }
    }

    /// # Errors
    /// The reason, where one of them is gone or another file by now.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (path, device, inode) in &self.files {
            match fs::metadata(path) {
                Ok(metadata) if metadata.dev() == *device && metadata.ino() == *inode => {}
                Ok(_) => return Err(format!("`{}` was replaced while the gateway ran", path.display())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(format!("`{}` was removed while the gateway ran", path.display()));
                }
                Err(error) => return Err(format!("`{}` cannot be looked at: {error}", path.display())),
            }
        }
        Ok(())
    }
}

/// A file that only takes up room, so that there is some to give back once the disk is full.
#[derive(Debug)]
pub(crate) struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    pub(crate) fn new(database: &Path, bytes: u64) -> Self {
        Self { path: beside(database, ".ballast"), bytes }
    }

    /// Free room that [`Ballast::restore`] asks for, in MiB.
    pub(crate) fn needed_mib(&self) -> u64 {
        self.bytes.saturating_add(MARGIN_BYTES).div_ceil(1 << 20)
    }

    /// Gives its room back. It is kept out of the way of errors: what cannot be removed frees nothing.
    pub(crate) fn release(&self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "the ballast file could not be removed");
        }
    }

    /// Makes sure that it is there in full.
    ///
    /// # Errors
    /// Whatever keeps it from being written; nothing is left behind then.
    pub(crate) fn restore(&self) -> io::Result<()> {
        if self.bytes == 0 || fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() == self.bytes) {
            return Ok(());
        }
        let written = self.write();
        if written.is_err() {
            self.release();
        }
        written
    }

    fn write(&self) -> io::Result<()> {
        if let Some(free) = free_bytes(&self.path)
            && free < self.bytes.saturating_add(MARGIN_BYTES)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&self.path)?;
        // Not zeros: a file system that compresses would reserve nothing for them.
        let mut word = 0x9e37_79b9_7f4a_7c15_u64;
        let mut piece = Vec::with_capacity(BALLAST_PIECE_BYTES);
        let mut left = self.bytes;
        while left > 0 {
            piece.clear();
            while piece.len() < BALLAST_PIECE_BYTES {
                word ^= word << 13;
                word ^= word >> 7;
                word ^= word << 17;
                piece.extend_from_slice(&word.to_le_bytes());
            }
            piece.truncate(usize::try_from(left).unwrap_or(BALLAST_PIECE_BYTES));
            file.write_all(&piece)?;
            left -= piece.len() as u64;
        }
        file.sync_all()?;
        sync_directory(&self.path)
    }
}

/// Whether the file's disk has room to go on with.
pub(crate) fn has_room(path: &Path) -> bool {
    free_bytes(path).is_none_or(|free| free >= MARGIN_BYTES)
}

/// Bytes free to this user on the file's disk; `None` where the system does not say.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(directory(path)).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ballast_takes_its_room_and_gives_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::new(&dir.path().join("g.db"), 100_000);
        ballast.restore().unwrap();
        let file = dir.path().join("g.db.ballast");
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!(metadata.len(), 100_000);
        assert!(metadata.blocks() * 512 >= 100_000, "a sparse file reserves nothing");
        ballast.restore().unwrap();
        ballast.release();
        assert!(!file.exists());
        ballast.release();
    }

    #[test]
    fn ballast_without_size_makes_no_file() {
        let dir = tempfile::tempdir().unwrap();
        Ballast::new(&dir.path().join("g.db"), 0).restore().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_second_lock_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.db");
        let held = Lock::take(&path).unwrap();
        let refused = Lock::take(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("(process {})", std::process::id())), "{refused}");
        drop(held);
        Lock::take(&path).unwrap();
    }

    #[test]
    fn identity_notices_removed_and_replaced_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.db");
        create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let identity = Identity::of(std::slice::from_ref(&path));
        identity.check().unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        assert!(identity.check().unwrap_err().contains("removed"));
        create(&path).unwrap();
        assert!(identity.check().unwrap_err().contains("replaced"));
    }
}
