//! Which database: a SQLite file, or a PostgreSQL server.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

/// Where the database is. Neither `Debug` nor `Display` shows a password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(pub(super) Location);

/// The two kinds of database.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// A SQLite file, perhaps yet to be made.
    Sqlite(PathBuf),
    /// The URL of a PostgreSQL database, perhaps with a password.
    Postgres(String),
}

/// A text that names no database that Latchkey can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDatabaseUrl {
    /// It begins like neither kind.
    #[error("the database URL must begin with sqlite:// or postgres://")]
    UnknownScheme,
    /// It names no file.
    #[error(
        "the database URL must name a file, such as sqlite://latchkey.db or sqlite:///var/lib/latchkey/latchkey.db"
    )]
    NoFile,
    /// It asks for a database in memory, which would forget every token.
    #[error("the database must be a file: a database in memory would forget every token")]
    InMemory,
    /// A SQLite URL has parameters.
    #[error("the SQLite database URL takes no parameters after '?'")]
    Parameters,
    /// It is no URL of a PostgreSQL database.
    #[error("the database URL must look like postgres://user:password@host:5432/database")]
    Postgres,
}

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            return sqlite(path.strip_prefix("//").unwrap_or(path));
        }
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(InvalidDatabaseUrl::UnknownScheme);
        }
        // The driver's own errors could repeat the password.
        PgConnectOptions::from_str(text).map_err(|_| InvalidDatabaseUrl::Postgres)?;
        Ok(Self(Location::Postgres(text.to_owned())))
    }
}

/// Reads what follows `sqlite://`: a path as it is, without percent-encoding.
fn sqlite(path: &str) -> Result<DatabaseUrl, InvalidDatabaseUrl> {
    if path.contains('?') {
        return Err(InvalidDatabaseUrl::Parameters);
    }
    if path.contains(":memory:") {
        return Err(InvalidDatabaseUrl::InMemory);
    }
    if path.is_empty() || path.ends_with('/') || path.contains('\0') {
        return Err(InvalidDatabaseUrl::NoFile);
    }
    Ok(DatabaseUrl(Location::Sqlite(PathBuf::from(path))))
}

impl DatabaseUrl {
    /// The database in a SQLite file.
    #[must_use]
    pub fn sqlite_file(path: impl Into<PathBuf>) -> Self {
        Self(Location::Sqlite(path.into()))
    }

    /// Whether it names a SQLite file that is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(&self.0, Location::Sqlite(path) if !path.exists())
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Location::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Location::Postgres(url) => match PgConnectOptions::from_str(url) {
                Ok(options) => {
                    let database = options.get_database().unwrap_or_default();
                    write!(f, "postgres://{}:{}/{database}", options.get_host(), options.get_port())
                }
                Err(_) => f.write_str("postgres://…"),
            },
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_database_have_urls() {
        for (text, shown) in [
            ("sqlite://latchkey.db", "sqlite://latchkey.db"),
            ("sqlite:latchkey.db", "sqlite://latchkey.db"),
            ("sqlite:///var/lib/a b.db", "sqlite:///var/lib/a b.db"),
            ("postgres://u:hunter2@db.example:5433/latchkey", "postgres://db.example:5433/latchkey"),
            ("postgresql://u@localhost/x?password=hunter2", "postgres://localhost:5432/x"),
        ] {
            let url: DatabaseUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("DatabaseUrl({shown})"));
        }
    }

    #[test]
    fn what_is_no_database_url_is_refused_without_repeating_it() {
        for (text, error) in [
            ("mysql://u:hunter2@host/x", InvalidDatabaseUrl::UnknownScheme),
            ("latchkey.db", InvalidDatabaseUrl::UnknownScheme),
            ("sqlite://", InvalidDatabaseUrl::NoFile),
            ("sqlite:///tmp/", InvalidDatabaseUrl::NoFile),
            ("sqlite::memory:", InvalidDatabaseUrl::InMemory),
            ("sqlite://a.db?mode=ro", InvalidDatabaseUrl::Parameters),
            ("postgres://u:hunter2@host:port/x", InvalidDatabaseUrl::Postgres),
        ] {
            assert_eq!(text.parse::<DatabaseUrl>(), Err(error), "{text}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
