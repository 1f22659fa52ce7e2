use super::*;
use crate::wire::RefusalReason;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn hash(token: u8) -> TokenHash {
    TokenHash::of(&[token])
}

fn feed() -> Feed {
    Feed::new(ms(30_000))
}

fn changes(epoch: &str, revision: u64, tokens: &[u8]) -> ChangesResponse {
    let token_hashes = tokens.iter().copied().map(hash).collect();
    ChangesResponse { epoch: epoch.to_owned(), revision, reset: false, more: false, token_hashes }
}

fn reset(epoch: &str, revision: u64) -> ChangesResponse {
    ChangesResponse { reset: true, ..changes(epoch, revision, &[]) }
}

fn verify(epoch: &str, revision: u64, token: u8) -> VerifyResponse {
    let reason = Some(RefusalReason::Unknown);
    let token_hash = hash(token);
    VerifyResponse { epoch: epoch.to_owned(), revision, token_hash, token: None, reason, denied_token: None }
}

/// A feed that was told at time 0 that the history `e` is at revision 7.
fn started() -> Feed {
    let mut feed = feed();
    feed.ask(ms(0)).unwrap();
    assert_eq!(feed.heard(reset("e", 7), ms(0)), Ok(Effect::ForgetAll));
    feed
}

#[test]
fn the_first_question_names_no_history_and_each_further_one_where_the_last_answer_ended() {
    let mut feed = feed();
    assert_eq!(feed.ask(ms(0)).unwrap(), "/edge/v1/changes?wait_ms=10000");
    assert_eq!(feed.ask(ms(0)), None, "one is under way");
    feed.heard(reset("e-1", 7), ms(5)).unwrap();
    assert_eq!(feed.ask(ms(5)).unwrap(), "/edge/v1/changes?epoch=e-1&after=7&wait_ms=10000");
    assert_eq!(feed.heard(changes("e-1", 9, &[1, 2]), ms(6)), Ok(Effect::Forget(vec![hash(1), hash(2)])));
    assert_eq!(feed.ask(ms(6)).unwrap(), "/edge/v1/changes?epoch=e-1&after=9&wait_ms=10000");
}

#[test]
fn the_wait_lets_a_live_feed_be_heard_several_times_before_it_is_stale() {
    for (stale, wait) in [(30_000, 10_000), (3_000, 1_000), (86_400_000, 10_000), (5, 100)] {
        assert_eq!(Feed::new(ms(stale)).wait(), ms(wait), "{stale}");
    }
    assert_eq!(Feed::new(ms(0)).ask(ms(0)), None, "where nothing may be stale, nothing is kept");
}

#[test]
fn a_feed_is_fresh_until_it_was_not_heard_for_so_long_and_again_when_it_is_heard() {
    assert!(!feed().is_fresh(ms(0)));
    let mut feed = started();
    assert!(feed.is_fresh(ms(29_999)));
    assert!(!feed.is_fresh(ms(30_000)));
    feed.ask(ms(40_000)).unwrap();
    assert!(!feed.is_fresh(ms(40_000)));
    feed.heard(changes("e", 7, &[]), ms(50_000)).unwrap();
    assert!(feed.is_fresh(ms(50_000)));
}

#[test]
fn a_feed_that_nobody_follows_is_not_fresh_and_is_taken_up_where_it_was_left() {
    let mut feed = started();
    feed.ask(ms(0)).unwrap();
    feed.abandon();
    assert!(!feed.is_fresh(ms(1_000)));
    assert_eq!(feed.ask(ms(1_000)).unwrap(), "/edge/v1/changes?epoch=e&after=7&wait_ms=0");
    assert!(feed.is_fresh(ms(29_999)), "it was heard at 0, whoever follows it now");
    assert!(!feed.is_fresh(ms(30_000)));
}

#[test]
fn after_a_loss_the_first_answer_is_to_come_at_once_and_the_next_question_waits_again() {
    let mut feed = started();
    feed.ask(ms(0)).unwrap();
    feed.failed(ms(5_000), 1000);
    assert_eq!(feed.ask(ms(5_100)).unwrap(), "/edge/v1/changes?epoch=e&after=7&wait_ms=0");
    feed.heard(changes("e", 7, &[]), ms(5_101)).unwrap();
    assert_eq!(feed.ask(ms(5_101)).unwrap(), "/edge/v1/changes?epoch=e&after=7&wait_ms=10000");
}

