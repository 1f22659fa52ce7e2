//! What is under test: the files that `make build` leaves in `dist/`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use super::test_dir::root;

/// The filter, as a module of proxy-wasm.
pub fn filter() -> PathBuf {
    checked("latchkey.wasm")
}

/// The filter, as a dynamic module.
pub fn native_filter() -> PathBuf {
    checked("liblatchkey.so")
}

/// The service and command line.
pub fn program() -> PathBuf {
    checked("latchkey")
}

/// A file of `dist/`, which has to be there, and newer than what it is made of: an old one would test nothing.
fn checked(name: &str) -> PathBuf {
    static NEWEST: OnceLock<SystemTime> = OnceLock::new();
    let path = root().join("dist").join(name);
    let built =
        modified(&path).unwrap_or_else(|| panic!("dist/{name} is missing: run `make build`, or `make e2e`"));
    let source = *NEWEST.get_or_init(|| {
        let folders = ["src", "native/src", "admin-service/src", "admin-service/migrations", "tools"];
        folders.iter().map(|folder| newest(&root().join(folder))).max().expect("folders")
    });
    assert!(built >= source, "dist/{name} is older than its source: run `make build`, or `make e2e`");
    path
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

/// When the youngest file under a folder was changed.
fn newest(folder: &Path) -> SystemTime {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let times = entries.map(|path| {
        if path.is_dir() { newest(&path) } else { modified(&path).unwrap_or(SystemTime::UNIX_EPOCH) }
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}
