//! The history checker: from what clients were told, what each feed told, and what is in the database afterwards, it finds
//! what must not be. It knows nothing of how any of it came about.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A change that the service has acknowledged.
#[derive(Clone, Debug)]
pub enum Change {
    Made {
        token: String,
        name: String,
        scopes: String,
    },
    Renamed {
        token: String,
        name: String,
    },
    Scoped {
        token: String,
        scopes: String,
    },
    /// It has a successor, and goes on working beside it for a while.
    Overlapped {
        token: String,
    },
    /// Revoked, or rotated with no overlap. May be acknowledged to several clients.
    Ended {
        token: String,
    },
    /// A user was disabled or enabled.
    User {
        name: String,
        active: bool,
    },
}

/// A change, and when its client was told, since the beginning of the record.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    pub at: Duration,
    pub change: Change,
}

/// One answer of the feed: what revisions it covers, after the one and through the other, and what they touched.
#[derive(Clone, Debug)]
pub struct Heard {
    pub at: Duration,
    pub after: u64,
    pub through: u64,
    pub reset: bool,
    pub hashes: Vec<String>,
}

/// A token as the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub hash: String,
    pub user: String,
    pub name: String,
    pub scopes: String,
    pub ended: bool,
}

/// What the audit log says of the number of a user's live tokens.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Unix milliseconds.
    pub at: u64,
    /// When it was asked for, which is before the limits were read that it is within.
    pub asked: u64,
    pub user: String,
    pub token: String,
    /// Made; else it no longer counts: revoked, or rotated.
    pub made: bool,
}

/// How many live tokens a user may have, in Unix milliseconds: from when it was asked for until the next limit was
/// acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub most: usize,
    pub from: u64,
    pub until: u64,
}

/// Everything that is known of a run.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The revision at which it began.
    pub base: u64,
    /// The counter at its end.
    pub revision: u64,
    /// Of each token in the order in which it was changed.
    pub acknowledged: Vec<Acknowledged>,
    /// Of each reader, in order.
    pub feeds: Vec<Vec<Heard>>,
    /// What each revision after the base has touched, by the database.
    pub changes: BTreeMap<u64, BTreeSet<String>>,
    pub tokens: BTreeMap<String, Token>,
    /// Which users are active.
    pub users: BTreeMap<String, bool>,
    pub counted: Vec<Counted>,
    pub limits: Vec<Limit>,
    /// How many times slower the machine was than one with little to do.
    pub busy: f64,
}

/// What must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An acknowledged change is not there, or not what the last acknowledgement says.
    Lost(String),
    /// The database knows no change at a revision.
    Gap(u64),
    /// A token's acknowledged changes have fewer or more revisions than they should: these at least, those at most.
    Revisions { token: String, least: usize, most: usize, found: usize },
    /// A reader (by its number) did not go on from where it was, was told to forget everything, or did not come to the end.
    Order { reader: usize, expected: u64, found: u64 },
    /// A reader heard of other hashes than the revisions touched, or of one more often than they did.
    Hashes { reader: usize, after: u64, through: u64 },
    /// A token was made for a user who had as many as it may have.
    Overrun { user: String, at: u64, count: usize, most: usize },
}

