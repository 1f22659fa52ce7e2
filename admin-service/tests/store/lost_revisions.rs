//! Revisions that were acknowledged and are gone, as after a failover to a standby that lacked them: who has heard of them begins anew,
//! also where the history has grown past them since.

use std::net::SocketAddr;
use std::time::Duration;

use latchkey_admin::clock::Sources;
use latchkey_admin::domain::changes::Position;
use latchkey_admin::domain::token::Token;
use latchkey_admin::domain::user::UserPatch;
use latchkey_admin::domain::verdict::{Epoch, Revision};
use latchkey_admin::feed::{Feed, Outcome};
use latchkey_admin::lifecycle::Trigger;
use latchkey_admin::store::{Store, StoreOptions};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio::task::JoinHandle;

use crate::feed::{LONG, ask, start};
use crate::postgres::Cluster;
use crate::relay::Relay;
use crate::standbys::free_port;
use crate::support::{Fixture, change_hash, eventually, name, on_both_databases, origin};

on_both_databases![
    a_history_that_has_grown_past_the_lost_revision_is_no_continuation,
    a_history_that_has_grown_past_several_lost_revisions_is_no_continuation,
    a_change_of_this_process_that_follows_another_revision_than_the_heard_one_is_no_continuation,
    a_verdict_as_of_a_revision_that_was_lost_before_the_feed_heard_of_it_is_forgotten,
    revisions_that_are_pruned_before_they_are_heard_reset_those_who_wait,
    each_change_names_the_stamp_that_it_follows,
];

fn active(active: bool) -> UserPatch {
    UserPatch { active: Some(active), ..UserPatch::default() }
}

/// One who waits for what follows a position.
fn wait_at(feed: &Feed, at: &Position) -> JoinHandle<(Outcome, latchkey::wire::ChangesResponse)> {
    let (feed, at) = (feed.clone(), at.clone());
    tokio::spawn(async move { ask(&feed, Some(&at), LONG).await })
}

/// A feed that has heard of some revisions, the last of which made a token valid.
struct Heard {
    db: Fixture,
    token: Token,
    feed: Feed,
    _trigger: Trigger,
    at: Position,
}

impl Heard {
    async fn on(db: Fixture) -> Self {
        db.user("alice").await;
        let token = db.token("alice").await;
        for step in [false, true, false, true] {
            db.store.update_user(&origin(), &name("alice"), &active(step)).await.unwrap();
        }
        let (feed, trigger) = start(&db.store);
        let at = db.position().await;
        assert_eq!(ask(&feed, Some(&at), Duration::ZERO).await.0, Outcome::Timeout);
        Self { db, token, feed, _trigger: trigger, at }
    }

    /// Replaces the last revisions by others, of other tokens, so that nobody sees anything between.
    async fn lose(&self, lost: u64, made: u64) {
        let mut connection = self.db.connection().await;
        let kept = self.db.revision().await - lost;
        let stamp = self.db.number(&format!("SELECT stamp FROM changes WHERE revision = {kept}")).await;
        let bytes = |revision| {
            let hash = change_hash(revision, 0).to_string();
            if self.db.url.to_string().starts_with("sqlite") {
                format!("x'{hash}'")
            } else {
                format!("'\\x{hash}'")
            }
        };
        let at = self.db.now().as_millisecond();
        let row = |it: u64| {
            let previous = if it == kept + 1 { stamp.to_string() } else { (it - 1).to_string() };
            format!("({it}, {}, {at}, {it}, {previous})", bytes(it))
        };
        let rows: Vec<_> = (kept + 1..=kept + made).map(row).collect();
        for statement in [
            "BEGIN".to_owned(),
            format!("DELETE FROM changes WHERE revision > {kept}"),
            format!(
                "INSERT INTO changes (revision, token_hash, at, stamp, previous_stamp) VALUES {}",
                rows.join(", ")
            ),
            format!("UPDATE history SET revision = {0}, stamp = {0}", kept + made),
            "UPDATE users SET active = 0".to_owned(),
            "COMMIT".to_owned(),
        ] {
            connection.execute(AssertSqlSafe(statement)).await.unwrap();
        }
        connection.close().await.unwrap();
    }

