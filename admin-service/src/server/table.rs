//! Who is connected to a listener. When it is full, somebody makes room: a connection that is unused and whose client is not known,
//! then any that is unused, then one of a stranger that asks something, then one of a user who has more than an eighth. Nobody else is
//! cut off. So neither those who only connect nor those who never finish keep others out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use super::activity::Activity;
use super::connections::Limits;
use crate::attempts::Source;
use crate::domain::user::UserName;

/// How often a listener looks at its connections within the shortest time that it gives them.
const LOOKS: u32 = 4;
/// How often at least: one that was in use until just now may be what makes room.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many requests may wait on all connections of strangers.
const WAITING: usize = 1024;

/// The open connections of a listener.
pub(super) struct Table {
    pub limits: Limits,
    /// Places for requests that wait until others on the same connection are answered.
    pub waiting: Semaphore,
    open: Mutex<Open>,
    freed: Notify,
}

#[derive(Default)]
struct Open {
    /// By their numbers, which grow: the oldest is the first.
    entries: BTreeMap<u64, Entry>,
    numbered: u64,
    looked: u32,
}

struct Entry {
    source: Source,
    activity: Arc<Activity>,
    /// How many requests had ended at the latest look.
    ended: usize,
    /// How many looks have found it unused.
    unused: u32,
}

/// What becomes of a new connection.
pub(super) enum Admission {
    Seat(Seat),
    /// Its address has too many.
    Refused,
    /// There is no room until one ends.
    Full,
}

/// An open connection, until it is dropped.
pub(super) struct Seat {
    pub table: Arc<Table>,
    pub activity: Arc<Activity>,
    number: u64,
}

impl Table {
    pub fn new(limits: Limits) -> Self {
        Self { limits, waiting: Semaphore::new(WAITING), open: Mutex::default(), freed: Notify::new() }
    }

    /// How often [`Table::look`] wants to be called.
    pub fn look_every(&self) -> Duration {
        let Limits { first, idle, untaken, .. } = self.limits;
        (first.min(idle).min(untaken) / LOOKS).min(LOOK_EVERY)
    }

    /// In how many looks this time is over for sure.
    fn looks_in(&self, time: Duration) -> u32 {
        let looks = time.as_millis().div_ceil(self.look_every().as_millis().max(1));
        u32::try_from(looks).unwrap_or(u32::MAX)
    }

    /// Waits until a connection has ended.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for a connection from this address.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Admission {
        let Limits { connections, each, streams, first_streams, .. } = self.limits;
        let source = Source::from(address);
        let mut open = self.open();
        let share = (connections / 8).max(1);
        let is_full = each < connections && open.of(source) >= each;
        if is_full && !open.make_room(share, |entry| entry.source == source) {
            return Admission::Refused;
        }
        if open.entries.len() >= connections && !open.make_room(share, |_| true) {
            return Admission::Full;
        }
        let activity = Arc::new(Activity::new(first_streams.min(streams).try_into().unwrap_or(usize::MAX)));
        open.numbered += 1;
        let number = open.numbered;
        open.entries.insert(number, Entry { source, activity: activity.clone(), ended: 0, unused: 0 });
        Admission::Seat(Seat { table: self.clone(), activity, number })
    }

    /// Closes the connections that were left unused for too long, or on which an answer was not taken for too long: at least so
    /// long, and less than twice.
    pub fn look(&self) {
        let Limits { first, idle, untaken, .. } = self.limits;
        let (first, idle, untaken) = (self.looks_in(first), self.looks_in(idle), self.looks_in(untaken));
        let mut open = self.open();
        open.looked = open.looked.wrapping_add(1);
        let turns = open.looked.is_multiple_of(untaken);
        for entry in open.entries.values_mut() {
            entry.look();
            let allowed = if entry.activity.has_succeeded() { idle } else { first };
            if entry.unused > allowed || (turns && entry.activity.turn()) {
                entry.activity.close.notify_one();
            }
        }
    }
}

impl Open {
    /// How many come from there.
    fn of(&self, source: Source) -> usize {
        self.entries.values().filter(|entry| entry.source == source).count()
    }

    /// Closes one of these connections, if one can be. A user has a right to so many.
    fn make_room(&mut self, share: usize, among: impl Fn(&Entry) -> bool) -> bool {
        let shares = self.shares();
        let among = self.entries.iter().filter(|(_, entry)| among(entry));
        let ranked = among.filter_map(|(number, entry)| {
            let count = entry.activity.user().and_then(|user| shares.get(user));
            let greedy = count.is_some_and(|count| *count > share);
            Some((entry.rank(greedy)?, Reverse(entry.unused), *number))
        });
        let Some((_, _, number)) = ranked.min() else { return false };
        if let Some(entry) = self.entries.remove(&number) {
            entry.activity.close.notify_one();
        }
        true
    }

    /// How many connections each user has.
    fn shares(&self) -> HashMap<&UserName, usize> {
        let mut shares = HashMap::new();
        for user in self.entries.values().filter_map(|entry| entry.activity.user()) {
            *shares.entry(user).or_default() += 1;
        }
        shares
    }
}

impl Entry {
    fn look(&mut self) {
        let ended = self.activity.ended();
        // What is still being answered has limits of its own.
        if self.activity.is_busy() || ended != self.ended {
            self.ended = ended;
            self.unused = 0;
        } else {
            self.unused += 1;
        }
    }

