//! The edge secret: what a filter must present, from a value or a file that may change while the service runs.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::config::{ConfigError, read_secret_file};
use crate::lifecycle::{Shutdown, hangups};

/// How often a secret file is read again.
const RELOAD_EVERY: Duration = Duration::from_secs(1);

/// Where edge secrets come from.
#[derive(Clone)]
pub enum SecretSource {
    /// One secret, given directly.
    Value(SecretString),
    /// A file with one secret per line; blank lines and lines that begin with `#` do not count.
    File(PathBuf),
}

/// The secrets that are accepted now. Clones share them.
#[derive(Clone)]
pub struct EdgeSecrets {
    source: SecretSource,
    accepted: Arc<RwLock<Vec<Digested>>>,
}

/// SHA-256 of a secret: of equal length for all, so that comparing takes the same time for all.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Digested([u8; 32]);

impl EdgeSecrets {
    /// Reads the secrets for the first time.
    ///
    /// # Errors
    /// [`ConfigError`] when there is none, or one that cannot stand in a header.
    pub fn load(source: SecretSource) -> Result<Self, ConfigError> {
        let accepted = Arc::new(RwLock::new(read(&source)?));
        Ok(Self { source, accepted })
    }

    /// Whether `presented` is one of the secrets, in a time that tells nothing about them.
    #[must_use]
    pub fn accept(&self, presented: &[u8]) -> bool {
        let presented = digest(presented);
        let accepted = self.accepted.read().unwrap_or_else(PoisonError::into_inner);
        let found =
            accepted.iter().fold(Choice::from(0), |found, secret| found | secret.0.ct_eq(&presented.0));
        found.into()
    }

    /// How many are accepted.
    #[must_use]
    pub fn count(&self) -> usize {
        self.accepted.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Reads the source again; `Ok(true)` when other secrets are accepted from now on.
    ///
    /// # Errors
    /// [`ConfigError`] when it cannot be used; then those of before stay accepted.
    pub fn reload(&self) -> Result<bool, ConfigError> {
        let fresh = read(&self.source)?;
        let mut accepted = self.accepted.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *accepted != fresh;
        *accepted = fresh;
        Ok(changed)
    }

    /// Follows the file until the service ends, so that a secret is changed with no restart.
    pub async fn follow(self, mut shutdown: Shutdown) {
        let SecretSource::File(path) = &self.source else { return };
        let mut failing = false;
        while !shutdown.requested_within(RELOAD_EVERY).await {
            // Blocking, but of a small local file, once a second.
            match self.reload() {
                Ok(changed) => {
                    if changed || failing {
                        tracing::info!(file = %path.display(), changed, "the edge secret file was read again");
                    }
                    failing = false;
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "the edge secret file cannot be used; the secrets of before stay accepted");
                    }
                    failing = true;
                }
            }
        }
    }
}

/// Reads the secrets anew at each SIGHUP, until the service ends, and says how many there are.
pub async fn reload_on_hangup(secrets: Option<EdgeSecrets>, mut shutdown: Shutdown) {
    let mut hangups = match hangups() {
        Ok(hangups) => hangups,
        Err(error) => {
            return tracing::warn!(%error, "SIGHUP cannot be handled; secret files are read all the same when they change");
        }
    };
    loop {
        tokio::select! {
            received = hangups.recv() => if received.is_none() { return },
            () = shutdown.requested() => return,
        }
        match secrets.as_ref().map(EdgeSecrets::reload).transpose() {
            Ok(changed) => {
                let (secrets, changed) =
                    (secrets.as_ref().map_or(0, EdgeSecrets::count), changed.unwrap_or(false));
                tracing::info!(secrets, changed, "SIGHUP: the edge secrets were read anew");
            }
            Err(error) => {
                tracing::warn!(%error, "SIGHUP: the edge secret file cannot be used; the secrets of before stay accepted");
            }
        }
    }
}

/// The secrets of a source, digested.
fn read(source: &SecretSource) -> Result<Vec<Digested>, ConfigError> {
    Ok(source.secrets()?.iter().map(|secret| digest(secret.expose_secret().as_bytes())).collect())
}

impl SecretSource {
    /// The secrets in the order in which they stand there.
    ///
    /// # Errors
    /// [`ConfigError`] when there is none, or one that cannot stand in a header.
    pub fn secrets(&self) -> Result<Vec<SecretString>, ConfigError> {
        let (name, text) = match self {
            Self::Value(value) => ("--edge-secret (or LATCHKEY_EDGE_SECRET)".to_owned(), value.clone()),
            Self::File(path) => (
                format!("--edge-secret-file: the file {}", path.display()),
                read_secret_file("--edge-secret-file", path)?,
            ),
        };
        let lines = text.expose_secret().lines().map(str::trim);
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        if !lines.iter().all(|line| line.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(ConfigError::Invalid(format!(
                "{name} holds a secret that cannot be sent in a header: use printable ASCII characters without spaces."
            )));
        }
        if lines.is_empty() {
            return Err(ConfigError::Invalid(format!(
                "{name} holds no secret: write one per line, for example from `openssl rand -hex 32`."
            )));
        }
        Ok(lines.into_iter().map(SecretString::from).collect())
    }
}

fn digest(bytes: &[u8]) -> Digested {
    Digested(Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn every_line_is_accepted_and_nothing_else() {
        let (_folder, path) = file("# old\nfirst-secret\n\n  second-secret\r\n");
        let secrets = EdgeSecrets::load(SecretSource::File(path)).unwrap();
        for good in ["first-secret", "second-secret"] {
            assert!(secrets.accept(good.as_bytes()), "{good}");
        }
        for bad in
            ["", "# old", "first-secre", "first-secret ", "first-secret\nsecond-secret", "FIRST-SECRET"]
        {
            assert!(!secrets.accept(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn a_changed_file_changes_what_is_accepted_and_a_broken_one_does_not() {
        let (_folder, path) = file("old\n");
        let secrets = EdgeSecrets::load(SecretSource::File(path.clone())).unwrap();
        let shared = secrets.clone();
        std::fs::write(&path, "old\nnew\n").unwrap();
        assert!(secrets.reload().unwrap());
        assert!(shared.accept(b"old") && shared.accept(b"new"));
        std::fs::write(&path, "").unwrap();
        assert!(secrets.reload().is_err());
        assert!(shared.accept(b"new"));
        std::fs::write(&path, "new\n").unwrap();
        assert!(secrets.reload().unwrap());
        assert!(!shared.accept(b"old"));
        assert!(!secrets.reload().unwrap());
    }

    #[test]
    fn a_secret_that_no_header_can_carry_is_refused() {
        let (_folder, path) = file("two words\n");
        assert!(matches!(EdgeSecrets::load(SecretSource::File(path)), Err(ConfigError::Invalid(_))));
        assert!(EdgeSecrets::load(SecretSource::Value("".into())).is_err());
    }
}
