//! Looking into the service's database, of either kind, and getting in its way.

use std::collections::BTreeSet;

use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, Row};

/// A connection of the test's own.
pub struct Database(AnyConnection);

impl Database {
    /// Connects to the database of a service's URL.
    pub async fn open(url: &str) -> Self {
        sqlx::any::install_default_drivers();
        Self(AnyConnection::connect(url).await.unwrap_or_else(|error| panic!("{url}: {error}")))
    }

    /// Takes leave; SQLite writes its log back into the file then.
    pub async fn close(self) {
        self.0.close().await.expect("the connection ends well");
    }

    /// Runs statements; panics if they fail.
    pub async fn run(&mut self, sql: &str) {
        let done = self.0.execute(AssertSqlSafe(sql.to_owned())).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The rows of a query whose columns are all text.
    pub async fn rows(&mut self, sql: &str) -> Vec<Vec<String>> {
        let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.0).await;
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.iter().map(|row| (0..row.len()).map(|column| row.get(column)).collect()).collect()
    }

    /// The first column of a query, which is text.
    pub async fn column(&mut self, sql: &str) -> Vec<String> {
        self.rows(sql).await.into_iter().map(|row| row.into_iter().next().expect("a column")).collect()
    }

    /// The first column of a query as a set; panics if a value comes twice.
    pub async fn set(&mut self, sql: &str) -> BTreeSet<String> {
        let column = self.column(sql).await;
        let (count, set) = (column.len(), BTreeSet::from_iter(column));
        assert_eq!(set.len(), count, "{sql}: something comes twice");
        set
    }

    /// A query's one number.
    pub async fn number(&mut self, sql: &str) -> i64 {
        let row = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_one(&mut self.0).await;
        row.unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
    }
}
