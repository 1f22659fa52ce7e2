use super::*;
use crate::challenges::Challenges;
use crate::credential::Schemes;
use crate::token::TokenHash;
use crate::wire::{DeniedToken, RefusalReason, Scheme};

const NOW: Duration = Duration::from_secs(1000);

fn verdict(answer: &VerifyResponse) -> Option<Verdict> {
    Verdict::of(answer, TokenHash::of(b"x"), NOW)
}

fn bearer() -> Credential {
    Credential { scheme: Scheme::Bearer, user: None, hash: TokenHash::of(b"x") }
}

fn basic(user: &str) -> Credential {
    Credential { scheme: Scheme::Basic, user: Some(user.to_owned()), ..bearer() }
}

fn facts() -> TokenFacts {
    TokenFacts {
        id: "0198".to_owned(),
        name: "ci".to_owned(),
        user: "alice".to_owned(),
        schemes: vec![Scheme::Bearer, Scheme::Basic],
        scopes: vec!["read".to_owned(), "write".to_owned()],
        allowed_cidrs: Vec::new(),
        expires_in_ms: Some(1),
    }
}

fn answer(token: Option<TokenFacts>, reason: Option<RefusalReason>) -> VerifyResponse {
    let token_hash = TokenHash::of(b"x");
    VerifyResponse { epoch: "e".to_owned(), revision: 1, token_hash, token, reason, denied_token: None }
}

fn scopes(list: &[&str]) -> Arc<[String]> {
    list.iter().map(|scope| (*scope).to_owned()).collect()
}

fn judged(
    credential: &Credential,
    needed: &[&str],
    address: Option<&str>,
    facts: TokenFacts,
) -> Result<Arc<Identity>, Reason> {
    let address = address.map(|text| text.parse().unwrap());
    let verdict = verdict(&answer(Some(facts), None)).unwrap();
    judge(credential, &scopes(needed), address, &verdict, NOW).map_err(|refusal| refusal.reason())
}

fn decided(auth: Auth, values: &[&str]) -> Decision {
    let accepted = Accepted { schemes: Schemes::ALL, prefix: None, challenges: Challenges::ALL };
    let requirement = Requirement { auth, scopes: scopes(&[]), challenges: None };
    decide(&requirement, &accepted, values.iter().map(|value| value.as_bytes()).collect())
}

#[test]
fn where_no_credential_is_needed_none_is_looked_at() {
    for values in [&[][..], &["Bearer x"], &["Bearer x", "Bearer y"], &["\0"]] {
        assert_eq!(decided(Auth::None, values), Decision::Pass, "{values:?}");
    }
}

#[test]
fn where_a_credential_is_optional_only_its_absence_passes() {
    assert_eq!(decided(Auth::Optional, &[]), Decision::Pass);
    assert_eq!(decided(Auth::Optional, &["Bearer x"]), Decision::Ask(bearer()));
    let malformed = Refusal::new(Reason::Malformed, Some(Scheme::Bearer)).challenging(Challenges::ALL);
    assert_eq!(decided(Auth::Optional, &["Bearer"]), Decision::Refuse(malformed));
    let unreadable = Refusal::new(Reason::Malformed, None).challenging(Challenges::ALL);
    assert_eq!(decided(Auth::Optional, &[""]), Decision::Refuse(unreadable));
}

#[test]
fn where_a_credential_is_required_its_absence_is_refused() {
    let missing = Refusal::new(Reason::Missing, None).challenging(Challenges::ALL);
    assert_eq!(decided(Auth::Required, &[]), Decision::Refuse(missing));
    assert_eq!(decided(Auth::Required, &["Bearer x"]), Decision::Ask(bearer()));
}

#[test]
fn a_usable_token_gives_its_identity() {
    for credential in [bearer(), basic("alice")] {
        let identity = judged(&credential, &["write", "read"], None, facts()).unwrap();
        assert_eq!((identity.user(), identity.token_id()), ("alice", "0198"));
        assert_eq!(identity.scope_list(), "read write");
    }
}