impl Record {
    /// All that must not be.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = self.lost();
        faults.extend(self.gaps());
        faults.extend(self.miscounted());
        faults.extend(self.feeds.iter().enumerate().flat_map(|(reader, feed)| self.misheard(reader, feed)));
        faults.extend(self.overruns());
        faults
    }

    /// Compares with the database what the last acknowledgements say.
    fn lost(&self) -> Vec<Fault> {
        let mut names = BTreeMap::new();
        let mut scopes = BTreeMap::new();
        let mut ended = BTreeSet::new();
        let mut users = BTreeMap::new();
        for acknowledged in &self.acknowledged {
            match &acknowledged.change {
                Change::Made { token, name, scopes: given } => {
                    names.insert(token, name);
                    scopes.insert(token, given);
                }
                Change::Renamed { token, name } => drop(names.insert(token, name)),
                Change::Scoped { token, scopes: given } => drop(scopes.insert(token, given)),
                Change::Ended { token } => drop(ended.insert(token)),
                Change::User { name, active } => drop(users.insert(name, *active)),
                Change::Overlapped { .. } => {}
            }
        }
        let mut faults = Vec::new();
        for (token, name) in names {
            let found = self.tokens.get(token);
            let kept = found.is_some_and(|found| {
                &found.name == name && &found.scopes == scopes[token] && found.ended == ended.contains(token)
            });
            if !kept {
                let ended = ended.contains(token);
                faults.push(Fault::Lost(format!(
                    "{token} is {name}, {}, ended {ended}: {found:?}",
                    scopes[token]
                )));
            }
        }
        let wrong = users.into_iter().filter(|(name, active)| self.users.get(*name) != Some(active));
        faults.extend(wrong.map(|(name, active)| Fault::Lost(format!("{name} is active: {active}"))));
        faults
    }

    fn gaps(&self) -> Vec<Fault> {
        let known = |revision: &u64| self.changes.get(revision).is_some_and(|hashes| !hashes.is_empty());
        let gaps = (self.base + 1..=self.revision).filter(|revision| !known(revision));
        let beyond = self.changes.keys().copied().filter(|it| *it <= self.base || *it > self.revision);
        gaps.chain(beyond).map(Fault::Gap).collect()
    }

    /// Each change of a token's verdict has one revision, and each change of its user has one of all its live tokens.
    fn miscounted(&self) -> Vec<Fault> {
        let mut own = BTreeMap::<&str, usize>::new();
        let mut toggles = BTreeMap::<&str, usize>::new();
        let mut ended = BTreeSet::new();
        for acknowledged in &self.acknowledged {
            match &acknowledged.change {
                Change::Scoped { token, .. } | Change::Overlapped { token } => {
                    *own.entry(token).or_default() += 1;
                }
                Change::Ended { token } if ended.insert(token) => *own.entry(token).or_default() += 1,
                Change::User { name, .. } => *toggles.entry(name).or_default() += 1,
                Change::Made { .. } | Change::Renamed { .. } | Change::Ended { .. } => {}
            }
        }
        let mut found = BTreeMap::<&str, usize>::new();
        for hash in self.changes.values().flatten() {
            *found.entry(hash).or_default() += 1;
        }
        let mut faults = Vec::new();
        for (id, token) in &self.tokens {
            let least = own.get(id.as_str()).copied().unwrap_or_default();
            let most = least + toggles.get(token.user.as_str()).copied().unwrap_or_default();
            let found = found.get(token.hash.as_str()).copied().unwrap_or_default();
            if !(least..=most).contains(&found) {
                faults.push(Fault::Revisions { token: id.clone(), least, most, found });
            }
        }
        faults
    }

    /// A reader hears of every revision once, in order, and of what each touched.
    fn misheard(&self, reader: usize, feed: &[Heard]) -> Vec<Fault> {
        let (mut faults, mut at) = (Vec::new(), self.base);
        for heard in feed {
            let Heard { after, through, .. } = *heard;
            if after != at || through < after || heard.reset {
                faults.push(Fault::Order {
                    reader,
                    expected: at,
                    found: if after == at { through } else { after },
                });
            }
            let mut touched = BTreeMap::<&String, usize>::new();
            for hash in self.changes.range(after + 1..through.max(after) + 1).flat_map(|(_, hashes)| hashes) {
                *touched.entry(hash).or_default() += 1;
            }
            let mut told = BTreeMap::<&String, usize>::new();
            for hash in &heard.hashes {
                *told.entry(hash).or_default() += 1;
            }
            let more_often =
                told.iter().any(|(hash, times)| *times > touched.get(hash).copied().unwrap_or_default());
            if more_often || told.len() != touched.len() {
                faults.push(Fault::Hashes { reader, after, through });
            }
            at = through;
        }
        if at != self.revision {
            faults.push(Fault::Order { reader, expected: self.revision, found: at });
        }
        faults
    }

    /// Counts every user's live tokens after each moment in which they have become more.
    fn overruns(&self) -> Vec<Fault> {
        let mut moments = BTreeMap::<(&str, u64), Vec<&Counted>>::new();
        for counted in &self.counted {
            moments.entry((&counted.user, counted.at)).or_default().push(counted);
        }
        let mut live = BTreeMap::<&str, BTreeSet<&str>>::new();
        let mut faults = Vec::new();
        for ((user, at), counted) in moments {
            let live = live.entry(user).or_default();
            let before = live.len();
            live.extend(counted.iter().filter(|it| it.made).map(|it| it.token.as_str()));
            for gone in counted.iter().filter(|it| !it.made) {
                live.remove(gone.token.as_str());
            }
            let asked = counted.iter().filter(|it| it.made).map(|it| it.asked).min().unwrap_or(at);
            let in_force = self.limits.iter().filter(|limit| limit.from <= at && asked <= limit.until);
            let most = in_force.map(|limit| limit.most).max().unwrap_or(usize::MAX);
            if live.len() > before && live.len() > most {
                faults.push(Fault::Overrun { user: user.to_owned(), at, count: live.len(), most });
            }
        }
        faults
    }

    /// For each token that was ended and each reader: how long after the acknowledgement the reader knew.
    pub fn delays(&self) -> Vec<Duration> {
        let heard = |feed: &[Heard]| {
            let told = feed.iter().flat_map(|heard| heard.hashes.iter().map(|hash| (hash.clone(), heard.at)));
            told.collect::<BTreeMap<_, _>>()
        };
        let last: Vec<_> = self.feeds.iter().map(|feed| heard(feed)).collect();
        let mut delays = Vec::new();
        for Acknowledged { at, change } in &self.acknowledged {
            let Change::Ended { token } = change else { continue };
            let Some(token) = self.tokens.get(token) else { continue };
            let heard = last.iter().filter_map(|feed| feed.get(&token.hash));
            delays.extend(heard.map(|heard| heard.saturating_sub(*at)));
        }
        delays
    }
}
