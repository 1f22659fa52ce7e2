use super::*;

const BEARER: &str = r#"Bearer realm="api""#;
const BEARER_INVALID: &str = r#"Bearer realm="api", error="invalid_token""#;
const BASIC: &str = r#"Basic realm="api", charset="UTF-8""#;

fn challenges(refusal: &Refusal, schemes: Schemes) -> Vec<String> {
    refusal.challenges(&Realm::default(), schemes)
}

#[test]
fn a_missing_credential_is_challenged_once_per_enabled_scheme_without_an_error() {
    let missing = Refusal::from(CredentialError::Missing);
    assert_eq!(challenges(&missing, Schemes::ALL), [BEARER, BASIC]);
    assert_eq!(challenges(&missing, Schemes::from_iter([Scheme::Basic])), [BASIC]);
}

#[test]
fn an_invalid_credential_is_challenged_for_the_scheme_that_was_used() {
    for reason in Reason::ALL {
        if reason.message() != "Provided API key is invalid" {
            continue;
        }
        assert_eq!(reason.status(), 401);
        assert_eq!(challenges(&Refusal::new(reason, Some(Scheme::Bearer)), Schemes::ALL), [BEARER_INVALID]);
        assert_eq!(challenges(&Refusal::new(reason, Some(Scheme::Basic)), Schemes::ALL), [BASIC]);
        assert_eq!(challenges(&Refusal::new(reason, None), Schemes::ALL), [BEARER_INVALID, BASIC]);
    }
}

#[test]
fn challenges_of_ones_own_and_their_order_are_for_clients_that_used_no_enabled_scheme() {
    let order = |list: &[Scheme]| Challenges::new(list, Schemes::ALL).unwrap();
    let basic_first = order(&[Scheme::Basic, Scheme::Bearer]);
    let missing = Refusal::from(CredentialError::Missing);
    assert_eq!(challenges(&missing.clone().challenging(basic_first), Schemes::ALL), [BASIC, BEARER]);
    assert_eq!(challenges(&missing.challenging(order(&[Scheme::Basic])), Schemes::ALL), [BASIC]);
    let unsupported = Refusal::from(CredentialError::UnsupportedScheme).challenging(basic_first);
    assert_eq!(challenges(&unsupported, Schemes::ALL), [BASIC, BEARER_INVALID]);
    let used = Refusal::new(Reason::Expired, Some(Scheme::Bearer)).challenging(order(&[Scheme::Basic]));
    assert_eq!(challenges(&used, Schemes::ALL), [BEARER_INVALID], "the scheme that was used");
    let multiple = Refusal::from(CredentialError::Multiple).challenging(order(&[Scheme::Basic]));
    assert_eq!(challenges(&multiple, Schemes::ALL).len(), 1, "no 401");
    let answers = [basic_first, Challenges::ALL]
        .map(|it| Refusal::from(CredentialError::Missing).challenging(it).always_the_same());
    assert_ne!(answers[0], answers[1], "an answer that is kept is not another's");
}

#[test]
fn several_credentials_are_an_invalid_bearer_request() {
    let multiple = Refusal::from(CredentialError::Multiple);
    assert_eq!(multiple.reason().status(), 400);
    assert_eq!(challenges(&multiple, Schemes::ALL), [r#"Bearer realm="api", error="invalid_request""#]);
    assert!(challenges(&multiple, Schemes::from_iter([Scheme::Basic])).is_empty());
}

#[test]
fn a_lacking_scope_is_named_whatever_the_scheme() {
    let scopes: Arc<[String]> = Arc::from(["a".to_owned(), "b".to_owned()]);
    let refusal = Refusal::insufficient_scope(&scopes);
    assert_eq!(refusal.reason().status(), 403);
    assert_eq!(
        challenges(&refusal, Schemes::from_iter([Scheme::Basic])),
        [r#"Bearer realm="api", error="insufficient_scope", scope="a b""#]
    );
}

#[test]
fn an_outage_asks_to_come_back_and_challenges_nobody() {
    for reason in [Reason::Unavailable, Reason::Overloaded] {
        let refusal = Refusal::new(reason, Some(Scheme::Bearer));
        assert_eq!(reason.status(), 503);
        let headers = refusal.headers(&Realm::default(), Schemes::ALL);
        assert_eq!(headers, [("retry-after", "1".to_owned())]);
    }
}

#[test]
fn a_wrong_address_is_forbidden_without_a_challenge() {
    let refusal = Refusal::new(Reason::Address, Some(Scheme::Bearer));
    assert_eq!(refusal.reason().status(), 403);
    assert!(refusal.headers(&Realm::default(), Schemes::ALL).is_empty());
}

#[test]
fn the_body_is_the_contracts_json() {
    for reason in Reason::ALL {
        let body: serde_json::Value = serde_json::from_str(&reason.body()).unwrap();
        let expected = serde_json::json!({"error": {"status": "ERROR", "message": reason.message()}});
        assert_eq!(body, expected);
    }
}

#[test]
fn grpc_statuses_are_those_that_envoy_maps() {
    let pairs = Reason::ALL.map(|reason| (reason.status(), reason.grpc_status()));
    assert!(pairs.iter().all(|pair| [(400, 13), (401, 16), (403, 7), (503, 14)].contains(pair)), "{pairs:?}");
}

#[test]
fn names_are_snake_case_and_distinct() {
    let names: std::collections::BTreeSet<_> = Reason::ALL.into_iter().map(Reason::name).collect();
    assert_eq!(names.len(), Reason::ALL.len());
    assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')), "{names:?}");
    assert_eq!(Reason::Expired.details(), "latchkey_expired");
}

#[test]
fn a_realm_that_could_break_out_of_its_quotes_is_refused() {
    assert!("my api, v2".parse::<Realm>().is_ok());
    for bad in ["", "a\"b", "a\\b", "a\nb", "é", &"x".repeat(65)] {
        assert_eq!(bad.parse::<Realm>(), Err(InvalidRealm), "{bad:?}");
    }
}
