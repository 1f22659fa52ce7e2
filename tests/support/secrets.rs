//! Every secret that a test makes, and the search for traces of it in what the run left behind.
//!
//! Secrets are noted in files of their own, outside of what is searched: `target/e2e-secrets/<process>`, one per line.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::test_dir;

/// How much of a secret's end is looked for: a hint shows the beginning of a token, and may.
const TAIL: usize = 32;

/// Where the secrets of all runs are noted.
pub fn folder() -> PathBuf {
    test_dir::all().with_file_name("e2e-secrets")
}

/// Notes a secret, so that the search knows it.
pub fn note(secret: &str) {
    static FILE: Mutex<Option<File>> = Mutex::new(None);
    let mut file = FILE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let file = file.get_or_insert_with(|| {
        fs::create_dir_all(folder()).expect("a folder for secrets");
        let path = folder().join(std::process::id().to_string());
        File::options().create(true).append(true).open(path).expect("a file for secrets")
    });
    writeln!(file, "{secret}").expect("a secret is noted");
}

/// Every secret that was noted since the folder was last removed.
pub fn noted() -> Vec<String> {
    let files = fs::read_dir(folder()).into_iter().flatten().flatten();
    let texts = files.map(|file| fs::read_to_string(file.path()).expect("a file of secrets"));
    let mut secrets: Vec<String> =
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    secrets.sort();
    secrets.dedup();
    secrets
}

/// Whether a file is one that holds secrets on purpose: tests write edge secrets and configurations of Envoy for others
/// to read, and `make run` keeps its tokens.
pub fn is_input(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let written = |begin: &str, end: &str| name.starts_with(begin) && name.ends_with(end);
    written("edge-secret-", ".txt")
        || written("edge-secret-", ".yaml")
        || written("envoy-", ".json")
        || written("envoy-", ".yaml")
        || ["admin-token", "alice-token", "edge-secret", "lds.json"].contains(&&*name)
}

/// What to look for: the end of each secret as it is, in hexadecimal, and in base64 wherever it may begin in it.
pub struct Search {
    automaton: aho_corasick::AhoCorasick,
    /// For each pattern what it is, without the secret itself.
    names: Vec<String>,
}

impl Search {
    pub fn for_secrets<S: AsRef<str>>(secrets: &[S]) -> Self {
        let mut patterns: Vec<Vec<u8>> = Vec::new();
        let mut names = Vec::new();
        for secret in secrets.iter().map(AsRef::as_ref) {
            let tail = secret.get(secret.len().saturating_sub(TAIL)..).expect("a secret in ASCII");
            let shown = secret.get(..6).unwrap_or_default();
            for (form, pattern) in forms(tail) {
                names.push(format!("{shown}… ({form})"));
                patterns.push(pattern);
            }
        }
        let automaton = aho_corasick::AhoCorasick::new(&patterns).expect("patterns to search for");
        Self { automaton, names }
    }

    /// What of the secrets is in some bytes: a name and a place for each.
    pub fn finds(&self, bytes: &[u8]) -> Vec<String> {
        let found = self.automaton.find_iter(bytes);
        found.map(|found| format!("{} at byte {}", self.names[found.pattern()], found.start())).collect()
    }

    /// Panics if there is a secret in `bytes`.
    pub fn assert_clean(&self, what: &str, bytes: &[u8]) {
        let found = self.finds(bytes);
        assert!(found.is_empty(), "{what} holds secrets: {found:?}");
    }

    /// Every file under a folder that holds a secret, but for those that `may` says may, and how many were searched.
    pub fn files(&self, folder: &Path, may: &dyn Fn(&Path) -> bool) -> (Vec<String>, usize) {
        let (mut found, mut searched) = (Vec::new(), 0);
        for path in files_under(folder).into_iter().filter(|path| !may(path)) {
            // A file may be gone by now; a socket cannot be read, and holds nothing.
            let Ok(bytes) = fs::read(&path) else { continue };
            searched += 1;
            found.extend(self.finds(&bytes).into_iter().map(|what| format!("{}: {what}", path.display())));
        }
        (found, searched)
    }
}

/// A text in each form in which it may have slipped out.
fn forms(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let hex = hex::encode(text);
    let mut forms = vec![
        ("as it is", text.as_bytes().to_vec()),
        ("hex", hex.clone().into_bytes()),
        ("hex", hex.to_uppercase().into_bytes()),
    ];
    // Base64 of something longer shows the text in one of three ways, by where in a group of three bytes it begins; the
    // characters that also depend on its neighbours are left out.
    for before in 0..3 {
        let encoded = STANDARD_NO_PAD.encode([vec![0; before], text.as_bytes().to_vec()].concat());
        let (from, to) = ((before * 8).div_ceil(6), (before + text.len()) * 8 / 6);
        forms.push(("base64", encoded.as_bytes()[from..to].to_vec()));
    }
    forms
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_under(&path) } else { vec![path] }).collect()
}