#[test]
fn after_a_failure_the_next_question_waits_longer_each_time_and_never_the_same_for_two() {
    let mut feed = feed();
    let (mut now, mut pauses) = (ms(0), Vec::new());
    for _ in 0..9 {
        feed.ask(now).unwrap();
        feed.failed(now, 1000);
        let pause = (0..).map(|more| now + ms(more)).find(|then| feed.next <= *then).unwrap() - now;
        assert_eq!(feed.ask(now + pause - ms(1)), None);
        now += pause;
        pauses.push(pause.as_millis());
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    feed.ask(now).unwrap();
    feed.failed(now, 0);
    assert!(feed.ask(now + ms(2_500)).is_some(), "half of it at least");
    feed.heard(reset("e", 1), now).unwrap();
    feed.ask(now).unwrap();
    feed.failed(now, 1000);
    assert!(feed.ask(now + ms(100)).is_some(), "an answer begins it anew");
}

#[test]
fn a_service_that_answers_too_soon_with_nothing_is_not_asked_in_circles() {
    let mut feed = started();
    feed.ask(ms(0)).unwrap();
    feed.heard(changes("e", 7, &[]), ms(10)).unwrap();
    assert_eq!(feed.ask(ms(109)), None);
    feed.ask(ms(110)).unwrap();
    feed.heard(reset("f", 1), ms(111)).unwrap();
    assert_eq!(feed.ask(ms(210)), None);
    feed.ask(ms(211)).unwrap();
    feed.heard(changes("f", 1, &[]), ms(10_211)).unwrap();
    assert!(feed.ask(ms(10_211)).is_some(), "it waited as it was asked to");
}

#[test]
fn an_answer_that_no_service_of_ours_gives_changes_nothing() {
    let mut feed = started();
    let mut more_of_nothing = changes("e", 7, &[]);
    more_of_nothing.more = true;
    for (what, answer) in [
        ("another history", changes("f", 8, &[1])),
        ("going back", changes("e", 6, &[1])),
        ("a change without a revision", changes("e", 7, &[1])),
        ("more of nothing", more_of_nothing),
        ("an epoch that would change the question", reset("e&after=99", 1)),
        ("no epoch", reset("", 1)),
    ] {
        feed.asked = None;
        feed.ask(ms(1)).unwrap();
        assert_eq!(feed.heard(answer, ms(1)), Err(NotAnAnswer), "{what}");
        feed.asked = None;
        assert_eq!(feed.ask(ms(1)).unwrap(), "/edge/v1/changes?epoch=e&after=7&wait_ms=10000", "{what}");
        assert_eq!(feed.age(ms(1)), Some(ms(1)), "{what}");
    }
    assert_eq!(Feed::new(ms(1)).heard(changes("e", 7, &[]), ms(0)), Err(NotAnAnswer), "it was not asked so");
}

#[test]
fn a_verify_answer_older_than_a_change_of_its_token_is_outdated() {
    assert_eq!(feed().age_of(&verify("e", 7, 1)), Age::Unknown);
    let mut feed = started();
    assert_eq!(feed.age_of(&verify("e", 6, 1)), Age::Outdated, "what was before is not known");
    assert_eq!(feed.age_of(&verify("e", 7, 1)), Age::Current);
    assert_eq!(feed.age_of(&verify("f", 99, 1)), Age::Unknown);
    feed.ask(ms(0)).unwrap();
    feed.heard(changes("e", 9, &[1]), ms(0)).unwrap();
    assert_eq!(feed.age_of(&verify("e", 8, 1)), Age::Outdated);
    assert_eq!(feed.age_of(&verify("e", 9, 1)), Age::Current);
    assert_eq!(feed.age_of(&verify("e", 8, 2)), Age::Current, "others changed, not this one");
}

#[test]
fn so_many_changes_that_not_all_are_remembered_make_older_answers_outdated() {
    let mut feed = started();
    let many: Vec<TokenHash> = (0..5_000_u32).map(|token| TokenHash::of(&token.to_be_bytes())).collect();
    for (revision, hashes) in (8..).zip(many.chunks(100)) {
        feed.ask(ms(0)).unwrap();
        let answer = ChangesResponse { token_hashes: hashes.to_vec(), ..changes("e", revision, &[]) };
        feed.heard(answer, ms(0)).unwrap();
    }
    let position = feed.position.as_ref().unwrap();
    assert_eq!(
        (position.revision, position.order.len(), position.changed.len()),
        (57, REMEMBERED, REMEMBERED)
    );
    assert_eq!(feed.age_of(&verify("e", 16, 9)), Age::Outdated, "it may have changed at 17");
    assert_eq!(feed.age_of(&verify("e", 17, 9)), Age::Current);
}
