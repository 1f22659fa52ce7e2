//! Whether a SQLite database is still where it was opened. SQLite goes on writing to a file that was removed, moved or replaced,
//! and what it writes there is gone when the service ends.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::files::beside;

/// A file's identity, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for FileId {
    fn from(about: &Metadata) -> Self {
        Self { device: about.dev(), inode: about.ino() }
    }
}

/// What is wrong with one of a database's files, which all are named by their paths.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Displaced {
    /// There is no database.
    #[error("the database file {} is gone: it was removed or moved, or its volume is no longer mounted", .0.display())]
    Gone(PathBuf),
    /// There is another file.
    #[error("the database file {} was replaced by another file", .0.display())]
    Replaced(PathBuf),
    /// The write-ahead log or its index is not there, or another one is.
    #[error("{}, which belongs to the database, was removed, moved or replaced", .0.display())]
    LogGone(PathBuf),
    /// The operating system does not tell.
    #[error("the file {} cannot be looked at ({reason})", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
}

impl Displaced {
    /// What the operator can do.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Gone(_) => {
                "put the same file back, or mount its volume, and the service goes on by itself; do not end it before, \
                 for a file that was removed lives as long as the service holds it open (on Linux it can be copied from /proc/<pid>/fd)"
            }
            Self::Replaced(_) => {
                "put the file of before back, and the service goes on by itself; to use the other one, stop the service, put the \
                 file of before back, and run `latchkey restore` with the other one"
            }
            Self::LogGone(_) => {
                "put the same file back, or end the service by SIGTERM, which writes what it holds of the log into the database, \
                 and start it again"
            }
            Self::Unknown { .. } => "see to it that the service's user may look into that folder",
        }
    }
}

/// One of the files, as it was when the database was opened.
#[derive(Debug)]
struct Opened {
    path: PathBuf,
    id: FileId,
    is_log: bool,
}

impl Opened {
    fn at(path: PathBuf, is_log: bool) -> io::Result<Self> {
        let id = FileId::from(&fs::metadata(&path)?);
        Ok(Self { path, id, is_log })
    }

    /// What is wrong with it now.
    fn displaced(&self) -> Option<Displaced> {
        let path = || self.path.clone();
        match fs::metadata(&self.path) {
            Ok(about) if FileId::from(&about) == self.id => None,
            Ok(_) if self.is_log => Some(Displaced::LogGone(path())),
            Ok(_) => Some(Displaced::Replaced(path())),
            Err(error) if is_missing(&error) && self.is_log => Some(Displaced::LogGone(path())),
            Err(error) if is_missing(&error) => Some(Displaced::Gone(path())),
            Err(error) => Some(Displaced::Unknown { path: path(), reason: error.to_string() }),
        }
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// The files of an open database.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    files: Vec<Opened>,
    log: PathBuf,
    /// What was wrong at the latest look, so that the log says it once.
    displaced: Mutex<Option<Displaced>>,
    /// Whether the store is closed: then SQLite takes its log away, and nothing is looked at any more.
    is_closed: AtomicBool,
}

impl DatabaseFile {
    /// The files of a database that a connection has open: SQLite removes its log when the last one is closed.
    pub fn of(database: &Path) -> io::Result<Self> {
        // As it was named, too, as links may lead elsewhere later.
        let named = std::path::absolute(database)?;
        let opened = beside(database, "");
        let mut files = Vec::new();
        if named != opened {
            files.push(Opened::at(named, false)?);
        }
        files.push(Opened::at(opened, false)?);
        // Where SQLite keeps its index in memory, there is no file of it.
        let logs = ["-wal", "-shm"].map(|ending| Opened::at(beside(database, ending), true));
        files.extend(logs.into_iter().filter_map(Result::ok));
        Ok(Self {
            files,
            log: beside(database, "-wal"),
            displaced: Mutex::default(),
            is_closed: AtomicBool::default(),
        })
    }

    /// Looks whether the database is where it was. A few microseconds, so it is done for every statement.
    pub fn check(&self) -> Result<(), Displaced> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let found = self.files.iter().find_map(Opened::displaced);
        let mut known = self.displaced.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != found {
            match &found {
                Some(displaced) => tracing::error!(
                    advice = displaced.advice(),
                    "{displaced}: until it is back, changes and look-ups are refused with 503"
                ),
                None => tracing::info!("the database file is back in its place; the service goes on"),
            }
            known.clone_from(&found);
        }
        found.map_or(Ok(()), Err)
    }

    /// Looks no more, as the connections are closed.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// What was wrong at the latest look.
    pub fn displaced(&self) -> Option<Displaced> {
        self.displaced.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many bytes SQLite's log takes of the disk.
    pub fn log_size(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |about| about.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_what_it_is_and_not_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().canonicalize().unwrap().join(name);
        for name in ["latchkey.db", "latchkey.db-wal", "other.db"] {
            fs::write(path(name), name).unwrap();
        }
        std::os::unix::fs::symlink(path("latchkey.db"), path("link.db")).unwrap();
        let files = DatabaseFile::of(&path("link.db")).unwrap();
        assert_eq!(files.check(), Ok(()));
        assert_eq!(files.log_size(), 15);

        fs::rename(path("latchkey.db"), path("away.db")).unwrap();
        assert_eq!(files.check(), Err(Displaced::Gone(path("link.db"))));
        fs::copy(path("away.db"), path("latchkey.db")).unwrap();
        assert_eq!(files.check(), Err(Displaced::Replaced(path("link.db"))));
        assert_eq!(files.displaced(), Some(Displaced::Replaced(path("link.db"))));
        fs::rename(path("away.db"), path("latchkey.db")).unwrap();
        assert_eq!(files.check(), Ok(()));

        fs::remove_file(path("link.db")).unwrap();
        std::os::unix::fs::symlink(path("other.db"), path("link.db")).unwrap();
        assert_eq!(files.check(), Err(Displaced::Replaced(path("link.db"))));
        fs::remove_file(path("link.db")).unwrap();
        assert_eq!(files.check(), Err(Displaced::Gone(path("link.db"))));
        std::os::unix::fs::symlink(path("latchkey.db"), path("link.db")).unwrap();
        fs::remove_file(path("latchkey.db-wal")).unwrap();
        assert_eq!(files.check(), Err(Displaced::LogGone(path("latchkey.db-wal"))));
        assert_eq!(files.displaced().unwrap().advice().matches("SIGTERM").count(), 1);
    }
}
