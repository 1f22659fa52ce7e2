//! Look-ups that share a statement: most of what one costs is the way to the database and back, so those that come
//! while others are under way are asked for together, next. A look-up is of one token or of several; it is never divided, so that
//! all of its verdicts are of one revision.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use latchkey::token::TokenHash;
use latchkey::wire::{MAX_TOKEN_HASHES, TokenHashes};
use sqlx::{AssertSqlSafe, query};
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::Store;
use super::error::{Failure, StoreError};
use super::found::{Found, Sought};
use super::row::{MANY, list, millis};
use super::transaction::{Tx, Work};
use crate::domain::changes::Position;
use crate::domain::time::Timestamp;
use crate::domain::token::TokenId;
use crate::domain::verdict::{Outcome, Verdict, Verdicts};

/// How long a statement may take before those that wait for their turn are asked for beside it: one connection that
/// hangs holds up no look-up but its own.
const SLOW: Duration = Duration::from_millis(10);

/// The most tokens of one statement: no look-up has more.
const MOST: usize = MAX_TOKEN_HASHES;

/// What is being looked up.
#[derive(Debug, Default)]
pub(super) struct LookUps {
    waiting: Mutex<Vec<LookUp>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// The right to ask the database for those that wait. It is given back by one who saw that nobody does.
type Turn = OwnedMutexGuard<()>;

/// One that waits for its verdicts.
#[derive(Debug)]
struct LookUp {
    hashes: TokenHashes,
    answer: oneshot::Sender<Result<Verdicts, StoreError>>,
}

impl LookUp {
    fn tell(self, verdicts: Result<Verdicts, StoreError>) {
        // Whoever does not wait any more needs no answer.
        let _ = self.answer.send(verdicts);
    }
}

impl LookUps {
    fn add(&self, look_up: LookUp) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(look_up);
    }

    /// Those that wait, as many as one statement takes; `None`: nobody does, and the turn has ended. Whoever has waited longest comes
    /// along, however many its tokens; what room it leaves is for those behind it that fit, so that a large look-up is held up by no
    /// small ones, nor they by it.
    fn next(&self, turn: Turn) -> Option<(Turn, Vec<LookUp>)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|look_up| !look_up.answer.is_closed());
        if waiting.is_empty() {
            // While nobody can be added: whoever is next finds it free.
            drop(turn);
            return None;
        }
        let mut room = MOST;
        let next = waiting.extract_if(.., |look_up| {
            let left = room.checked_sub(look_up.hashes.as_slice().len());
            room = left.unwrap_or(room);
            left.is_some()
        });
        let next = next.collect();
        Some((turn, next))
    }
}

impl Store {
    /// What the service says of a token hash.
    ///
    /// # Errors
    /// [`StoreError::NotBootstrapped`], [`StoreError::Unavailable`]: then there is no verdict, neither yes nor no.
    pub async fn verify(&self, hash: TokenHash) -> Result<Verdict, StoreError> {
        let Verdicts { epoch, revision, outcomes } = self.verify_all(hash.into()).await?;
        let outcome = outcomes.into_iter().next().ok_or(Failure::GivenUp)?;
        Ok(Verdict { epoch, revision, outcome })
    }

    /// What the service says of several token hashes, as of one revision: they are looked up by one statement.
    ///
    /// # Errors
    /// As [`Store::verify`], and then there is no verdict on any of them.
    pub async fn verify_all(&self, hashes: TokenHashes) -> Result<Verdicts, StoreError> {
        let (answer, verdicts) = oneshot::channel();
        self.0.look_ups.add(LookUp { hashes, answer });
        self.ask();
        verdicts.await.unwrap_or_else(|_| Err(Failure::GivenUp.into()))
    }

    /// Sees to it that those who wait are asked for.
    fn ask(&self) {
        if let Ok(turn) = self.0.look_ups.turn.clone().try_lock_owned() {
            // A task of its own: whoever came first may go away, and the others still wait.
            tokio::spawn(self.clone().take(turn));
        }
    }

    async fn take(self, mut turn: Turn) {
        loop {
            // What has arrived already comes along.
            tokio::task::yield_now().await;
            let Some((kept, batch)) = self.0.look_ups.next(turn) else { return };
            let mut answered = pin!(self.answer(batch));
            if tokio::time::timeout(SLOW, &mut answered).await.is_err() {
                drop(kept);
                self.ask();
                return answered.await;
            }
            turn = kept;
        }
    }

    async fn answer(&self, batch: Vec<LookUp>) {
        let found = self.found(&batch).await.map_err(Arc::new);
        // The time of the answer, so that a slow database does not stretch a token's life.
        let now = self.sources().now();
        let (mut first_uses, mut ids) = (Vec::new(), Vec::new());
        for look_up in batch {
            let verdicts = verdicts(&found, &look_up.hashes, now);
            let known = ids.len();
            ids.extend(verdicts.iter().flat_map(unused_successors));
            if ids.len() > known {
                first_uses.push(look_up);
            } else {
                look_up.tell(verdicts);
            }
        }
        if !ids.is_empty() {
            // A task of its own: the others need not wait until it is written.
            tokio::spawn(self.clone().answer_first_uses(first_uses, ids));
        }
    }

