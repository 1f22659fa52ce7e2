//! What `latchkey` is told by flags and `LATCHKEY_*` variables, checked once into what the rest uses.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use latchkey::token::TokenPrefix;
use secrecy::{ExposeSecret, SecretString};

use crate::attempts;
use crate::changes;
use crate::domain::invisible::without_mark;
use crate::domain::period::Period;
use crate::edge::secret::{EdgeSecrets, SecretSource};
use crate::server::TrustedProxies;
use crate::store::{DatabaseUrl, StoreOptions};

mod parse;

pub(crate) use parse::public_url;
use parse::{address, max_changes, retention};

/// The database where neither flag nor variable names one.
pub const DEFAULT_DATABASE_URL: &str = "sqlite://latchkey.db";
/// The largest secret file that is read, in bytes.
const MAX_SECRET_FILE: u64 = 64 * 1024;

/// Settings that cannot be: each message is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A secret file is not there, or may not be read.
    #[error("{flag}: the file {} cannot be read: {reason}.", path.display())]
    Unreadable {
        /// The flag that named the file.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// A value, or a file's content, that is not allowed.
    #[error("{0}")]
    Invalid(String),
}

/// Where the database is.
#[derive(Args, Clone)]
pub struct DatabaseArgs {
    /// The database's URL.
    #[arg(
        long,
        help = "The database: sqlite://<file>, or postgres://<user>:<password>@<host>/<name> \
        [default: sqlite://latchkey.db]",
        env = "LATCHKEY_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: Option<SecretString>,

    /// A file that holds the database URL, for one with a password in it
    #[arg(long, env = "LATCHKEY_DATABASE_URL_FILE", value_name = "FILE", conflicts_with = "database_url")]
    pub database_url_file: Option<PathBuf>,
}

impl DatabaseArgs {
    /// The database that the flag, the variable or the file names.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read, or its text or the URL is none.
    pub fn url(&self) -> Result<DatabaseUrl, ConfigError> {
        let (name, text) = match (&self.database_url_file, &self.database_url) {
            (Some(path), _) => {
                let name = format!("--database-url-file: the file {}", path.display());
                (name, read_secret_file("--database-url-file", path)?)
            }
            (None, Some(url)) => ("--database-url (or LATCHKEY_DATABASE_URL)".to_owned(), url.clone()),
            (None, None) => ("the default".to_owned(), DEFAULT_DATABASE_URL.into()),
        };
        match text.expose_secret().trim() {
            "" => Err(ConfigError::Invalid(format!("{name} is empty."))),
            url => url
                .parse()
                .map_err(|problem| ConfigError::Invalid(format!("{name} cannot be used: {problem}."))),
        }
    }
}

/// What new tokens begin with.
#[derive(Args, Clone)]
pub struct PrefixArgs {
    /// What new tokens begin with: 2 to 16 characters of a-z and 0-9. The filter's `token_prefix` must be the same
    #[arg(long, env = "LATCHKEY_TOKEN_PREFIX", value_name = "PREFIX", default_value = "lk")]
    pub token_prefix: TokenPrefix,
}

/// How log lines are written.
#[derive(Args, Clone)]
pub struct LogArgs {
    /// How log lines look on stderr
    #[arg(long, env = "LATCHKEY_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace; also by part, as in "info,latchkey::request=debug"
    #[arg(long, env = "LATCHKEY_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
}

