//! Edges that a running service turns away for want of its secret, by its own metrics: requests go on meanwhile, so that nobody
//! else may notice.

use latchkey::wire::{CHANGES_PATH, VERIFY_PATH};

use super::finding::Findings;
use crate::domain::time::Timestamp;
use crate::telemetry::EDGE_REFUSED_AT;

const CHECK: &str = "edges";
/// How far back a denied call still matters, in seconds. A feed that is denied is asked for every few seconds.
const RECENT: f64 = 600.0;

/// Looks at what the service's `/metrics` say.
pub(super) fn check(metrics: &str, now: Timestamp, findings: &mut Findings) {
    for (path, at) in metrics.lines().filter_map(denied_call) {
        #[expect(clippy::cast_precision_loss, reason = "53 bits of seconds are enough")]
        let ago = now.as_second() as f64 - at;
        // The doctor itself asks for a verdict without a secret, and an edge whose look-ups are denied allows nothing, which
        // everybody notices.
        if ago >= RECENT || path == VERIFY_PATH {
            continue;
        }
        let message =
            format!("a call of {path} came without an accepted edge secret {:.0} s ago.", ago.max(0.0));
        if path == CHANGES_PATH {
            findings.problem(
                CHECK,
                format!("{message} An edge whose change feed is denied caches nothing."),
                "Give each cluster of the edge the secret: look-ups, change feed and usage reports. The service's log has the address.",
            );
        } else {
            findings.warning(
                CHECK,
                message,
                "Give each cluster of the edge the secret, or find out who calls. The service's log has the address.",
            );
        }
    }
}

/// The path and the time of a line of the metric.
fn denied_call(line: &str) -> Option<(&str, f64)> {
    let (path, at) = line.strip_prefix(EDGE_REFUSED_AT)?.strip_prefix("{path=\"")?.split_once("\"} ")?;
    Some((path, at.trim().parse().ok()?))
}