    /// All who have heard of the lost revisions forget what they know, once.
    async fn begins_anew(&self, waiting: JoinHandle<(Outcome, latchkey::wire::ChangesResponse)>) {
        let (outcome, answer) = waiting.await.unwrap();
        assert_eq!((outcome, answer.reset), (Outcome::Reset, true));
        let now = self.db.position().await;
        assert_ne!(now.epoch, self.at.epoch, "every replica's edges are to forget it");
        assert_eq!(Epoch(answer.epoch), now.epoch);
        assert!(!self.db.is_valid(&self.token).await, "nobody made it valid");
        assert_eq!(ask(&self.feed, Some(&now), Duration::from_millis(300)).await.0, Outcome::Timeout);
    }
}

async fn a_history_that_has_grown_past_the_lost_revision_is_no_continuation(db: Fixture) {
    let heard = Heard::on(db).await;
    let waiting = wait_at(&heard.feed, &heard.at);
    heard.lose(1, 2).await;
    heard.begins_anew(waiting).await;
}

async fn a_history_that_has_grown_past_several_lost_revisions_is_no_continuation(db: Fixture) {
    let heard = Heard::on(db).await;
    let waiting = wait_at(&heard.feed, &heard.at);
    heard.lose(2, 7).await;
    heard.begins_anew(waiting).await;
}

async fn a_change_of_this_process_that_follows_another_revision_than_the_heard_one_is_no_continuation(
    db: Fixture,
) {
    let heard = Heard::on(db).await;
    heard.db.user("bob").await;
    let own = heard.db.token("bob").await;
    let waiting = wait_at(&heard.feed, &heard.at);
    eventually("an edge waits", async || heard.feed.waiting() == 1).await;
    heard.lose(1, 1).await;
    // At once, before the next look at the database.
    heard.db.store.revoke_token(&origin(), own.id).await.unwrap();
    heard.begins_anew(waiting).await;
}

async fn a_verdict_as_of_a_revision_that_was_lost_before_the_feed_heard_of_it_is_forgotten(db: Fixture) {
    let mut heard = Heard::on(db).await;
    let second = heard.db.second_store().await;
    second.update_user(&origin(), &name("alice"), &active(false)).await.unwrap();
    second.update_user(&origin(), &name("alice"), &active(true)).await.unwrap();
    assert!(heard.db.is_valid(&heard.token).await, "the edge that asked keeps it");
    heard.lose(1, 2).await;
    // It may have heard of it in between, on a busy machine.
    let (mut outcome, mut answer) = ask(&heard.feed, Some(&heard.at), LONG).await;
    while outcome == Outcome::Changes {
        heard.at.revision = Revision(answer.revision);
        (outcome, answer) = ask(&heard.feed, Some(&heard.at), LONG).await;
    }
    heard.begins_anew(tokio::spawn(async move { (outcome, answer) })).await;
}

async fn revisions_that_are_pruned_before_they_are_heard_reset_those_who_wait(db: Fixture) {
    let heard = Heard::on(db).await;
    let waiting = wait_at(&heard.feed, &heard.at);
    let now = heard.at.revision.0 + 2;
    let retained = now - 1;
    heard
        .db
        .sql(&format!("UPDATE history SET revision = {now}, stamp = 7, retained_after = {retained}"))
        .await;
    let (outcome, answer) = waiting.await.unwrap();
    assert_eq!((outcome, answer.reset, answer.revision), (Outcome::Reset, true, now));
    let now = Position { revision: Revision(now), ..heard.at.clone() };
    assert_eq!(ask(&heard.feed, Some(&now), Duration::from_millis(300)).await.0, Outcome::Timeout);
    assert_eq!(heard.db.position().await, now, "nothing was lost, so the history keeps its name");
}

