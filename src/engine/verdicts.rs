//! What the service says of tokens, as a callout brings it.

use std::time::Duration;

use super::callout::{CalloutEnd, CalloutResult};
use crate::gate::Verdict;
use crate::wire::{TokenHashes, VerifyBatchResponse, VerifyResponse};

/// The longest response with one verdict that is read, in bytes; one with several may take as much for each.
const MAX_VERDICT: usize = 64 * 1024;

/// A verdict that has arrived.
pub(super) struct Arrived {
    pub response: VerifyResponse,
    /// What is cached of it: ends with its token, however long the response was in flight.
    pub cached: Verdict,
    /// What counts for streams that wait: for them it is the service's word now.
    pub verdict: Verdict,
}

/// The verdicts on just these tokens, in this order, of a callout that was sent at `sent_at`. Envoy's own responses, and whatever is
/// longer than verdicts are, are none.
pub(super) fn read(
    result: CalloutResult<'_>,
    hashes: &TokenHashes,
    sent_at: Duration,
    now: Duration,
) -> Result<Vec<Arrived>, CalloutEnd> {
    let hashes = hashes.as_slice();
    let responses: Vec<VerifyResponse> = if hashes.len() == 1 {
        vec![result.read(b"200", MAX_VERDICT)?]
    } else {
        let most = MAX_VERDICT.saturating_mul(hashes.len());
        result.read::<VerifyBatchResponse>(b"200", most)?.into_responses().collect()
    };
    if responses.len() != hashes.len() {
        return Err(CalloutEnd::BadAnswer);
    }
    let arrived = responses.into_iter().zip(hashes).map(|(response, hash)| {
        let verdict = Verdict::of(&response, *hash, now)?;
        let cached = Verdict::of(&response, *hash, sent_at)?;
        Some(Arrived { response, cached, verdict })
    });
    arrived.collect::<Option<_>>().ok_or(CalloutEnd::BadAnswer)
}
