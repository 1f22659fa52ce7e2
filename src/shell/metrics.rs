//! What the filter counts, in Envoy's stats. The names are part of the product; the README lists them.

use std::cell::OnceCell;
use std::rc::Rc;

use super::host::{self, MetricKind};
use crate::refusal::Reason;

/// How a callout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalloutEnd {
    /// With a verdict.
    Ok,
    /// It took too long.
    Timeout,
    /// No connection, or one that broke.
    Unreachable,
    /// The service does not accept the edge secret.
    Unauthorized,
    /// With an answer that is no verdict on the token that was asked about.
    BadAnswer,
    /// Envoy did not send it: no such cluster, no healthy host, or too many requests to it.
    NotSent,
}

impl CalloutEnd {
    /// Every end, in the order of their declaration.
    const ALL: [Self; 6] =
        [Self::Ok, Self::Timeout, Self::Unreachable, Self::Unauthorized, Self::BadAnswer, Self::NotSent];

    /// The end in metric names, after `latchkey.callouts.`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Unauthorized => "unauthorized",
            Self::BadAnswer => "bad_answer",
            Self::NotSent => "not_sent",
        }
    }
}

/// One counter or gauge; nothing is counted where the host refused to define it.
#[derive(Debug)]
struct Metric(Option<u32>);

impl Metric {
    fn define(kind: MetricKind, name: &str) -> Self {
        Self(host::define_metric(kind, name))
    }

    fn change(&self, difference: i64) {
        if let Some(id) = self.0 {
            host::increment_metric(id, difference);
        }
    }
}

/// The metrics of one VM.
#[derive(Debug)]
pub struct Metrics {
    passed: Metric,
    refused: Vec<Metric>,
    shadow_refused: Vec<Metric>,
    callouts: Vec<Metric>,
    callouts_under_way: Metric,
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
        let by_reason = |group: &str| {
            Reason::ALL.map(|reason| counter(&format!("latchkey.{group}.{}", reason.name()))).into()
        };
        Self {
            passed: counter("latchkey.passed"),
            refused: by_reason("refused"),
            shadow_refused: by_reason("shadow_refused"),
            callouts: CalloutEnd::ALL.map(|end| counter(&format!("latchkey.callouts.{}", end.name()))).into(),
            callouts_under_way: Metric::define(MetricKind::Gauge, "latchkey.callouts_under_way"),
        }
    }

    /// A request passed because the decision was that it may.
    pub fn passed(&self) {
        self.passed.change(1);
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
