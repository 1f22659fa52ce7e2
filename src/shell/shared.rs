//! What all root contexts of a VM share that ask the same service: the verdicts, the change feed that keeps them honest, and
//! what tokens were used for. One of the root contexts follows the feed and reports for all of them.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::callout::{self, CalloutEnd, Ended};
use super::host;
use super::metrics::Metrics;
use crate::cache::{Cache, Evictions, Limits};
use crate::config::{Config, Service};
use crate::feed::{Age, Effect, Feed};
use crate::gate::Verdict;
use crate::lookups::CallId;
use crate::throttle::Throttle;
use crate::token::TokenHash;
use crate::usage::Usage;
use crate::wire::{CHANGE_AGE, ChangesResponse, PREFIX_OFFSET, USAGE_PATH, UsageResponse, VerifyResponse};

/// The largest response of the change feed that is read, in bytes: some 60,000 whole hashes. Prefixes are bounded by
/// [`MAX_PREFIXES`](crate::wire::MAX_PREFIXES).
const MAX_CHANGES: usize = 4 * 1024 * 1024;

/// What to do where the service does not accept the edge secret.
const SECRET_ADVICE: &str =
    "set service.secret_env, or give this cluster the credential_injector that the cluster for look-ups has";

/// The largest answer to a report that is read, in bytes.
const MAX_RECEIPT: usize = 4096;

/// How often the log says that the service does not accept an edge secret.
const UNAUTHORIZED_LINES: Throttle = Throttle::new(1, Duration::from_secs(60));

/// What root contexts must have in common to share verdicts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    service: Service,
    limits: Limits,
    stale_after: Duration,
    flush: Duration,
}

thread_local! {
    static ALL: RefCell<Vec<(Key, Weak<Shared>)>> = const { RefCell::new(Vec::new()) };
}

/// What is shared.
pub struct Shared {
    service: Service,
    cache: RefCell<Cache>,
    feed: RefCell<Feed>,
    /// The root context that follows the feed.
    follower: Cell<Option<u32>>,
    /// Its question under way.
    question: Cell<Option<CallId>>,
    usage: RefCell<Usage>,
    /// The report under way.
    report: Cell<Option<CallId>>,
    /// Whether the last question came to nothing.
    is_lost: Cell<bool>,
    /// Lines on a feed, and on reports, without an edge secret that is accepted.
    feed_unauthorized: Cell<Throttle>,
    reports_unauthorized: Cell<Throttle>,
    metrics: Rc<Metrics>,
    published: Cell<Published>,
}

/// What the metrics say of the cache and the feed.
#[derive(Clone, Copy, Default)]
struct Published {
    entries: usize,
    bytes: usize,
    evictions: Evictions,
    stale: bool,
}

impl Shared {
    /// What a root context with this configuration shares with the others of its VM.
    pub fn of(config: &Config) -> Rc<Self> {
        let key = Key {
            service: config.service.clone(),
            limits: config.cache,
            flush: config.usage_flush,
            stale_after: config.stale_max,
        };
        ALL.with_borrow_mut(|all| {
            all.retain(|(_, shared)| shared.strong_count() > 0);
            let found = all.iter().find(|(other, _)| *other == key).and_then(|(_, shared)| shared.upgrade());
            found.unwrap_or_else(|| {
                let new = Rc::new(Self::new(&key));
                all.push((key, Rc::downgrade(&new)));
                new
            })
        })
    }

    fn new(key: &Key) -> Self {
        Self {
            service: key.service.clone(),
            cache: RefCell::new(Cache::new(key.limits)),
            feed: RefCell::new(Feed::new(key.stale_after)),
            follower: Cell::new(None),
            question: Cell::new(None),
            usage: RefCell::new(Usage::new(edge_name(), key.flush)),
            report: Cell::new(None),
            is_lost: Cell::new(false),
            feed_unauthorized: Cell::new(UNAUTHORIZED_LINES),
            reports_unauthorized: Cell::new(UNAUTHORIZED_LINES),
            metrics: Metrics::of_this_vm(),
            published: Cell::default(),
        }
    }

    /// The verdict on a token that serves without asking.
    pub fn verdict(&self, hash: &TokenHash, now: Duration) -> Option<Verdict> {
        if !self.feed.borrow().is_fresh(now) {
            return None;
        }
        self.cache.borrow_mut().get(hash, now)
    }

