//! Disk space beside a SQLite database that is kept for revocations: given back to the file system step by step when the
//! disk is full, taken again before the next change that is no revocation.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use super::files::beside;

/// What is kept, in bytes.
pub(super) const SIZE: u64 = 1024 * 1024;
/// What is given back at a time: enough for a revocation, and little enough that whoever else writes to the disk cannot
/// take all of it at once.
const STEP: u64 = 64 * 1024;
/// How much of the database may be in its log alone. What of the reserve goes to writing it back is lost to revocations.
const PENDING: u64 = 256 * 1024;
/// How many small changes are written before it is looked how much that is.
const LOOK_EVERY: u32 = 16;

/// A file that takes up the space. Every process on the database shares it; its length says how much is left.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    database: PathBuf,
    /// How many other changes were written, for [`Reserve::is_time_to_look`].
    writes: AtomicU32,
    /// How many revocations are being written, which may release of it. Nothing is taken back meanwhile.
    revocations: AtomicU32,
    /// Whether the latest attempt to keep it failed, so that the log says so once.
    has_failed: AtomicBool,
}

/// Keeps what is released of a reserve from being taken back, while it lives.
pub(super) struct RevocationInProgress<'a>(&'a Reserve);

impl Drop for RevocationInProgress<'_> {
    fn drop(&mut self) {
        self.0.revocations.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Reserve {
    /// The reserve of a database file.
    pub fn of(database: &Path) -> Self {
        Self {
            path: beside(database, "-reserve"),
            database: beside(database, ""),
            writes: AtomicU32::new(0),
            revocations: AtomicU32::new(0),
            has_failed: AtomicBool::new(false),
        }
    }

    /// Says that a revocation is being written.
    pub fn begin_revocation(&self) -> RevocationInProgress<'_> {
        self.revocations.fetch_add(1, Ordering::SeqCst);
        RevocationInProgress(self)
    }

    /// Whether all of it is there.
    pub fn is_whole(&self) -> bool {
        self.left() >= SIZE
    }

    /// Whether the disk has room for a change that takes so many bytes, in the log and in the file, without the reserve.
    pub fn has_room(&self, bytes: u64) -> bool {
        // Where nobody knows, the disk says so when it is full.
        bytes == 0
            || statvfs(&self.path).map_or(true, |disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= bytes)
    }

    /// Whether to look after a change of this size how much is in the log alone.
    pub fn is_time_to_look(&self, bytes: u64) -> bool {
        bytes > 0 || self.writes.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_EVERY)
    }

    /// By how much the file must grow for a database of this size.
    pub fn growth(&self, size: u64) -> u64 {
        size.saturating_sub(std::fs::metadata(&self.database).map_or(size, |about| about.len()))
    }

    /// Whether a growth is too much to be left in the log.
    pub const fn is_too_much(growth: u64) -> bool {
        growth > PENDING
    }

    /// Gives back what the file needs to grow by; a step, for the log alone, where that is more than is left. `false` when
    /// nothing is.
    pub fn release_for(&self, growth: u64) -> bool {
        let steps = if growth <= self.left() { growth.div_ceil(STEP).max(1) } else { 1 };
        (0..steps).map(|_| self.release()).fold(false, |any, released| any | released)
    }

    fn left(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |about| about.len())
    }

    /// Gives a step of it back to the disk; `false` when nothing is left. A file of a few steps, so this does not wait.
    pub fn release(&self) -> bool {
        let Some(left) = self.left().checked_sub(1).map(|last| last / STEP * STEP) else { return false };
        let released = OpenOptions::new().write(true).open(&self.path).and_then(|file| file.set_len(left));
        match &released {
            Ok(()) => tracing::warn!(
                left_bytes = left,
                "the disk of the database is full; released a part of the reserve, so that revocations go on"
            ),
            Err(error) => {
                tracing::error!(%error, file = %self.path.display(), "the reserve cannot be released");
            }
        }
        released.is_ok()
    }

    /// Takes what is missing; `false` when the disk has no room for all of it. Where a file system cannot keep a reserve,
    /// there is none, and nothing waits for it.
    pub fn refill(&self) -> bool {
        if self.is_whole() {
            return true;
        }
        if self.revocations.load(Ordering::SeqCst) > 0 {
            return false;
        }
        match self.grow() {
            Ok(()) => {
                self.has_failed.store(false, Ordering::Relaxed);
                tracing::info!(bytes = SIZE, file = %self.path.display(), "the reserve for revocations is complete");
                true
            }
            Err(error) if error.kind() == ErrorKind::StorageFull => false,
            Err(error) => {
                if !self.has_failed.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, file = %self.path.display(), "no disk space can be reserved for revocations");
                }
                true
            }
        }
    }

    fn grow(&self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.path)?;
        let mut length = file.metadata()?.len() / STEP * STEP;
        while length < SIZE {
            // What was allocated in vain is cut off again.
            if let Err(error) = allocate(&mut file, length) {
                file.set_len(length)?;
                return Err(error);
            }
            length += STEP;
        }
        Ok(())
    }
}

/// Allocates one step from `offset` on.
fn allocate(file: &mut File, offset: u64) -> io::Result<()> {
    match fallocate(&*file, FallocateFlags::empty(), offset, STEP) {
        Ok(()) => Ok(()),
        // A file system that knows no such call: what is written takes up space.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            file.seek(SeekFrom::Start(offset))?;
            for _ in 0..STEP / 4096 {
                file.write_all(&[0x5a; 4096])?;
            }
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_taken_and_given_back_step_by_step_and_takes_up_disk_space() {
        let folder = tempfile::tempdir().unwrap();
        let reserve = Reserve::of(&folder.path().join("latchkey.db"));
        assert!(!reserve.is_whole() && !reserve.release(), "nothing is there yet");
        assert!(reserve.refill() && reserve.is_whole());
        let about = std::fs::metadata(folder.path().join("latchkey.db-reserve")).unwrap();
        let blocks = std::os::unix::fs::MetadataExt::blocks(&about);
        assert!(blocks * 512 >= SIZE, "{blocks} blocks");
        let mut steps = 0;
        while reserve.release() {
            steps += 1;
            assert!(!reserve.is_whole());
        }
        assert_eq!(steps, SIZE / STEP);
        let revocation = reserve.begin_revocation();
        assert!(!reserve.refill(), "it is taken back from a revocation");
        drop(revocation);
        assert!(reserve.refill() && reserve.is_whole());
    }
}
