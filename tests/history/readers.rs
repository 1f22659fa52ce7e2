//! Readers of the change feed, each at one replica or at another one with every question.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::check::Heard;
use crate::support::random::Random;
use crate::support::service::Edge;
use crate::support::wait;

/// How long a feed may fail on a busy machine.
const AT_LAST: Duration = Duration::from_secs(600);
/// How long a reader waits until it asks again.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the history stands.
pub async fn position(edge: &Edge) -> (String, u64) {
    let answer = edge.changes(None, Duration::ZERO).await.expect("an answer").json();
    (answer["epoch"].as_str().expect("an epoch").to_owned(), answer["revision"].as_u64().expect("a revision"))
}

/// Reads until it has heard of the last revision, which is told once it is known.
pub async fn read(
    edges: Vec<Edge>,
    mut random: Random,
    begun: Instant,
    (epoch, base): (String, u64),
    last: Arc<AtomicU64>,
) -> Vec<Heard> {
    let (mut feed, mut after) = (Vec::new(), base);
    while after < last.load(Ordering::Relaxed) {
        let edge = &edges[random.below(edges.len())];
        let answer = answered(edge, (&epoch, after)).await;
        let at = begun.elapsed();
        assert_eq!(answer["epoch"], epoch.as_str(), "the history was lost: {answer}");
        let through = answer["revision"].as_u64().expect("a revision");
        let hashes = answer["token_hashes"].as_array().expect("hashes").iter();
        let hashes = hashes.map(|hash| hash.as_str().expect("a hash").to_owned()).collect();
        feed.push(Heard { at, after, through, reset: answer["reset"] == true, hashes });
        after = through;
    }
    feed
}

/// A page of the feed. As a filter does, asks again where the service cannot answer now: on a machine with more to do than it
/// can, that is no end.
async fn answered(edge: &Edge, (epoch, after): (&str, u64)) -> Value {
    let begun = wait::now();
    loop {
        let answer = edge.changes(Some((epoch, after)), Duration::from_millis(500)).await;
        match &answer {
            Ok(answer) if answer.status == 200 => return answer.json(),
            Ok(answer) => {
                assert!(answer.status == 503 && answer.header("retry-after").is_some(), "{answer:?}");
            }
            Err(_) => {}
        }
        assert!(begun.elapsed() < AT_LAST, "the feed does not answer: {answer:?}");
        tokio::time::sleep(PAUSE).await;
    }
}
