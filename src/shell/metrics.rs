//! What the filter counts, in Envoy's stats. The names are part of the product; the README lists them.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::time::Duration;

use super::callout::CalloutEnd;
use super::host::{self, MetricKind};
use crate::cache::Evictions;
use crate::refusal::Reason;

/// One counter, gauge or histogram; nothing is counted where the host refused to define it.
#[derive(Debug)]
struct Metric(Option<u32>);

impl Metric {
    fn define(kind: MetricKind, name: &str) -> Self {
        Self(host::define_metric(kind, name))
    }

    fn change(&self, difference: i64) {
        if let (Some(id), true) = (self.0, difference != 0) {
            host::increment_metric(id, difference);
        }
    }

    /// Of a histogram: one more time, in milliseconds.
    fn record(&self, time: Duration) {
        if let Some(id) = self.0 {
            host::record_metric(id, u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        }
    }
}

/// A counter of what happens at every request: the host is told of it from time to time.
#[derive(Debug)]
struct Batched {
    metric: Metric,
    untold: Cell<i64>,
}

impl Batched {
    fn increment(&self) {
        self.untold.set(self.untold.get() + 1);
    }

    fn tell(&self) {
        self.metric.change(self.untold.take());
    }
}

/// The metrics of one VM.
#[derive(Debug)]
pub struct Metrics {
    passed: Batched,
    refused: Vec<Metric>,
    shadow_refused: Vec<Metric>,
    callouts: Vec<Metric>,
    callouts_under_way: Metric,
    cache_hits: Batched,
    cache_misses: Metric,
    cache_entries: Metric,
    cache_bytes: Metric,
    evictions: [Metric; 4],
    feed: Vec<Metric>,
    feeds_stale: Metric,
    feed_age: Metric,
    change_age: Metric,
    reports: Vec<Metric>,
    usage_dropped: Metric,
}

thread_local! {
    static METRICS: OnceCell<Rc<Metrics>> = const { OnceCell::new() };
}

impl Metrics {
    /// The metrics of this VM, which are defined when they are first asked for.
    pub fn of_this_vm() -> Rc<Self> {
        METRICS.with(|metrics| Rc::clone(metrics.get_or_init(|| Rc::new(Self::define()))))
    }

    fn define() -> Self {
        let counter = |name: &str| Metric::define(MetricKind::Counter, name);
        let batched = |name: &str| Batched { metric: counter(name), untold: Cell::new(0) };
        let by_reason = |group: &str| {
            Reason::ALL.map(|reason| counter(&format!("latchkey.{group}.{}", reason.name()))).into()
        };
        let by_end = |group: &str| {
            CalloutEnd::ALL.map(|end| counter(&format!("latchkey.{group}.{}", end.name()))).into()
        };
        let histogram = |name: &str| Metric::define(MetricKind::Histogram, name);
        let gauge = |name: &str| Metric::define(MetricKind::Gauge, name);
        Self {
            passed: batched("latchkey.passed"),
            refused: by_reason("refused"),
            shadow_refused: by_reason("shadow_refused"),
            callouts: by_end("callouts"),
            callouts_under_way: gauge("latchkey.callouts_under_way"),
            cache_hits: batched("latchkey.cache_hits"),
            cache_misses: counter("latchkey.cache_misses"),
            cache_entries: gauge("latchkey.cache_entries"),
            cache_bytes: gauge("latchkey.cache_bytes"),
            evictions: ["expired", "capacity", "changed", "reset"]
                .map(|cause| counter(&format!("latchkey.cache_evictions.{cause}"))),
            feed: by_end("feed_answers"),
            feeds_stale: gauge("latchkey.feeds_stale"),
            feed_age: histogram("latchkey.feed_age_ms"),
            change_age: histogram("latchkey.change_age_ms"),
            reports: by_end("usage_reports"),
            usage_dropped: counter("latchkey.usage_dropped"),
        }
    }

    /// Tells the host what happened since it was last told.
    pub fn tell(&self) {
        self.passed.tell();
        self.cache_hits.tell();
    }

    /// A request passed because the decision was that it may.
    pub fn passed(&self) {
        self.passed.increment();
    }

    /// A request was refused.
    pub fn refused(&self, reason: Reason) {
        increment(&self.refused, reason as usize);
    }

    /// A request would have been refused, and passed in shadow mode.
    pub fn shadow_refused(&self, reason: Reason) {
        increment(&self.shadow_refused, reason as usize);
    }

    /// A callout was sent.
    pub fn callout_sent(&self) {
        self.callouts_under_way.change(1);
    }

    /// A callout that was sent has ended.
    pub fn callout_ended(&self, end: CalloutEnd) {
        self.callouts_under_way.change(-1);
        increment(&self.callouts, end as usize);
    }

    /// Callouts that were sent went with their root context.
    pub fn callouts_abandoned(&self, count: usize) {
        self.callouts_under_way.change(-i64::try_from(count).unwrap_or(0));
    }

    /// A request was decided by a verdict that was kept.
    pub fn cache_hit(&self) {
        self.cache_hits.increment();
    }

    /// A request has to wait for a verdict.
    pub fn cache_missed(&self) {
        self.cache_misses.change(1);
    }

    /// The caches hold so many entries and bytes more.
    pub fn cache_size(&self, entries: i64, bytes: i64) {
        self.cache_entries.change(entries);
        self.cache_bytes.change(bytes);
    }

    /// Entries have left a cache since it was last looked at.
    pub fn evicted(&self, before: Evictions, after: Evictions) {
        let causes = |it: Evictions| [it.expired, it.capacity, it.changed, it.reset];
        for ((metric, before), after) in self.evictions.iter().zip(causes(before)).zip(causes(after)) {
            metric.change(i64::try_from(after - before).unwrap_or(0));
        }
    }

    /// A question of the feed has ended.
    pub fn feed_answered(&self, end: CalloutEnd) {
        increment(&self.feed, end as usize);
    }

    /// So many workers more hear nothing of changes.
    pub fn feeds_stale(&self, difference: i64) {
        self.feeds_stale.change(difference);
    }

    /// A worker's feed was last heard so long ago.
    pub fn feed_age(&self, age: Duration) {
        self.feed_age.record(age);
    }

    /// Verdicts were forgotten because of changes, the first of which was made so long ago.
    pub fn forgotten_after(&self, age: Duration) {
        self.change_age.record(age);
    }

    /// A report of what tokens were used for has ended.
    pub fn reported(&self, end: CalloutEnd) {
        increment(&self.reports, end as usize);
    }

    /// A request was not counted for its token: too many tokens wait to be reported.
    pub fn usage_dropped(&self) {
        self.usage_dropped.change(1);
    }

    /// A callout could not be sent.
    pub fn callout_not_sent(&self) {
        increment(&self.callouts, CalloutEnd::NotSent as usize);
    }
}

fn increment(metrics: &[Metric], index: usize) {
    if let Some(metric) = metrics.get(index) {
        metric.change(1);
    }
}
