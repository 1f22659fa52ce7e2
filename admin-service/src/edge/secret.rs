//! The edge secret: what a filter must present, from a value or a file that may change while the service runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::unauthorized::Unauthorized;
use crate::config::{ConfigError, read_secret_file};
use crate::domain::invisible::{Invisible, without_mark};
use crate::lifecycle::{Shutdown, hangups};

/// The fewest bytes of a secret. `openssl rand -hex 32` makes 64.
pub const SHORTEST: usize = 16;
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
    unauthorized: Unauthorized,
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
        Ok(Self { source, accepted, unauthorized: Unauthorized::default() })
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

    /// What notes the calls that come without one of them.
    #[must_use]
    pub fn unauthorized(&self) -> &Unauthorized {
        &self.unauthorized
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
        let lines = without_mark(text.expose_secret()).lines().map(str::trim);
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        if !lines.iter().all(|line| line.bytes().all(|byte| byte.is_ascii_graphic())) {
            let found = lines.iter().find_map(|line| Invisible::first_in(line));
            let found = found.map(|found| format!("; one has {found}")).unwrap_or_default();
            return Err(ConfigError::Invalid(format!(
                "{name} holds a secret that cannot be sent in a header: use printable ASCII characters without spaces{found}."
            )));
        }
        if lines.is_empty() {
            return Err(ConfigError::Invalid(format!(
                "{name} holds no secret: write one per line, for example from `openssl rand -hex 32`."
            )));
        }
        if let Some((n, line)) = (1..).zip(&lines).find(|(_, line)| line.len() < SHORTEST) {
            return Err(ConfigError::Invalid(format!(
                "{name}: secret {n} of {} has {} bytes, and at least {SHORTEST} are needed; make one with `openssl rand -hex 32`.",
                lines.len(),
                line.len()
            )));
        }
        Ok(lines.into_iter().map(SecretString::from).collect())
    }
}

/// What others than its owner may do with a file of secrets, as a sentence; `None`: nothing, or nobody knows.
#[cfg(unix)]
#[must_use]
pub fn exposure(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let may = match mode & 0o006 {
        0 => return None,
        0o004 => "read",
        0o002 => "change",
        _ => "read or change",
    };
    Some(format!("everybody on this machine can {may} {} (mode {mode:o})", path.display()))
}

/// Other systems have other ways.
#[cfg(not(unix))]
#[must_use]
pub fn exposure(_: &Path) -> Option<String> {
    None
}

/// What to do about it.
#[must_use]
pub fn cover(path: &Path) -> String {
    format!("chmod 600 {}; in Kubernetes, defaultMode: 0400 of the volume", path.display())
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
        let (_folder, path) = file("# old\nfirst-edge-secret\n\n  second-edge-secret\r\n");
        let secrets = EdgeSecrets::load(SecretSource::File(path)).unwrap();
        for good in ["first-edge-secret", "second-edge-secret"] {
            assert!(secrets.accept(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "# old",
            "first-edge-secre",
            "first-edge-secret ",
            "first-edge-secret\nsecond-edge-secret",
            "FIRST-EDGE-SECRET",
        ] {
            assert!(!secrets.accept(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_secret() {
        let (_folder, path) = file("\u{feff}the-first-edge-secret\n");
        assert!(EdgeSecrets::load(SecretSource::File(path)).unwrap().accept(b"the-first-edge-secret"));
        assert!(
            EdgeSecrets::load(SecretSource::Value("\u{feff}another-edge-secret".into()))
                .unwrap()
                .accept(b"another-edge-secret")
        );
    }

    #[test]
    fn a_changed_file_changes_what_is_accepted_and_a_broken_one_does_not() {
        let (old, new) = ("an-old-edge-secret", "a-new-edge-secret");
        let (_folder, path) = file(&format!("{old}\n"));
        let secrets = EdgeSecrets::load(SecretSource::File(path.clone())).unwrap();
        let shared = secrets.clone();
        std::fs::write(&path, format!("{old}\n{new}\n")).unwrap();
        assert!(secrets.reload().unwrap());
        assert!(shared.accept(old.as_bytes()) && shared.accept(new.as_bytes()));
        for unusable in ["", "abc\n"] {
            std::fs::write(&path, unusable).unwrap();
            assert!(secrets.reload().is_err());
        }
        std::fs::write(&path, "").unwrap();
        assert!(secrets.reload().is_err());
        assert!(shared.accept(new.as_bytes()));
        std::fs::write(&path, format!("{new}\n")).unwrap();
        assert!(secrets.reload().unwrap());
        assert!(!shared.accept(old.as_bytes()));
        assert!(!secrets.reload().unwrap());
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused_and_what_to_do_is_said_and_it_is_not_shown() {
        for (short, which) in
            [("fifteen-bytes-1", "1 of 1 has 15"), ("a-long-edge-secret\nabc", "2 of 2 has 3")]
        {
            let (_folder, path) = file(short);
            let refused = EdgeSecrets::load(SecretSource::File(path)).err().unwrap().to_string();
            assert!(refused.contains(which) && refused.contains("openssl rand -hex 32"), "{refused}");
            assert!(!refused.contains("fifteen") && !refused.contains("abc"), "{refused}");
        }
        assert!(EdgeSecrets::load(SecretSource::Value("sixteen-bytes-16".into())).is_ok());
    }

    #[test]
    fn what_others_may_do_with_a_file_is_told_for_what_it_is() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, path) = file("an-edge-secret-of-one\n");
        for (mode, told) in
            [(0o600, None), (0o640, None), (0o644, Some("can read /")), (0o606, Some("can read or change /"))]
        {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let exposed = exposure(&path);
            assert_eq!(exposed.is_some(), told.is_some(), "{mode:o}");
            assert!(exposed.unwrap_or_default().contains(told.unwrap_or_default()), "{mode:o}");
        }
    }

    #[test]
    fn a_secret_that_no_header_can_carry_is_refused() {
        let (_folder, path) = file("two words\n");
        assert!(matches!(EdgeSecrets::load(SecretSource::File(path)), Err(ConfigError::Invalid(_))));
        let (_folder, path) = file("good\nse\u{200b}cret\n");
        let refused = EdgeSecrets::load(SecretSource::File(path)).err().unwrap().to_string();
        assert!(refused.ends_with("; one has U+200B ZERO WIDTH SPACE at column 3."), "{refused}");
        assert!(EdgeSecrets::load(SecretSource::Value("".into())).is_err());
    }
}
