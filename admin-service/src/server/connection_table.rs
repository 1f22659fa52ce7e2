//! The open connections of a listener. A full listener evicts one for each new connection: an idle one that never authenticated,
//! then any idle one, then an active one that never authenticated, then one of a user with more than an eighth of all. Other
//! active connections are never evicted. So neither clients that only connect nor clients that never finish keep others out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use super::connection_state::ConnectionState;
use super::connections::Limits;
use crate::attempts::Source;
use crate::domain::user::UserName;

/// How often a listener sweeps its connections within its shortest timeout.
const SWEEPS: u32 = 4;
/// How often at least: a new connection may be waiting for one to become idle.
const MAX_SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How many requests may wait for others on their connection, on the whole listener.
const MAX_QUEUED: usize = 1024;

/// The open connections of a listener.
pub(super) struct ConnectionTable {
    pub limits: Limits,
    /// Permits for requests that wait for others on their connection.
    pub queue: Semaphore,
    open: Mutex<Open>,
    freed: Notify,
}

#[derive(Default)]
struct Open {
    /// By increasing number: the oldest is the first.
    entries: BTreeMap<u64, Entry>,
    last_number: u64,
    sweeps: u32,
}

struct Entry {
    source: Source,
    state: Arc<ConnectionState>,
    /// How many requests had ended at the latest sweep.
    ended: usize,
    /// How many sweeps have found it idle.
    idle_sweeps: u32,
}

/// The outcome for a new connection.
pub(super) enum Admission {
    Slot(Slot),
    /// Its address has as many active connections as it may.
    Refused,
    /// No connection can be evicted now.
    Full,
}

/// An open connection, until this is dropped.
pub(super) struct Slot {
    pub table: Arc<ConnectionTable>,
    pub state: Arc<ConnectionState>,
    number: u64,
}

impl ConnectionTable {
    pub fn new(limits: Limits) -> Self {
        Self { limits, queue: Semaphore::new(MAX_QUEUED), open: Mutex::default(), freed: Notify::new() }
    }

    /// How often [`ConnectionTable::sweep`] must be called.
    pub fn sweep_interval(&self) -> Duration {
        let Limits { first, idle, send_timeout, .. } = self.limits;
        (first.min(idle).min(send_timeout) / SWEEPS).min(MAX_SWEEP_INTERVAL)
    }

    /// After how many sweeps this time is over.
    fn sweeps_in(&self, time: Duration) -> u32 {
        let sweeps = time.as_millis().div_ceil(self.sweep_interval().as_millis().max(1));
        u32::try_from(sweeps).unwrap_or(u32::MAX)
    }

    /// Waits until a connection has ended.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection from this address, and evicts another where that is needed.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Admission {
        let Limits { connections, per_address, streams, first_streams, .. } = self.limits;
        let source = Source::from(address);
        let mut open = self.open();
        let share = (connections / 8).max(1);
        let is_full = per_address < connections && open.of(source) >= per_address;
        if is_full && !open.evict_one(share, |entry| entry.source == source) {
            return Admission::Refused;
        }
        if open.entries.len() >= connections && !open.evict_one(share, |_| true) {
            return Admission::Full;
        }
        let state =
            Arc::new(ConnectionState::new(first_streams.min(streams).try_into().unwrap_or(usize::MAX)));
        open.last_number += 1;
        let number = open.last_number;
        open.entries.insert(number, Entry { source, state: state.clone(), ended: 0, idle_sweeps: 0 });
        Admission::Slot(Slot { table: self.clone(), state, number })
    }

    /// Closes the connections that have exceeded a timeout: after at least that time, and less than twice as much.
    pub fn sweep(&self) {
        let Limits { first, idle, send_timeout, .. } = self.limits;
        let (first, idle, send_timeout) =
            (self.sweeps_in(first), self.sweeps_in(idle), self.sweeps_in(send_timeout));
        let mut open = self.open();
        open.sweeps = open.sweeps.wrapping_add(1);
        let epoch_ends = open.sweeps.is_multiple_of(send_timeout);
        for entry in open.entries.values_mut() {
            entry.sweep();
            let allowed = if entry.state.has_succeeded() { idle } else { first };
            if entry.idle_sweeps > allowed || (epoch_ends && entry.state.next_epoch()) {
                entry.state.close.notify_one();
            }
        }
    }
}

