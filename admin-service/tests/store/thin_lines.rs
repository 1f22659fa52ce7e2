//! Large changes are read in parts, each of which is kept: on a thin line, all of one would take longer than any statement may.

use std::net::SocketAddr;
use std::time::Duration;

use latchkey_admin::clock::Sources;
use latchkey_admin::domain::verdict::Revision;
use latchkey_admin::feed::Outcome;
use latchkey_admin::store::{Store, StoreOptions};

use crate::feed::{LONG, ask, start};
use crate::postgres::Cluster;
use crate::relay::Relay;
use crate::standbys::free_port;
use crate::support::{Fixture, change_hash, eventually, note_changes, on_both_databases};

on_both_databases![changes_of_very_many_tokens_are_heard_whole_and_in_their_order];

/// Waits until an edge was told of so many revisions, beginning with the first one, and checks that it was told of each token once.
async fn hears_all(feed: &latchkey_admin::feed::Feed, db: &Fixture, touched: &[usize]) {
    let mut at = db.position().await;
    at.revision = Revision(0);
    let mut told = Vec::new();
    while at.revision.0 < touched.len() as u64 {
        let (outcome, answer) = ask(feed, Some(&at), LONG).await;
        assert_eq!(outcome, Outcome::Changes);
        told.extend(answer.token_hashes);
        at.revision = Revision(answer.revision);
    }
    let of = |(revision, n): (u64, &usize)| (0..*n).map(move |n| change_hash(revision, n));
    assert!(told.into_iter().eq((1..).zip(touched).flat_map(of)), "each token once, in order");
}

async fn changes_of_very_many_tokens_are_heard_whole_and_in_their_order(db: Fixture) {
    let (feed, _trigger) = start(&db.store);
    let here = db.position().await;
    assert_eq!(ask(&feed, Some(&here), Duration::ZERO).await.0, Outcome::Timeout);
    // Of as many as are read at a time, of one more and one less, and of several times as many.
    let touched = [1, 4_000, 3_999, 4_001, 1, 12_000, 1, 2, 8_001];
    note_changes(&db, 1, &touched, db.now()).await;
    hears_all(&feed, &db, &touched).await;
}

/// Bytes of some 256 token hashes of revision 2: of the 1,792nd and those after it, which are read first, and of the 9,984th.
const IN_THE_FIRST_PART: &[u8] = &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x07];
const IN_THE_THIRD_PART: &[u8] = &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x27];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_has_arrived_of_a_change_of_very_many_tokens_is_not_read_again_when_the_line_breaks() {
    let port = free_port();
    let cluster = Cluster::primary(port);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let relay = Relay::to(address).await;
    let direct = cluster.database();
    let db = Fixture::on(direct.parse().unwrap(), direct.clone(), None).await;
    let here = db.position().await;
    let connections = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()";
    let beside = db.number(connections).await;
    let relayed = direct.replace(&address.to_string(), &relay.address().to_string());
    let store =
        Store::open(&relayed.parse().unwrap(), StoreOptions::default(), Sources::system()).await.unwrap();
    let (feed, _trigger) = start(&store);
    assert_eq!(ask(&feed, Some(&here), Duration::ZERO).await.0, Outcome::Timeout);
    relay.hold_after(IN_THE_THIRD_PART);
    let touched = [1, 50_000, 1];
    note_changes(&db, 1, &touched, db.now()).await;
    eventually("two parts have arrived", async || relay.is_holding()).await;
    relay.cut();
    eventually("the line breaks", async || db.number(connections).await == beside).await;
    // Whoever begins again from nothing comes no further than this.
    relay.hold_after(IN_THE_FIRST_PART);
    let all = tokio::time::timeout(2 * LONG, hears_all(&feed, &db, &touched)).await;
    assert!(!relay.is_holding(), "the first part was read again");
    all.expect("the rest within two minutes");
}
