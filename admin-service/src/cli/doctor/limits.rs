//! The restrictions and what keeps them: whether they are sane, whether the scheduler does its work, who administers.

use crate::domain::time::Timestamp;

use super::finding::Findings;
use crate::clock::Sources;
use crate::domain::period::Period;
use crate::domain::restrictions::Restrictions;
use crate::jobs::delete_expired::JOB;
use crate::store::{SchedulerState, Store, StoreError};

/// A lifetime that is too short for a person to use a token.
const TOO_SHORT: Period = Period::from_millis(60_000);
/// How long a run of the scheduler may be overdue.
const OVERDUE: Period = Period::from_millis(600_000);
/// How soon the end of the last administrator's token is told of.
const SOON: Period = Period::from_days(7);

pub(super) async fn check(
    store: &Store,
    sources: &Sources,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    let now = sources.now();
    restrictions(&store.restrictions().await?, findings);
    scheduler(&store.scheduler_state(JOB).await?, now, findings);
    administrators(&store.administrators().await?, now, findings);
    Ok(())
}

fn restrictions(limits: &Restrictions, findings: &mut Findings) {
    const CHECK: &str = "restrictions";
    if let Err(refused) = limits.check() {
        findings.problem(CHECK, format!("{refused}."), "Set it with `latchkey restrictions set`.");
        return;
    }
    let lifetime = match limits.max_lifetime {
        None => {
            findings.warning(
                CHECK,
                "tokens may live for ever.",
                "latchkey restrictions set --max-lifetime 365d, which leaves those there are as they are.",
            );
            "any time".to_owned()
        }
        Some(longest) if longest < TOO_SHORT => {
            findings.warning(
                CHECK,
                format!("no token lives longer than {longest}."),
                "latchkey restrictions set --max-lifetime 90d",
            );
            longest.to_string()
        }
        Some(longest) => longest.to_string(),
    };
    if !limits.delete_expired.enabled {
        findings.warning(
            CHECK,
            "expired tokens are never deleted.",
            "latchkey restrictions set --delete-expired on",
        );
    }
    if limits.max_tokens_per_user == Some(0) {
        findings.warning(
            CHECK,
            "nobody can make a token: max_tokens_per_user is 0.",
            "latchkey restrictions set --max-tokens-per-user 10, once tokens may be made again.",
        );
    }
    let most = limits
        .max_tokens_per_user
        .map_or_else(|| "any number of".to_owned(), |most| format!("at most {most}"));
    findings.ok(CHECK, format!("a token lives for at most {lifetime}, and a user has {most} tokens."));
}

fn scheduler(state: &SchedulerState, now: Timestamp, findings: &mut Findings) {
    const CHECK: &str = "scheduler";
    if let Some(error) = &state.last_error {
        findings.problem(
            CHECK,
            format!("its last run failed: {error}"),
            "The service tries again by itself; its log says more. `latchkey scheduler run` tries at once.",
        );
        return;
    }
    let due = state.next_run_at(now);
    match (due, state.last_run_at) {
        (None, _) => findings.skipped(CHECK, "it is disabled."),
        (Some(due), last) if OVERDUE.after(due) < now => {
            let last =
                last.map_or_else(|| "it never ran".to_owned(), |last| format!("it ran last at {last}"));
            findings.warning(
                CHECK,
                format!("{last}, though a run was due at {due}."),
                "Start `latchkey serve`, which runs it; if it runs, its log says why it does not.",
            );
        }
        (Some(_), None) => findings.ok(CHECK, "it has not run yet."),
        (Some(_), Some(last)) => findings.ok(CHECK, format!("it ran last at {last}.")),
    }
}

/// `ends` are the expiries of administrators' live tokens.
fn administrators(ends: &[Option<Timestamp>], now: Timestamp, findings: &mut Findings) {
    const CHECK: &str = "administrator";
    // A token without an expiry outlasts all others.
    let last = ends.iter().map(|end| end.unwrap_or(Timestamp::MAX)).max();
    match last {
        None => findings.warning(
            CHECK,
            "there is none: no live token has the scope latchkey:admin.",
            "latchkey bootstrap makes one.",
        ),
        Some(last) if last < SOON.after(now) => findings.warning(
            CHECK,
            format!("the last administrator's token expires at {last}."),
            "Make another before: latchkey token create admin --scope latchkey:admin",
        ),
        Some(_) if ends.len() == 1 => findings.ok(CHECK, "one live token has the scope latchkey:admin."),
        Some(_) => findings.ok(CHECK, format!("{} live tokens have the scope latchkey:admin.", ends.len())),
    }
}