    /// How soon it makes room for another; `None`: never.
    fn rank(&self, greedy: bool) -> Option<u8> {
        match (self.activity.is_busy(), self.activity.is_known()) {
            (false, false) => Some(0),
            (false, true) => Some(1),
            (true, false) => Some(2),
            (true, true) => greedy.then_some(3),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.table.open().entries.remove(&self.number);
        self.table.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::super::activity::UnderWay;
    use super::super::connections::KnownBy;
    use super::*;

    const LIMITS: Limits = Limits {
        connections: 4,
        each: 4,
        known_by: KnownBy::Authentication,
        streams: 8,
        first_streams: 2,
        first: Duration::from_secs(4),
        idle: Duration::from_secs(8),
        untaken: Duration::from_secs(4),
    };

    fn table(limits: Limits) -> Arc<Table> {
        Arc::new(Table::new(limits))
    }

    fn admit(table: &Arc<Table>, address: &str) -> Seat {
        match table.admit(address.parse().unwrap()) {
            Admission::Seat(seat) => seat,
            Admission::Refused => panic!("refused"),
            Admission::Full => panic!("full"),
        }
    }

    fn begin(seat: &Seat) -> UnderWay {
        UnderWay::begin(seat.activity.clone())
    }

    fn know(seat: &Seat, user: &str) {
        seat.activity.know(Some(user.parse().unwrap()), 0);
    }

    /// Whether it was told to end.
    fn is_closed(seat: &Seat) -> bool {
        let mut told = Box::pin(seat.activity.close.notified());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        told.as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn room_is_made_by_the_unused_then_by_strangers_and_by_no_one_who_is_known_and_asks() {
        let table = table(LIMITS);
        let (stranger, known) = (admit(&table, "192.0.2.1"), admit(&table, "192.0.2.2"));
        let (asks, known_asks) = (admit(&table, "192.0.2.3"), admit(&table, "192.0.2.4"));
        know(&known, "alice");
        know(&known_asks, "bob");
        let _under_way = (begin(&asks), begin(&known_asks));
        let mut new = Vec::new();
        for (expected, user) in [(&stranger, "carol"), (&known, "dave"), (&asks, "erin")] {
            assert!(!is_closed(expected));
            let seat = admit(&table, "192.0.2.5");
            assert!(is_closed(expected));
            know(&seat, user);
            new.push((begin(&seat), seat));
        }
        assert!(matches!(table.admit("192.0.2.6".parse().unwrap()), Admission::Full));
        assert!(!is_closed(&known_asks) && new.iter().all(|(_, seat)| !is_closed(seat)));
    }

    #[test]
    fn a_user_with_more_than_an_eighth_makes_room_even_while_it_asks_and_others_do_not() {
        let table = table(Limits { connections: 16, each: 16, ..LIMITS });
        let seats: Vec<_> = (0..16).map(|_| admit(&table, "192.0.2.1")).collect();
        let _under_way: Vec<_> = seats.iter().map(begin).collect();
        for (number, seat) in seats.iter().enumerate() {
            know(seat, &format!("user{}", number / 2));
        }
        assert!(matches!(table.admit("192.0.2.2".parse().unwrap()), Admission::Full), "each has its eighth");
        drop(seats);
        let seats: Vec<_> = (0..16).map(|_| admit(&table, "192.0.2.1")).collect();
        let _under_way: Vec<_> = seats.iter().map(begin).collect();
        for (number, seat) in seats.iter().enumerate() {
            know(seat, if number == 0 { "alice" } else { "mallory" });
        }
        let _new = admit(&table, "192.0.2.2");
        assert!(!is_closed(&seats[0]) && is_closed(&seats[1]) && !is_closed(&seats[2]));
    }

    #[test]
    fn an_address_has_so_many_and_makes_room_for_itself() {
        let table = table(Limits { each: 2, connections: 16, ..LIMITS });
        let other = admit(&table, "192.0.2.9");
        let (first, second) = (admit(&table, "2001:db8::1"), admit(&table, "2001:db8::2"));
        let third = admit(&table, "2001:db8::3");
        assert!(is_closed(&first) && !is_closed(&second) && !is_closed(&other));
        let _under_way = [&second, &third].map(|seat| {
            know(seat, "alice");
            begin(seat)
        });
        assert!(matches!(table.admit("2001:db8::4".parse().unwrap()), Admission::Refused));
        admit(&table, "2001:db8:1::4");
    }

    #[test]
    fn what_is_left_unused_or_untaken_is_closed_in_less_than_twice_its_time() {
        let table = table(LIMITS);
        let (unused, succeeded) = (admit(&table, "192.0.2.1"), admit(&table, "192.0.2.2"));
        let asks = admit(&table, "192.0.2.3");
        succeeded.activity.succeed();
        let _under_way = begin(&asks);
        let closed_after = |seat: &Seat| {
            let looks = (1..=64).find(|_| {
                table.look();
                is_closed(seat)
            });
            looks.map(|looks| looks * table.look_every())
        };
        let within = |took: Option<Duration>, time: Duration| {
            assert!(took.is_some_and(|took| took > time && took < time * 2), "{took:?} for {time:?}");
        };
        let took = closed_after(&unused);
        within(took, LIMITS.first);
        let rest = closed_after(&succeeded);
        within(rest.map(|rest| rest + took.unwrap_or_default()), LIMITS.idle);
        assert_eq!(closed_after(&asks), None, "a request under way has limits of its own");
        let _untaken = super::super::activity::Untaken::new(asks.activity.clone());
        let took = closed_after(&asks);
        assert!(took.is_some_and(|took| took >= LIMITS.untaken && took <= LIMITS.untaken * 2), "{took:?}");
    }
}