/// The shapes of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The flags of `latchkey serve`.
#[derive(Args, Clone)]
pub struct ServeArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,

    /// How long to wait for a PostgreSQL server that is not up yet, as in 60s; 0s: not at all
    #[arg(long, env = "LATCHKEY_DATABASE_WAIT", value_name = "PERIOD", default_value = "60s")]
    pub(crate) database_wait: Period,

    /// Refuse to start where there is no database yet, rather than make one: set it once the first one is made, and a volume that is not
    /// mounted or a wrong path is noticed at once
    #[arg(long, env = "LATCHKEY_DATABASE_MUST_EXIST")]
    pub(crate) database_must_exist: bool,

    /// Where the management API listens
    #[arg(long, env = "LATCHKEY_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8100", value_parser = address)]
    pub(crate) listen: SocketAddr,

    /// Where filters ask for verdicts. Without an edge secret this must be a loopback address
    #[arg(long, env = "LATCHKEY_EDGE_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8101", value_parser = address)]
    pub(crate) edge_listen: SocketAddr,

    /// Where /metrics, /livez and /readyz answer
    #[arg(long, env = "LATCHKEY_METRICS_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8102", value_parser = address)]
    pub(crate) metrics_listen: SocketAddr,

    #[command(flatten)]
    pub(crate) prefix: PrefixArgs,

    /// The secret that filters must present. Prefer --edge-secret-file or the variable: others can see command lines
    #[arg(long, env = "LATCHKEY_EDGE_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub(crate) edge_secret: Option<SecretString>,

    /// A file with one edge secret per line, each of them accepted; it is read again when it changes
    #[arg(long, env = "LATCHKEY_EDGE_SECRET_FILE", value_name = "FILE", conflicts_with = "edge_secret")]
    pub(crate) edge_secret_file: Option<PathBuf>,

    /// How many failed authentications of one address are allowed within a minute, before they get 429; 0: any number
    #[arg(long, env = "LATCHKEY_MAX_FAILED_ATTEMPTS", value_name = "NUMBER", default_value_t = attempts::MOST)]
    pub(crate) max_failed_attempts: u32,
    /// How many changes a user without latchkey:admin may make at once, and within a minute afterwards, before it gets 429; revocations
    /// do not count. 0 or off: any number
    #[arg(long, env = "LATCHKEY_MAX_CHANGES", value_name = "NUMBER", default_value_t = changes::DEFAULT_LIMIT, value_parser = max_changes)]
    pub(crate) max_changes: u32,

    /// The proxies before the management API, as in 10.0.0.0/8,2001:db8::1: their X-Forwarded-For says where clients are
    #[arg(long, env = "LATCHKEY_TRUSTED_PROXIES", value_name = "CIDR,…")]
    pub(crate) trusted_proxies: Option<TrustedProxies>,

    /// Let the operating system write core files and let debuggers attach: both show tokens and secrets
    #[arg(long, env = "LATCHKEY_ALLOW_CORE_DUMPS")]
    pub(crate) allow_core_dumps: bool,

    /// How long the audit log is kept, as in 400d, at least 1s; or "forever"
    #[arg(long, env = "LATCHKEY_AUDIT_RETENTION", value_name = "PERIOD", default_value = "400d", value_parser = retention)]
    pub(crate) audit_retention: Retention,

    /// How users reach the management API.
    #[arg(long, help = "How users reach the management API, for the links in answers, as in \
        https://tokens.example.com [default: the address of --listen, or where that is 0.0.0.0 or :: the host that a request is sent to]", env = "LATCHKEY_PUBLIC_URL", value_name = "URL", value_parser = public_url)]
    pub(crate) public_url: Option<String>,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// How long something is kept; `None`: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retention(Option<Period>);

/// What `serve` runs with: every value checked.
pub struct Config {
    /// The database.
    pub database_url: DatabaseUrl,
    /// How long it is waited for a server that is not up yet.
    pub database_wait: Duration,
    /// Whether a database that is not there yet is refused, and not made.
    pub database_must_exist: bool,
    /// How long a call waits for a connection to the database, and again for its response.
    pub database_timeout: Duration,
    /// The management API's address.
    pub listen: SocketAddr,
    /// The edge API's address.
    pub edge_listen: SocketAddr,
    /// The address of metrics and probes.
    pub metrics_listen: SocketAddr,
    /// What new tokens begin with.
    pub token_prefix: TokenPrefix,
    /// Where the edge secrets come from, and what they are now; `None`: none is asked for.
    pub edge_secrets: Option<EdgeSecrets>,
    /// How many failed authentications of one source are allowed within a minute; 0: any number.
    pub max_failed_attempts: u32,
    /// How many changes a user without `latchkey:admin` may make at once, and within a minute; 0: any number.
    pub max_changes: u32,
    /// The proxies before the management API.
    pub trusted_proxies: TrustedProxies,
    /// How long the audit log is kept; `None`: for ever.
    pub audit_retention: Option<Period>,
    /// What links in answers begin with, without a final slash; `None`: where it listens, or if that is any
    /// address, the host that a request is sent to.
    pub public_url: Option<String>,
}

impl ServeArgs {
    /// Where the edge secrets come from, if there are any.
    pub(crate) fn secret_source(&self) -> Option<SecretSource> {
        let value = || self.edge_secret.clone().map(SecretSource::Value);
        self.edge_secret_file.clone().map(SecretSource::File).or_else(value)
    }

