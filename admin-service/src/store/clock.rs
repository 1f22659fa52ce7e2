//! The clock that the service goes by, watched. On PostgreSQL it is the database's, one for all replicas, measured against the
//! steady clock of this machine. Where the time jumps, the history gets a new epoch, so that edges ask again, and nothing is
//! deleted by that time until it was steady for an hour.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use sqlx::{AnyConnection, query, query_scalar};
use tokio::sync::MutexGuard;

use super::Store;
use super::doubt::{AtStart, Doubt};
use super::epoch::Rename;
use super::error::StoreError;
use super::migrate::Kind;
use super::patience::within;
use super::row::{Columns, millis};
use super::transaction::{Tx, Work};
use crate::clock::{Hold, STEADY, Sources, is_jump};
use crate::domain::audit::Origin;
use crate::domain::time::Timestamp;
use crate::domain::verdict::Epoch;
use crate::telemetry::CLOCK_JUMPS;

/// PostgreSQL's clock, in Unix milliseconds.
pub(super) const DATABASE_NOW: &str =
    "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now";
/// A look at what the clock is watched by, and the same with PostgreSQL's clock.
const LOOK: &str =
    "SELECT h.epoch, c.doubted_at FROM history h JOIN clock c ON c.singleton = 1 WHERE h.singleton = 1";
const LOOK_WITH_NOW: &str = "SELECT h.epoch, c.doubted_at, \
     CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now \
     FROM history h JOIN clock c ON c.singleton = 1 WHERE h.singleton = 1";
/// Of how many measurements the best is taken.
const SAMPLES: usize = 8;

/// One measurement of the database's clock, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Its time less the steady clock's in the middle of the round trip.
    above_steady: i64,
    /// How long the round trip took: the database was asked somewhen in it.
    round_trip: i64,
}

impl Sample {
    fn of(now: Timestamp, before: Duration, after: Duration) -> Self {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let round_trip = millis(after).saturating_sub(millis(before));
        Self { above_steady: now.as_millisecond() - millis(before) - round_trip / 2, round_trip }
    }
}

/// What the store remembers of its looks at the clock.
#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    latest: Mutex<Latest>,
    looking: tokio::sync::Mutex<Looking>,
}

/// What the latest look found.
#[derive(Clone, Debug, Default)]
struct Latest {
    epoch: Option<Epoch>,
    doubted_at: Option<Timestamp>,
}

/// What one look needs of those before it.
#[derive(Debug, Default)]
struct Looking {
    samples: VecDeque<Sample>,
    /// A jump that is noticed and not recorded yet.
    jumped: Option<SignedDuration>,
}

impl Looking {
    /// Takes a measurement, and goes by the best of the latest ones.
    fn take(&mut self, sample: Sample, sources: &Sources) {
        let moved = sources.database_moved(sample.above_steady);
        // Either of the two may be off by half its round trip.
        let followed = self.samples.iter().map(|sample| sample.round_trip).min().unwrap_or_default();
        if let Some(by) = is_jump(moved, (sample.round_trip + followed) / 2) {
            self.note_jump(by, sources);
            self.samples.clear();
        }
        self.samples.truncate(SAMPLES - 1);
        self.samples.push_front(sample);
        if let Some(best) = self.samples.iter().min_by_key(|sample| sample.round_trip) {
            sources.follow_database(best.above_steady);
        }
    }

    /// Doubts the time before anybody can go by it.
    fn note_jump(&mut self, by: SignedDuration, sources: &Sources) {
        sources.doubt_clock();
        metrics::counter!(CLOCK_JUMPS).increment(1);
        self.jumped = Some(by);
    }
}

impl Store {
    /// Looks at the clock: measures that of the database where the service goes by it, and where the time has jumped, stamps a new
    /// epoch and has nothing deleted by it for now. Of several processes that notice one jump, one stamps.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: the time then goes on by the steady clock, and a jump is recorded by the next look.
    pub async fn look_at_clock(&self) -> Result<(), StoreError> {
        let looking = self.0.clock.looking.lock().await;
        self.look_in_turn(looking).await
    }

    async fn look_in_turn(&self, mut looking: MutexGuard<'_, Looking>) -> Result<(), StoreError> {
        let sources = self.sources();
        if let Some(by) = sources.jump() {
            looking.note_jump(by, sources);
            sources.accept_clock();
        }
        let (mut seen, sample) = self.ask_for_clock().await?;
        if let Some(sample) = sample {
            looking.take(sample, sources);
        }
        if let Some(by) = looking.jumped {
            // Another process may have stamped an epoch for this jump since the latest look: that one will do.
            let before = self.latest().epoch.or_else(|| seen.epoch.clone());
            seen = self.record(Doubt::Jumped(by), before.as_ref()).await?;
            looking.jumped = None;
        }
        *self.0.clock.latest.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        Ok(())
    }

