//! Usage reports: what an edge says its tokens were used for, checked, and each token once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use latchkey::wire::{MAX_EDGE_NAME, MAX_USAGE_ENTRIES, TokenUsage, UsageReport};

use super::changes::Position;
use super::period::Period;
use super::text::{Invalid, text_type};
use super::token::TokenId;
use crate::domain::time::Timestamp;

/// The most that a report may count, and the highest number that it may have: what the database's numbers hold.
const MOST: u64 = i64::MAX.unsigned_abs();
const MINUTE_MS: i64 = 60_000;
/// What no worker of an Envoy can reach: real ones do some 50,000 requests a second.
const MAX_PER_SECOND: u64 = 1_000_000;
/// The time that a report is for at least, where the one before it is known.
const SHORTEST_MS: u64 = 60_000;
/// The time that a first report is for at most: the longest `usage.flush_ms`. At what workers really do it is worth most of a day,
/// in which the service was away.
const FIRST_MS: u64 = 3_600_000;

text_type! {
    /// A random name of one VM of an edge.
    EdgeName,
    |text| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
        if (1..=MAX_EDGE_NAME).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(())
        } else {
            Err(Invalid(format!("must be 1 to {MAX_EDGE_NAME} characters of A-Z, a-z, 0-9, '_' and '-'")))
        }
    }
}

/// How often something was asked for with a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that went on to the upstream.
    pub allowed: u64,
    /// Requests that were refused.
    pub denied: u64,
}

impl Counts {
    /// Both together, unless that is more than can be kept.
    fn plus(self, other: Self) -> Option<Self> {
        let sum = |one: u64, other: u64| one.checked_add(other).filter(|sum| *sum <= MOST);
        Some(Self { allowed: sum(self.allowed, other.allowed)?, denied: sum(self.denied, other.denied)? })
    }
}

/// What one token was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// How often.
    pub counts: Counts,
    /// How long before the report the last one was allowed; without meaning where none was.
    pub ago: Period,
}

impl Use {
    /// The minute of the last use, as its first millisecond, of a report that came `now`. None is before 1970.
    #[must_use]
    pub fn minute(&self, now: Timestamp) -> Timestamp {
        let millis = self.ago.before(now).as_millisecond().max(0);
        Timestamp::from_millisecond(millis - millis % MINUTE_MS).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// A report in which everything can be, and that can be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Who reports.
    pub edge: EdgeName,
    /// Which of its reports it is.
    pub sequence: u64,
    /// What each token was used for. No sum of these is more than can be kept.
    pub uses: BTreeMap<TokenId, Use>,
    /// The largest number in it, and where it stands.
    largest: Largest,
}

/// A number of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Largest {
    field: String,
    count: u64,
}

impl Report {
    /// Refuses what no worker could have done in the time since the report before, `since`; `None`: this is its first.
    ///
    /// # Errors
    /// [`InvalidReport`] with the field that says too much.
    pub fn check_plausible(&self, since: Option<Timestamp>, now: Timestamp) -> Result<(), InvalidReport> {
        let elapsed = |since: Timestamp| u64::try_from(now.duration_since(since).as_millis()).unwrap_or(0);
        let millis = since.map_or(FIRST_MS, |since| elapsed(since).max(SHORTEST_MS));
        let limit = millis.saturating_mul(MAX_PER_SECOND / 1_000);
        let counts = self.uses.values().flat_map(|one| [one.counts.allowed, one.counts.denied]);
        let all = counts.fold(0, u64::saturating_add);
        if all <= limit {
            return Ok(());
        }
        let (field, count) = match &self.largest {
            Largest { field, count } if *count > limit => (field.as_str(), *count),
            _ => ("usage", all),
        };
        let seconds = millis / 1_000;
        let problem = format!(
            "counts {count} requests, more than a worker can do in the {seconds} s since its last report: at most {limit}"
        );
        Err(refused(field, Invalid(problem)))
    }
}

/// A report that cannot be; `field` says where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct InvalidReport {
    /// The path of the field in the report.
    pub field: String,
    /// What is wrong with it.
    pub problem: Invalid,
}

/// How a report was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Whether it was counted now; else it, or a later one of the same edge, was counted before.
    pub counted: bool,
    /// Where the history stands.
    pub at: Position,
}

