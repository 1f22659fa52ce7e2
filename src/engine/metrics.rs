//! What the filter counts. The names are part of the product; the README lists them. Counted here, and taken by the shell from
//! time to time, because each word to a host costs more than a decision can afford.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use super::callout::CalloutEnd;
use super::locked;
use crate::cache::Evictions;
use crate::refusal::Reason;

/// How many values of histograms are kept until the shell takes them.
const MAX_SAMPLES: usize = 1024;

/// The kinds of metrics that hosts know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Grows and shrinks; shared by all workers, so it is changed by differences alone.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One metric, as a shell defines it with its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its kind.
    pub kind: Kind,
    /// Its name, after `latchkey.`.
    pub name: &'static str,
    /// What it counts the cases of, and which case it is, for a metric of several: a label where hosts have them, else a part of
    /// the name.
    pub label: Option<(&'static str, &'static str)>,
}

const REASONS: usize = Reason::ALL.len();
const ENDS: usize = CalloutEnd::ALL.len();
const CAUSES: [&str; 4] = ["expired", "capacity", "changed", "reset"];

/// A metric, by its place among the definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Metric(usize);

impl Metric {
    /// Requests that the decision let pass.
    pub const ALLOWED: Self = Self(0);
    /// Requests decided by a cached verdict.
    pub const CACHE_HITS: Self = Self(1);
    /// Requests that need a verdict which is not cached.
    pub const CACHE_MISSES: Self = Self(2);
    /// Requests that were not counted for their token, as too many tokens are to be reported.
    pub const USAGE_DROPPED: Self = Self(3);
    /// Callouts for verdicts that were sent and have not ended.
    pub const CALLOUTS_ACTIVE: Self = Self(4);
    /// Cached verdicts.
    pub const CACHE_ENTRIES: Self = Self(5);
    /// The bytes that they take.
    pub const CACHE_BYTES: Self = Self(6);
    /// Caches whose verdicts do not serve, because the change feed was not heard.
    pub const FEEDS_STALE: Self = Self(7);
    const GAUGES: Range<usize> = Self::CALLOUTS_ACTIVE.0..Self::EVICTIONS;
    const EVICTIONS: usize = 8;
    const DENIED: usize = Self::EVICTIONS + CAUSES.len();
    const SHADOW_DENIED: usize = Self::DENIED + REASONS;
    const CALLOUTS: usize = Self::SHADOW_DENIED + REASONS;
    const FEED: usize = Self::CALLOUTS + ENDS;
    const REPORTS: usize = Self::FEED + ENDS;
    const COUNT: usize = Self::REPORTS + ENDS;

    /// Requests denied for a reason.
    pub const fn denied(reason: Reason) -> Self {
        Self(Self::DENIED + reason as usize)
    }

    /// Requests that would have been denied, and passed in shadow mode.
    pub const fn shadow_denied(reason: Reason) -> Self {
        Self(Self::SHADOW_DENIED + reason as usize)
    }

    /// Callouts for verdicts, by their end.
    pub const fn callouts(end: CalloutEnd) -> Self {
        Self(Self::CALLOUTS + end as usize)
    }

    /// Questions of the change feed, by their end.
    pub const fn feed(end: CalloutEnd) -> Self {
        Self(Self::FEED + end as usize)
    }

    /// Usage reports, by their end.
    pub const fn reports(end: CalloutEnd) -> Self {
        Self(Self::REPORTS + end as usize)
    }
}

/// The histograms, whose values are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Histogram {
    /// How long ago the change feed was heard, at each tick.
    FeedAge,
    /// How old a change was when the verdicts went that it touched.
    ChangeAge,
}

/// The counts of one VM, or of one process.
#[derive(Debug)]
pub struct Metrics {
    sums: [AtomicI64; Metric::COUNT],
    samples: Mutex<Vec<(Histogram, u64)>>,
    /// Whether something was counted that does not happen at every request.
    is_due: AtomicBool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            sums: [const { AtomicI64::new(0) }; Metric::COUNT],
            samples: Mutex::default(),
            is_due: AtomicBool::new(false),
        }
    }
}

impl Metrics {
    /// Every metric, in the order by which [`Metrics::take`] names them.
    #[must_use]
    pub fn definitions() -> Vec<Definition> {
        let single = |kind, name| Definition { kind, name, label: None };
        let cases = |name, key, case| Definition { kind: Kind::Counter, name, label: Some((key, case)) };
        let by_reason = |name| Reason::ALL.map(|reason| cases(name, "reason", reason.name()));
        let by_end = |name| CalloutEnd::ALL.map(|end| cases(name, "outcome", end.name()));
        let mut all = vec![
            single(Kind::Counter, "passed"),
            single(Kind::Counter, "cache_hits"),
            single(Kind::Counter, "cache_misses"),
            single(Kind::Counter, "usage_dropped"),
            single(Kind::Gauge, "callouts_under_way"),
            single(Kind::Gauge, "cache_entries"),
            single(Kind::Gauge, "cache_bytes"),
            single(Kind::Gauge, "feeds_stale"),
        ];
        all.extend(CAUSES.map(|cause| cases("cache_evictions", "cause", cause)));
        all.extend(by_reason("refused"));
        all.extend(by_reason("shadow_refused"));
        all.extend(by_end("callouts"));
        all.extend(by_end("feed_answers"));
        all.extend(by_end("usage_reports"));
        all.extend(["feed_age_ms", "change_age_ms"].map(|name| single(Kind::Histogram, name)));
        all
    }