    /// Notes that successors are in use, and only then says what they are: so whoever was told that one is valid, it is not
    /// replaced by a repeated rotation. One that was replaced just before is found revoked. What was asked for together with one
    /// is read again with it, so that all of it is of one revision.
    async fn answer_first_uses(self, batch: Vec<LookUp>, mut ids: Vec<TokenId>) {
        ids.sort_unstable();
        ids.dedup();
        let found = match self.write(&TakeIntoUse(&ids)).await {
            Ok(()) => self.found(&batch).await,
            Err(error) => Err(error),
        };
        let (found, now) = (found.map_err(Arc::new), self.sources().now());
        for look_up in batch {
            let verdicts = verdicts(&found, &look_up.hashes, now);
            look_up.tell(verdicts);
        }
    }

    /// Asks once more where the server had ended the connection: what is only read can be read again.
    async fn found(&self, batch: &[LookUp]) -> Result<Found, StoreError> {
        match self.find(batch).await {
            Err(error) if error.is_lost_connection() => self.find(batch).await,
            found => found,
        }
    }

    async fn find(&self, batch: &[LookUp]) -> Result<Found, StoreError> {
        let hashes = batch.iter().flat_map(|look_up| look_up.hashes.as_slice()).copied().collect();
        let sought = Sought::new(hashes);
        let row = self.one(sought.statement()?).await?;
        let found = Found::of(sought, &row)?;
        self.go_by_clock_of(&found.at.epoch).await?;
        Ok(found)
    }
}

/// Notes when successors were first looked up.
struct TakeIntoUse<'a>(&'a [TokenId]);

impl Work for TakeIntoUse<'_> {
    type Output = ();

    /// It takes nothing away, but may use the reserve too: a token works on a full disk, also one that is to revoke others.
    fn is_revocation(&self) -> bool {
        true
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        for some in self.0.chunks(MANY) {
            let text = "UPDATE tokens SET in_use_since = $1 WHERE in_use_since IS NULL AND id IN";
            let statement = query(AssertSqlSafe(format!("{text} {}", list(2, some.len()))));
            let statement = statement.bind(millis(tx.now()));
            let statement = some.iter().fold(statement, |statement, id| statement.bind(id.to_string()));
            statement.execute(&mut *tx.connection).await?;
        }
        Ok(())
    }
}

/// What is said of some hashes, where this was found.
fn verdicts(
    found: &Result<Found, Arc<StoreError>>,
    hashes: &TokenHashes,
    now: Timestamp,
) -> Result<Verdicts, StoreError> {
    match found {
        Ok(found) => {
            let outcomes = hashes.as_slice().iter().map(|hash| found.outcome(hash, now));
            let outcomes = outcomes.collect::<Result<_, _>>()?;
            let Position { epoch, revision } = found.at.clone();
            Ok(Verdicts { epoch, revision, outcomes })
        }
        Err(error) if matches!(**error, StoreError::NotBootstrapped) => Err(StoreError::NotBootstrapped),
        Err(error) => Err(Failure::Shared(error.clone()).into()),
    }
}

/// The tokens of these verdicts that may be used, and succeed others that a repeated rotation could still replace.
fn unused_successors(verdicts: &Verdicts) -> impl Iterator<Item = TokenId> {
    verdicts.outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Valid(token) if token.is_unused_successor() => Some(token.id),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answers = Vec<oneshot::Receiver<Result<Verdicts, StoreError>>>;

    /// Look-ups of so many tokens each that wait, in this order.
    fn waiting(sizes: &[usize]) -> (LookUps, Answers) {
        let look_ups = LookUps::default();
        let add = |size: &usize| {
            let (answer, verdicts) = oneshot::channel();
            let hashes = vec![TokenHash::of(b"x"); *size].try_into().unwrap();
            look_ups.add(LookUp { hashes, answer });
            verdicts
        };
        let answers = sizes.iter().map(add).collect();
        (look_ups, answers)
    }

    /// The sizes of those that each statement is for, until nobody waits.
    fn statements(look_ups: &LookUps) -> Vec<Vec<usize>> {
        let next = || {
            let turn = look_ups.turn.clone().try_lock_owned().unwrap();
            let (_, next) = look_ups.next(turn)?;
            Some(next.iter().map(|look_up| look_up.hashes.as_slice().len()).collect())
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_look_up_of_the_most_tokens_is_one_statement_whatever_waits_beside_it() {
        let (look_ups, _answers) = waiting(&[1, MOST, 1, 1, MOST]);
        assert_eq!(statements(&look_ups), [vec![1, 1, 1], vec![MOST], vec![MOST]]);
    }

    #[test]
    fn whoever_has_waited_longest_is_next_whatever_its_size() {
        let (look_ups, _answers) = waiting(&[40, 40, 20, 40, 5]);
        assert_eq!(statements(&look_ups), [vec![40, 20], vec![40, 5], vec![40]]);
        let small = [vec![1; 100], vec![MOST], vec![1; 100]].concat();
        let (look_ups, _answers) = waiting(&small);
        let sizes = statements(&look_ups);
        assert_eq!(sizes[..3], [vec![1; MOST], vec![1; MOST], vec![MOST]]);
    }

    #[test]
    fn those_that_have_gone_take_no_room() {
        let (look_ups, mut answers) = waiting(&[MOST, 1, MOST, 1]);
        answers.remove(0);
        answers.remove(1);
        assert_eq!(statements(&look_ups), [vec![1, 1]]);
    }
}