impl TryFrom<UsageReport> for Report {
    type Error = InvalidReport;

    fn try_from(report: UsageReport) -> Result<Self, InvalidReport> {
        let edge = report.edge.parse().map_err(|problem| refused("edge", problem))?;
        if report.sequence > MOST {
            return Err(refused(
                "sequence",
                Invalid(format!("must be at most {MOST}, and is {}", report.sequence)),
            ));
        }
        if report.usage.len() > MAX_USAGE_ENTRIES {
            let problem =
                format!("must have at most {MAX_USAGE_ENTRIES} entries, and has {}", report.usage.len());
            return Err(refused("usage", Invalid(problem)));
        }
        let uses = uses(&report.usage)?;
        Ok(Self { edge, sequence: report.sequence, uses, largest: largest(&report.usage) })
    }
}

/// The largest number of the entries.
fn largest(entries: &[TokenUsage]) -> Largest {
    let counts = entries
        .iter()
        .enumerate()
        .flat_map(|(number, entry)| [(number, "allowed", entry.allowed), (number, "denied", entry.denied)]);
    let largest = counts.max_by_key(|(_, _, count)| *count);
    largest.map_or_else(Largest::default, |(number, name, count)| Largest {
        field: format!("usage[{number}].{name}"),
        count,
    })
}

/// The entries, those of one token taken together.
fn uses(entries: &[TokenUsage]) -> Result<BTreeMap<TokenId, Use>, InvalidReport> {
    let too_many = || refused("usage", Invalid(format!("must count at most {MOST} requests in all")));
    let (mut uses, mut all) = (BTreeMap::<TokenId, Use>::new(), Counts::default());
    for (number, entry) in entries.iter().enumerate() {
        let id = entry.token_id.parse();
        let id: TokenId = id.map_err(|problem| refused(&format!("usage[{number}].token_id"), problem))?;
        let counts = Counts { allowed: entry.allowed, denied: entry.denied };
        all = all.plus(counts).ok_or_else(too_many)?;
        let one = Use { counts, ago: Period::from_millis(entry.last_used_ms_ago) };
        match uses.entry(id) {
            Entry::Vacant(place) => {
                place.insert(one);
            }
            Entry::Occupied(mut place) => {
                let other = *place.get();
                let counts = other.counts.plus(counts).ok_or_else(too_many)?;
                let allowed = [other, one].into_iter().filter(|it| it.counts.allowed > 0);
                let ago = allowed.map(|it| it.ago).min().unwrap_or(one.ago);
                place.insert(Use { counts, ago });
            }
        }
    }
    Ok(uses)
}