    /// Whether to take what was counted at once: more than requests that a cached verdict has allowed, which can wait for a tick.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.is_due.load(Ordering::Relaxed)
    }

    /// Takes what was counted since it was last taken: for each metric by its place among the [definitions](Metrics::definitions)
    /// the difference, or one value of a histogram.
    pub fn take(&self, mut report: impl FnMut(usize, i64)) {
        self.is_due.store(false, Ordering::Relaxed);
        for (place, sum) in self.sums.iter().enumerate() {
            // A counter that was corrected after it was taken waits until it has grown again: hosts take no less.
            let is_told = |counted: i64| counted > 0 || (counted < 0 && Metric::GAUGES.contains(&place));
            if !is_told(sum.load(Ordering::Relaxed)) {
                continue;
            }
            // Two threads that take at a time must not take the same.
            let counted = sum.swap(0, Ordering::Relaxed);
            if is_told(counted) {
                report(place, counted);
            } else {
                sum.fetch_add(counted, Ordering::Relaxed);
            }
        }
        for (histogram, value) in std::mem::take(&mut *locked(&self.samples)) {
            report(Metric::COUNT + histogram as usize, i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn add(&self, metric: Metric, difference: i64) {
        if let Some(sum) = self.sums.get(metric.0) {
            sum.fetch_add(difference, Ordering::Relaxed);
        }
        if !matches!(metric, Metric::ALLOWED | Metric::CACHE_HITS) && difference != 0 {
            self.is_due.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn increment(&self, metric: Metric) {
        self.add(metric, 1);
    }

    pub(super) fn record(&self, histogram: Histogram, time: Duration) {
        let mut samples = locked(&self.samples);
        if samples.len() < MAX_SAMPLES {
            samples.push((histogram, u64::try_from(time.as_millis()).unwrap_or(u64::MAX)));
        }
    }

    /// Entries have left a cache since it was last looked at.
    pub(super) fn evicted(&self, before: Evictions, after: Evictions) {
        let causes = |it: Evictions| [it.expired, it.capacity, it.changed, it.reset];
        for (place, (before, after)) in causes(before).into_iter().zip(causes(after)).enumerate() {
            self.add(
                Metric(Metric::EVICTIONS + place),
                i64::try_from(after.saturating_sub(before)).unwrap_or(0),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_is_taken_by_the_place_of_its_definition() {
        let definitions = Metrics::definitions();
        assert_eq!(definitions.len(), Metric::COUNT + 2);
        let metrics = Metrics::default();
        let taken = |metrics: &Metrics| {
            let mut taken = Vec::new();
            metrics.take(|place, difference| taken.push((definitions[place], difference)));
            taken
        };
        let only = |metric, name, label| {
            metrics.increment(metric);
            metrics.increment(metric);
            let [(definition, 2)] = taken(&metrics)[..] else { panic!("one metric was counted twice") };
            assert_eq!((definition.name, definition.label.map(|(_, case)| case)), (name, label));
        };
        only(Metric::ALLOWED, "passed", None);
        only(Metric::FEEDS_STALE, "feeds_stale", None);
        for reason in Reason::ALL {
            only(Metric::denied(reason), "refused", Some(reason.name()));
            only(Metric::shadow_denied(reason), "shadow_refused", Some(reason.name()));
        }
        for end in CalloutEnd::ALL {
            only(Metric::callouts(end), "callouts", Some(end.name()));
            only(Metric::feed(end), "feed_answers", Some(end.name()));
            only(Metric::reports(end), "usage_reports", Some(end.name()));
        }
        metrics.evicted(Evictions::default(), Evictions { reset: 3, ..Evictions::default() });
        metrics.record(Histogram::ChangeAge, Duration::from_millis(7));
        let [(evicted, 3), (age, 7)] = taken(&metrics)[..] else { panic!("two metrics have changed") };
        assert_eq!((evicted.label, age.name), (Some(("cause", "reset")), "change_age_ms"));
        assert_eq!(taken(&metrics), []);
    }

    #[test]
    fn a_counter_never_shrinks_at_the_host_and_a_gauge_may() {
        let metrics = Metrics::default();
        let taken = || {
            let mut taken = Vec::new();
            metrics.take(|place, difference| taken.push((place, difference)));
            taken
        };
        metrics.add(Metric::ALLOWED, -1);
        metrics.add(Metric::CACHE_BYTES, -7);
        assert_eq!(taken(), [(Metric::CACHE_BYTES.0, -7)]);
        metrics.add(Metric::ALLOWED, 3);
        assert_eq!(taken(), [(Metric::ALLOWED.0, 2)]);
        let gauges = Metrics::definitions().iter().filter(|it| it.kind == Kind::Gauge).count();
        assert_eq!(gauges, Metric::GAUGES.len());
    }

    #[test]
    fn what_several_threads_take_at_a_time_is_what_was_counted() {
        let metrics = Metrics::default();
        let taken = AtomicI64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        metrics.increment(Metric::CACHE_MISSES);
                        metrics.take(|_, difference| {
                            taken.fetch_add(difference, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), 40_000);
    }

    #[test]
    fn no_two_metrics_have_one_name() {
        let mut definitions: Vec<_> = Metrics::definitions().iter().map(|it| (it.name, it.label)).collect();
        let count = definitions.len();
        definitions.sort_unstable();
        definitions.dedup();
        assert_eq!(definitions.len(), count);
    }

    #[test]
    fn values_that_nobody_takes_take_no_room_without_end() {
        let metrics = Metrics::default();
        for _ in 0..2 * MAX_SAMPLES {
            metrics.record(Histogram::FeedAge, Duration::from_millis(1));
        }
        let mut taken = 0;
        metrics.take(|_, _| taken += 1);
        assert_eq!(taken, MAX_SAMPLES);
    }
}
