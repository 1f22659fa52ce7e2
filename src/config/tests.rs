use serde_json::{Value, json};

use super::*;

fn parse(config: &Value) -> Result<Config, ConfigError> {
    let env = |name: &str| (name == "EDGE_SECRET").then(|| "from-env".to_owned());
    Config::parse(config.to_string().as_bytes(), env)
}

/// A configuration in which one top-level field was added.
fn with(field: &str, value: Value) -> Value {
    let mut config = json!({"service": {"cluster": "latchkey"}});
    config[field] = value;
    config
}

fn refused(config: &Value) -> (String, String) {
    let error = parse(config).expect_err(&config.to_string());
    (error.field, error.problem)
}

#[test]
fn everything_but_the_cluster_has_the_contract_s_default() {
    let config = parse(&json!({"service": {"cluster": "latchkey"}})).unwrap();
    assert_eq!(config.service.cluster, "latchkey");
    assert_eq!(config.service.feed_cluster, "latchkey");
    assert_eq!(config.service.usage_cluster, "latchkey");
    assert_eq!(config.service.authority, "latchkey");
    assert_eq!(config.service.timeout, Duration::from_secs(1));
    assert_eq!(config.service.secret, None);
    assert_eq!(config.realm.as_str(), "api");
    let (prefix, challenges) = (Some(TokenPrefix::default()), Challenges::ALL);
    assert_eq!(config.accepted, Accepted { schemes: Schemes::ALL, prefix, challenges });
    assert_eq!(config.identity_headers, IdentityHeaders::default());
    assert!(!config.forward_authorization);
    assert_eq!(config.cache.max_tokens, 10_000);
    assert_eq!(config.cache.ttl, Duration::from_secs(300));
    assert_eq!(config.cache.max_negative, 10_000);
    assert_eq!(config.cache.negative_ttl, Duration::from_secs(10));
    assert_eq!(config.stale_max, Duration::from_secs(30));
    assert_eq!(config.usage_flush, Duration::from_secs(10));
    assert_eq!(config.expiry_warning, Duration::from_secs(5 * 24 * 3600));
    assert_eq!(config.mode, Mode::Enforce);
}

#[test]
fn every_field_of_the_contract_is_read() {
    let config = parse(&json!({
        "service": {
            "cluster": "a", "feed_cluster": "b", "usage_cluster": "c", "authority": "latchkey.internal:8101",
            "timeout_ms": 250.0, "secret": "s3cret", "secret_env": "",
        },
        "realm": "my api", "schemes": ["basic"], "challenges": ["basic"], "token_prefix": null, "identity_headers": null,
        "forward_authorization": true,
        "cache": {"max_tokens": 1, "ttl_ms": 2, "max_negative": 3, "negative_ttl_ms": 4},
        "stale": {"max_ms": 5}, "usage": {"flush_ms": 600}, "expiry": {"warn_ms": 0},
        "rules": [
            {"match": {"path_prefix": "/public/", "methods": ["GET"], "host": "*.example.com"}, "auth": "none"},
            {"match": {"path": "/x"}, "auth": "optional"},
            {"match": {"path_separated_prefix": "/Rest/Admin", "ignore_case": true}, "scopes": ["root"]},
            {"match": {"path_regex": "/y/[0-9]+"}, "auth": "required", "scopes": ["admin"], "challenges": ["basic"]},
            {},
        ],
        "mode": "shadow",
    }))
    .unwrap();
    assert_eq!((config.service.feed_cluster.as_str(), config.service.usage_cluster.as_str()), ("b", "c"));
    assert_eq!(config.service.timeout, Duration::from_millis(250));
    assert_eq!(config.service.secret.unwrap().authorization(), "Bearer s3cret");
    let basic = Challenges::in_order_of(&[Scheme::Basic]).unwrap();
    let schemes = Schemes::from_iter([Scheme::Basic]);
    assert_eq!(config.accepted, Accepted { schemes, prefix: None, challenges: basic });
    assert_eq!(config.identity_headers, IdentityHeaders { set: false, ..IdentityHeaders::default() });
    assert!(config.forward_authorization);
    assert_eq!(config.usage_flush, Duration::from_millis(600));
    assert_eq!(config.expiry_warning, Duration::ZERO);
    assert_eq!(config.mode, Mode::Shadow);
    let target = |path: &'static str| crate::rules::Target {
        method: b"GET",
        path: Some(path.as_bytes()),
        authority: Some(b"gateway"),
        ..Default::default()
    };
    assert_eq!(config.rules.requirement(&target("/x")).auth, Auth::Optional);
    assert_eq!(config.rules.requirement(&target("/y/7")).scopes.join(" "), "admin");
    assert_eq!(config.rules.requirement(&target("/rest/ADMIN/7")).scopes.join(" "), "root");
    assert_eq!(config.rules.requirement(&target("/y/7")).challenges, Some(basic));
    assert_eq!(config.rules.requirement(&target("/x")).challenges, None);
}

