use super::*;

#[test]
fn the_answers_are_spelt_as_the_contract_spells_them() {
    let hash = TokenHash::of(b"x");
    let refused = VerifyResponse {
        epoch: "e".to_owned(),
        revision: 7,
        token_hash: hash,
        token: None,
        reason: Some(RefusalReason::UserDisabled),
        denied_token: None,
    };
    assert_eq!(
        serde_json::to_value(&refused).unwrap(),
        serde_json::json!({
            "epoch": "e", "revision": 7, "token_hash": hash.to_string(), "token": null, "reason": "user_disabled",
        })
    );
    let known = DeniedToken { id: "i".to_owned(), user: "alice".to_owned() };
    let known = VerifyResponse { denied_token: Some(known), ..refused.clone() };
    let json = serde_json::to_value(&known).unwrap();
    assert_eq!(json["denied_token"], serde_json::json!({"id": "i", "user": "alice"}));
    assert_eq!(serde_json::from_value::<VerifyResponse>(json).unwrap(), known);
    let usable = VerifyResponse {
        token: Some(TokenFacts {
            id: "i".to_owned(),
            name: "ci".to_owned(),
            user: "alice".to_owned(),
            schemes: vec![Scheme::Bearer, Scheme::Basic],
            scopes: vec!["read".to_owned()],
            allowed_cidrs: vec!["10.0.0.0/8".parse().unwrap()],
            expires_in_ms: None,
        }),
        reason: None,
        ..refused
    };
    let json = serde_json::to_value(&usable).unwrap();
    assert_eq!(
        json["token"],
        serde_json::json!({
            "id": "i", "name": "ci", "user": "alice", "schemes": ["bearer", "basic"], "scopes": ["read"],
            "allowed_cidrs": ["10.0.0.0/8"], "expires_in_ms": null,
        })
    );
    assert!(json.get("reason").is_none());
    assert_eq!(serde_json::from_value::<VerifyResponse>(json).unwrap(), usable);
}

