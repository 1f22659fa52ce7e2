//! The clock: whether this machine's agrees with those of the database, of a running service, and of the past.

use jiff::SignedDuration;
use jiff::fmt::rfc2822;

use super::finding::Findings;
use crate::clock::{SKEW, Sources, apart};
use crate::domain::audit::AuditFilter;
use crate::domain::page::{Limit, PageRequest};
use crate::domain::time::Timestamp;
use crate::store::{Store, StoreError};

const CHECK: &str = "clock";
/// How far two clocks may be apart. The time that a question takes, and the whole seconds of `Date`, are within it.
const APART: SignedDuration = SignedDuration::from_secs(5);
/// What to do about it.
const ADVICE: &str = "Let chronyd or systemd-timesyncd keep the clocks: expiry goes by the service's.";
/// What to do where the service goes by the database's.
const ADVICE_OF_DATABASE: &str = "Let chronyd or systemd-timesyncd keep both: all replicas go by the database's clock, and one whose \
     own differs deletes nothing by time.";

/// Compares with the database's own clock, if it has one: this machine's is `ahead` of it.
pub(super) fn check_database(ahead: Option<SignedDuration>, findings: &mut Findings) {
    match ahead {
        None => {}
        Some(ahead) if ahead.abs() <= SKEW => findings.ok(CHECK, "it agrees with the database's."),
        Some(ahead) => {
            let problem = format!("this machine's is {} the database's.", apart(ahead));
            findings.problem(CHECK, problem, ADVICE_OF_DATABASE);
        }
    }
}

/// Compares with the `Date` of an answer (RFC 9110 §6.6.1).
pub(super) fn check_date(now: Timestamp, date: Option<&str>, findings: &mut Findings) {
    match date.and_then(|date| rfc2822::DateTimeParser::new().parse_timestamp(date).ok().map(Timestamp::from))
    {
        Some(theirs) => compare("the service's", now, theirs, findings),
        None => findings.skipped(CHECK, "the service does not tell the time."),
    }
}

fn compare(whose: &str, now: Timestamp, theirs: Timestamp, findings: &mut Findings) {
    let ahead = now.duration_since(theirs);
    if ahead.abs() <= APART {
        findings.ok(CHECK, format!("it agrees with {whose}."));
        return;
    }
    findings.problem(CHECK, format!("this machine's is {} {whose}.", apart(ahead)), ADVICE);
}

/// Looks whether something was done at a time that is still to come.
pub(super) async fn check_history(
    store: &Store,
    sources: &Sources,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    let one = PageRequest { limit: Limit::new(1).unwrap_or_default(), cursor: None };
    let latest = store.audit(&AuditFilter::default(), one).await?.items.into_iter().next();
    let ahead = latest.map(|entry| entry.at.duration_since(sources.now()));
    if let Some(ahead) = ahead.filter(|ahead| *ahead > APART) {
        findings.problem(
            CHECK,
            format!(
                "the audit log ends {} s from now: a clock was set back, or another machine's is wrong.",
                ahead.as_secs()
            ),
            ADVICE,
        );
    }
    Ok(())
}