impl Open {
    /// How many connections come from this source.
    fn of(&self, source: Source) -> usize {
        self.entries.values().filter(|entry| entry.source == source).count()
    }

    /// Evicts one of these connections, if one may be; `share` is how many each user may keep.
    fn evict_one(&mut self, share: usize, among: impl Fn(&Entry) -> bool) -> bool {
        let shares = self.shares();
        let among = self.entries.iter().filter(|(_, entry)| among(entry));
        let ranked = among.filter_map(|(number, entry)| {
            let count = entry.state.user().and_then(|user| shares.get(user));
            let above_share = count.is_some_and(|count| *count > share);
            Some((entry.rank(above_share)?, Reverse(entry.idle_sweeps), *number))
        });
        let Some((_, _, number)) = ranked.min() else { return false };
        if let Some(entry) = self.entries.remove(&number) {
            entry.state.close.notify_one();
        }
        true
    }

    /// How many connections each user has.
    fn shares(&self) -> HashMap<&UserName, usize> {
        let mut shares = HashMap::new();
        for user in self.entries.values().filter_map(|entry| entry.state.user()) {
            *shares.entry(user).or_default() += 1;
        }
        shares
    }
}

impl Entry {
    fn sweep(&mut self) {
        let ended = self.state.ended();
        // A request in flight has timeouts of its own.
        if self.state.is_busy() || ended != self.ended {
            self.ended = ended;
            self.idle_sweeps = 0;
        } else {
            self.idle_sweeps += 1;
        }
    }