#[test]
fn changes_are_spelt_as_the_contract_spells_them_and_prefixes_are_there_where_they_were_asked_for() {
    let hashes = [b"x", b"y"].map(|token| TokenHash::of(token));
    let [x, y] = hashes.map(|hash| hash.to_string());
    let plain = ChangesResponse {
        epoch: "e".to_owned(),
        revision: 7,
        reset: false,
        more: false,
        token_hashes: hashes.to_vec(),
        hash_prefixes: Vec::new(),
        next_offset: None,
    };
    let json = serde_json::json!({"epoch": "e", "revision": 7, "reset": false, "more": false, "token_hashes": [x, y]});
    assert_eq!(serde_json::to_value(&plain).unwrap(), json);
    let prefixes = ChangesResponse {
        token_hashes: Vec::new(),
        hash_prefixes: hashes.map(|hash| hash.prefix()).to_vec(),
        next_offset: Some(2),
        ..plain.clone()
    };
    let json = serde_json::json!({
        "epoch": "e", "revision": 7, "reset": false, "more": false, "token_hashes": [],
        "hash_prefixes": "LXEWQrcmofzkNjhU", "next_offset": 2,
    });
    assert_eq!(serde_json::to_value(&prefixes).unwrap(), json);
    assert_eq!(read_answer::<ChangesResponse>(json.to_string().as_bytes()).unwrap(), prefixes);
    assert!(plain.touched().eq(prefixes.touched()));
    for wrong in ["LXEWQrcmofzkNjh", "LXEW", "*"] {
        let mut json = json.clone();
        json["hash_prefixes"] = wrong.into();
        assert!(read_answer::<ChangesResponse>(json.to_string().as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn the_largest_answer_of_prefixes_fits_into_the_smallest_window_of_http2() {
    let answer = ChangesResponse {
        epoch: "019ab000-0000-7000-8000-000000000000".to_owned(),
        revision: u64::MAX,
        reset: false,
        more: false,
        token_hashes: Vec::new(),
        hash_prefixes: vec![TokenHash::of(b"x").prefix(); MAX_PREFIXES],
        next_offset: Some(u64::MAX),
    };
    assert!(serde_json::to_vec(&answer).unwrap().len() < 64 * 1024);
}

#[test]
fn a_usage_report_is_spelt_as_the_contract_spells_it() {
    let report = UsageReport {
        edge: "e1".to_owned(),
        sequence: 3,
        usage: vec![TokenUsage { token_id: "i".to_owned(), allowed: 2, denied: 1, last_used_ms_ago: 40 }],
    };
    let json = serde_json::json!({
        "edge": "e1", "sequence": 3,
        "usage": [{"token_id": "i", "allowed": 2, "denied": 1, "last_used_ms_ago": 40}],
    });
    assert_eq!(serde_json::to_value(&report).unwrap(), json);
    assert_eq!(serde_json::from_value::<UsageReport>(json).unwrap(), report);
    let array = serde_json::json!({"edge": "e1", "sequence": 3, "usage": [["i", 2, 1, 40]]});
    assert!(serde_json::from_value::<UsageReport>(array).is_err());
}

#[test]
fn an_answer_that_is_an_array_is_none_at_any_depth() {
    let hash = TokenHash::of(b"x").to_string();
    let read = |json: serde_json::Value| read_answer::<VerifyResponse>(json.to_string().as_bytes());
    let token = serde_json::json!({
        "id": "i", "name": "ci", "user": "alice", "schemes": ["bearer"], "scopes": [],
        "allowed_cidrs": [], "expires_in_ms": null,
    });
    let positions = serde_json::json!(["i", "ci", "alice", ["bearer"], [], [], null]);
    let object = |token: &serde_json::Value| serde_json::json!({"epoch": "e", "revision": 1, "token_hash": hash, "token": token});
    assert!(read(object(&token)).is_ok());
    assert!(read(object(&positions)).is_err());
    assert!(read(serde_json::json!(["e", 1, hash, token, null])).is_err());
    let mut denied = object(&serde_json::Value::Null);
    denied["denied_token"] = serde_json::json!(["i", "alice"]);
    assert!(read(denied).is_err());
    let changes = serde_json::json!(["e", 1, false, false, []]).to_string();
    assert!(read_answer::<ChangesResponse>(changes.as_bytes()).is_err());
    assert!(read_answer::<UsageResponse>(b"[\"e\", 1]").is_err());
}

#[test]
fn what_a_later_version_adds_is_no_outage_and_an_answer_that_lacks_the_token_is_no_refusal() {
    let hash = TokenHash::of(b"x");
    let answer = |change: serde_json::Value| {
        let mut json =
            serde_json::json!({"epoch": "e", "revision": 7, "token_hash": hash.to_string(), "later": 1});
        json.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value::<VerifyResponse>(json)
    };
    let refused = answer(serde_json::json!({"token": null, "reason": "moved"})).unwrap();
    assert_eq!(refused.reason, Some(RefusalReason::Unknown));
    let token = serde_json::json!({
        "id": "i", "name": "ci", "user": "alice", "schemes": ["dpop", "bearer"], "scopes": [],
        "allowed_cidrs": [], "expires_in_ms": null, "later": 1,
    });
    let usable = answer(serde_json::json!({"token": token})).unwrap();
    assert_eq!(usable.token.unwrap().schemes, [Scheme::Bearer]);
    assert!(answer(serde_json::json!({})).is_err());
    assert!(answer(serde_json::json!({"reason": "revoked"})).is_err());
}

#[test]
fn more_prefixes_than_one_response_may_hold_are_refused() {
    let json = |count| {
        let hash_prefixes = vec![TokenHash::of(b"x").prefix(); count];
        let response = ChangesResponse {
            epoch: "e".to_owned(),
            revision: 1,
            reset: false,
            more: false,
            token_hashes: Vec::new(),
            hash_prefixes,
            next_offset: None,
        };
        serde_json::to_vec(&response).unwrap()
    };
    assert!(read_answer::<ChangesResponse>(&json(MAX_PREFIXES)).is_ok());
    assert!(read_answer::<ChangesResponse>(&json(MAX_PREFIXES + 1)).is_err());
}

fn token_hashes(count: usize) -> Vec<TokenHash> {
    (0..count).map(|number| TokenHash::of(&number.to_be_bytes())).collect()
}

#[test]
fn a_request_for_several_tokens_is_spelt_as_the_contract_spells_it_and_has_1_to_64() {
    let hashes = token_hashes(2);
    let request = VerifyBatchRequest { token_hashes: hashes.clone().try_into().unwrap() };
    let json = serde_json::json!({"token_hashes": [hashes[0].to_string(), hashes[1].to_string()]});
    assert_eq!(serde_json::to_value(&request).unwrap(), json);
    assert_eq!(serde_json::from_value::<VerifyBatchRequest>(json).unwrap(), request);
    for (count, fits) in [(0, false), (1, true), (64, true), (65, false), (1000, false)] {
        let hashes = token_hashes(count);
        let json = serde_json::json!({"token_hashes": hashes}).to_string();
        assert_eq!(serde_json::from_str::<VerifyBatchRequest>(&json).is_ok(), fits, "{count}");
        assert_eq!(TokenHashes::try_from(hashes).is_ok(), fits, "{count}");
    }
    let one = TokenHash::of(b"x");
    assert_eq!(TokenHashes::from(one).as_slice(), [one]);
}

fn batch_json(verdicts: &[serde_json::Value]) -> serde_json::Value {
    serde_json::json!({"epoch": "e", "revision": 7, "verdicts": verdicts, "later": 1})
}

#[test]
fn each_verdict_of_a_batch_is_the_response_to_a_request_for_it_alone() {
    let hashes = token_hashes(3);
    let token = serde_json::json!({
        "id": "i", "name": "ci", "user": "alice", "schemes": ["bearer"], "scopes": ["read"],
        "allowed_cidrs": [], "expires_in_ms": 5,
    });
    let [usable, revoked, unknown] = [
        serde_json::json!({"token_hash": hashes[0], "token": token}),
        serde_json::json!({"token_hash": hashes[1], "token": null, "reason": "revoked",
            "denied_token": {"id": "i", "user": "bob"}}),
        serde_json::json!({"token_hash": hashes[2], "token": null, "reason": "moved", "later": 1}),
    ];
    let verdicts = [usable, revoked, unknown];
    let batch = read_answer::<VerifyBatchResponse>(batch_json(&verdicts).to_string().as_bytes()).unwrap();
    let written = serde_json::to_value(&batch).unwrap();
    assert_eq!(written["verdicts"].as_array().unwrap()[..2], verdicts[..2]);
    assert_eq!((&written["epoch"], &written["revision"]), (&"e".into(), &7.into()));
    let responses: Vec<VerifyResponse> = batch.into_responses().collect();
    assert_eq!(responses.len(), 3);
    for (response, verdict) in responses.iter().zip(verdicts) {
        let mut alone = verdict;
        alone["epoch"] = "e".into();
        alone["revision"] = 7.into();
        assert_eq!(*response, read_answer(alone.to_string().as_bytes()).unwrap());
    }
}

#[test]
fn a_batch_of_arrays_or_of_verdicts_without_a_token_or_of_too_many_is_no_response() {
    let hash = TokenHash::of(b"x");
    let read = |verdicts: &[serde_json::Value]| {
        read_answer::<VerifyBatchResponse>(batch_json(verdicts).to_string().as_bytes())
    };
    let unknown = serde_json::json!({"token_hash": hash, "token": null, "reason": "unknown"});
    assert!(read(&vec![unknown.clone(); 64]).is_ok());
    assert!(read(&vec![unknown.clone(); 65]).is_err());
    assert!(read(&[unknown, serde_json::json!([hash, null, "unknown", null])]).is_err());
    assert!(read(&[serde_json::json!({"token_hash": hash})]).is_err());
    assert!(read(&[serde_json::json!({"token_hash": hash, "reason": "revoked"})]).is_err());
    assert!(read_answer::<VerifyBatchResponse>(b"[\"e\", 7, []]").is_err());
    assert!(read_answer::<VerifyBatchResponse>(b"{\"epoch\": \"e\", \"revision\": 7}").is_err());
}
