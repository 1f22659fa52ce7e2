//! How verdicts are kept honest: the change feed that is followed, and the usage that is reported, by one of the workers.

use std::time::Duration;

use super::{EdgeState, Ordering, nanoseconds};
use crate::cache::Evictions;
use crate::engine::callout::{CalloutEnd, CalloutResult, MAX_RESPONSE_BODY};
use crate::engine::command::{Commands, Level};
use crate::engine::locked;
use crate::engine::metrics::{Histogram, Metric};
use crate::feed::{Age, Effect, Feed, Question};
use crate::throttle::Throttle;
use crate::usage::{Counts, Usage};
use crate::wire::{ChangesResponse, UsageReport, UsageResponse, VerifyResponse};

/// The longest response to a report that is read, in bytes.
const MAX_RECEIPT: usize = 4096;
/// How often the log says that the service does not accept an edge secret.
const UNAUTHORIZED_LINES: Throttle = Throttle::new(1, Duration::from_secs(60));
/// What to do where the service does not accept the edge secret.
const SECRET_ADVICE: &str =
    "set service.secret_env, or give this cluster the credential_injector that the cluster for look-ups has";

/// Names a worker among those that share a state.
pub type WorkerId = u32;

/// What the following worker has to send.
pub enum Follow {
    /// The next question of the change feed.
    Changes(Question),
    /// A usage report.
    Usage(UsageReport),
}

/// What only one thread at a time may touch.
#[derive(Debug)]
pub struct Upkeep {
    feed: Feed,
    usage: Usage,
    /// The worker that follows the feed and reports, and what it has in flight.
    follower: Option<WorkerId>,
    asks: bool,
    reports: bool,
    /// Whether the last question was not answered.
    is_lost: bool,
    feed_unauthorized: Throttle,
    reports_unauthorized: Throttle,
    published: Published,
}

/// What the metrics say of cache and feed.
#[derive(Clone, Copy, Debug, Default)]
struct Published {
    entries: usize,
    bytes: usize,
    evictions: Evictions,
    stale: bool,
}

impl Upkeep {
    pub fn new(stale_after: Duration, edge_name: String, flush: Duration) -> Self {
        Self {
            feed: Feed::new(stale_after),
            usage: Usage::new(edge_name, flush),
            follower: None,
            asks: false,
            reports: false,
            is_lost: false,
            feed_unauthorized: UNAUTHORIZED_LINES,
            reports_unauthorized: UNAUTHORIZED_LINES,
            published: Published::default(),
        }
    }

    /// How a response stands to what the feed has told.
    pub fn age_of(&self, response: &VerifyResponse) -> Age {
        self.feed.age_of(response)
    }
}

impl EdgeState {
    /// Whether a worker follows the feed.
    pub(in crate::engine) fn is_followed(&self) -> bool {
        locked(&self.upkeep).follower.is_some()
    }

    /// What `worker` has to send now to follow the feed, unless another worker does.
    pub(in crate::engine) fn follow(&self, worker: WorkerId, now: Duration) -> Option<Follow> {
        let mut upkeep = locked(&self.upkeep);
        if *upkeep.follower.get_or_insert(worker) != worker {
            return None;
        }
        let question = upkeep.feed.ask(now)?;
        upkeep.asks = true;
        self.publish_freshness(&upkeep);
        Some(Follow::Changes(question))
    }

    /// What `worker` has to report now, unless another worker does.
    pub(in crate::engine) fn report(&self, worker: WorkerId, now: Duration) -> Option<Follow> {
        let mut upkeep = locked(&self.upkeep);
        if upkeep.follower != Some(worker) {
            return None;
        }
        if self.shards.iter().any(|shard| !locked(shard).uses.is_empty()) {
            upkeep.usage.note_use(now);
        }
        if !upkeep.usage.is_due(now) {
            return None;
        }
        for shard in &self.shards {
            let counts: Counts = std::mem::take(&mut locked(shard).uses);
            let dropped = upkeep.usage.absorb(counts, now);
            self.metrics.add(Metric::USAGE_DROPPED, i64::try_from(dropped).unwrap_or(i64::MAX));
        }
        let report = upkeep.usage.report(now)?;
        upkeep.reports = true;
        Some(Follow::Usage(report))
    }

    /// The question of the feed has ended.
    pub(in crate::engine) fn on_changes(
        &self,
        result: CalloutResult<'_>,
        now: Duration,
        commands: &mut Commands,
    ) {
        // Read before anything is locked: a page may be long.
        let page = result.read::<ChangesResponse>(b"200", MAX_RESPONSE_BODY);
        let mut upkeep = locked(&self.upkeep);
        if !std::mem::take(&mut upkeep.asks) {
            return;
        }
        let heard = page.and_then(|it| upkeep.feed.heard(it, now).map_err(|_| CalloutEnd::BadAnswer));
        match heard {
            Ok(effect) => {
                self.metrics.increment(Metric::feed(CalloutEnd::Ok));
                if std::mem::take(&mut upkeep.is_lost) {
                    commands.log(Level::Info, "latchkey: the change feed is heard again".to_owned());
                }
                self.apply(&effect);
                if let (Effect::Forget(_), Some(age)) = (&effect, result.change_age()) {
                    self.metrics.record(Histogram::ChangeAge, age);
                }
            }
            Err(end) => self.feed_failed(&mut upkeep, end, now, commands),
        }
        self.publish_freshness(&upkeep);
        self.publish_cache(&mut upkeep, now);
    }

