//! PgBouncer before the database: in session mode everything works, and in transaction mode, which keeps neither prepared statements
//! nor settings, it is refused by name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use latchkey_admin::clock::Sources;
use latchkey_admin::domain::token::Expiry;
use latchkey_admin::store::{DatabaseUrl, OpenError, Store, StoreOptions};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};

use crate::postgres::{Cluster, user_command};
use crate::support::{Fixture, eventually, name, new_token, origin};

/// A running PgBouncer, which ends with the test.
struct Bouncer {
    process: Child,
    port: u16,
    folder: PathBuf,
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn program() -> Option<PathBuf> {
    let found = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.is_file());
    if found.is_none() {
        println!("SKIPPED: pgbouncer is not installed (Debian, Ubuntu: sudo apt-get install pgbouncer)");
    }
    found
}

impl Bouncer {
    async fn start(program: &Path, cluster: &Cluster, mode: &str, more: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = cluster.folder().join(format!("pgbouncer-{mode}"));
        fs::create_dir(&folder).unwrap();
        let file = folder.join("pgbouncer.ini");
        let settings = format!(
            "[databases]\n* = host={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {mode}\ndefault_pool_size = 12\n{more}\n",
            cluster.folder().display()
        )
        .replace("* = host", "* = user=latchkey host");
        fs::write(&file, settings).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let process = user_command(program).arg(&file).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let bouncer = Self { process, port, folder };
        eventually("PgBouncer's port", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        bouncer
    }

    fn url(&self, direct: &str) -> String {
        let database = direct.rsplit('/').find(|part| part.starts_with("latchkey_")).unwrap();
        format!("postgres://latchkey@127.0.0.1:{}/{}", self.port, database.split('?').next().unwrap())
    }
}

const PARAMETERS: &str = "ignore_startup_parameters = extra_float_digits";

async fn open(url: &str) -> Result<Store, OpenError> {
    Store::open(&url.parse::<DatabaseUrl>().unwrap(), StoreOptions::default(), Sources::system()).await
}

/// The database's name in a URL with a socket's folder in its parameters.
fn database_of(cluster: &Cluster) -> (String, String) {
    let direct = cluster.database();
    let name = direct.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
    (direct, name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_pgbouncer_in_session_mode_everything_works_at_once() {
    let Some(program) = program() else { return };
    let cluster = Cluster::start(false);
    let (_, database) = database_of(&cluster);
    let bouncer = Bouncer::start(&program, &cluster, "session", PARAMETERS).await;
    let url = bouncer.url(&format!("/{database}"));
    let db = Fixture::on(url.parse().unwrap(), url, None).await;
    db.user("alice").await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = db.store.clone();
        tasks.spawn(async move {
            let token =
                store.create_token(&origin(), &name("alice"), &new_token(Expiry::Latest)).await.unwrap();
            store.verify(token.hash).await.unwrap();
            store.revoke_token(&origin(), token.id).await.unwrap();
            store.verify(token.hash).await.unwrap();
            store.position().await.unwrap();
        });
    }
    tasks.join_all().await;
    assert_eq!(db.number("SELECT COUNT(*) FROM tokens WHERE revoked_at IS NOT NULL").await, 8);
    assert_eq!(db.revision().await, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgbouncer_in_transaction_mode_is_refused_by_name_and_nothing_is_made() {
    let Some(program) = program() else { return };
    let cluster = Cluster::start(false);
    let (_, database) = database_of(&cluster);
    let bouncer = Bouncer::start(&program, &cluster, "transaction", PARAMETERS).await;
    let url = bouncer.url(&format!("/{database}"));
    for opened in [
        open(&url).await.map(|_| ()),
        Store::examine(&url.parse().unwrap(), StoreOptions::default(), Sources::system()).await.map(|_| ()),
    ] {
        let error = opened.unwrap_err();
        assert!(matches!(error, OpenError::TransactionPooler(_)), "{error}");
        assert!(error.to_string().contains("pool_mode = session"), "{error}");
    }
    assert_eq!(cluster.sql(&database, "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pgbouncer_that_knows_no_extra_float_digits_is_explained() {
    let Some(program) = program() else { return };
    let cluster = Cluster::start(false);
    let (_, database) = database_of(&cluster);
    let bouncer = Bouncer::start(&program, &cluster, "session", "").await;
    let error = open(&bouncer.url(&format!("/{database}"))).await.unwrap_err();
    assert!(error.to_string().contains("ignore_startup_parameters = extra_float_digits"), "{error}");
}

/// As on two nodes of a distributed database, each of which counts its processes for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_processes_of_one_number_are_no_pooler() {
    let cluster = Cluster::start(false);
    let (direct, database) = database_of(&cluster);
    cluster.sql(
        &database,
        "CREATE FUNCTION public.pg_backend_pid() RETURNS INTEGER LANGUAGE sql AS 'SELECT 4242'",
    );
    cluster.sql("postgres", &format!("ALTER DATABASE {database} SET search_path = public, pg_catalog"));
    assert_eq!(cluster.sql(&database, "SELECT pg_backend_pid()"), "4242");
    let store = open(&direct).await.unwrap();
    assert_eq!(store.position().await.unwrap().revision.0, 0);
    store.close().await;
    Store::examine(&direct.parse().unwrap(), StoreOptions::default(), Sources::system()).await.unwrap();
}

/// Beside others, whose transactions come between, so that it is not always the same server that is given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgbouncer_in_transaction_mode_is_refused_beside_other_clients_too() {
    let Some(program) = program() else { return };
    let cluster = Cluster::start(false);
    let (_, database) = database_of(&cluster);
    let bouncer = Bouncer::start(&program, &cluster, "transaction", PARAMETERS).await;
    let url = bouncer.url(&format!("/{database}"));
    sqlx::any::install_default_drivers();
    let mut others = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut other = AnyConnection::connect(&url).await.unwrap();
        others.spawn(async move {
            loop {
                other.execute(AssertSqlSafe("SELECT pg_sleep(0.001)".to_owned())).await.unwrap();
            }
        });
    }
    for _ in 0..10 {
        let error = open(&url).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, OpenError::TransactionPooler(_)), "{error}");
    }
    assert!(others.try_join_next().is_none(), "the others still work");
    others.shutdown().await;
    assert_eq!(cluster.sql(&database, "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
}
