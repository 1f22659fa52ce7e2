//! What the service tells its operators: log lines on stderr, and metrics in the format of Prometheus.

mod log_level;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{LogArgs, LogFormat};
use crate::lifecycle::Shutdown;
pub use log_level::BadLogLevel;

/// Requests answered, by `listener`, `method`, `path` (the route's pattern) and `status`.
pub const REQUESTS: &str = "latchkey_http_requests_total";
/// How long answers took, in seconds, by `listener` and `path`.
pub const REQUEST_SECONDS: &str = "latchkey_http_request_duration_seconds";
/// Answers that say no, by `listener` and `code` (the codes of error bodies).
pub const ERRORS: &str = "latchkey_errors_total";
/// Requests being answered, by `listener`.
pub const REQUESTS_UNDER_WAY: &str = "latchkey_http_requests_under_way";
/// Open connections, by `listener`.
pub const CONNECTIONS: &str = "latchkey_connections";
/// Verdicts given to edges, by `outcome`: `usable`, `unknown`, `expired`, `revoked`, `user_disabled` or `unavailable`.
pub const VERDICTS: &str = "latchkey_verdicts_total";
/// Usage reports of edges, by `outcome`: `counted`, `repeated` (counted before), `refused` (no report) or `unavailable`.
pub const USAGE_REPORTS: &str = "latchkey_usage_reports_total";
/// Requests whose use of a token was not counted, because too many other tokens wait to be written down.
pub const USAGE_DROPPED: &str = "latchkey_usage_dropped_total";
/// Decisions for gateways without the filter, by `outcome`: `passed`, a reason of the filter's, `too_many_failures`
/// or `misunderstood`.
pub const AUTHZ: &str = "latchkey_authz_total";
/// Introspected tokens, by `outcome`: `active`, `inactive`, `refused` (no question) or `unavailable`.
pub const INTROSPECTIONS: &str = "latchkey_introspections_total";
/// Changes that could not be written, by `kind`: `full` (the disk is) or `unavailable` (the database does not answer in time).
pub const WRITES_FAILED: &str = "latchkey_writes_failed_total";
/// Edges that wait for changes.
pub const FEEDS_WAITING: &str = "latchkey_feeds_waiting";
/// The latest revision that the feed has heard of.
pub const REVISION: &str = "latchkey_revision";
/// Answers of the change feed, by `outcome`: `changes`, `timeout`, `reset`, `ending` or `unavailable`.
pub const CHANGES_ANSWERED: &str = "latchkey_changes_answered_total";
/// Management API callers refused, by `reason` (the filter's reasons).
pub const REFUSED: &str = "latchkey_api_refused_total";
/// Edges that came without an accepted secret, by `path`.
pub const EDGE_REFUSED: &str = "latchkey_edge_refused_total";
/// When the last one came, by `path`, in seconds since 1970.
pub const EDGE_REFUSED_AT: &str = "latchkey_edge_refused_last_timestamp_seconds";
/// Requests that came through a proxy while none was trusted, so that their clients count as one.
pub const FORWARDED_IGNORED: &str = "latchkey_forwarded_ignored_total";
/// How far this machine's clock is ahead of the database's, in seconds; 0 where the service goes by this machine's.
pub const CLOCK_AHEAD: &str = "latchkey_clock_ahead_of_database_seconds";
/// Jumps of the clock that the service goes by, by more than a second.
pub const CLOCK_JUMPS: &str = "latchkey_clock_jumps_total";
/// 1 while nothing is deleted by time, for the clock may be wrong.
pub const SCHEDULER_PAUSED: &str = "latchkey_scheduler_paused";
/// 1, with the `version` that runs.
pub const BUILD: &str = "latchkey_build_info";

/// Upper bounds of the latency histogram, in seconds.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// How often the histograms are brought up to date at least.
const UPKEEP: Duration = Duration::from_secs(5);

/// What cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log level is no filter.
    #[error("--log-level (or LATCHKEY_LOG_LEVEL): {0}.")]
    Level(BadLogLevel),
}