#[test]
fn the_secret_can_come_from_the_environment_and_is_never_printed() {
    let config = |service: Value| parse(&json!({"service": service}));
    let read = config(json!({"cluster": "a", "secret_env": "EDGE_SECRET"})).unwrap();
    assert_eq!(read.service.secret.as_ref().unwrap().authorization(), "Bearer from-env");
    assert!(!format!("{read:?}").contains("from-env"));
    for service in [
        json!({"cluster": "a", "secret_env": "NOT_SET"}),
        json!({"cluster": "a", "secret_env": "A=B"}),
        json!({"cluster": "a", "secret": "x", "secret_env": "EDGE_SECRET"}),
    ] {
        assert_eq!(config(service).unwrap_err().field, "service.secret_env");
    }
    let misplaced = json!({"cluster": "a", "secret_env": "the-secret-itself"});
    for service in [misplaced, json!("the-secret-itself"), json!(["the-secret-itself"])] {
        let error = config(service).unwrap_err().to_string();
        assert!(!error.contains("itself"), "{error}");
    }
    let error = config(json!({"cluster": "a", "secret": 70_077})).unwrap_err();
    assert_eq!(error.to_string(), "service.secret: the edge secret is a text");
    for secret in ["two words", "line\n", "é", &"x".repeat(1025)] {
        let error = config(json!({"cluster": "a", "secret": secret})).unwrap_err();
        assert_eq!(error.field, "service.secret");
        assert!(!error.to_string().contains(secret), "{error}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_field_and_what_is_allowed() {
    for (config, field, allowed) in [
        (json!({}), "service.cluster", "name the Envoy cluster"),
        (json!({"service": {}}), "service.cluster", "name the Envoy cluster"),
        (json!({"service": {"cluster": ""}}), "service.cluster", "name of an Envoy cluster"),
        (json!({"service": {"cluster": 7}}), "service.cluster", "a string is needed"),
        (json!({"service": {"cluster": "a", "tmeout_ms": 1}}), "service.tmeout_ms", "`timeout_ms`"),
        (json!({"service": {"cluster": "a", "timeout_ms": 0}}), "service.timeout_ms", "from 1 to 60000"),
        (json!({"service": {"cluster": "a", "timeout_ms": 60001}}), "service.timeout_ms", "from 1 to 60000"),
        (json!({"service": {"cluster": "a", "timeout_ms": -1}}), "service.timeout_ms", "from 1 to 60000"),
        (json!({"service": {"cluster": "a", "timeout_ms": 1.5}}), "service.timeout_ms", "from 1 to 60000"),
        (json!({"service": {"cluster": "a", "timeout_ms": 1e300}}), "service.timeout_ms", "from 1 to 60000"),
        (json!({"service": {"cluster": "a", "timeout_ms": "1s"}}), "service.timeout_ms", "from 1 to 60000"),
        (json!({"service": {"cluster": "a", "authority": "a b"}}), "service.authority", "host name"),
        (with("realm", json!("a\"b")), "realm", "printable ASCII"),
        (with("schemes", json!([])), "schemes", "at least one"),
        (with("schemes", json!(["digest"])), "schemes[0]", "`bearer`, `basic`"),
        (with("token_prefix", json!("LK")), "token_prefix", "2 to 16"),
        (with("identity_headers", json!({"user": "host"})), "identity_headers.user", "x-latchkey-user"),
        (
            with("identity_headers", json!({"user": "X-Latchkey-Scopes"})),
            "identity_headers.scopes",
            "three names",
        ),
        (
            with("identity_headers", json!({"token_id": "x-latchkey-user"})),
            "identity_headers.token_id",
            "three names",
        ),
        (with("identity_headers", json!({"name": "x"})), "identity_headers.name", "`user`"),
        (with("forward_authorization", json!("yes")), "forward_authorization", "a boolean is needed"),
        (with("cache", json!({"max_tokens": 1_000_001})), "cache.max_tokens", "from 0 to 1000000"),
        (with("cache", json!({"ttl_ms": 0})), "cache.ttl_ms", "from 1 to"),
        (with("stale", json!({"max_ms": 86_400_001})), "stale.max_ms", "from 0 to"),
        (with("usage", json!({"flush_ms": 99})), "usage.flush_ms", "from 100 to"),
        (with("expiry", json!({"warn_ms": -1})), "expiry.warn_ms", "from 0 to"),
        (with("expiry", json!({"warn": 5})), "expiry.warn", "`warn_ms`"),
        (with("mode", json!("dry")), "mode", "`enforce`, `shadow`"),
        (with("rules", json!({})), "rules", "a sequence is needed"),
        (with("relam", json!("x")), "relam", "`realm`"),
        (json!([]), "configuration", "an object is needed"),
    ] {
        let (at, problem) = refused(&config);
        assert_eq!(at, field, "{config} {problem}");
        assert!(problem.contains(allowed), "{config} {problem}");
        assert!(!problem.contains("line 1"), "{problem}");
    }
    assert_eq!(Config::parse(b"", |_| None).unwrap_err().field, "service.cluster");
    assert_eq!(Config::parse(b"{", |_| None).unwrap_err().field, "configuration");
    assert_eq!(
        Config::parse(br#"{"service": {"cluster": "a"}} x"#, |_| None).unwrap_err().field,
        "configuration"
    );
}

#[test]
fn what_is_wrong_is_told_in_one_line_whatever_the_configuration_holds() {
    let error = parse(&with("two\nlines", json!(1))).unwrap_err().to_string();
    assert!(error.starts_with("two\u{fffd}lines: ") && !error.contains('\n'), "{error}");
}

#[test]
fn what_is_wrong_with_a_rule_is_named_with_its_field_and_what_is_allowed() {
    for (rule, field, allowed) in [
        (json!({"auth": "maybe"}), "auth", "`optional`"),
        (json!({"auth": "none", "scopes": ["a"]}), "scopes", "auth: required"),
        (json!({"auth": "optional", "scopes": ["a"]}), "scopes", "auth: required"),
        (json!({"scopes": ["a b"]}), "scopes[0]", "visible ASCII"),
        (json!({"scopes": [""]}), "scopes[0]", "1 to 64"),
        (json!({"scopes": ["a\"b"]}), "scopes[0]", "visible ASCII"),
        (json!({"match": {"path": "x"}}), "match.path", "begins with /"),
        (json!({"match": {"path_prefix": "/a?b"}}), "match.path_prefix", "no query"),
        (json!({"match": {"path_regex": "("}}), "match.path_regex", "no regular expression"),
        (json!({"match": {"path": "/a", "path_prefix": "/a"}}), "match", "one of"),
        (json!({"match": {"path": "/a", "path_separated_prefix": "/a"}}), "match", "`path_separated_prefix`"),
        (json!({"match": {"path": "/a//b"}, "auth": "none"}), "match.path", "no //"),
        (json!({"match": {"path_prefix": "/%ff"}, "auth": "none"}), "match.path_prefix", "valid UTF-8"),
        (json!({"match": {"path_separated_prefix": "a"}}), "match.path_separated_prefix", "begins with /"),
        (json!({"match": {"path_separated_prefix": "/a/"}}), "match.path_separated_prefix", "without a /"),
        (
            json!({"match": {"path_separated_prefix": "/a;"}, "auth": "none"}),
            "match.path_separated_prefix",
            "no //",
        ),
        (json!({"match": {"path_separated_prefix": 7}}), "match.path_separated_prefix", "a string is needed"),
        (json!({"match": {"ignore_case": true}}), "match.ignore_case", "about the path"),
        (json!({"match": {"path": "/a", "ignore_case": "yes"}}), "match.ignore_case", "a boolean is needed"),
        (json!({"match": {"methods": []}}), "match.methods", "at least one"),
        (json!({"match": {"methods": ["get"]}}), "match.methods[0]", "upper case"),
        (json!({"match": {"host": "example.com:80"}}), "match.host", "without a port"),
        (json!({"match": {"header": "x"}}), "match.header", "`path`"),
        (json!({"scope": ["x"]}), "scope", "`scopes`"),
    ] {
        let (at, problem) = refused(&with("rules", json!([{}, rule])));
        assert_eq!(at, format!("rules[1].{field}"), "{rule} {problem}");
        assert!(problem.contains(allowed), "{rule} {problem}");
    }
}

#[test]
fn the_schema_in_the_repository_is_that_of_the_types() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/envoy/config.schema.json");
    let schema = serde_json::to_string_pretty(&schemars::schema_for!(raw::Raw)).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &schema).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == schema,
        "envoy/config.schema.json is out of date: run `UPDATE_SCHEMA=1 cargo test -p latchkey`"
    );
}