    fn apply(&self, effect: &Effect) {
        match effect {
            Effect::Forget(prefixes) => {
                for prefix in prefixes {
                    self.shard(*prefix, |shard| shard.cache.remove(*prefix));
                }
            }
            Effect::ForgetAll => self.shards.iter().for_each(|shard| locked(shard).cache.clear()),
        }
    }

    fn feed_failed(&self, upkeep: &mut Upkeep, end: CalloutEnd, now: Duration, commands: &mut Commands) {
        self.metrics.increment(Metric::feed(end));
        upkeep.feed.failed(now, self.seed.jitter(now));
        let cluster = &self.service.feed_cluster;
        if end == CalloutEnd::Unauthorized && upkeep.feed_unauthorized.admit(now).is_some() {
            commands.log(
                Level::Error,
                format!(
                    "latchkey: change feed via cluster {cluster} is unauthorized (401): this cluster sends no edge secret that \
                     the service accepts, so no verdict is cached; {SECRET_ADVICE}"
                ),
            );
        }
        if !std::mem::replace(&mut upkeep.is_lost, true) {
            let end = end.name();
            commands.log(
                Level::Warn,
                format!(
                    "latchkey: the change feed from cluster {cluster} is lost ({end}); it is asked for again"
                ),
            );
        }
    }

    /// The usage report has ended.
    pub(in crate::engine) fn on_usage(
        &self,
        result: CalloutResult<'_>,
        now: Duration,
        commands: &mut Commands,
    ) {
        let mut upkeep = locked(&self.upkeep);
        if !std::mem::take(&mut upkeep.reports) {
            return;
        }
        let end = result.read::<UsageResponse>(b"202", MAX_RECEIPT).err().unwrap_or(CalloutEnd::Ok);
        self.metrics.increment(Metric::reports(end));
        match end {
            CalloutEnd::Ok => upkeep.usage.written(now),
            // It would be refused each time, and all later ones wait for it.
            CalloutEnd::Refused => {
                let line = "latchkey: the service does not understand a usage report, which is dropped";
                commands.log(Level::Error, line.to_owned());
                upkeep.usage.written(now);
            }
            _ => upkeep.usage.failed(now),
        }
        if end == CalloutEnd::Unauthorized && upkeep.reports_unauthorized.admit(now).is_some() {
            let cluster = &self.service.usage_cluster;
            commands.log(
                Level::Error,
                format!(
                    "latchkey: usage reports via cluster {cluster} are unauthorized (401): this cluster sends no edge secret \
                     that the service accepts, so no usage is recorded; {SECRET_ADVICE}"
                ),
            );
        }
    }

    /// A callout for verdicts has ended: that says whether the feed is worth asking.
    pub(in crate::engine) fn on_verify_end(&self, answered: bool, now: Duration) {
        let mut upkeep = locked(&self.upkeep);
        if answered {
            upkeep.feed.lookup_answered(now, self.seed.jitter(now));
        } else {
            upkeep.feed.lookup_failed(now);
        }
    }

    /// Whether the feed is to be asked so soon that the next slow tick would be late.
    pub(in crate::engine) fn asks_soon(&self, now: Duration) -> bool {
        locked(&self.upkeep).feed.asks_soon(now)
    }

    /// A worker goes, and what it has in flight if it is the one that follows.
    pub(in crate::engine) fn leave(&self, worker: WorkerId, now: Duration) {
        let mut upkeep = locked(&self.upkeep);
        if upkeep.follower == Some(worker) {
            (upkeep.follower, upkeep.asks) = (None, false);
            upkeep.feed.abandon();
            if std::mem::take(&mut upkeep.reports) {
                upkeep.usage.failed(now);
            }
        }
        self.publish_freshness(&upkeep);
        self.publish_cache(&mut upkeep, now);
    }

    /// In the tick of `worker`: brings the metrics up to date. How old the feed is, only the one that follows it says.
    pub(in crate::engine) fn observe(&self, worker: WorkerId, now: Duration) {
        let mut upkeep = locked(&self.upkeep);
        if upkeep.follower == Some(worker)
            && let Some(age) = upkeep.feed.age(now)
        {
            self.metrics.record(Histogram::FeedAge, age);
        }
        self.publish_cache(&mut upkeep, now);
    }

    fn publish_freshness(&self, upkeep: &Upkeep) {
        self.fresh_until.store(nanoseconds(upkeep.feed.fresh_until()), Ordering::Release);
    }

    fn publish_cache(&self, upkeep: &mut Upkeep, now: Duration) {
        let mut after = Published {
            stale: upkeep.follower.is_some() && !upkeep.feed.is_fresh(now),
            ..Published::default()
        };
        for shard in &self.shards {
            let cache = &locked(shard).cache;
            after.entries += cache.entries();
            after.bytes += cache.bytes();
            after.evictions += cache.evictions();
        }
        self.publish(std::mem::replace(&mut upkeep.published, after), after);
    }

    fn publish(&self, before: Published, after: Published) {
        self.metrics.add(Metric::CACHE_ENTRIES, difference(before.entries, after.entries));
        self.metrics.add(Metric::CACHE_BYTES, difference(before.bytes, after.bytes));
        self.metrics.add(Metric::FEEDS_STALE, i64::from(after.stale) - i64::from(before.stale));
        self.metrics.evicted(before.evictions, after.evictions);
    }

    /// The state goes, and what the gauges say of it.
    pub(super) fn withdraw_metrics(&self) {
        let before = locked(&self.upkeep).published;
        self.publish(before, Published { evictions: before.evictions, ..Published::default() });
    }
}

fn difference(before: usize, after: usize) -> i64 {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    number(after) - number(before)
}