    /// Whether a token was good when it was last heard of.
    pub fn is_familiar(&self, hash: &TokenHash) -> bool {
        self.cache.borrow().is_familiar(hash)
    }

    /// Keeps what the service has said, unless it may be older than a change. `false`: it is, and must not be believed.
    pub fn keep(&self, answer: &VerifyResponse, verdict: &Verdict, now: Duration) -> bool {
        let age = self.feed.borrow().age_of(answer);
        if age == Age::Current {
            self.cache.borrow_mut().insert(answer.token_hash, verdict.clone(), now);
        }
        age != Age::Outdated
    }

    /// In a callback of root context `root`: follows the feed, unless another root context does.
    pub fn follow(&self, root: u32) {
        if self.follower.get().is_none() {
            self.follower.set(Some(root));
        }
        if self.follower.get() != Some(root) {
            return;
        }
        let now = host::now();
        let Some(question) = self.feed.borrow_mut().ask(now) else { return };
        let timeout = question.wait.saturating_add(self.service.timeout);
        let offset = question.offset.to_string();
        let headers = [(PREFIX_OFFSET, offset.as_str())];
        let cluster = &self.service.feed_cluster;
        self.question.set(callout::get(&self.service, cluster, &question.path, &headers, timeout));
        if self.question.get().is_none() {
            self.lost(CalloutEnd::NotSent, now);
        }
    }

    /// Takes the end of a callout, if it is one of those made here; `false`: it is none.
    pub fn takes(&self, ended: Ended) -> bool {
        if self.question.get() == Some(ended.call) {
            self.answered(ended);
        } else if self.report.get() == Some(ended.call) {
            self.reported(ended);
        } else {
            return false;
        }
        true
    }

    /// The feed's question was answered, or came to nothing. The next one is asked when it is time.
    fn answered(&self, ended: Ended) {
        self.question.set(None);
        let now = host::now();
        let answer = callout::answer::<ChangesResponse>(ended, b"200", MAX_CHANGES);
        let heard =
            answer.and_then(|it| self.feed.borrow_mut().heard(it, now).map_err(|_| CalloutEnd::BadAnswer));
        match heard {
            Ok(effect) => {
                self.metrics.feed_answered(CalloutEnd::Ok);
                if self.is_lost.replace(false) {
                    log::info!("latchkey: the change feed is heard again");
                }
                self.apply(&effect);
                if let (Effect::Forget(_), Some(age)) = (&effect, callout::number(CHANGE_AGE)) {
                    self.metrics.forgotten_after(Duration::from_millis(age));
                }
            }
            Err(end) => self.lost(end, now),
        }
        self.publish();
    }

    fn apply(&self, effect: &Effect) {
        let mut cache = self.cache.borrow_mut();
        match effect {
            Effect::Forget(prefixes) => prefixes.iter().for_each(|prefix| cache.remove(*prefix)),
            Effect::ForgetAll => cache.clear(),
        }
    }

    /// A look-up was answered, or came to nothing: that says whether the feed is worth asking.
    pub fn lookup_ended(&self, answered: bool, now: Duration) {
        let mut feed = self.feed.borrow_mut();
        if answered {
            feed.lookup_answered(now, random(now));
        } else {
            feed.lookup_failed(now);
        }
    }

    /// Whether the feed is to be asked so soon that the next slow tick would be late.
    pub fn asks_soon(&self, now: Duration) -> bool {
        self.feed.borrow().asks_soon(now)
    }

    fn lost(&self, end: CalloutEnd, now: Duration) {
        self.metrics.feed_answered(end);
        self.feed.borrow_mut().failed(now, random(now));
        let cluster = &self.service.feed_cluster;
        if end == CalloutEnd::Unauthorized && is_admitted(&self.feed_unauthorized, now) {
            log::error!(
                "latchkey: change feed via cluster {cluster} is unauthorized (401): this cluster sends no edge secret that the \
                 service accepts, so no verdict is cached; {SECRET_ADVICE}"
            );
        }
        if !self.is_lost.replace(true) {
            let end = end.name();
            log::warn!(
                "latchkey: the change feed from cluster {cluster} is lost ({end}); it is asked for again"
            );
        }
    }

