use super::*;
use crate::token::TokenHash;
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
    ChangesResponse {
        epoch: epoch.to_owned(),
        revision,
        reset: false,
        more: false,
        token_hashes,
        hash_prefixes: Vec::new(),
        next_offset: None,
    }
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
    assert_eq!(feed.ask(ms(0)).unwrap().path, "/edge/v1/changes?wait_ms=10000");
    assert_eq!(feed.ask(ms(0)), None, "one is under way");
    feed.heard(reset("e-1", 7), ms(5)).unwrap();
    assert_eq!(feed.ask(ms(5)).unwrap().path, "/edge/v1/changes?epoch=e-1&after=7&wait_ms=10000");
    assert_eq!(
        feed.heard(changes("e-1", 9, &[1, 2]), ms(6)),
        Ok(Effect::Forget(vec![hash(1).prefix(), hash(2).prefix()]))
    );
    assert_eq!(feed.ask(ms(6)).unwrap().path, "/edge/v1/changes?epoch=e-1&after=9&wait_ms=10000");
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
    assert_eq!(feed.ask(ms(1_000)).unwrap().path, "/edge/v1/changes?epoch=e&after=7&wait_ms=0");
    assert!(feed.is_fresh(ms(29_999)), "it was heard at 0, whoever follows it now");
    assert!(!feed.is_fresh(ms(30_000)));
}

