use proptest::prelude::*;

use super::*;
use crate::gate::Denied;
use crate::wire::{DeniedToken, RefusalReason, Scheme, TokenFacts, VerifyResponse};

const LIMITS: Limits = Limits {
    max_tokens: 100,
    ttl: Duration::from_secs(300),
    max_negative: 100,
    negative_ttl: Duration::from_secs(10),
};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn hash(token: u32) -> TokenHash {
    TokenHash::of(&token.to_be_bytes())
}

fn good(token: u32, expires_in: Option<Duration>, now: Duration) -> Verdict {
    let facts = TokenFacts {
        id: token.to_string(),
        name: "ci".to_owned(),
        user: "alice".to_owned(),
        schemes: vec![Scheme::Bearer],
        scopes: vec!["read".to_owned()],
        allowed_cidrs: Vec::new(),
        expires_in_ms: expires_in.map(|left| u64::try_from(left.as_millis()).unwrap()),
    };
    let token_hash = hash(token);
    let answer = VerifyResponse {
        epoch: "e".to_owned(),
        revision: 1,
        token_hash,
        token: Some(facts),
        reason: None,
        denied_token: None,
    };
    Verdict::of(&answer, token_hash, now).unwrap()
}

const BAD: Verdict = Verdict::Refused(Denied { reason: RefusalReason::Unknown, token: None });

#[test]
fn a_verdict_is_kept_for_its_time_give_or_take_a_tenth_and_asking_does_not_prolong_it() {
    for token in 0..200 {
        let mut cache = Cache::new(LIMITS);
        cache.insert(hash(token), good(token, None, secs(0)), secs(0));
        for second in 0..270 {
            assert!(cache.get(&hash(token), secs(second)).is_some(), "after {second} s");
        }
        assert_eq!(cache.get(&hash(token), secs(331)), None);
        assert_eq!((cache.entries(), cache.bytes(), cache.evictions().expired), (0, 0, 1));
        cache.insert(hash(token), BAD, secs(400));
        assert!(cache.get(&hash(token), secs(408)).is_some());
        assert_eq!(cache.get(&hash(token), secs(412)), None);
    }
}

#[test]
fn a_good_token_is_familiar_when_its_time_is_over_or_it_changes_and_a_bad_one_never() {
    let mut cache = Cache::new(LIMITS);
    for (token, verdict) in [(1, good(1, None, secs(0))), (2, good(2, None, secs(0))), (3, BAD)] {
        cache.insert(hash(token), verdict, secs(0));
        assert!(!cache.is_familiar(&hash(token)), "it is kept");
    }
    assert_eq!(cache.get(&hash(1), secs(331)), None);
    cache.remove(hash(2).prefix());
    assert_eq!(cache.get(&hash(3), secs(331)), None);
    let familiar = [1, 2, 3, 4].map(|token| cache.is_familiar(&hash(token)));
    assert_eq!(familiar, [true, true, false, false]);
    cache.insert(hash(1), BAD, secs(331));
    assert!(!cache.is_familiar(&hash(1)), "it is bad now");
    for token in 100..500 {
        cache.insert(hash(token), good(token, None, secs(331)), secs(331));
        cache.remove(hash(token).prefix());
    }
    let kept = (100..500).filter(|token| cache.is_familiar(&hash(*token))).count();
    assert_eq!(kept, LIMITS.max_tokens, "what is remembered is bounded");
}

#[test]
fn what_came_together_does_not_go_together() {
    let mut cache = Cache::new(LIMITS);
    for token in 0..100 {
        cache.insert(hash(token), good(token, None, secs(0)), secs(0));
    }
    let left = (0..100).filter(|token| cache.get(&hash(*token), secs(300)).is_some()).count();
    assert!((20..80).contains(&left), "{left} of 100 are left in the middle");
}

#[test]
fn no_verdict_is_kept_beyond_its_token_s_expiry() {
    let mut cache = Cache::new(LIMITS);
    cache.insert(hash(1), good(1, Some(secs(5)), secs(100)), secs(100));
    assert!(cache.get(&hash(1), secs(105) - Duration::from_millis(1)).is_some());
    assert_eq!(cache.get(&hash(1), secs(105)), None);
}

#[test]
fn a_verdict_takes_the_place_of_the_one_before_whichever_they_are() {
    let mut cache = Cache::new(LIMITS);
    for verdict in [BAD, good(1, None, secs(0)), BAD, good(1, None, secs(0))] {
        cache.insert(hash(1), verdict.clone(), secs(0));
        assert_eq!(cache.get(&hash(1), secs(1)), Some(verdict));
        assert_eq!(cache.entries(), 1);
    }
    cache.remove(hash(1).prefix());
    cache.remove(hash(1).prefix());
    assert_eq!((cache.get(&hash(1), secs(1)), cache.evictions().changed), (None, 1));
    cache.insert(hash(1), BAD, secs(0));
    cache.clear();
    assert_eq!((cache.entries(), cache.bytes(), cache.evictions().reset), (0, 0, 1));
}

