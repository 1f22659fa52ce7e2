//! A store on a database of its own, a clock that the test moves, and a look at every row.

use std::sync::Arc;
use std::time::Duration;

use latchkey::token::{Secret, TokenHash, TokenPrefix};
use latchkey::wire::{DeniedToken, RefusalReason};
use latchkey_admin::clock::{Clock, ManualClock, OsEntropy, Sources};
use latchkey_admin::domain::audit::{Actor, Origin};
use latchkey_admin::domain::changes::Position;
use latchkey_admin::domain::page::PageRequest;
use latchkey_admin::domain::scope::Scopes;
use latchkey_admin::domain::time::Timestamp;
use latchkey_admin::domain::token::{Expiry, Networks, NewToken, Token, TokenSpec};
use latchkey_admin::domain::token_search::TokenFilter;
use latchkey_admin::domain::user::{NewUser, User, UserName};
use latchkey_admin::domain::verdict::Outcome;
use latchkey_admin::store::{DatabaseUrl, Store, StoreError, StoreOptions};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};
use tokio::sync::Mutex;

use crate::postgres;

/// Makes a test of each function for each database.
macro_rules! on_both_databases {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::support::Fixture::sqlite().await).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::support::Fixture::postgres().await).await;
            })*
        }
    };
}
pub(crate) use on_both_databases;

/// Every table with what the store keeps.
const TABLES: [&str; 10] = [
    "history",
    "users",
    "tokens",
    "changes",
    "edges",
    "usage_hours",
    "restrictions",
    "audit",
    "leases",
    "jobs",
];

pub struct Fixture {
    pub store: Store,
    pub clock: Arc<ManualClock>,
    pub url: DatabaseUrl,
    /// As sqlx's driver names the database.
    raw: String,
    /// A connection beside the store, for looking at rows.
    beside: Mutex<Option<AnyConnection>>,
    _folder: Option<tempfile::TempDir>,
}