    /// Refuses to listen for edges beyond this machine without a secret.
    pub(crate) fn edge_listen_is_safe(&self) -> Result<(), ConfigError> {
        if self.secret_source().is_some() || self.edge_listen.ip().is_loopback() {
            return Ok(());
        }
        Err(ConfigError::Invalid(format!(
            "--edge-listen {} is no loopback address, which needs an edge secret: \
             give --edge-secret-file, or listen on 127.0.0.1.",
            self.edge_listen
        )))
    }

    /// Reads the secrets and checks what the parser alone cannot.
    ///
    /// # Errors
    /// [`ConfigError`], for a person to act on.
    pub fn check(self) -> Result<Config, ConfigError> {
        let edge_secrets = self.secret_source().map(EdgeSecrets::load).transpose()?;
        self.edge_listen_is_safe()?;
        Ok(Config {
            database_url: self.database.url()?,
            database_wait: self.database_wait.into(),
            database_must_exist: self.database_must_exist,
            database_timeout: StoreOptions::default().patience,
            listen: self.listen,
            edge_listen: self.edge_listen,
            metrics_listen: self.metrics_listen,
            token_prefix: self.prefix.token_prefix,
            edge_secrets,
            max_failed_attempts: self.max_failed_attempts,
            max_changes: self.max_changes,
            trusted_proxies: self.trusted_proxies.unwrap_or_default(),
            audit_retention: self.audit_retention.0,
            public_url: self.public_url,
        })
    }
}

impl fmt::Debug for Config {
    /// Addresses only: the rest is secret, or of no use in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("edge_listen", &self.edge_listen)
            .field("metrics_listen", &self.metrics_listen)
            .finish_non_exhaustive()
    }
}

/// Reads a small file whose contents are secret.
///
/// # Errors
/// [`ConfigError`] when it cannot be read or is too large to be a secret.
pub fn read_secret_file(flag: &'static str, path: &Path) -> Result<SecretString, ConfigError> {
    let read = || {
        let mut text = String::new();
        File::open(path)?.take(MAX_SECRET_FILE + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|reason| ConfigError::Unreadable { flag, path: path.to_owned(), reason })?;
    if text.len() as u64 > MAX_SECRET_FILE {
        let path = path.display();
        return Err(ConfigError::Invalid(format!(
            "{flag}: the file {path} is larger than {MAX_SECRET_FILE} bytes."
        )));
    }
    Ok(without_mark(&text).into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn parse(flags: &[&str]) -> ServeArgs {
        Flags::try_parse_from([&["test"], flags].concat()).map(|flags| flags.serve).unwrap()
    }

    #[test]
    fn the_defaults_are_the_contracts() {
        let config = parse(&[]).check().unwrap();
        assert_eq!(config.database_url.to_string(), "sqlite://latchkey.db");
        let listen =
            [config.listen, config.edge_listen, config.metrics_listen].map(|address| address.to_string());
        assert_eq!(listen, ["127.0.0.1:8100", "127.0.0.1:8101", "127.0.0.1:8102"]);
        assert_eq!(config.token_prefix.as_str(), "lk");
        assert!(config.edge_secrets.is_none());
        assert_eq!(config.audit_retention, Some(Period::from_days(400)));
    }

    #[test]
    fn an_edge_listener_beyond_loopback_needs_a_secret() {
        let refused = parse(&["--edge-listen", "0.0.0.0:8101"]).check().unwrap_err();
        assert!(refused.to_string().contains("--edge-secret-file"), "{refused}");
        assert!(
            parse(&["--edge-listen", "0.0.0.0:8101", "--edge-secret", "an-edge-secret-of-one"])
                .check()
                .is_ok()
        );
        assert!(parse(&["--edge-listen", "[::1]:8101"]).check().is_ok());
    }

    #[test]
    fn a_missing_an_empty_and_a_huge_secret_file_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let refusal = |path: &Path| {
            parse(&["--edge-secret-file", path.to_str().unwrap()]).check().unwrap_err().to_string()
        };
        assert!(refusal(&path).contains("cannot be read"));
        std::fs::write(&path, "# a comment\n\n").unwrap();
        assert!(refusal(&path).contains("holds no secret"), "{}", refusal(&path));
        std::fs::write(&path, "x".repeat(70_000)).unwrap();
        assert!(refusal(&path).contains("larger than"));
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let config =
            parse(&["--edge-secret", "marked-edge-secret", "--database-url", "postgres://u:marked@h/d"])
                .check()
                .unwrap();
        assert!(!format!("{config:?}").contains("marked"));
    }
}