async fn each_change_names_the_stamp_that_it_follows(db: Fixture) {
    let second = db.second_store().await;
    db.user("alice").await;
    let begin = db.store.standing().await.unwrap();
    for store in [&db.store, &second, &db.store] {
        let token = db.token("alice").await;
        store.revoke_token(&origin(), token.id).await.unwrap();
    }
    let part = db.store.part_of_changes(&begin.position, None, 10).await.unwrap();
    let mut stamp = begin.stamp;
    for change in &part.changes {
        let link = change.link.unwrap();
        assert_eq!(link.previous, stamp);
        stamp = link.stamp;
    }
    assert_eq!((part.changes.len(), part.now.stamp), (3, stamp));
    // A new epoch has another stamp, and what comes next follows that one.
    db.store.new_epoch().await.unwrap();
    let begin = db.store.standing().await.unwrap();
    let token = db.token("alice").await;
    second.revoke_token(&origin(), token.id).await.unwrap();
    let part = db.store.part_of_changes(&begin.position, None, 10).await.unwrap();
    assert_eq!(part.changes[0].link.unwrap().previous, begin.stamp);
}

/// The primary dies with what its asynchronous standby has not got, and the standby, promoted, gives the same numbers to changes of
/// another replica before this one reaches it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn prompt_a_failover_that_lost_an_acknowledged_revision_resets_edges_though_the_history_has_grown_past_it()
 {
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let ports = [free_port(), free_port()];
    let primary = Cluster::primary(ports[0]);
    let database = primary.database().rsplit('/').next().unwrap().to_owned();
    let replication = Relay::to(local(ports[0])).await;
    let standby = primary.standby(ports[1], replication.address());
    primary.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = ''");
    primary.sql("postgres", "SELECT pg_reload_conf()");
    let relay = Relay::to(local(ports[0])).await;
    let url = |at: SocketAddr| format!("postgres://latchkey@{at}/{database}");
    let open = async |at: SocketAddr| {
        Store::open(&url(at).parse().unwrap(), StoreOptions::default(), Sources::system()).await.unwrap()
    };
    let db = Fixture::on(url(relay.address()).parse().unwrap(), url(local(ports[0])), None).await;
    db.user("alice").await;
    db.user("bob").await;
    let (token, others) = (db.token("alice").await, [db.token("bob").await, db.token("bob").await]);
    db.store.update_user(&origin(), &name("alice"), &active(false)).await.unwrap();
    let (feed, _trigger) = start(&db.store);
    let before = db.position().await;
    assert_eq!(ask(&feed, Some(&before), Duration::ZERO).await.0, Outcome::Timeout);
    let end = primary.sql("postgres", "SELECT pg_current_wal_lsn()");
    eventually("the standby has all of it", async || {
        standby.sql("postgres", &format!("SELECT pg_last_wal_replay_lsn() >= '{end}'")) == "t"
    })
    .await;

    replication.cut();
    db.store.update_user(&origin(), &name("alice"), &active(true)).await.unwrap();
    let (outcome, answer) = ask(&feed, Some(&before), LONG).await;
    assert_eq!((outcome, answer.token_hashes.as_slice()), (Outcome::Changes, [token.hash].as_slice()));
    assert!(db.is_valid(&token).await, "an edge that asks now keeps it");
    let at = Position { revision: Revision(answer.revision), ..before };

    relay.cut();
    primary.crash();
    standby.promote();
    let other = open(local(ports[1])).await;
    for token in &others {
        other.revoke_token(&origin(), token.id).await.unwrap();
    }
    assert!(other.position().await.unwrap().revision > at.revision, "it has grown past what was heard");
    relay.move_to(local(ports[1]));
    relay.mend();
    let (outcome, answer) = ask(&feed, Some(&at), LONG).await;
    assert_eq!((outcome, answer.reset), (Outcome::Reset, true));
    assert_ne!(answer.epoch, at.epoch.0);
    assert!(!db.is_valid(&token).await, "its user is disabled");
    assert_eq!(other.position().await.unwrap().epoch.0, answer.epoch, "other replicas' edges forget it too");
}