#[test]
fn the_service_s_no_is_given_with_its_reason() {
    for (said, reason) in [
        (Some(RefusalReason::Unknown), Reason::Unknown),
        (Some(RefusalReason::Expired), Reason::Expired),
        (Some(RefusalReason::Revoked), Reason::Revoked),
        (Some(RefusalReason::UserDisabled), Reason::UserDisabled),
        (None, Reason::Unknown),
    ] {
        let verdict = verdict(&answer(None, said)).unwrap();
        let refusal = judge(&bearer(), &scopes(&[]), None, &verdict, NOW).unwrap_err();
        assert_eq!(refusal, Refusal::new(reason, Some(Scheme::Bearer)));
    }
}

#[test]
fn a_denied_token_is_named_if_the_service_knows_it_and_only_as_a_log_can_take_it() {
    let named = |reason, id: &str, user: &str| {
        let denied_token = Some(DeniedToken { id: id.to_owned(), user: user.to_owned() });
        let verdict = verdict(&VerifyResponse { denied_token, ..answer(None, reason) }).unwrap();
        let denied = judge(&bearer(), &scopes(&[]), None, &verdict, NOW).unwrap_err().reason();
        let owner = verdict.owner().map(|it| (it.token_id.to_owned(), it.user.to_owned()));
        (denied, owner)
    };
    let alice = Some(("0198".to_owned(), "alice".to_owned()));
    let revoked = Some(RefusalReason::Revoked);
    assert_eq!(named(revoked, "0198", "alice"), (Reason::Revoked, alice.clone()));
    assert_eq!(named(None, "0198", "alice"), (Reason::Unknown, alice.clone()));
    let long = "x".repeat(MAX_KNOWN + 1);
    for (id, user) in
        [("", "alice"), ("0198", ""), ("0198", "a\r\nb"), ("0198", "é"), (&long, "a"), ("0198", &long)]
    {
        assert_eq!(named(revoked, id, user), (Reason::Revoked, None), "{id:?}, {user:?}");
    }
    let unnamed = verdict(&answer(None, revoked)).unwrap();
    assert_eq!(unnamed.owner(), None);
    let usable = verdict(&answer(Some(facts()), None)).unwrap();
    assert_eq!(usable.owner(), Some(TokenOwner { token_id: "0198", user: "alice" }));
}

#[test]
fn an_answer_to_another_question_or_a_contradiction_is_no_verdict() {
    let mut other = answer(Some(facts()), None);
    other.token_hash = TokenHash::of(b"y");
    let both = answer(Some(facts()), Some(RefusalReason::Revoked));
    let unsafe_user = answer(Some(TokenFacts { user: "a\r\nb".to_owned(), ..facts() }), None);
    let empty_user = answer(Some(TokenFacts { user: String::new(), ..facts() }), None);
    let two_in_one = answer(Some(TokenFacts { scopes: vec!["a b".to_owned()], ..facts() }), None);
    for answer in [other, both, unsafe_user, empty_user, two_in_one] {
        assert_eq!(verdict(&answer), None, "{answer:?}");
    }
}

#[test]
fn a_token_with_no_time_left_is_expired_and_one_without_end_is_not() {
    let with = |expires_in_ms| TokenFacts { expires_in_ms, ..facts() };
    assert_eq!(judged(&bearer(), &[], None, with(Some(0))), Err(Reason::Expired));
    assert!(judged(&bearer(), &[], None, with(Some(1))).is_ok());
    assert!(judged(&bearer(), &[], None, with(None)).is_ok());
}

#[test]
fn a_verdict_that_is_kept_says_no_from_the_very_millisecond_of_the_token_s_expiry() {
    let short = TokenFacts { expires_in_ms: Some(500), ..facts() };
    let verdict = verdict(&answer(Some(short), None)).unwrap();
    let at = |later: u64| {
        judge(&bearer(), &scopes(&[]), None, &verdict, NOW + Duration::from_millis(later)).map(|_| ())
    };
    assert_eq!(at(499), Ok(()));
    assert_eq!(at(500).unwrap_err().reason(), Reason::Expired);
}

#[test]
fn a_token_made_for_one_scheme_is_invalid_with_the_other() {
    let only = |scheme| TokenFacts { schemes: vec![scheme], ..facts() };
    assert_eq!(judged(&bearer(), &[], None, only(Scheme::Basic)), Err(Reason::WrongScheme));
    assert_eq!(judged(&basic("alice"), &[], None, only(Scheme::Bearer)), Err(Reason::WrongScheme));
    assert!(judged(&bearer(), &[], None, only(Scheme::Bearer)).is_ok());
}