impl Fixture {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latchkey.db");
        let raw = format!("sqlite://{}", path.display());
        Self::on(DatabaseUrl::sqlite_file(path), raw, Some(folder)).await
    }

    pub async fn postgres() -> Self {
        let url = postgres::shared().database();
        Self::on(url.parse().unwrap(), url, None).await
    }

    pub async fn on(url: DatabaseUrl, raw: String, folder: Option<tempfile::TempDir>) -> Self {
        let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        let store = open(&url, &clock, patient()).await;
        let db = Self { store, clock, url, raw, beside: Mutex::new(None), _folder: folder };
        db.note_bootstrapped(true).await;
        db
    }

    /// Whether there ever was an administrator, as the database has it. Tests that need none begin as if there had been one.
    pub async fn note_bootstrapped(&self, bootstrapped: bool) {
        let mut connection = self.connection().await;
        let text = format!("UPDATE history SET bootstrapped = {}", i32::from(bootstrapped));
        sqlx::query(AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Another store on the same database, with connections of its own, as a second process has.
    pub async fn second_store(&self) -> Store {
        open(&self.url, &self.clock, patient()).await
    }

    /// Another store, which reaches the database by another way.
    pub async fn store_at(&self, url: &DatabaseUrl) -> Store {
        open(url, &self.clock, StoreOptions::default()).await
    }

    /// Another store that gives up soon.
    pub async fn impatient_store(&self, patience: Duration) -> Store {
        open(&self.url, &self.clock, StoreOptions { patience, ..patient() }).await
    }

    /// Deletes all expired tokens of a user, and says how many there were.
    pub async fn delete_expired(&self, user: &str) -> u64 {
        let done =
            self.store.delete_expired_of_user(&origin(), &name(user), None, Duration::MAX).await.unwrap();
        assert!(!done.more, "some are left");
        done.deleted
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A connection beside the store.
    pub async fn connection(&self) -> AnyConnection {
        sqlx::any::install_default_drivers();
        AnyConnection::connect(&self.raw).await.unwrap()
    }

    /// Runs SQL beside the store.
    pub async fn sql(&self, sql: &str) -> Vec<AnyRow> {
        let mut beside = self.beside.lock().await;
        if beside.is_none() {
            *beside = Some(self.connection().await);
        }
        sqlx::query(AssertSqlSafe(sql)).fetch_all(beside.as_mut().unwrap()).await.unwrap()
    }

    /// Has the database tidy up after many changes, as it does by itself in time.
    pub async fn settle(&self) {
        self.sql("VACUUM").await;
        self.sql("ANALYZE").await;
    }

    /// Every row of every table, to see that nothing has changed.
    pub async fn everything(&self) -> Vec<String> {
        let mut found = Vec::new();
        for table in TABLES {
            for row in self.sql(&format!("SELECT * FROM {table}")).await {
                let values: Vec<String> =
                    (0..row.len()).map(|column| format!("{:?}", row.try_get_raw(column).unwrap())).collect();
                found.push(format!("{table}: {}", values.join(", ")));
            }
        }
        found.sort();
        found
    }

    /// The error of a call that is refused, having changed nothing.
    pub async fn refused<T: std::fmt::Debug>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> StoreError {
        let before = self.everything().await;
        let error = call.await.unwrap_err();
        assert_eq!(self.everything().await, before, "a refused call changed something: {error}");
        error
    }

    pub async fn user(&self, text: &str) -> User {
        self.store.create_user(&origin(), &NewUser::named(name(text))).await.unwrap()
    }

    pub async fn token(&self, user: &str) -> Token {
        self.store.create_token(&origin(), &name(user), &new_token(Expiry::Latest)).await.unwrap()
    }

    pub async fn token_until(&self, user: &str, end: Timestamp) -> Token {
        self.store.create_token(&origin(), &name(user), &new_token(Expiry::At(end))).await.unwrap()
    }

    /// The tokens of a user, as they were made.
    pub async fn tokens_of(&self, user: &str) -> Vec<Token> {
        let filter = TokenFilter { user: Some(name(user)), ..TokenFilter::default() };
        self.store.search_tokens(&filter, PageRequest::default()).await.unwrap().items
    }

    pub async fn outcome(&self, token: &Token) -> Outcome {
        self.store.verify(token.hash).await.unwrap().outcome
    }

    /// Why a token is denied; panics unless the verdict names it, and its user.
    pub async fn denial(&self, token: &Token) -> RefusalReason {
        let denied = DeniedToken { id: token.id.to_string(), user: token.user.to_string() };
        match self.outcome(token).await {
            Outcome::Refused(reason, Some(named)) if named == denied => reason,
            other => panic!("{other:?} does not deny {denied:?}"),
        }
    }

    pub async fn is_valid(&self, token: &Token) -> bool {
        matches!(self.outcome(token).await, Outcome::Valid(_))
    }

    pub async fn position(&self) -> Position {
        self.store.position().await.unwrap()
    }

    pub async fn revision(&self) -> u64 {
        self.store.position().await.unwrap().revision.0
    }

    /// The number in the only row and column that a statement finds.
    pub async fn number(&self, sql: &str) -> i64 {
        self.sql(sql).await[0].get(0)
    }
}

/// Notes revisions of the given numbers of tokens, from `first` on, as of a time. Those of none have no row, and
/// count all the same.
pub async fn note_changes(db: &Fixture, first: u64, touched: &[usize], at: Timestamp) {
    let bytes = |revision: u64, n: usize| {
        let hash = change_hash(revision, n).to_string();
        if db.url.to_string().starts_with("sqlite") { format!("x'{hash}'") } else { format!("'\\x{hash}'") }
    };
    for (revision, touched) in (first..).zip(touched) {
        for some in (0..*touched).collect::<Vec<_>>().chunks(5_000) {
            let at = at.as_millisecond();
            let rows = some.iter().map(|n| format!("({revision}, {}, {at})", bytes(revision, *n)));
            let rows = rows.collect::<Vec<_>>().join(", ");
            db.sql(&format!("INSERT INTO changes (revision, token_hash, at) VALUES {rows}")).await;
        }
        db.sql(&format!("UPDATE history SET revision = {revision}")).await;
    }
}

/// The hash number `n` of a revision of [`note_changes`]; they sort by their numbers.
pub fn change_hash(revision: u64, n: usize) -> TokenHash {
    format!("{revision:032x}{n:032x}").parse().unwrap()
}

/// With more patience than the service has: a busy machine makes a test slow, and fails none.
fn patient() -> StoreOptions {
    StoreOptions { patience: Duration::from_secs(60), ..StoreOptions::default() }
}

async fn open(url: &DatabaseUrl, clock: &Arc<ManualClock>, options: StoreOptions) -> Store {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    Store::open(url, options, Sources::new(clock, Arc::new(OsEntropy))).await.unwrap()
}

pub fn name(text: &str) -> UserName {
    text.parse().unwrap()
}

/// Who asks, in tests that ask for nobody in particular.
pub fn origin() -> Origin {
    Origin {
        actor: Actor::User(name("root")),
        token_id: None,
        address: Some("192.0.2.7".parse().unwrap()),
        request_id: Some("request-1".parse().unwrap()),
        client_request_id: Some("ticket-1".parse().unwrap()),
        permitted_by: None,
    }
}

/// The origin of what is asked for with a token.
pub fn by(token: &Token) -> Origin {
    Origin { actor: Actor::User(token.user.clone()), token_id: Some(token.id), ..origin() }
}

pub fn scopes(texts: &[&str]) -> Scopes {
    Scopes::new(texts.iter().map(|text| text.parse().unwrap())).unwrap()
}

pub fn networks(texts: &[&str]) -> Networks {
    Networks::parse(texts.iter().copied()).unwrap()
}

/// A token to be made, with a secret that nobody keeps.
pub fn new_token(expiry: Expiry) -> NewToken {
    token_of(TokenSpec { expiry, ..TokenSpec::named("test".parse().unwrap()) })
}

pub fn admin_token() -> NewToken {
    token_of(TokenSpec { scopes: Scopes::admin(), ..TokenSpec::named("admin".parse().unwrap()) })
}

pub fn token_of(spec: TokenSpec) -> NewToken {
    let system = Sources::system();
    let secret = Secret::generate(&TokenPrefix::default(), |buffer| system.fill(buffer)).unwrap();
    NewToken::new(spec, &secret)
}

/// Waits until a condition holds, looking again and again, for at most two minutes: a busy machine is no failure.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let held = tokio::time::timeout(Duration::from_secs(120), async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    });
    held.await.unwrap_or_else(|_| panic!("{what} did not happen within two minutes"));
}
