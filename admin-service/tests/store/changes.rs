//! Reading changes: from any position, in pages of any size, all of them and in order, and never half a revision.

use latchkey::token::TokenHash;
use latchkey_admin::domain::changes::{MOST, PAGE, Position};
use latchkey_admin::domain::user::UserPatch;
use latchkey_admin::domain::verdict::{Epoch, Revision};

use crate::support::{Fixture, change_hash, name, note_changes, on_both_databases, origin};

on_both_databases![
    a_reader_that_joins_anywhere_and_pages_in_any_size_misses_nothing,
    a_revision_that_touches_more_than_a_page_comes_whole,
    a_revision_that_no_page_can_tell_of_is_a_reset,
    a_position_that_is_not_in_the_history_is_told_nothing_but_where_it_stands,
    readers_beside_many_writers_miss_nothing,
    a_change_is_announced_once_it_is_committed_and_a_refusal_is_not,
];

/// The same place in the same history.
fn at(here: &Position, revision: u64) -> Position {
    Position { revision: Revision(revision), ..here.clone() }
}

/// All token hashes after a position, read in pages.
async fn read(db: &Fixture, mut reader: Position, size: usize) -> (Vec<TokenHash>, Position) {
    let mut found = Vec::new();
    loop {
        let told = db.store.changes(&reader, size).await.unwrap();
        let page = told.page.unwrap();
        assert!(page.changes.len() <= 1 || page.token_hashes().count() <= size);
        assert!(page.changes.iter().all(|change| change.revision <= page.through));
        found.extend(page.token_hashes());
        reader.revision = page.through;
        if page.through == told.now.revision {
            return (found, reader);
        }
    }
}

async fn a_reader_that_joins_anywhere_and_pages_in_any_size_misses_nothing(db: Fixture) {
    let touched = [1, 1, 3, 0, 2, 7, 1, 0, 0, 4, 1];
    note_changes(&db, 1, &touched, db.now()).await;
    let here = db.position().await;
    for size in [1, 2, 3, 4, 5, 8, 100] {
        for join in 0..=touched.len() {
            let later = (1..).zip(touched).skip(join);
            let expected: Vec<TokenHash> =
                later.flat_map(|(revision, n)| (0..n).map(move |n| change_hash(revision, n))).collect();
            let join = at(&here, u64::try_from(join).unwrap());
            assert_eq!(read(&db, join.clone(), size).await, (expected, here.clone()), "{join:?} by {size}");
        }
    }
}

async fn a_revision_that_touches_more_than_a_page_comes_whole(db: Fixture) {
    note_changes(&db, 1, &[PAGE, 1, PAGE + 1, 1, 2], db.now()).await;
    let here = db.position().await;
    let mut pages = Vec::new();
    let mut reader = at(&here, 0);
    while reader != here {
        let page = db.store.changes(&reader, PAGE).await.unwrap().page.unwrap();
        pages.push((page.token_hashes().count(), page.through.0));
        reader.revision = page.through;
    }
    assert_eq!(pages, [(PAGE, 1), (1, 2), (PAGE + 1, 3), (3, 5)]);
}

async fn a_revision_that_no_page_can_tell_of_is_a_reset(db: Fixture) {
    note_changes(&db, 1, &[1, MOST, MOST + 1, 1], db.now()).await;
    let here = db.position().await;
    let page = async |revision| db.store.changes(&at(&here, revision), PAGE).await.unwrap().page;
    assert_eq!(page(0).await.unwrap().through, Revision(1));
    assert_eq!(page(1).await.unwrap().token_hashes().count(), MOST);
    assert_eq!(page(2).await, None);
    assert_eq!(page(3).await.unwrap().through, Revision(4));
}

async fn a_position_that_is_not_in_the_history_is_told_nothing_but_where_it_stands(db: Fixture) {
    note_changes(&db, 1, &[1, 1, 1], db.now()).await;
    db.sql("UPDATE history SET retained_after = 1").await;
    let here = db.position().await;
    let elsewhere = Position { epoch: Epoch("elsewhere".to_owned()), ..here.clone() };
    for (position, known) in [
        (at(&here, 0), false),
        (at(&here, 1), true),
        (here.clone(), true),
        (at(&here, 4), false),
        (at(&here, u64::MAX), false),
        (elsewhere, false),
    ] {
        let told = db.store.changes(&position, PAGE).await.unwrap();
        assert_eq!((told.page.is_some(), told.now), (known, here.clone()), "{position:?}");
    }
}

async fn readers_beside_many_writers_miss_nothing(db: Fixture) {
    let begin = db.position().await;
    let second = db.second_store().await;
    let mut tokens = Vec::new();
    for user in 0..4 {
        db.user(&format!("user{user}")).await;
        for _ in 0..5 {
            tokens.push(db.token(&format!("user{user}")).await);
        }
    }
    let mut writers = tokio::task::JoinSet::new();
    for (number, token) in tokens.iter().enumerate() {
        let (store, token) = (if number % 2 == 0 { db.store.clone() } else { second.clone() }, token.clone());
        writers.spawn(async move { store.revoke_token(&origin(), token.id).await.unwrap() });
    }
    let (mut reader, mut found) = (begin, Vec::new());
    while reader.revision.0 < 20 {
        let (hashes, reached) = read(&db, reader, 3).await;
        found.extend(hashes);
        reader = reached;
    }
    writers.join_all().await;
    let mut expected: Vec<TokenHash> = tokens.iter().map(|token| token.hash).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

async fn a_change_is_announced_once_it_is_committed_and_a_refusal_is_not(db: Fixture) {
    db.user("alice").await;
    let token = db.token("alice").await;
    let mut changes = db.store.history_changes();
    db.store.revoke_token(&origin(), token.id).await.unwrap();
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    // None of these alters a verdict.
    db.store.revoke_token(&origin(), token.id).await.unwrap();
    db.store.update_user(&origin(), &name("alice"), &UserPatch::default()).await.unwrap();
    db.refused(db.store.delete_user(&origin(), &name("nobody"))).await;
    assert!(!changes.has_changed().unwrap());
}
