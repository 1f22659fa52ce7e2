use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const FLUSH: Duration = Duration::from_secs(10);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn usage() -> Usage {
    Usage::new("edge".to_owned(), FLUSH)
}

#[test]
fn what_was_used_is_reported_once_when_it_is_time() {
    let mut usage = usage();
    assert_eq!(usage.report(secs(100)), None, "nothing was used");
    for (token, allowed, at) in [
        ("a", true, 100),
        ("a", false, 103),
        ("b", true, 104),
        ("a", true, 105),
        ("a", false, 107),
        ("c", false, 108),
    ] {
        assert!(usage.count(token, allowed, secs(at)));
    }
    assert_eq!(usage.report(secs(109)), None);
    let mut report = usage.report(secs(110)).unwrap();
    report.usage.sort_by(|one, other| one.token_id.cmp(&other.token_id));
    let entry = |token_id: &str, allowed, denied, last_used_ms_ago| TokenUsage {
        token_id: token_id.to_owned(),
        allowed,
        denied,
        last_used_ms_ago,
    };
    assert_eq!((report.edge.as_str(), report.sequence), ("edge", 1));
    // Of a denied request a token is in the counts, and not in use.
    assert_eq!(report.usage, [entry("a", 2, 2, 5_000), entry("b", 1, 0, 6_000), entry("c", 0, 1, 0)]);
    assert_eq!(usage.report(secs(500)), None, "one is under way");
    usage.written(secs(111));
    assert_eq!(usage.report(secs(500)), None, "all is written down");
}

#[test]
fn what_is_left_at_the_end_is_reported_before_its_time() {
    let mut usage = usage();
    assert_eq!(usage.report_now(secs(0)), None, "nothing was used");
    usage.count("a", true, secs(1));
    let report = usage.report_now(secs(2)).unwrap();
    assert_eq!((report.sequence, report.usage[0].last_used_ms_ago), (1, 1_000));
    assert_eq!(usage.report_now(secs(3)), None, "one is under way");
    usage.written(secs(3));
    assert_eq!(usage.report_now(secs(4)), None, "all is written down");
}

#[test]
fn a_report_that_failed_is_sent_again_as_it_was_and_later_each_time() {
    let mut usage = usage();
    usage.count("a", true, secs(0));
    let first = usage.report(secs(10)).unwrap();
    usage.count("a", true, secs(11));
    let mut now = secs(12);
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        usage.failed(now);
        assert_eq!(usage.report(now + secs(pause) - Duration::from_millis(1)), None);
        now += secs(pause);
        let again = usage.report(now).unwrap();
        assert_eq!((again.sequence, again.usage[0].allowed), (first.sequence, 1));
    }
    usage.written(now);
    let next = usage.report(now + FLUSH).unwrap();
    assert_eq!((next.sequence, next.usage[0].allowed), (2, 1), "what was used since");
}

#[test]
fn a_report_is_bounded_and_the_rest_goes_out_at_once() {
    let mut usage = usage();
    for token in 0..2_500 {
        usage.count(&token.to_string(), true, secs(0));
    }
    for (sequence, entries, at) in [(1, 1000, 10), (2, 1000, 10), (3, 500, 20)] {
        let report = usage.report(secs(at)).unwrap();
        assert_eq!((report.sequence, report.usage.len()), (sequence, entries));
        usage.written(secs(at));
    }
}

#[test]
fn memory_is_bounded_while_nothing_can_be_reported_and_known_tokens_are_counted_all_the_same() {
    let mut usage = usage();
    for token in 0..MAX_TOKENS {
        assert!(usage.count(&token.to_string(), true, secs(0)));
    }
    assert!(!usage.count("one more", true, secs(0)));
    assert!(usage.count("0", true, secs(0)));
    assert_eq!(usage.counts.0.len(), MAX_TOKENS);
}

proptest! {
    /// Against a service that counts each sequence once: whatever fails, nothing is lost and nothing is counted twice.
    #[test]
    fn everything_is_counted_once_however_reports_and_answers_get_lost(
        steps in prop::collection::vec((0_u8..5, 0_u8..4, any::<bool>()), 1..200),
    ) {
        let (mut usage, mut now) = (usage(), secs(0));
        let (mut used, mut written) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
        let (mut last_sequence, mut end) = (0, 0);
        let mut steps = steps.into_iter();
        while end < 10 {
            let (step, token, arrives) = steps.next().unwrap_or_else(|| { end += 1; (4, 0, true) });
            match step {
                0 | 1 => {
                    prop_assert!(usage.count(&token.to_string(), true, now));
                    *used.entry(token.to_string()).or_default() += 1;
                }
                2 => now += secs(u64::from(token)),
                _ => {
                    now += secs(61);
                    let Some(report) = usage.report(now) else { continue };
                    let reaches = arrives || token % 2 == 0;
                    if reaches && report.sequence > last_sequence {
                        last_sequence = report.sequence;
                        for entry in report.usage {
                            *written.entry(entry.token_id).or_default() += entry.allowed;
                        }
                    }
                    if arrives { usage.written(now) } else { usage.failed(now) }
                }
            }
        }
        prop_assert_eq!(used, written);
    }
}
