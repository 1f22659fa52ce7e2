//! Why a PostgreSQL server cannot be used: which one, what it says, what to do, and whether waiting helps.

use sqlx::error::DatabaseError;
use std::fmt;

use super::connector::{NoWrites, ReadOnlyRole};
use super::open_error::OpenError;
use super::postgres_url::PostgresUrl;
use super::url::{DatabaseUrl, Location};

/// A sentence for the operator. It shows no password.
#[derive(Debug)]
pub struct ServerError {
    /// Host and port, or the folder of a socket.
    server: String,
    problem: String,
    advice: String,
    /// Whether it may pass by waiting: the server is not up yet, or takes no more connections now.
    pub passes: bool,
    source: Option<sqlx::Error>,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL at {} cannot be used: {}; {}", self.server, self.problem, self.advice)
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

/// What went wrong, what to do, whether it passes.
type Explained = (String, String, bool);

impl ServerError {
    /// Says of which server an error is, and what to do about it. Others than the driver's stay as they are.
    pub(super) fn explain(error: OpenError, url: &DatabaseUrl) -> OpenError {
        let Location::Postgres(url) = &url.0 else { return error };
        let server = url.servers();
        let ((problem, advice, passes), source) = match error {
            OpenError::TimedOut(patience) => (silent(format!("it did not answer within {patience:?}")), None),
            OpenError::Database(source) | OpenError::Damaged(source) => (explain(&source, url), Some(source)),
            other => return other,
        };
        OpenError::Server(Box::new(Self { server, problem, advice, passes, source }))
    }
}

impl From<NoWrites> for ServerError {
    fn from(NoWrites { server, role }: NoWrites) -> Self {
        let advice = match role {
            ReadOnlyRole::Standby => {
                "name the primary in the database URL, or all servers as in postgres://user@host1,host2/database"
            }
            ReadOnlyRole::ReadOnly => {
                "set default_transaction_read_only = off, or name another server in the database URL"
            }
        };
        Self {
            server,
            problem: format!("it is {role}"),
            advice: advice.to_owned(),
            passes: true,
            source: None,
        }
    }
}

fn silent(problem: String) -> Explained {
    (problem, "check that it runs, and that host and port of the database URL are right".to_owned(), true)
}

fn explain(error: &sqlx::Error, url: &PostgresUrl) -> Explained {
    match error {
        sqlx::Error::Database(said) => refused(said.as_ref(), url),
        sqlx::Error::Io(reason) => silent(reason.to_string()),
        sqlx::Error::Tls(reason) => (
            format!("the connection cannot be encrypted ({reason})"),
            "check sslmode and sslrootcert of the database URL".to_owned(),
            false,
        ),
        other => (other.to_string(), "check the database URL".to_owned(), false),
    }
}

/// What the server says, by its SQLSTATE.
fn refused(said: &dyn DatabaseError, url: &PostgresUrl) -> Explained {
    let message = said.message().to_owned();
    // Where the URL names none, it is the user of the operating system's name.
    let user = url.user.as_deref().unwrap_or("latchkey");
    let database = identifier(url.database.as_deref().unwrap_or(user));
    let user = identifier(user);
    let code = said.code().unwrap_or_default();
    let (advice, passes) = match code.as_ref() {
        "28P01" | "28000" => {
            ("check user and password of the database URL, and pg_hba.conf of the server".to_owned(), false)
        }
        "3D000" => (
            format!("create it as an administrator of the server: CREATE DATABASE {database} OWNER {user};"),
            false,
        ),
        "42501" => (
            format!(
                "allow it as the owner of {database}, in that database: GRANT CREATE ON SCHEMA public TO {user};"
            ),
            false,
        ),
        // Starting or ending, out of connections, or lost on the way.
        "57P01" | "57P02" | "57P03" | "53300" => ("it should pass by itself".to_owned(), true),
        "08P01" if message.contains("extra_float_digits") => (
            "this is PgBouncer: set ignore_startup_parameters = extra_float_digits in pgbouncer.ini, and pool_mode = session"
                .to_owned(),
            false,
        ),
        lost if lost.starts_with("08") => ("it should pass by itself".to_owned(), true),
        other => {
            (format!("its SQLSTATE is {other}, which PostgreSQL's manual explains in appendix A"), false)
        }
    };
    (message, advice, passes)
}

/// A name as SQL takes it.
fn identifier(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    if name.bytes().all(|byte| plain(byte) || byte.is_ascii_digit()) && name.bytes().next().is_some_and(plain)
    {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_where_sql_would_read_another() {
        assert_eq!(identifier("latchkey_1"), "latchkey_1");
        assert_eq!(identifier("Latch-\"key"), "\"Latch-\"\"key\"");
        assert_eq!(identifier("1st"), "\"1st\"");
    }
}