    /// Looks whether the clock was set, or was wrong, while no service ran: by what the database holds.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; nothing is known then.
    pub async fn check_clock_at_start(&self) -> Result<(), StoreError> {
        let sources = self.sources();
        let (found, boot) = (self.found_at_start().await?, sources.boot());
        if let Some(doubt) = found.doubt(sources.now(), boot.as_ref()) {
            sources.doubt_clock();
            self.record(doubt, Some(&found.epoch)).await?;
        } else if boot.is_some() && boot != found.boot {
            // On a full disk it is not noted, and the next start knows less.
            let _ = self.write(&NoteBoot(boot)).await;
        }
        Ok(())
    }

    /// Why nothing may be deleted by the clock now, as of the latest look; `None`: it may.
    #[must_use]
    pub fn clock_hold(&self) -> Option<Hold> {
        let now = self.sources().now();
        let doubted = self.latest().doubted_at.is_some_and(|at| now < at.saturating_add(STEADY));
        self.sources().hold().or_else(|| doubted.then_some(Hold::Doubted))
    }

    /// Sees to it that the time is of a measurement that is not older than an epoch: whoever stamped it may have done so for a jump
    /// of the database's clock that this process has yet to see.
    pub(super) async fn go_by_clock_of(&self, epoch: &Epoch) -> Result<(), StoreError> {
        let is_older = || self.latest().epoch.is_some_and(|latest| latest != *epoch);
        if !self.sources().follows_database() || !is_older() {
            return Ok(());
        }
        let looking = self.0.clock.looking.lock().await;
        // Of many that wait for this, one looks.
        if is_older() { self.look_in_turn(looking).await } else { Ok(()) }
    }

    fn latest(&self) -> Latest {
        self.0.clock.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ask_for_clock(&self) -> Result<(Latest, Option<Sample>), StoreError> {
        let sources = self.sources();
        let text = if sources.follows_database() { LOOK_WITH_NOW } else { LOOK };
        self.0.in_place()?;
        let mut connection = self.0.readers.acquire().await?;
        let before = sources.steady();
        let done = within(self.0.patience, query(text).fetch_one(&mut *connection)).await;
        let after = sources.steady();
        let row = self.0.finished(&mut connection, done)?;
        self.0.still_in_place(&mut connection)?;
        let row = row?;
        let latest =
            Latest { epoch: Some(Epoch(row.text("epoch")?)), doubted_at: row.time_or_null("doubted_at")? };
        let sample = match sources.follows_database() {
            true => Some(Sample::of(row.time("now")?, before, after)),
            false => None,
        };
        Ok((latest, sample))
    }

    /// Records a doubt, and says how it stands then. With `before`, nothing is done where the history has another epoch by now.
    async fn record(&self, doubt: Doubt, before: Option<&Epoch>) -> Result<Latest, StoreError> {
        let recorded = self.write(&Record { doubt, before, boot: self.sources().boot() }).await?;
        if doubt.is_of_verdicts() {
            tracing::warn!(
                epoch = recorded.epoch.as_ref().map(ToString::to_string),
                "{doubt}; edges forget their verdicts, and nothing is deleted by the clock until it was steady for an hour"
            );
        } else {
            tracing::info!("{doubt}; nothing is deleted by the clock until it was steady for an hour");
        }
        Ok(recorded)
    }

    async fn found_at_start(&self) -> Result<AtStart, StoreError> {
        let row = self.one(query(
            "SELECT h.epoch, c.boot, c.above_boot_ms, c.doubted_at, c.known_ahead, r.delete_expired_every_ms AS every, \
             (SELECT MAX(last_run_at) FROM jobs) AS last_run, \
             (SELECT at FROM audit WHERE id = (SELECT MAX(id) FROM audit)) AS last_entry \
             FROM history h JOIN clock c ON c.singleton = 1 JOIN restrictions r ON r.singleton = 1 WHERE h.singleton = 1",
        ));
        let row = row.await?;
        let newest =
            [row.time_or_null("last_run")?, row.time_or_null("last_entry")?, row.time_or_null("doubted_at")?];
        let [.., doubted_at] = newest;
        Ok(AtStart {
            epoch: Epoch(row.text("epoch")?),
            boot: row.text_or_null("boot")?.zip(row.integer_or_null("above_boot_ms")?),
            newest: newest.into_iter().flatten().max(),
            doubted_at,
            known_ahead: row.time("known_ahead")?,
            every: Duration::from_millis(row.number("every")?),
        })
    }
}

/// Notes a doubt, with a new epoch where verdicts may be wrong.
struct Record<'a> {
    doubt: Doubt,
    before: Option<&'a Epoch>,
    boot: Option<(String, i64)>,
}