/// Sends log lines to stderr, panics included.
///
/// # Errors
/// [`TelemetryError`] when the level cannot be understood.
pub fn log(args: &LogArgs) -> Result<(), TelemetryError> {
    let lines = tracing_subscriber::fmt().with_env_filter(filter(args)?).with_writer(std::io::stderr);
    // A log that cannot be written, as on a full disk, is done without: complaining of that on stderr would panic.
    let lines = lines.log_internal_errors(false);
    // A second subscriber is refused; only tests that share a process ever try, and they need none.
    let _ = match args.log_format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            lines.with_ansi(colours).try_init()
        }
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place, message, "the program panicked; please report this");
    }));
    Ok(())
}

/// What is logged.
///
/// # Errors
/// [`TelemetryError`] when the level cannot be understood.
pub fn filter(args: &LogArgs) -> Result<EnvFilter, TelemetryError> {
    log_level::filter(&args.log_level).map_err(TelemetryError::Level)
}

/// Starts collecting metrics, once in a process, and gives what renders them.
pub fn metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let matcher = Matcher::Full(REQUEST_SECONDS.to_owned());
            // The only error is an empty list of buckets.
            let builder = PrometheusBuilder::new();
            let builder = builder
                .set_buckets_for_metric(matcher, &BUCKETS)
                .unwrap_or_else(|_| PrometheusBuilder::new());
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            // Refused only where a recorder is there already, which the lock above rules out.
            let _ = metrics::set_global_recorder(recorder);
            describe();
            handle
        })
        .clone()
}

/// Folds what was measured into the histograms now and then, which otherwise only a scrape does: where nobody scrapes,
/// each measurement would stay in memory. Ends with the service.
pub async fn keep_up(metrics: PrometheusHandle, mut shutdown: Shutdown) {
    while !shutdown.requested_within(UPKEEP).await {
        metrics.run_upkeep();
    }
}

/// The help texts of `/metrics`.
fn describe() {
    metrics::describe_counter!(REQUESTS, "Requests answered, by listener, method, path pattern and status.");
    metrics::describe_histogram!(REQUEST_SECONDS, metrics::Unit::Seconds, "How long answers took.");
    metrics::describe_counter!(ERRORS, "Answers that say no, by listener and code.");
    metrics::describe_gauge!(REQUESTS_UNDER_WAY, "Requests being answered now.");
    metrics::describe_gauge!(CONNECTIONS, "Open connections.");
    metrics::describe_counter!(VERDICTS, "Verdicts given to edges, by outcome.");
    metrics::describe_counter!(USAGE_REPORTS, "Usage reports of edges, by outcome.");
    metrics::describe_counter!(USAGE_DROPPED, "Requests that were not counted for their token.");
    metrics::describe_counter!(AUTHZ, "Decisions for gateways without the filter, by outcome.");
    metrics::describe_counter!(INTROSPECTIONS, "Introspected tokens, by outcome.");
    metrics::describe_counter!(WRITES_FAILED, "Changes that could not be written, by kind.");
    metrics::describe_gauge!(FEEDS_WAITING, "Edges that wait for changes now.");
    metrics::describe_gauge!(REVISION, "The latest revision that the change feed has heard of.");
    metrics::describe_counter!(CHANGES_ANSWERED, "Answers of the change feed, by outcome.");
    metrics::describe_counter!(REFUSED, "Management API callers refused, by reason.");
    metrics::describe_counter!(EDGE_REFUSED, "Edge API callers without an accepted secret, by path.");
    metrics::describe_gauge!(EDGE_REFUSED_AT, "When the last of these came, by path.");
    metrics::describe_gauge!(
        CLOCK_AHEAD,
        metrics::Unit::Seconds,
        "How far this machine's clock is ahead of the database's."
    );
    metrics::describe_counter!(CLOCK_JUMPS, "Jumps of the service's clock by more than a second.");
    metrics::describe_gauge!(
        SCHEDULER_PAUSED,
        "1 while nothing is deleted by time, for the clock may be wrong."
    );
    metrics::describe_gauge!(BUILD, "Always 1; the label says which version runs.");
    metrics::gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// Measures how long something takes. It decides nothing, so it need not be passed in as the clock is.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    #[expect(
        clippy::disallowed_methods,
        reason = "measures for a log line and a metric; no decision depends on it"
    )]
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
