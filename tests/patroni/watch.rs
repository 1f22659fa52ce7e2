//! Readers that ask for verdicts on tokens of a book while databases change places, and note what must not be: an ended token
//! that is accepted long after its end was acknowledged, a valid one that is refused.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::kills::book::{Book, State};
use crate::support::client::{Answer, Caller};
use crate::support::random::Random;
use crate::support::service::Edge;
use crate::support::wait;

/// Out of how many of the latest tokens the next one is chosen.
const LATEST: usize = 60;
/// How long an ended token may be accepted after its end was acknowledged, by who asks the service.
const BOUND: Duration = Duration::from_secs(2);
/// The same by an Envoy: `stale.max_ms`. A database that goes away right after an acknowledgement keeps the other replica from
/// hearing of it, and its edges go on with what they know.
const BOUND_OF_EDGES: Duration = Duration::from_secs(30);

/// Where verdicts are asked for.
#[derive(Clone)]
pub enum Place {
    Edge(Edge),
    Gateway(Caller),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Accepted,
    Refused,
    Unavailable,
}

impl Place {
    fn bound(&self) -> Duration {
        match self {
            Self::Edge(_) => BOUND,
            Self::Gateway(_) => BOUND_OF_EDGES,
        }
    }

    async fn ask(&self, token: &str) -> Seen {
        let (answer, edge) = match self {
            Self::Edge(edge) => (edge.verify(token).await, true),
            Self::Gateway(gateway) => (Answer::try_to(gateway.get("/").bearer_auth(token)).await, false),
        };
        match answer {
            Ok(answer) if answer.status == 200 && edge && answer.json()["token"].is_null() => Seen::Refused,
            Ok(answer) if answer.status == 200 => Seen::Accepted,
            Ok(answer) if matches!(answer.status, 401 | 403) && !edge => Seen::Refused,
            Ok(answer) if answer.status == 503 => Seen::Unavailable,
            answer => panic!("{answer:?}"),
        }
    }
}

/// What a reader has seen.
#[derive(Debug, Default)]
struct Sight {
    asked: AtomicUsize,
    unavailable: AtomicUsize,
    /// How long after its acknowledged end a token was last asked for and accepted.
    latest: Mutex<Duration>,
    faults: Mutex<Vec<String>>,
}

/// Running readers, each at a place of its own.
pub struct Watch {
    ended: Arc<AtomicBool>,
    sights: Vec<(&'static str, Arc<Sight>)>,
    readers: JoinSet<()>,
}

impl Watch {
    pub fn start(book: &Arc<Book>, places: Vec<(&'static str, Place)>) -> Self {
        let ended = Arc::<AtomicBool>::default();
        let mut watch = Self { ended: Arc::clone(&ended), sights: Vec::new(), readers: JoinSet::new() };
        for (number, (name, place)) in places.into_iter().enumerate() {
            let sight = Arc::<Sight>::default();
            watch.sights.push((name, Arc::clone(&sight)));
            let random = Random::new(1, u64::try_from(number).expect("few places"));
            watch.readers.spawn(read(Arc::clone(book), place, sight, Arc::clone(&ended), random));
        }
        watch
    }

    /// Ends the readers, says what they saw, and panics for what must not be.
    pub async fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        self.readers.join_all().await;
        let mut faults = Vec::new();
        for (name, sight) in &self.sights {
            let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
            println!(
                "{name}: {} verdicts, {} times none; an ended token was last accepted {:?} after its acknowledged end",
                count(&sight.asked),
                count(&sight.unavailable),
                *sight.latest.lock().expect("a time"),
            );
            let found = sight.faults.lock().expect("the faults");
            faults.extend(found.iter().map(|fault| format!("{name}: {fault}")));
        }
        assert!(faults.is_empty(), "{} faults: {faults:#?}", faults.len());
    }
}

async fn read(book: Arc<Book>, place: Place, sight: Arc<Sight>, ended: Arc<AtomicBool>, mut random: Random) {
    while !ended.load(Ordering::Relaxed) {
        // What other systems made is of another shape, which this Envoy does not take.
        let takes = |secret: &str| matches!(place, Place::Edge(_)) || secret.starts_with("lk_");
        let Some(token) = book.pick(&mut random, LATEST).filter(|token| takes(&token.secret)) else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let sent = wait::now();
        let seen = place.ask(&token.secret).await;
        sight.asked.fetch_add(1, Ordering::Relaxed);
        let fault = match (seen, token.state, book.state(&token.id)) {
            (Seen::Unavailable, _, _) => {
                sight.unavailable.fetch_add(1, Ordering::Relaxed);
                None
            }
            (Seen::Accepted, State::Ended(at), _) => {
                let late = sent - at;
                let mut latest = sight.latest.lock().expect("a time");
                *latest = late.max(*latest);
                (late > place.bound()).then(|| format!("{} was accepted {late:?} after its end", token.id))
            }
            (Seen::Refused, _, Some(State::Live)) => Some(format!("{} is valid, and was refused", token.id)),
            _ => None,
        };
        sight.faults.lock().expect("the faults").extend(fault);
        // So that readers leave the machine to those who are watched.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