#[test]
fn of_two_tokens_with_the_same_prefix_one_is_kept_and_neither_has_the_other_s_verdict() {
    let mut bytes = *hash(1).as_bytes();
    bytes[31] ^= 1;
    let twin = TokenHash::from_bytes(bytes);
    let mut cache = Cache::new(LIMITS);
    cache.insert(hash(1), good(1, None, secs(0)), secs(0));
    assert_eq!(cache.get(&twin, secs(1)), None, "it was never asked about");
    cache.insert(twin, good(2, None, secs(0)), secs(1));
    assert_eq!(cache.get(&hash(1), secs(1)), None);
    assert_eq!(cache.get(&twin, secs(1)), Some(good(2, None, secs(0))));
    cache.remove(hash(1).prefix());
    assert_eq!((cache.get(&twin, secs(1)), cache.entries(), cache.bytes()), (None, 0, 0));
    assert!(cache.is_familiar(&twin) && !cache.is_familiar(&hash(1)));
}

#[test]
fn nothing_is_kept_where_nothing_may_be() {
    let mut cache = Cache::new(Limits { max_tokens: 0, max_negative: 0, ..LIMITS });
    cache.insert(hash(1), good(1, None, secs(0)), secs(0));
    cache.insert(hash(2), BAD, secs(0));
    assert_eq!((cache.entries(), cache.bytes()), (0, 0));
}

#[test]
fn made_up_tokens_take_no_room_from_real_ones() {
    let mut cache = Cache::new(LIMITS);
    for token in 0..100 {
        cache.insert(hash(token), good(token, None, secs(0)), secs(0));
    }
    for made_up in 1000..100_000 {
        cache.insert(hash(made_up), BAD, secs(1));
    }
    assert!((0..100).all(|token| cache.get(&hash(token), secs(2)).is_some()));
    assert_eq!(cache.entries(), 200);
}

#[test]
fn tokens_in_use_stay_while_those_used_once_push_each_other_out() {
    let mut cache = Cache::new(LIMITS);
    let in_use = 0..40;
    for token in in_use.clone() {
        cache.insert(hash(token), good(token, None, secs(0)), secs(0));
    }
    for passing in 1000..5000 {
        cache.insert(hash(passing), good(passing, None, secs(0)), secs(0));
        let token = passing % 40;
        assert!(cache.get(&hash(token), secs(1)).is_some(), "{token} was pushed out by {passing}");
        assert!(cache.get(&hash(passing), secs(1)).is_some(), "the newest is kept");
    }
    assert_eq!(cache.entries(), 100);
}

#[test]
fn contained_bad_tokens_that_are_known_by_name_stay_within_the_bytes_of_bad_ones() {
    let mut cache = Cache::new(LIMITS);
    let known = |token: u32| {
        let token = DeniedToken { id: format!("{token:0>128}"), user: "u".repeat(128) };
        Verdict::Refused(Denied { reason: RefusalReason::Revoked, token: Some(token.into()) })
    };
    cache.insert(hash(0), BAD, secs(0));
    let unnamed = cache.bytes();
    cache.insert(hash(0), known(0), secs(0));
    assert!(cache.bytes() >= unnamed + 256, "what is kept of a name counts");
    for token in 0..10 * 100 {
        cache.insert(hash(token), known(token), secs(0));
        assert!(cache.entries() <= 100 && cache.bytes() <= 100 * BYTES_PER_ENTRY);
    }
    assert_eq!(cache.get(&hash(999), secs(1)), Some(known(999)), "the newest is there, name and all");
}

proptest! {
    /// Against a plain map: what is found is what was put there last and not taken away; and the bounds hold.
    #[test]
    fn a_cache_never_tells_what_was_not_put_in_and_never_grows_past_its_bounds(
        operations in prop::collection::vec((0_u8..6, 0_u32..12, 1_u64..40), 1..300),
    ) {
        let limits = Limits { max_tokens: 5, max_negative: 4, ..LIMITS };
        let (mut cache, mut now) = (Cache::new(limits), secs(0));
        let mut model = std::collections::HashMap::new();
        for (operation, token, number) in operations {
            match operation {
                0 => {
                    let verdict = good(token, Some(secs(number)), now);
                    cache.insert(hash(token), verdict.clone(), now);
                    model.insert(token, (verdict, now + secs(number)));
                }
                1 => {
                    cache.insert(hash(token), BAD, now);
                    model.insert(token, (BAD, now + secs(11)));
                }
                2 => {
                    cache.remove(hash(token).prefix());
                    model.remove(&token);
                }
                3 => now += secs(number),
                _ => {
                    if let Some(found) = cache.get(&hash(token), now) {
                        let known = model.get(&token);
                        prop_assert!(known.is_some_and(|(verdict, until)| *verdict == found && *until > now));
                    }
                }
            }
            prop_assert!(cache.entries() <= 9);
            prop_assert!(cache.entries() > 0 || cache.bytes() == 0);
            prop_assert!(cache.bytes() <= 9 * 1024);
        }
    }
}