    /// Counts the use of a token that exists, or the attempt.
    pub fn used(&self, verdict: &Verdict, allowed: bool, now: Duration) {
        let Some(owner) = verdict.owner() else { return };
        if !self.usage.borrow_mut().count(owner.token_id, allowed, now) {
            self.metrics.usage_dropped();
        }
    }

    /// In a callback of root context `root`: reports what tokens were used for, if it is time, unless another root context
    /// does.
    pub fn report(&self, root: u32) {
        if self.follower.get() != Some(root) {
            return;
        }
        let now = host::now();
        let Some(report) = self.usage.borrow_mut().report(now) else { return };
        let body = serde_json::to_vec(&report).unwrap_or_default();
        let service = &self.service;
        let sent = callout::post(service, &service.usage_cluster, USAGE_PATH, None, &body);
        self.report.set(sent);
        if sent.is_none() {
            self.not_reported(CalloutEnd::NotSent, now);
        }
    }

    fn reported(&self, ended: Ended) {
        self.report.set(None);
        let now = host::now();
        match callout::answer::<UsageResponse>(ended, b"202", MAX_RECEIPT) {
            Ok(_) => {
                self.usage.borrow_mut().written(now);
                self.metrics.reported(CalloutEnd::Ok);
            }
            // It would be refused each time, and all later ones wait for it.
            Err(CalloutEnd::Refused) => {
                log::error!("latchkey: the service does not understand a usage report, which is dropped");
                self.usage.borrow_mut().written(now);
                self.metrics.reported(CalloutEnd::Refused);
            }
            Err(end) => self.not_reported(end, now),
        }
    }

    fn not_reported(&self, end: CalloutEnd, now: Duration) {
        if end == CalloutEnd::Unauthorized && is_admitted(&self.reports_unauthorized, now) {
            let cluster = &self.service.usage_cluster;
            log::error!(
                "latchkey: usage reports via cluster {cluster} are unauthorized (401): this cluster sends no edge secret that the \
                 service accepts, so no usage is recorded; {SECRET_ADVICE}"
            );
        }
        self.usage.borrow_mut().failed(now);
        self.metrics.reported(end);
    }

    /// A root context goes, and the question with it if it was the one who asked.
    pub fn leave(&self, root: u32) {
        if self.follower.get() == Some(root) {
            self.follower.set(None);
            self.question.set(None);
            self.feed.borrow_mut().abandon();
            if self.report.take().is_some() {
                self.usage.borrow_mut().failed(host::now());
            }
        }
        self.publish();
    }

    /// In the tick of root context `root`: notes when the feed was last heard, unless another root context does.
    pub fn observe(&self, root: u32) {
        if self.follower.get() != Some(root) {
            return;
        }
        if let Some(age) = self.feed.borrow().age(host::now()) {
            self.metrics.feed_age(age);
        }
    }

    /// Brings the metrics up to date.
    pub fn publish(&self) {
        let (before, now) = (self.published.get(), host::now());
        let cache = self.cache.borrow();
        let stale = self.follower.get().is_some() && !self.feed.borrow().is_fresh(now);
        let after =
            Published { entries: cache.entries(), bytes: cache.bytes(), evictions: cache.evictions(), stale };
        drop(cache);
        self.metrics
            .cache_size(difference(before.entries, after.entries), difference(before.bytes, after.bytes));
        self.metrics.evicted(before.evictions, after.evictions);
        self.metrics.feeds_stale(i64::from(after.stale) - i64::from(before.stale));
        self.published.set(after);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Published { entries, bytes, stale, .. } = self.published.get();
        self.metrics.cache_size(difference(entries, 0), difference(bytes, 0));
        self.metrics.feeds_stale(-i64::from(stale));
    }
}

/// Whether a line may be written now.
fn is_admitted(lines: &Cell<Throttle>, now: Duration) -> bool {
    let mut throttle = lines.get();
    let admitted = throttle.admit(now).is_some();
    lines.set(throttle);
    admitted
}

fn difference(before: usize, after: usize) -> i64 {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    number(after) - number(before)
}

/// A number that other edges do not have at the same time.
fn random(now: Duration) -> u64 {
    RandomState::new().hash_one(now)
}

/// A name for this VM that no other has.
fn edge_name() -> String {
    format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1))
}
