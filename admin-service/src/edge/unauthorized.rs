//! Calls of the edge API without a secret that is accepted: counted by path, and told of in the log once a minute for each. An
//! edge whose cluster for the change feed lacks the secret caches nothing, and nobody who only looks at requests notices.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::MatchedPath;
use axum::http::request::Parts;
use latchkey::throttle::Throttle;

use crate::domain::time::Timestamp;
use crate::server::ClientAddress;
use crate::telemetry::{EDGE_REFUSED, EDGE_REFUSED_AT};

/// How often the log tells of them, for each path.
const LINES: Throttle = Throttle::new(1, Duration::from_secs(60));

/// The paths of which the log has told, of which there are as many as routes. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Unauthorized(Arc<Mutex<BTreeMap<String, Throttle>>>);

impl Unauthorized {
    /// One such call.
    pub fn note(&self, parts: &Parts, now: Timestamp) {
        let path = parts.extensions.get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
        metrics::counter!(EDGE_REFUSED, "path" => path.to_owned()).increment(1);
        metrics::gauge!(EDGE_REFUSED_AT, "path" => path.to_owned()).set(seconds(now));
        if let Some(not_logged) = self.admit(path, now) {
            let client = parts.extensions.get::<ClientAddress>();
            let client = client.map(|ClientAddress(address)| address.to_string());
            tracing::warn!(
                path,
                client,
                not_logged,
                "edge API call denied: no accepted edge secret; give each of the edge's clusters (look-ups, feed, usage) the secret"
            );
        }
    }

    /// Whether a line may be written: then, how many calls there were since the last one that none tells of.
    fn admit(&self, path: &str, now: Timestamp) -> Option<u64> {
        let now = Duration::from_millis(u64::try_from(now.as_millisecond()).unwrap_or(0));
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.entry(path.to_owned()).or_insert(LINES).admit(now)
    }
}

/// A time as Prometheus has them.
#[expect(clippy::cast_precision_loss, reason = "53 bits of seconds are enough")]
fn seconds(time: Timestamp) -> f64 {
    time.as_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_a_line_a_minute_and_the_rest_is_counted() {
        let unauthorized = Unauthorized::default();
        let at = |second: i64| Timestamp::from_millisecond((1_767_225_600 + second) * 1000).unwrap();
        let told = |path, second| unauthorized.admit(path, at(second));
        assert_eq!(told("/edge/v1/changes", 0), Some(0));
        assert_eq!(told("/edge/v1/usage", 1), Some(0), "another path");
        assert_eq!((told("/edge/v1/changes", 5), told("/edge/v1/changes", 59)), (None, None));
        assert_eq!(told("/edge/v1/changes", 60), Some(2));
    }
}
