//! Who uses a SQLite file: each process holds a shared lock on a file beside it for as long as it does, and `latchkey
//! restore` an exclusive one. The operating system lets go of a lock whose process has ended, however it ended. The lock
//! file also names the services, for people; whether one runs is for the lock to say.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::files::beside;

/// How often a lock is tried that somebody holds who is about to let it go.
const ATTEMPTS: u32 = 100;
/// How long it is waited between.
const PAUSE: Duration = Duration::from_millis(20);

/// A lock on a database, held while this lives.
#[derive(Debug)]
pub(super) struct Presence {
    file: File,
}

/// Why there is no lock.
#[derive(Debug)]
pub(super) enum Absent {
    /// Others hold one that rules this one out.
    Held(Vec<String>),
    /// This file system has none, or the file cannot be made.
    Impossible(PathBuf, io::Error),
}

impl Presence {
    /// Joins those who use a database, unless one is being put in its place.
    pub async fn join(database: &Path) -> Result<Self, Absent> {
        let path = beside(database, ".lock");
        let mut file = open(&path).map_err(|error| Absent::Impossible(path.clone(), error))?;
        for _ in 0..ATTEMPTS {
            let joined = match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Alone: whoever is named there has gone.
                Ok(()) => file.set_len(0).map_err(|_| Errno::IO).and_then(|()| shared(&file)),
                Err(Errno::WOULDBLOCK) => shared(&file),
                Err(other) => Err(other),
            };
            match joined {
                Ok(()) => return Ok(Self { file }),
                // A restore, or another one that has just looked whether it is alone.
                Err(Errno::WOULDBLOCK) => tokio::time::sleep(PAUSE).await,
                Err(other) => return Err(Absent::Impossible(path, other.into())),
            }
        }
        Err(Absent::Held(named(&mut file)))
    }

    /// Keeps everybody else from a database, if nobody uses it.
    pub fn exclude(database: &Path) -> Result<Self, Absent> {
        let path = beside(database, ".lock");
        let mut file = open(&path).map_err(|error| Absent::Impossible(path.clone(), error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { file }),
            Err(Errno::WOULDBLOCK) => Err(Absent::Held(named(&mut file))),
            Err(other) => Err(Absent::Impossible(path, other.into())),
        }
    }

    /// Names this process as a service for those who come later, and gives the names of those that run.
    pub fn announce(&self) -> io::Result<Vec<String>> {
        let mut file = self.file.try_clone()?;
        let others = named(&mut file);
        // The file is open for appending, so two that do this at once do not overwrite each other.
        file.write_all(format!("{} {}\n", std::process::id(), host()).as_bytes())?;
        Ok(others)
    }
}

fn shared(file: &File) -> Result<(), Errno> {
    flock(file, FlockOperation::NonBlockingLockShared)
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The services that the file names and that may run: of those of this machine the ones that do.
fn named(file: &mut File) -> Vec<String> {
    let mut text = String::new();
    if file.rewind().and_then(|()| file.read_to_string(&mut text)).is_err() {
        return Vec::new();
    }
    let here = host();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let lines = lines.filter_map(|(id, host)| Some((id.parse::<u32>().ok()?, host)));
    lines
        .filter(|(id, host)| *host != here || runs(*id))
        .map(
            |(id, host)| {
                if host == here { format!("process {id}") } else { format!("process {id} on {host}") }
            },
        )
        .collect()
}

/// Whether a process of this machine runs, as far as it can be told.
fn runs(id: u32) -> bool {
    let processes = Path::new("/proc");
    !processes.join("self").exists() || processes.join(id.to_string()).exists()
}

/// This machine's name, or this container's.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(char::is_ascii_graphic).collect();
    if name.is_empty() { "this-machine".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_is_shared_by_many_or_kept_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("latchkey.db");
        let first = Presence::join(&database).await.unwrap();
        let second = Presence::join(&database).await.unwrap();
        assert!(first.announce().unwrap().is_empty());
        let here = format!("process {}", std::process::id());
        assert_eq!(second.announce().unwrap(), std::slice::from_ref(&here));
        let Err(Absent::Held(by)) = Presence::exclude(&database) else { panic!("two hold it") };
        assert_eq!(by, [here.clone(), here]);
        drop((first, second));
        let alone = Presence::exclude(&database).unwrap();
        assert!(matches!(Presence::join(&database).await, Err(Absent::Held(_))));
        drop(alone);
        let next = Presence::join(&database).await.unwrap();
        assert!(next.announce().unwrap().is_empty(), "those who have gone are named");
    }

    #[test]
    fn a_service_that_has_ended_is_not_named_and_one_of_another_machine_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let own = std::process::id();
        // Beyond the largest that Linux gives.
        std::fs::write(&path, format!("{own} {0}\n5000000 {0}\n7 elsewhere\nnonsense\n", host())).unwrap();
        assert_eq!(
            named(&mut open(&path).unwrap()),
            [format!("process {own}"), "process 7 on elsewhere".into()]
        );
    }
}
