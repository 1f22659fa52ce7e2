//! A disk of a few megabytes, to be filled: a tmpfs of the test's own, where the machine lets this process mount one.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted disk. It goes with this value, and with what is on it.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one; `None`, with a plain message, where that is not allowed.
    pub fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("latchkey-disk-").tempdir().unwrap().keep();
        let size = format!("size={megabytes}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&folder).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(folder)),
            refused => {
                eprintln!("SKIPPED: no tmpfs can be mounted here, so no disk is full ({refused:?}).");
                let _ = fs::remove_dir(&folder);
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves no room for another byte.
    pub fn fill(&self) {
        File::create(self.0.join("filler")).unwrap();
        self.fill_up();
    }

    /// Takes what room there is since it was filled.
    pub fn fill_up(&self) {
        let mut file = File::options().append(true).open(self.0.join("filler")).unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            while match file.write(&vec![0; size]) {
                Ok(_) => true,
                Err(error) if error.kind() == ErrorKind::StorageFull => false,
                Err(error) => panic!("the disk cannot be filled: {error}"),
            } {}
        }
    }

    /// Makes room again.
    pub fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // At once for names, and for the rest when the last file on it is closed.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}