    /// The order of eviction; `None`: never.
    fn rank(&self, above_share: bool) -> Option<u8> {
        match (self.state.is_busy(), self.state.is_authenticated()) {
            (false, false) => Some(0),
            (false, true) => Some(1),
            (true, false) => Some(2),
            (true, true) => above_share.then_some(3),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.table.open().entries.remove(&self.number);
        self.table.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection_state::InFlight;
    use super::super::connections::AuthenticatedBy;
    use super::*;

    const LIMITS: Limits = Limits {
        connections: 4,
        per_address: 4,
        authenticated_by: AuthenticatedBy::Credential,
        streams: 8,
        first_streams: 2,
        first: Duration::from_secs(4),
        idle: Duration::from_secs(8),
        send_timeout: Duration::from_secs(4),
    };

    fn table(limits: Limits) -> Arc<ConnectionTable> {
        Arc::new(ConnectionTable::new(limits))
    }

    fn admit(table: &Arc<ConnectionTable>, address: &str) -> Slot {
        match table.admit(address.parse().unwrap()) {
            Admission::Slot(slot) => slot,
            Admission::Refused => panic!("refused"),
            Admission::Full => panic!("full"),
        }
    }

    fn begin(slot: &Slot) -> InFlight {
        InFlight::begin(slot.state.clone())
    }

    fn authenticate(slot: &Slot, user: &str) {
        slot.state.authenticate(Some(user.parse().unwrap()), 0);
    }

    /// Whether it was told to end.
    fn is_closed(slot: &Slot) -> bool {
        let mut told = Box::pin(slot.state.close.notified());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        told.as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn idle_connections_are_evicted_first_then_unauthenticated_ones_and_never_an_active_authenticated_one() {
        let table = table(LIMITS);
        let (stranger, known) = (admit(&table, "192.0.2.1"), admit(&table, "192.0.2.2"));
        let (asks, known_asks) = (admit(&table, "192.0.2.3"), admit(&table, "192.0.2.4"));
        authenticate(&known, "alice");
        authenticate(&known_asks, "bob");
        let _in_flight = (begin(&asks), begin(&known_asks));
        let mut new = Vec::new();
        for (expected, user) in [(&stranger, "carol"), (&known, "dave"), (&asks, "erin")] {
            assert!(!is_closed(expected));
            let slot = admit(&table, "192.0.2.5");
            assert!(is_closed(expected));
            authenticate(&slot, user);
            new.push((begin(&slot), slot));
        }
        assert!(matches!(table.admit("192.0.2.6".parse().unwrap()), Admission::Full));
        assert!(!is_closed(&known_asks) && new.iter().all(|(_, slot)| !is_closed(slot)));
    }

    #[test]
    fn a_user_with_more_than_an_eighth_is_evicted_even_while_active_and_others_are_not() {
        let table = table(Limits { connections: 16, per_address: 16, ..LIMITS });
        let slots: Vec<_> = (0..16).map(|_| admit(&table, "192.0.2.1")).collect();
        let _in_flight: Vec<_> = slots.iter().map(begin).collect();
        for (number, slot) in slots.iter().enumerate() {
            authenticate(slot, &format!("user{}", number / 2));
        }
        assert!(matches!(table.admit("192.0.2.2".parse().unwrap()), Admission::Full), "each has its eighth");
        drop(slots);
        let slots: Vec<_> = (0..16).map(|_| admit(&table, "192.0.2.1")).collect();
        let _in_flight: Vec<_> = slots.iter().map(begin).collect();
        for (number, slot) in slots.iter().enumerate() {
            authenticate(slot, if number == 0 { "alice" } else { "mallory" });
        }
        let _new = admit(&table, "192.0.2.2");
        assert!(!is_closed(&slots[0]) && is_closed(&slots[1]) && !is_closed(&slots[2]));
    }

    #[test]
    fn an_address_at_its_limit_evicts_its_own_connections() {
        let table = table(Limits { per_address: 2, connections: 16, ..LIMITS });
        let other = admit(&table, "192.0.2.9");
        let (first, second) = (admit(&table, "2001:db8::1"), admit(&table, "2001:db8::2"));
        let third = admit(&table, "2001:db8::3");
        assert!(is_closed(&first) && !is_closed(&second) && !is_closed(&other));
        let _in_flight = [&second, &third].map(|slot| {
            authenticate(slot, "alice");
            begin(slot)
        });
        assert!(matches!(table.admit("2001:db8::4".parse().unwrap()), Admission::Refused));
        admit(&table, "2001:db8:1::4");
    }

    #[test]
    fn idle_and_stalled_connections_are_closed_in_less_than_twice_their_timeout() {
        let table = table(LIMITS);
        let (unused, succeeded) = (admit(&table, "192.0.2.1"), admit(&table, "192.0.2.2"));
        let asks = admit(&table, "192.0.2.3");
        succeeded.state.succeed();
        let _in_flight = begin(&asks);
        let closed_after = |slot: &Slot| {
            let sweeps = (1..=64).find(|_| {
                table.sweep();
                is_closed(slot)
            });
            sweeps.map(|sweeps| sweeps * table.sweep_interval())
        };
        let within = |took: Option<Duration>, time: Duration| {
            assert!(took.is_some_and(|took| took > time && took < time * 2), "{took:?} for {time:?}");
        };
        let took = closed_after(&unused);
        within(took, LIMITS.first);
        let rest = closed_after(&succeeded);
        within(rest.map(|rest| rest + took.unwrap_or_default()), LIMITS.idle);
        assert_eq!(closed_after(&asks), None, "a request under way has limits of its own");
        let _unsent = super::super::connection_state::UnsentChunk::new(asks.state.clone());
        let took = closed_after(&asks);
        assert!(
            took.is_some_and(|took| took >= LIMITS.send_timeout && took <= LIMITS.send_timeout * 2),
            "{took:?}"
        );
    }
}