fn refused(field: &str, problem: Invalid) -> InvalidReport {
    InvalidReport { field: field.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0197a3b1-0000-7000-8000-000000000001";

    fn entry(id: &str, allowed: u64, denied: u64, ago: u64) -> TokenUsage {
        TokenUsage { token_id: id.to_owned(), allowed, denied, last_used_ms_ago: ago }
    }

    fn report(usage: Vec<TokenUsage>) -> Result<Report, InvalidReport> {
        UsageReport { edge: "vm-1".to_owned(), sequence: 1, usage }.try_into()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn entries_of_one_token_are_taken_together() {
        let taken = report(vec![entry(ID, 1, 2, 900), entry(ID, 10, 20, 100)]).unwrap();
        let counts = Counts { allowed: 11, denied: 22 };
        let expected = Use { counts, ago: Period::from_millis(100) };
        assert_eq!(taken.uses.into_iter().collect::<Vec<_>>(), [(ID.parse().unwrap(), expected)]);
        let taken = report(vec![entry(ID, 1, 0, 900), entry(ID, 0, 5, 0)]).unwrap();
        let ago = taken.uses.into_values().map(|one| one.ago).collect::<Vec<_>>();
        assert_eq!(ago, [Period::from_millis(900)], "what was denied is no use");
    }

    #[test]
    fn what_cannot_be_counted_is_refused_with_the_name_of_the_field() {
        let field = |report: Result<Report, InvalidReport>| report.unwrap_err().field;
        assert_eq!(field(report(vec![entry(ID, 1, 1, 1), entry("x", 1, 1, 1)])), "usage[1].token_id");
        assert_eq!(field(report(vec![entry(ID, 1, 1, 1); MAX_USAGE_ENTRIES + 1])), "usage");
        assert!(report(vec![entry(ID, 1, 1, 1); MAX_USAGE_ENTRIES]).is_ok());
        assert!(report(vec![entry(ID, MOST, MOST, u64::MAX)]).is_ok());
        for (allowed, denied) in [(MOST + 1, 0), (0, MOST + 1), (u64::MAX, u64::MAX)] {
            assert_eq!(field(report(vec![entry(ID, allowed, denied, 1)])), "usage");
        }
        let other = "0197a3b1-0000-7000-8000-000000000002";
        assert_eq!(field(report(vec![entry(ID, MOST, 0, 1), entry(other, 1, 0, 1)])), "usage");
        let numbered = |sequence| {
            UsageReport { edge: "e".to_owned(), sequence, usage: Vec::new() }.try_into().map(|_: Report| ())
        };
        assert_eq!(numbered(MOST), Ok(()));
        assert_eq!(numbered(MOST + 1).unwrap_err().field, "sequence");
    }

    #[test]
    fn more_than_a_worker_can_do_since_its_last_report_is_refused_with_the_name_of_the_field() {
        let (now, other) = (at("2026-01-01T02:00:00Z"), "0197a3b1-0000-7000-8000-000000000002");
        let check = |entries: Vec<TokenUsage>, since: Option<&str>| {
            report(entries).unwrap().check_plausible(since.map(at), now).map_err(|refused| refused.field)
        };
        let refused = |field: &str| Err(field.to_owned());
        let minute = 60_000_000;
        for since in ["2026-01-01T01:59:50Z", "2026-01-01T02:30:00Z"] {
            assert_eq!(check(vec![entry(ID, minute - 1, 1, 0)], Some(since)), Ok(()), "{since}");
            assert_eq!(
                check(vec![entry(ID, minute + 1, 0, 0)], Some(since)),
                refused("usage[0].allowed"),
                "{since}"
            );
        }
        let both = vec![entry(ID, 1, 0, 0), entry(other, 0, u64::MAX / 4, 0)];
        assert_eq!(check(both, Some("2026-01-01T01:59:50Z")), refused("usage[1].denied"));
        assert_eq!(check(vec![entry(ID, minute, minute, 0)], Some("2026-01-01T01:59:50Z")), refused("usage"));
        // The service was away for two hours, or the edge was never heard.
        assert_eq!(check(vec![entry(ID, 7_200 * 1_000_000, 0, 0)], Some("2026-01-01T00:00:00Z")), Ok(()));
        assert_eq!(check(vec![entry(ID, 3_600 * 1_000_000, 0, 0)], None), Ok(()));
        assert_eq!(check(vec![entry(ID, MOST, 0, 0)], None), refused("usage[0].allowed"));
    }

    #[test]
    fn an_edges_name_is_1_to_64_plain_characters() {
        for good in ["a".to_owned(), "Az09_-".to_owned(), "x".repeat(64)] {
            assert!(good.parse::<EdgeName>().is_ok(), "{good}");
        }
        for bad in [String::new(), "x".repeat(65), "a b".to_owned(), "a.b".to_owned(), "ä".to_owned()] {
            assert!(bad.parse::<EdgeName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_minute_of_the_last_use_is_rounded_down_and_overflows_nothing() {
        let minute = |now: Timestamp, ago: u64| {
            Use { counts: Counts::default(), ago: Period::from_millis(ago) }.minute(now)
        };
        let now = at("2026-01-01T00:10:59.999Z");
        assert_eq!(minute(now, 0), at("2026-01-01T00:10:00Z"));
        assert_eq!(minute(now, 59_999), at("2026-01-01T00:10:00Z"));
        assert_eq!(minute(now, 60_000), at("2026-01-01T00:09:00Z"));
        for now in [now, Timestamp::MIN, Timestamp::UNIX_EPOCH] {
            assert_eq!(minute(now, u64::MAX), Timestamp::UNIX_EPOCH);
        }
        assert!(minute(Timestamp::MAX, 0) <= Timestamp::MAX);
    }
}
