//! A SQLite file that is removed, moved or replaced under the store: nothing is acknowledged into it and nothing is said from it,
//! and all goes on when it is back.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use latchkey_admin::clock::Sources;
use latchkey_admin::domain::page::PageRequest;
use latchkey_admin::domain::token::Expiry;
use latchkey_admin::domain::user::NewUser;
use latchkey_admin::feed::Unanswered;
use latchkey_admin::store::{DatabaseUrl, Displaced, Failure, Store, StoreError, StoreOptions};

use crate::feed::start;
use crate::support::{Fixture, eventually, name, new_token, origin};

/// The SQLite file of a fixture.
fn path(db: &Fixture) -> PathBuf {
    PathBuf::from(db.url.to_string().strip_prefix("sqlite://").unwrap())
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", path.display()))
}

fn displaced(error: StoreError) -> Displaced {
    match error {
        StoreError::Unavailable(Failure::Displaced(displaced)) => displaced,
        StoreError::Unavailable(Failure::Shared(shared)) => match &*shared {
            StoreError::Unavailable(Failure::Displaced(displaced)) => displaced.clone(),
            other => panic!("{other}"),
        },
        other => panic!("{other}"),
    }
}

/// Everything that asks the database fails for this reason.
async fn assert_unused(store: &Store, file: &Path, token: latchkey::token::TokenHash) -> Displaced {
    let user = NewUser::named(name("lost"));
    let token_spec = new_token(Expiry::Latest);
    let errors = [
        store.create_user(&origin(), &user).await.map(|_| ()).unwrap_err(),
        store.create_token(&origin(), &name("alice"), &token_spec).await.map(|_| ()).unwrap_err(),
        store.verify(token).await.map(|_| ()).unwrap_err(),
        store.ping().await.unwrap_err(),
        store.position().await.map(|_| ()).unwrap_err(),
    ];
    let [first, ..] = errors.map(displaced).map(|displaced| {
        assert!(displaced.to_string().contains(file.to_str().unwrap()), "{displaced} is not about {file:?}");
        displaced
    });
    assert_eq!(store.displaced().as_ref(), Some(&first));
    assert_eq!(store.write_trouble(), Some("unavailable"));
    first
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_not_in_its_place_is_not_used_and_goes_on_when_it_is_back() {
    let db = Fixture::sqlite().await;
    db.user("alice").await;
    let token = db.token("alice").await;
    let (feed, _trigger) = start(&db.store);
    let here = db.position().await;
    let (file, log, index) = (path(&db), beside(&path(&db), "-wal"), beside(&path(&db), "-shm"));
    for (round, (moved, replaced)) in
        [&file, &log, &index].into_iter().flat_map(|it| [(it, false), (it, true)]).enumerate()
    {
        let away = beside(moved, ".away");
        // Removed, but for another name that is there already.
        fs::hard_link(moved, &away).unwrap();
        fs::remove_file(moved).unwrap();
        if replaced {
            fs::copy(&away, moved).unwrap();
        }
        let found = assert_unused(&db.store, moved, token.hash).await;
        match (moved == &file, replaced) {
            (true, false) => assert!(matches!(found, Displaced::Gone(_)), "{found:?}"),
            (true, true) => assert!(matches!(found, Displaced::Replaced(_)), "{found:?}"),
            (false, _) => assert!(matches!(found, Displaced::LogGone(_)), "{found:?}"),
        }
        eventually("those who follow are told that nothing is known", async || {
            matches!(feed.answer(Some(&here), Duration::ZERO).await, Err(Unanswered::Lost))
        })
        .await;

        fs::rename(&away, moved).unwrap();
        let user = name(&format!("user{round}"));
        db.store.create_user(&origin(), &NewUser::named(user.clone())).await.unwrap();
        assert!(db.is_valid(&token).await);
        assert_eq!((db.store.displaced(), db.store.write_trouble()), (None, None));
        eventually("those who follow go on", async || feed.answer(Some(&here), Duration::ZERO).await.is_ok())
            .await;
        assert_eq!(db.position().await, here, "a file that is back is no other history");
        assert!(db.store.user(&name("lost")).await.is_err(), "a refused change was made");
        assert_eq!(db.number("SELECT COUNT(*) FROM tokens").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_gone_and_an_empty_one_in_its_place_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let file = data.join("latchkey.db");
    let raw = format!("sqlite://{}", file.display());
    let db = Fixture::on(DatabaseUrl::sqlite_file(&file), raw, None).await;
    db.user("alice").await;
    let token = db.token("alice").await;
    let away = folder.path().join("away");
    fs::rename(&data, &away).unwrap();
    assert!(matches!(assert_unused(&db.store, &file, token.hash).await, Displaced::Gone(_)));
    fs::create_dir(&data).unwrap();
    assert!(matches!(assert_unused(&db.store, &file, token.hash).await, Displaced::Gone(_)));
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "something was made in the place of the database");
    fs::remove_dir(&data).unwrap();
    fs::rename(&away, &data).unwrap();
    assert!(db.is_valid(&token).await);
    db.token("alice").await;
}

/// However the file moves while changes are made: those that were acknowledged are in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_is_acknowledged_into_a_file_that_is_not_in_its_place() {
    let db = Fixture::sqlite().await;
    let (file, away) = (path(&db), beside(&path(&db), ".away"));
    let ended = AtomicBool::new(false);
    let (mut acknowledged, mut refused) = (BTreeSet::new(), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                // Replaced by a copy, and by nothing.
                fs::rename(&file, &away).unwrap();
                fs::copy(&away, &file).unwrap();
                fs::remove_file(&file).unwrap();
                fs::rename(&away, &file).unwrap();
                std::thread::park_timeout(Duration::from_millis(2));
            }
        });
        let runtime = tokio::runtime::Handle::current();
        let writer = async {
            for number in 0..20_000 {
                if acknowledged.len() >= 50 && refused >= 50 {
                    break;
                }
                let user = name(&format!("user{number}"));
                match db.store.create_user(&origin(), &NewUser::named(user.clone())).await {
                    Ok(_) => drop(acknowledged.insert(user.to_string())),
                    Err(_) => refused += 1,
                }
            }
        };
        tokio::task::block_in_place(|| runtime.block_on(writer));
        ended.store(true, Ordering::Relaxed);
    });
    assert!(acknowledged.len() >= 50 && refused >= 50, "{} and {refused}", acknowledged.len());
    db.store.close().await;
    let again = Store::open(&db.url, StoreOptions::default(), Sources::system()).await.unwrap();
    let mut page = PageRequest::default();
    let mut found = BTreeSet::new();
    loop {
        let users = again.users(page).await.unwrap();
        found.extend(users.items.iter().map(|user| user.name.to_string()));
        page = PageRequest { cursor: users.next_cursor, ..PageRequest::default() };
        if page.cursor.is_none() {
            break;
        }
    }
    assert!(acknowledged.is_subset(&found), "acknowledged and gone: {:?}", acknowledged.difference(&found));
}

/// What the log says to do where the log is gone for good: end the service well.
#[tokio::test]
async fn a_log_that_was_removed_is_written_back_when_the_service_ends() {
    let db = Fixture::sqlite().await;
    db.user("alice").await;
    let token = db.token("alice").await;
    for ending in ["-wal", "-shm"] {
        fs::remove_file(beside(&path(&db), ending)).unwrap();
    }
    let found = assert_unused(&db.store, &beside(&path(&db), "-wal"), token.hash).await;
    assert!(found.advice().contains("SIGTERM"));
    db.store.close().await;
    let again = Store::open(&db.url, StoreOptions::default(), Sources::system()).await.unwrap();
    assert_eq!(again.token(token.id).await.unwrap(), token);
}