#[test]
fn the_basic_user_is_the_token_s_owner_ascii_case_aside() {
    for user in ["bob", "alice ", " alice", "alic", "alicé", "alice+ci", "al\u{131}ce"] {
        assert_eq!(judged(&basic(user), &[], None, facts()), Err(Reason::WrongUser), "{user}");
    }
    let dev = || TokenFacts { user: "dev+ci@example.com".to_owned(), ..facts() };
    for user in ["dev+ci@example.com", "Dev+CI@Example.com"] {
        let identity = judged(&basic(user), &[], None, dev()).unwrap();
        assert_eq!(identity.user(), "dev+ci@example.com", "the upstream gets the owner's name");
    }
    assert_eq!(judged(&basic("dev ci@example.com"), &[], None, dev()), Err(Reason::WrongUser));
}

#[test]
fn a_rule_s_challenges_stand_in_the_place_of_the_general_ones() {
    let basic = Challenges::in_order_of(&[Scheme::Basic]).unwrap();
    let accepted = Accepted { schemes: Schemes::ALL, prefix: None, challenges: Challenges::ALL };
    let requirement = Requirement { challenges: Some(basic), ..Requirement::default() };
    let expected = Refusal::new(Reason::Missing, None).challenging(basic);
    assert_eq!(decide(&requirement, &accepted, Values::None), Decision::Refuse(expected));
}

#[test]
fn every_scope_of_the_rule_is_needed() {
    assert!(judged(&bearer(), &["read"], None, facts()).is_ok());
    for needed in [&["admin"][..], &["read", "admin"], &["Read"], &["rea"]] {
        let verdict = verdict(&answer(Some(facts()), None)).unwrap();
        let refusal = judge(&bearer(), &scopes(needed), None, &verdict, NOW).unwrap_err();
        assert_eq!(refusal, Refusal::insufficient_scope(&scopes(needed)));
    }
}

#[test]
fn addresses_are_held_against_the_networks_in_their_canonical_form() {
    let bound = |network: &str, address: Option<&str>| {
        let facts = TokenFacts { allowed_cidrs: vec![network.parse().unwrap()], ..facts() };
        judged(&bearer(), &[], address, facts).map(|_| ())
    };
    for (network, address) in [
        ("10.0.0.0/8", "10.1.2.3"),
        ("10.0.0.0/8", "::ffff:10.1.2.3"),
        ("::ffff:10.0.0.0/104", "10.1.2.3"),
        ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3"),
        ("2001:db8::/32", "2001:db8::1"),
        ("0.0.0.0/0", "192.0.2.1"),
        ("192.0.2.1/32", "192.0.2.1"),
    ] {
        assert_eq!(bound(network, Some(address)), Ok(()), "{address} in {network}");
    }
    for (network, address) in [
        ("10.0.0.0/8", Some("11.1.2.3")),
        ("10.0.0.0/8", Some("::10.1.2.3")),
        ("10.0.0.0/8", Some("2001:db8::1")),
        ("2001:db8::/32", Some("2001:db9::1")),
        ("::/0", Some("10.1.2.3")),
        ("0.0.0.0/0", Some("2001:db8::1")),
        ("0.0.0.0/0", None),
    ] {
        assert_eq!(bound(network, address), Err(Reason::Address), "{address:?} in {network}");
    }
}

#[test]
fn only_a_token_that_ends_within_the_period_is_warned_of() {
    let ends = |left: Option<u64>, period: u64| {
        let facts = TokenFacts { expires_in_ms: left, ..facts() };
        let verdict = verdict(&answer(Some(facts), None)).unwrap();
        verdict.expires_within(Duration::from_millis(period), NOW)
    };
    assert_eq!(ends(Some(4), 5), Some(NOW + Duration::from_millis(4)));
    assert_eq!((ends(Some(5), 5), ends(None, 5)), (None, None));
    // A period of zero warns of none, not even of one whose time is over.
    assert_eq!((ends(Some(0), 0), ends(Some(0), 1)), (None, Some(NOW)));
    let refused = verdict(&answer(None, Some(RefusalReason::Expired))).unwrap();
    assert_eq!(refused.expires_within(Duration::MAX, NOW), None);
}
