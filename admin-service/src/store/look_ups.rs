//! Look-ups that share a statement: most of what one costs is the way to the database and back, so those that come
//! while others are under way are asked for together, next.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use latchkey::token::TokenHash;
use latchkey::wire::RefusalReason;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::error::{Failure, StoreError};
use super::row::{Columns, MANY, list, millis};
use super::token_rows::{select_token, token};
use super::transaction::{Tx, Work};
use super::{Store, history};
use crate::domain::changes::{Position, Standing};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenId;
use crate::domain::verdict::{Outcome, Verdict};

/// How long a statement may take before those that wait for their turn are asked for beside it: one connection that
/// hangs holds up no look-up but its own.
const SLOW: Duration = Duration::from_millis(10);

/// For how many tokens there is a statement. Of fewer, the last is asked for again.
const SIZES: [usize; 7] = [1, 2, 4, 8, 16, 32, MOST];
/// The most tokens of one statement.
const MOST: usize = 64;

/// The statements, each with its size: token, user and revision are of one moment.
static STATEMENTS: LazyLock<[(usize, Arc<str>); SIZES.len()]> = LazyLock::new(|| {
    SIZES.map(|size| {
        let select = select_token!(
            ", h.epoch, h.revision, h.stamp, h.bootstrapped FROM history h LEFT JOIN tokens t ON t.hash IN"
        );
        (
            size,
            format!("{select} {} LEFT JOIN users u ON u.id = t.user_id WHERE h.singleton = 1", list(1, size))
                .into(),
        )
    })
});

/// What is being looked up.
#[derive(Debug, Default)]
pub(super) struct LookUps {
    waiting: Mutex<Vec<LookUp>>,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// As of where verdicts were given, the furthest of the history.
    furthest: Mutex<Option<Standing>>,
}

/// The right to ask the database for those that wait. It is given back by one who saw that nobody does.
type Turn = OwnedMutexGuard<()>;

/// One that waits for its verdict.
#[derive(Debug)]
struct LookUp {
    hash: TokenHash,
    answer: oneshot::Sender<Result<Verdict, StoreError>>,
}

impl LookUp {
    fn tell(self, verdict: Result<Verdict, StoreError>) {
        // Whoever does not wait any more needs no answer.
        let _ = self.answer.send(verdict);
    }
}

impl LookUps {
    fn add(&self, look_up: LookUp) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(look_up);
    }

    /// Notes as of where verdicts are given.
    fn note(&self, at: &Standing) {
        let mut furthest = self.furthest.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = furthest
            .as_ref()
            .map(|known| &known.position)
            .is_some_and(|known| known.epoch == at.position.epoch && known.revision >= at.position.revision);
        if !is_known {
            *furthest = Some(at.clone());
        }
    }

    /// Those that wait, as many as one statement takes; `None`: nobody does, and the turn has ended.
    fn next(&self, turn: Turn) -> Option<(Turn, Vec<LookUp>)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|look_up| !look_up.answer.is_closed());
        if waiting.is_empty() {
            // While nobody can be added: whoever is next finds it free.
            drop(turn);
            return None;
        }
        let count = waiting.len().min(MOST);
        Some((turn, waiting.drain(..count).collect()))
    }
}

impl Store {
    /// What the service says of a token hash.
    ///
    /// # Errors
    /// [`StoreError::NotBootstrapped`], [`StoreError::Unavailable`]: then there is no verdict, neither yes nor no.
    pub async fn verify(&self, hash: TokenHash) -> Result<Verdict, StoreError> {
        let (answer, verdict) = oneshot::channel();
        self.0.look_ups.add(LookUp { hash, answer });
        self.ask();
        verdict.await.unwrap_or_else(|_| Err(Failure::GivenUp.into()))
    }

    /// As of where this process has given verdicts, the furthest of the history: edges may have them in their caches, so that it is
    /// lost where the history is another one there.
    #[must_use]
    pub fn verdicts_as_of(&self) -> Option<Standing> {
        self.0.look_ups.furthest.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
            match verdict(&found, &look_up.hash, now) {
                Ok(Verdict { outcome: Outcome::Valid(token), .. }) if token.is_unused_successor() => {
                    ids.push(token.id);
                    first_uses.push(look_up);
                }
                verdict => look_up.tell(verdict),
            }
        }
        if !ids.is_empty() {
            // A task of its own: the others need not wait until it is written.
            tokio::spawn(self.clone().answer_first_uses(first_uses, ids));
        }
    }

    /// Notes that successors are in use, and only then says what they are: so whoever was told that one is valid, it is not
    /// replaced by a repeated rotation. One that was replaced just before is found revoked.
    async fn answer_first_uses(self, batch: Vec<LookUp>, mut ids: Vec<TokenId>) {
        ids.sort_unstable();
        ids.dedup();
        let found = match self.write(&TakeIntoUse(&ids)).await {
            Ok(()) => self.found(&batch).await,
            Err(error) => Err(error),
        };
        let (found, now) = (found.map_err(Arc::new), self.sources().now());
        for look_up in batch {
            let verdict = verdict(&found, &look_up.hash, now);
            look_up.tell(verdict);
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
        let mut hashes: Vec<TokenHash> = batch.iter().map(|look_up| look_up.hash).collect();
        let fitting = STATEMENTS.iter().find(|(size, _)| *size >= hashes.len());
        let Some(((size, sql), last)) = fitting.zip(hashes.last().copied()) else {
            return Err(sqlx::Error::RowNotFound.into());
        };
        hashes.resize(*size, last);
        let mut statement = query(AssertSqlSafe(sql.clone()));
        for hash in hashes {
            statement = statement.bind(hash.as_bytes().to_vec());
        }
        let found = Found::of(self.rows(statement).await?)?;
        self.0.look_ups.note(&found.at);
        self.go_by_clock_of(&found.at.position.epoch).await?;
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

/// What is said of a hash, where this was found.
fn verdict(
    found: &Result<Found, Arc<StoreError>>,
    hash: &TokenHash,
    now: Timestamp,
) -> Result<Verdict, StoreError> {
    match found {
        Ok(found) => found.verdict(hash, now),
        Err(error) if matches!(**error, StoreError::NotBootstrapped) => Err(StoreError::NotBootstrapped),
        Err(error) => Err(Failure::Shared(error.clone()).into()),
    }
}

/// What one statement has found.
struct Found {
    at: Standing,
    /// The tokens that are known.
    rows: HashMap<TokenHash, AnyRow>,
}

impl Found {
    /// Reads the rows of those tokens that are known; where none is, one row that tells the history alone.
    fn of(rows: Vec<AnyRow>) -> Result<Self, StoreError> {
        let head = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let at = Standing { position: history::valid_position(head)?, stamp: history::stamp(head)? };
        let mut known = HashMap::with_capacity(rows.len());
        for row in rows {
            if let Some(hash) = row.token_hash_or_null("hash")? {
                known.insert(hash, row);
            }
        }
        Ok(Self { at, rows: known })
    }

    fn verdict(&self, hash: &TokenHash, now: Timestamp) -> Result<Verdict, StoreError> {
        let outcome = match self.rows.get(hash) {
            Some(row) => Outcome::of(token(row)?, row.flag("user_active")?, now),
            None => Outcome::Refused(RefusalReason::Unknown, None),
        };
        let Position { epoch, revision } = self.at.position.clone();
        Ok(Verdict { epoch, revision, outcome })
    }
}