#[test]
fn challenges_follow_the_schemes_as_written_or_what_the_operator_lists() {
    let order = |field: &str, value: Value| {
        let config = parse(&with(field, value)).unwrap();
        config.accepted.challenges.iter().collect::<Vec<_>>()
    };
    let basic_first = vec![Scheme::Basic, Scheme::Bearer];
    assert_eq!(order("challenges", json!(["basic", "bearer"])), basic_first);
    assert_eq!(order("schemes", json!(["basic", "bearer"])), basic_first);
    assert_eq!(order("challenges", json!(["basic"])), [Scheme::Basic]);
    assert_eq!(order("mode", json!("enforce")), [Scheme::Bearer, Scheme::Basic]);
}

#[test]
fn challenges_that_no_client_could_follow_are_refused_with_their_field() {
    for (challenges, problem) in [
        (json!([]), "at least one"),
        (json!(["basic", "basic"]), "once"),
        (json!(["digest"]), "`bearer`, `basic`"),
        (json!("basic"), "sequence"),
    ] {
        let (field, said) = refused(&with("challenges", challenges.clone()));
        assert!(field.starts_with("challenges") && said.contains(problem), "{challenges}: {field}: {said}");
        let (field, said) = refused(&with("rules", json!([{}, {"challenges": challenges.clone()}])));
        assert!(
            field.starts_with("rules[1].challenges") && said.contains(problem),
            "{challenges}: {field}: {said}"
        );
    }
    let mut disabled = with("challenges", json!(["basic", "bearer"]));
    disabled["schemes"] = json!(["basic"]);
    let (field, said) = refused(&disabled);
    assert_eq!(field, "challenges");
    assert!(said.contains("`bearer` is not among `schemes`"), "{said}");
    let (field, _) = refused(&with("rules", json!([{"auth": "none", "challenges": ["basic"]}])));
    assert_eq!(field, "rules[0].challenges");
}

#[test]
fn a_byte_order_mark_before_json_is_dropped() {
    let text = format!("\u{feff}{}", json!({"service": {"cluster": "latchkey"}}));
    assert_eq!(Config::parse(text.as_bytes(), |_| None).unwrap().service.cluster, "latchkey");
    assert!(Config::parse(format!("{text}\u{feff}").as_bytes(), |_| None).is_err());
}