#[test]
fn after_a_loss_the_first_answer_is_to_come_at_once_and_the_next_question_waits_again() {
    let mut feed = started();
    feed.ask(ms(0)).unwrap();
    feed.failed(ms(5_000), 1000);
    assert_eq!(feed.ask(ms(5_100)).unwrap().path, "/edge/v1/changes?epoch=e&after=7&wait_ms=0");
    feed.heard(changes("e", 7, &[]), ms(5_101)).unwrap();
    assert_eq!(feed.ask(ms(5_101)).unwrap().path, "/edge/v1/changes?epoch=e&after=7&wait_ms=10000");
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
        assert_eq!(feed.ask(ms(1)).unwrap().path, "/edge/v1/changes?epoch=e&after=7&wait_ms=10000", "{what}");
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

/// A part of the change after `revision`, up to `offset`.
fn part(revision: u64, tokens: &[u8], offset: u64) -> ChangesResponse {
    let hash_prefixes = tokens.iter().map(|token| hash(*token).prefix()).collect();
    ChangesResponse { hash_prefixes, more: true, next_offset: Some(offset), ..changes("e", revision, &[]) }
}

#[test]
fn a_change_that_comes_in_parts_is_followed_from_part_to_part() {
    let mut feed = started();
    let told = |tokens: &[u8]| Ok(Effect::Forget(tokens.iter().map(|token| hash(*token).prefix()).collect()));
    let question = |offset| Question {
        path: "/edge/v1/changes?epoch=e&after=7&wait_ms=10000".to_owned(),
        offset,
        wait: ms(10_000),
    };
    assert_eq!(feed.ask(ms(0)), Some(question(0)));
    assert_eq!(feed.heard(part(7, &[1, 2], 2), ms(1)), told(&[1, 2]));
    assert_eq!(feed.ask(ms(1)), Some(question(2)), "at once, where it was left");
    assert_eq!(feed.heard(part(7, &[3], 2), ms(2)), Err(NotAnAnswer), "it does not go on");
    feed.failed(ms(2), 0);
    let again =
        Question { path: "/edge/v1/changes?epoch=e&after=7&wait_ms=0".to_owned(), offset: 2, wait: ms(0) };
    assert_eq!(feed.ask(ms(100)), Some(again), "what was told is told");
    assert_eq!(feed.heard(part(7, &[3], 3), ms(101)), told(&[3]));
    feed.ask(ms(101)).unwrap();
    assert_eq!(
        feed.heard(part(8, &[4, 1], 1), ms(102)),
        told(&[4, 1]),
        "the end of one and a part of the next"
    );
    assert_eq!(
        feed.ask(ms(102)).unwrap(),
        Question { path: question(0).path.replace('7', "8"), ..question(1) }
    );
    assert_eq!(
        feed.heard(changes("e", 9, &[5]), ms(103)),
        told(&[5]),
        "whole hashes, as by an earlier version"
    );
    assert_eq!(
        feed.ask(ms(103)).unwrap(),
        Question { path: question(0).path.replace('7', "9"), ..question(0) }
    );
}

#[test]
fn a_verify_answer_older_than_a_change_that_is_known_in_part_is_outdated() {
    let mut feed = started();
    feed.ask(ms(0)).unwrap();
    feed.heard(part(7, &[1], 1), ms(0)).unwrap();
    assert_eq!(feed.age_of(&verify("e", 7, 1)), Age::Outdated);
    assert_eq!(feed.age_of(&verify("e", 8, 1)), Age::Current);
    assert_eq!(feed.age_of(&verify("e", 7, 2)), Age::Current, "nothing of it is known yet");
}

/// A feed that has failed so often that it waits for five seconds from `ms(60_000)` on.
fn backing_off() -> Feed {
    let mut feed = started();
    for _ in 0..8 {
        feed.next = ms(60_000);
        feed.ask(ms(60_000)).unwrap();
        feed.failed(ms(60_000), 1000);
    }
    assert_eq!(feed.next, ms(65_000));
    feed
}

#[test]
fn a_look_up_that_is_answered_cuts_the_back_off_short_and_not_for_all_edges_at_the_same_time() {
    for (random, then) in [(0, 61_000), (500, 61_050), (1000, 61_100)] {
        let mut feed = backing_off();
        feed.lookup_answered(ms(61_000), random);
        assert_eq!(feed.next, ms(then));
        assert!(random == 0 || feed.asks_soon(ms(61_000)));
        assert_eq!(feed.ask(ms(then)).unwrap().path, "/edge/v1/changes?epoch=e&after=7&wait_ms=0");
        assert_eq!(feed.ask(ms(then)), None, "one is under way");
    }
}

#[test]
fn look_ups_that_are_answered_while_the_feed_is_not_have_it_asked_once_more_and_no_oftener() {
    let mut feed = backing_off();
    let mut questions = 0;
    for now in 60_000..120_000 {
        if now % 10 == 0 {
            feed.lookup_answered(ms(now), now);
        }
        if feed.ask(ms(now)).is_some() {
            questions += 1;
            feed.failed(ms(now), 1000);
        }
    }
    assert!((12..=14).contains(&questions), "{questions} questions in a minute");
}

#[test]
fn look_ups_of_which_some_are_answered_have_the_feed_asked_once_a_second_at_most() {
    let mut feed = backing_off();
    let mut questions = 0;
    for now in 60_000..120_000 {
        match now % 10 {
            0 => feed.lookup_answered(ms(now), now),
            5 => feed.lookup_failed(ms(now)),
            _ => {}
        }
        if feed.ask(ms(now)).is_some() {
            questions += 1;
            feed.failed(ms(now), 1000);
        }
    }
    assert!((40..=61).contains(&questions), "{questions} questions in a minute");
}

#[test]
fn the_back_off_is_cut_short_again_when_the_feed_was_heard_or_a_look_up_has_failed() {
    let mut feed = backing_off();
    feed.lookup_answered(ms(60_000), 0);
    feed.ask(ms(60_000)).unwrap();
    feed.failed(ms(60_001), 1000);
    feed.lookup_answered(ms(60_002), 0);
    assert_eq!(feed.next, ms(65_001), "it was, and was not heard");
    feed.lookup_failed(ms(61_000));
    feed.lookup_answered(ms(61_001), 0);
    assert_eq!(feed.next, ms(61_001));
    feed.ask(ms(61_001)).unwrap();
    feed.heard(changes("e", 7, &[]), ms(61_002)).unwrap();
    feed.lookup_answered(ms(61_003), 0);
    assert_eq!((feed.next, feed.failures), (ms(61_002), 0), "there is no back-off");
}

#[test]
fn a_look_up_that_is_answered_while_a_question_is_in_vain_counts_when_that_has_failed() {
    let mut feed = backing_off();
    feed.ask(ms(65_000)).unwrap();
    feed.lookup_answered(ms(66_000), 0);
    assert_eq!(feed.ask(ms(66_000)), None, "one at a time");
    feed.failed(ms(67_000), 1000);
    assert_eq!(feed.next, ms(67_100));
}
