//! Databases that the service must not touch: newer, damaged, another product's. It says why in one sentence, ends with
//! exit code 1, and leaves them as they were.

use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::database::Database;
use crate::support::postgres;
use crate::support::service::program;
use crate::support::{Service, test_dir};

const NEWER: &str = "INSERT INTO latchkey_migrations (version, description, success, checksum, execution_time) \
    VALUES (9999, 'from the future', true, 'x', 0)";
const FOREIGN: &str = "CREATE TABLE recipes (name TEXT)";

/// Runs a command of the program on a database, to its end.
fn refuse(command: &str, url: &str, because: &str) {
    let mut run = program();
    run.args([command, "--database-url", url]);
    if command == "serve" {
        run.args([
            "--listen",
            "127.0.0.1:0",
            "--edge-listen",
            "127.0.0.1:0",
            "--metrics-listen",
            "127.0.0.1:0",
        ]);
    }
    let Output { status, stdout, stderr } = run.output().expect("the program runs");
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(1), "{command}, {url}: {said}");
    assert!(said.starts_with("latchkey: ") && said.lines().count() == 1, "not one sentence: {said}");
    assert!(said.contains(because), "{said}");
    assert!(stdout.is_empty());
}

/// A SQLite database that the service has used, and has closed.
async fn used() -> PathBuf {
    let mut service = Service::start().await;
    service.bootstrap();
    service.signal("TERM");
    assert_eq!(service.process().wait().await.code(), Some(0));
    PathBuf::from(service.database_url().trim_start_matches("sqlite://"))
}

/// The contents of all files that belong to a SQLite database.
fn contents(path: &Path) -> Vec<Option<Vec<u8>>> {
    let file = |suffix| std::fs::read(format!("{}{suffix}", path.display())).ok();
    // SQLite keeps `-shm` for as long as a database is open, and nothing of it matters afterwards.
    ["", "-wal", "-journal"].map(file).to_vec()
}

#[tokio::test]
async fn durable_a_sqlite_file_that_cannot_be_used_is_refused_and_stays_as_it_is_byte_for_byte() {
    let original = std::fs::read(used().await).expect("a database");
    let half = original[..original.len() / 2].to_vec();
    let mut scratched = original.clone();
    scratched[4096..8192].fill(0xaa);
    let mut no_header = original.clone();
    no_header[..16].fill(b'x');
    for (what, bytes, sql, because) in [
        ("newer", &original, Some(NEWER), "newer Latchkey"),
        ("foreign", &Vec::new(), Some(FOREIGN), "not Latchkey's"),
        ("cut off", &half, None, "damaged"),
        ("without a header", &no_header, None, "damaged"),
        ("scratched", &scratched, None, "damaged"),
        ("no database", &b"# Notes\n".repeat(1000), None, "damaged"),
    ] {
        let path = test_dir::file("refused", "db");
        std::fs::write(&path, bytes).expect("a file is written");
        let url = format!("sqlite://{}", path.display());
        if let Some(sql) = sql {
            let mut database = Database::open(&format!("{url}?mode=rw")).await;
            database.run(sql).await;
            database.close().await;
        }
        let before = contents(&path);
        for command in ["serve", "bootstrap"] {
            refuse(command, &url, because);
            assert!(contents(&path) == before, "{command} changed a database that is {what}");
        }
    }
}

#[tokio::test]
async fn durable_a_postgres_database_that_cannot_be_used_is_refused_and_stays_as_it_is() {
    let newer = postgres::shared().database();
    Service::on(&newer).await.bootstrap();
    let foreign = postgres::shared().database();
    let newer_still = NEWER.replace("'x'", "'x'::bytea");
    for (url, sql, because) in
        [(newer, newer_still.as_str(), "newer Latchkey"), (foreign, FOREIGN, "not Latchkey's")]
    {
        let mut database = Database::open(&url).await;
        database.run(sql).await;
        let everything = "SELECT CAST(query_to_xml('SELECT * FROM ' || table_name, true, true, '') AS TEXT) \
            FROM information_schema.tables WHERE table_schema = current_schema() ORDER BY table_name";
        let before = database.column(everything).await;
        for command in ["serve", "bootstrap"] {
            refuse(command, &url, because);
            assert_eq!(database.column(everything).await, before);
        }
    }
}