impl Work for Record<'_> {
    type Output = Latest;

    /// Edges go on accepting what has expired until they are told, on a full disk too.
    fn is_revocation(&self) -> bool {
        self.doubt.is_of_verdicts()
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Latest, StoreError> {
        let mut epoch = self.before.cloned();
        if self.doubt.is_of_verdicts() {
            let reason = self.doubt.to_string();
            let rename = Rename { lost: self.before, origin: Origin::scheduler(), reason: Some(&reason) };
            let at = rename.run(tx).await?;
            epoch = Some(at.epoch);
            if !tx.took_revision {
                let row = query("SELECT doubted_at FROM clock WHERE singleton = 1");
                let row = row.fetch_one(&mut *tx.connection).await?;
                return Ok(Latest { epoch, doubted_at: row.time_or_null("doubted_at")? });
            }
        }
        let now = tx.now();
        let ahead = if let Doubt::Ahead(newest) = self.doubt { newest } else { Timestamp::UNIX_EPOCH };
        let (boot, above) = self.boot.clone().unzip();
        query(
            "UPDATE clock SET doubted_at = $1, doubt = $2, boot = $3, above_boot_ms = $4, \
             known_ahead = CASE WHEN known_ahead < $5 THEN $5 ELSE known_ahead END WHERE singleton = 1",
        )
        .bind(millis(now))
        .bind(self.doubt.to_string())
        .bind(boot)
        .bind(above)
        .bind(millis(ahead))
        .execute(&mut *tx.connection)
        .await?;
        Ok(Latest { epoch, doubted_at: Some(now) })
    }
}

/// Notes how the machine's clock is set.
struct NoteBoot(Option<(String, i64)>);

impl Work for NoteBoot {
    type Output = ();

    async fn run(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let (boot, above) = self.0.clone().unzip();
        let note = query("UPDATE clock SET boot = $1, above_boot_ms = $2 WHERE singleton = 1");
        note.bind(boot).bind(above).execute(&mut *tx.connection).await?;
        Ok(())
    }
}

/// Has the service go by the clock of a database that has one, from its opening on.
pub(super) async fn follow_from_opening(
    connection: &mut AnyConnection,
    kind: Kind,
    sources: &Sources,
) -> Result<(), sqlx::Error> {
    if kind == Kind::Postgres && sources.yields_to_database() {
        sources.follow_database(best_of_two(connection, sources).await?.above_steady);
    }
    Ok(())
}

/// How far this machine's clock is ahead of the database's.
pub(super) async fn ahead_of(
    connection: &mut AnyConnection,
    sources: &Sources,
) -> Result<SignedDuration, sqlx::Error> {
    let sample = best_of_two(connection, sources).await?;
    let steady = i64::try_from(sources.steady().as_millis()).unwrap_or(i64::MAX);
    let own = sources.machine_now().as_millisecond();
    Ok(SignedDuration::from_millis(own - sample.above_steady - steady))
}

/// The first response comes late, as the statement is prepared for it.
async fn best_of_two(connection: &mut AnyConnection, sources: &Sources) -> Result<Sample, sqlx::Error> {
    let first = sample_on(connection, sources).await?;
    let second = sample_on(connection, sources).await?;
    Ok(if second.round_trip <= first.round_trip { second } else { first })
}

async fn sample_on(connection: &mut AnyConnection, sources: &Sources) -> Result<Sample, sqlx::Error> {
    let before = sources.steady();
    let now: i64 = query_scalar(DATABASE_NOW).fetch_one(connection).await?;
    let now = Timestamp::from_millisecond(now).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(Sample::of(now, before, sources.steady()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_is_of_the_middle_of_its_round_trip() {
        let sample = Sample::of(
            "1970-01-01T00:01:00Z".parse().unwrap(),
            Duration::from_secs(10),
            Duration::from_secs(12),
        );
        assert_eq!((sample.above_steady, sample.round_trip), (49_000, 2_000));
    }
}
