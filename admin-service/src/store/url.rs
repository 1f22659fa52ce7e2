//! Which database: a SQLite file, or a PostgreSQL server.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::postgres_url::PostgresUrl;

/// Where the database is. Neither `Debug` nor `Display` shows a password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(pub(super) Location);

/// The two kinds of database.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// A SQLite file, perhaps yet to be made.
    Sqlite(PathBuf),
    /// A PostgreSQL database, on one server or one of several.
    Postgres(PostgresUrl),
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
    #[error(
        "the database URL must look like postgres://user:password@host:5432/database, or for several servers \
         postgres://user:password@host1:5432,host2:5432/database"
    )]
    Postgres,
    /// A user or password has a character in it that ends it.
    #[error(
        "the database URL has an @ or # after its host; in user, password and parameters write @ as %40, # as %23, / as %2F, \
         ? as %3F and % as %25"
    )]
    NotEncoded,
    /// It asks for servers that take no writes.
    #[error("the database URL asks for a standby; target_session_attrs must be read-write, primary or any")]
    SessionAttributes,
}

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            return sqlite(path.strip_prefix("//").unwrap_or(path));
        }
        let postgres = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let postgres = postgres.ok_or(InvalidDatabaseUrl::UnknownScheme)?;
        Ok(Self(Location::Postgres(PostgresUrl::parse(postgres)?)))
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
            Location::Postgres(url) => write!(f, "{url}"),
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
