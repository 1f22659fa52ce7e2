//! New epochs: made when asked for, or once by whoever notices that revisions were lost.

use latchkey_admin::domain::changes::{PAGE, Position};
use latchkey_admin::domain::verdict::{Epoch, Revision};

use sqlx::Row;

use crate::support::{Fixture, note_changes, on_both_databases};

on_both_databases![
    a_new_epoch_goes_on_from_the_same_revision_and_knows_nothing_before_it,
    of_many_who_notice_a_loss_one_makes_the_new_epoch,
    what_is_left_of_lost_revisions_stands_in_nobodys_way,
];

async fn a_new_epoch_goes_on_from_the_same_revision_and_knows_nothing_before_it(db: Fixture) {
    note_changes(&db, 1, &[1, 2], db.now()).await;
    let before = db.position().await;
    let renamed = db.store.new_epoch().await.unwrap();
    assert_eq!(db.position().await, renamed);
    assert_eq!(renamed.revision, before.revision);
    assert_ne!(renamed.epoch, before.epoch);
    let entry = db.sql("SELECT actor, action, subject, details FROM audit ORDER BY id DESC LIMIT 1").await;
    let column = |index: usize| entry[0].get::<String, _>(index);
    assert_eq!([column(0), column(1), column(2)], ["system:local", "epoch.changed", "epoch"]);
    assert!(column(3).contains(&before.epoch.0) && column(3).contains(&renamed.epoch.0), "{}", column(3));
    let earlier = Position { revision: Revision(1), ..renamed.clone() };
    for (position, known) in [(&before, false), (&earlier, false), (&renamed, true)] {
        let told = db.store.changes(position, PAGE).await.unwrap();
        assert_eq!(told.page.is_some(), known, "{position:?}");
    }
}

async fn of_many_who_notice_a_loss_one_makes_the_new_epoch(db: Fixture) {
    let lost = db.position().await.epoch;
    let second = db.second_store().await;
    let calls = (0..8).map(|n| {
        let (store, lost) = (if n % 2 == 0 { db.store.clone() } else { second.clone() }, lost.clone());
        tokio::spawn(async move { store.replace_epoch(&lost).await.unwrap() })
    });
    let mut renamed = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        renamed.push(call.await.unwrap());
    }
    renamed.dedup();
    assert_eq!(renamed, [db.position().await]);
    assert_ne!(renamed[0].epoch, lost);
    // Whoever notices it late changes nothing.
    let before = db.everything().await;
    for late in [lost, Epoch("never was".to_owned())] {
        assert_eq!(db.store.replace_epoch(&late).await.unwrap(), renamed[0]);
    }
    assert_eq!(db.everything().await, before);
}

async fn what_is_left_of_lost_revisions_stands_in_nobodys_way(db: Fixture) {
    note_changes(&db, 1, &[1, 1, 1], db.now()).await;
    db.sql("UPDATE history SET revision = 1").await;
    let renamed = db.store.new_epoch().await.unwrap();
    note_changes(&db, 2, &[1], db.now()).await;
    let told = db.store.changes(&renamed, PAGE).await.unwrap();
    assert_eq!((told.now.revision, told.page.unwrap().token_hashes().count()), (Revision(2), 1));
}
