//! Where a test keeps what it leaves behind: `target/e2e-logs/<test>/`, emptied when the test begins.
//!
//! All of it is kept after the run, so that a failure can be read, and searched for secrets.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// For each directory of this run, how often each kind of file was asked for.
static NAMES: Mutex<Option<HashMap<PathBuf, HashMap<String, u32>>>> = Mutex::new(None);

/// All tests' directories.
pub fn all() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("e2e-logs")
}

/// The root of the checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A new path in the running test's directory: `("envoy", "log")` is `envoy-1.log`, then `envoy-2.log`.
///
/// The test is known by its thread, so call this from the test itself, not from a task that it spawned.
pub fn file(kind: &str, extension: &str) -> PathBuf {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("unnamed").replace("::", ".");
    let directory = all().join(test);
    let mut names = NAMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let kinds = names.get_or_insert_default().entry(directory.clone()).or_insert_with(|| {
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("a directory for the test's logs");
        HashMap::new()
    });
    let count = kinds.entry(format!("{kind}.{extension}")).or_default();
    *count += 1;
    directory.join(format!("{kind}-{count}.{extension}"))
}
