//! Looking a credential's token up and judging it as the filter does, for those who ask the service itself: callers of the
//! management API, and gateways.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use latchkey::credential::Credential;
use latchkey::gate::{self, Identity};
use latchkey::refusal::Refusal;

use crate::app::App;
use crate::domain::changes::Position;
use crate::domain::verdict::Outcome;
use crate::edge::verify::wire_answer;
use crate::error::chain;
use crate::store::StoreError;

/// The moment of the look-up, on a clock of its own: what was found is judged as soon as it is found.
const NOW: Duration = Duration::ZERO;

/// Why nothing was found out.
pub enum NoVerdict {
    /// The database never had an administrator, so it says nothing of tokens.
    NotBootstrapped,
    /// The database does not answer; the log says why.
    Unavailable,
}

/// What was found.
pub struct LookedUp {
    /// The token, or why it may not be used.
    pub outcome: Outcome,
    /// Where the history stood.
    pub at: Position,
    verdict: gate::Verdict,
}

impl LookedUp {
    /// Looks a credential's token up.
    ///
    /// # Errors
    /// [`NoVerdict`].
    pub async fn of(credential: &Credential, app: &App) -> Result<Self, NoVerdict> {
        let found = app.store.verify(credential.hash).await.map_err(|error| match error {
            StoreError::NotBootstrapped => NoVerdict::NotBootstrapped,
            error => {
                tracing::warn!(cause = chain(&error), "a token cannot be looked up");
                NoVerdict::Unavailable
            }
        })?;
        let answer = wire_answer(credential.hash, &found, app.sources.now());
        let verdict = gate::Verdict::of(&answer, credential.hash, NOW).ok_or(NoVerdict::Unavailable)?;
        let at = Position { epoch: found.epoch, revision: found.revision };
        Ok(Self { outcome: found.outcome, at, verdict })
    }

    /// Judges the credential, for a request from `address` that needs every one of `scopes`; see [`gate::judge`].
    ///
    /// # Errors
    /// The refusal.
    pub fn judge(
        &self,
        credential: &Credential,
        scopes: &Arc<[String]>,
        address: Option<IpAddr>,
    ) -> Result<Arc<Identity>, Refusal> {
        gate::judge(credential, scopes, address, &self.verdict, NOW)
    }

    /// The identifier of the token, if there is one, whether or not it may be used.
    #[must_use]
    pub fn token_id(&self) -> Option<&str> {
        self.verdict.owner().map(|owner| owner.token_id)
    }
}
