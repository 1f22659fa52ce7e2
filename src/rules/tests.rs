use proptest::prelude::*;

use super::*;

mod ambiguous;
mod dominance;
mod models;

fn rule(path: PathPattern, auth: Auth, scopes: &[&str]) -> Rule {
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    Rule {
        path,
        methods: Vec::new(),
        host: None,
        requirement: Requirement { auth, scopes, challenges: None },
    }
}

fn prefix(path: &str) -> PathPattern {
    PathPattern::prefix(path.to_owned(), Case::Counts).unwrap()
}

fn exact(path: &str) -> PathPattern {
    PathPattern::exact(path.to_owned(), Case::Counts).unwrap()
}

fn regex(expression: &str) -> PathPattern {
    PathPattern::regex(expression, Case::Counts).unwrap()
}

/// What the rules of these tests ask of `path`, in one word.
fn asked(rules: &Rules, target: &Target<'_>) -> String {
    let requirement = rules.requirement(target);
    match requirement.auth {
        Auth::None => "open".to_owned(),
        Auth::Optional => "optional".to_owned(),
        Auth::Required if requirement.scopes.is_empty() => "token".to_owned(),
        Auth::Required => requirement.scopes.join(" "),
    }
}

fn get(path: &str) -> Target<'_> {
    Target {
        method: b"GET",
        path: Some(path.as_bytes()),
        authority: Some(b"example.com"),
        ..Target::default()
    }
}

fn by_path() -> Rules {
    Rules::new(vec![
        rule(exact("/health"), Auth::None, &[]),
        rule(prefix("/public/secret/"), Auth::Required, &["secret"]),
        rule(prefix("/public/"), Auth::None, &[]),
        rule(prefix("/.well-known/"), Auth::None, &[]),
        rule(regex("/maybe/[a-z]+|/maybe"), Auth::Optional, &[]),
        rule(regex("/users/.*/keys"), Auth::Required, &["keys"]),
        rule(prefix("/admin/"), Auth::Required, &["admin", "write"]),
    ])
}

#[test]
fn the_first_rule_that_matches_a_path_decides() {
    let rules = by_path();
    for (path, expected) in [
        ("/health", "open"),
        ("/health?probe=1", "open"),
        ("/health?/../admin", "open"),
        ("/health/", "token"),
        ("/Health", "token"),
        ("/healthz", "token"),
        ("health", "token"),
        ("/public/", "open"),
        ("/public", "token"),
        ("/public/a/b.css", "open"),
        ("/public/a%20b", "open"),
        ("/public/.hidden", "open"),
        ("/public/..hidden", "open"),
        ("/public/a.", "open"),
        ("/public/a..", "open"),
        ("/public/?a=//;%2f", "open"),
        ("/public/secret/x", "secret"),
        ("/public/secret/../x", "secret"),
        ("/PUBLIC/x", "token"),
        ("/public/x%3by", "token"),
        ("/public/%61", "open"),
        ("/%70ublic/a", "token"),
        ("/%68ealth", "token"),
        ("/public/%73ecret/x", "secret"),
        ("/public/x/../secret/y", "secret"),
        ("/public//secret/x", "secret"),
        ("/%61dmin/", "admin write"),
        ("//admin/", "admin write"),
        ("/x/..;/admin/", "admin write"),
        ("/public/../admin/x", "admin write"),
        ("/users/al%69ce/keys", "keys"),
        ("/users/alice/%6beys", "keys"),
        ("/public/secret/..%2f..%2fadmin/x", "secret admin write"),
        ("/.well-known/acme", "open"),
        ("/maybe", "optional"),
        ("/maybe/abc", "optional"),
        ("/maybe/abc?x=1", "optional"),
        ("/maybe/ABC", "token"),
        ("/users/al/ice/keys", "keys"),
        ("/users//keys", "keys"),
        ("/users/a\nb/keys", "keys"),
        ("/users/alice/keys/1", "token"),
        ("/admin/", "admin write"),
        ("/admin/../public/x", "admin write"),
        ("/admin/%2e%2e/x", "admin write"),
        ("/admin", "admin write"),
        ("/admin?x", "admin write"),
        ("/%61dmin", "admin write"),
        ("/public/secret", "secret"),
        ("", "token"),
        ("?", "token"),
        ("*", "token"),
        ("/", "token"),
        ("http://example.com/public/", "token"),
    ] {
        assert_eq!(asked(&rules, &get(path)), expected, "{path}");
    }
}

#[test]
fn an_ambiguous_path_is_never_exempt() {
    let rules = by_path();
    for path in [
        "/public//x",
        "//public/x",
        "/public/./x",
        "/public/../x",
        "/public/.",
        "/public/..",
        "/public/..?x",
        "/public/%2fx",
        "/public/%2Fx",
        "/public%2fx",
        "/public/%5cx",
        "/public/%5Cx",
        "/public/%2e%2e/x",
        "/public/%2E%2E/x",
        "/public/.%2e/x",
        "/public/%2e",
        "/public/x\\y",
        "/public\\x",
        "/public/x;v=1",
        "/public/;/../x",
        "/maybe/abc%2f",
    ] {
        assert_eq!(asked(&rules, &get(path)), "token", "{path}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_hide_nothing_from_a_regex() {
    let target = Target { path: Some(b"/users/\xff\xfe/keys"), ..get("") };
    assert_eq!(asked(&by_path(), &target), "keys");
}

#[test]
fn without_a_path_or_with_an_ambiguous_one_even_a_rule_for_everything_is_no_exemption() {
    let rules = Rules::new(vec![rule(PathPattern::Any, Auth::None, &[])]);
    assert_eq!(asked(&rules, &get("/x")), "open");
    assert_eq!(asked(&rules, &get("/x/..")), "token");
    assert_eq!(asked(&rules, &Target { path: None, ..get("") }), "token");
    let strict = Rules::new(vec![rule(PathPattern::Any, Auth::Required, &["all"])]);
    assert_eq!(asked(&strict, &Target { path: None, ..get("") }), "all");
}

#[test]
fn with_no_rules_a_token_is_required_and_no_scope() {
    assert_eq!(asked(&Rules::default(), &get("/")), "token");
    assert_eq!(asked(&Rules::new(Vec::new()), &get("/public/")), "token");
}

#[test]
fn hosts_are_compared_without_case_port_and_final_dot() {
    let on = |host: &str| {
        let host = Some(host.parse().unwrap());
        Rules::new(vec![Rule { host, ..rule(PathPattern::Any, Auth::None, &[]) }])
    };
    for (pattern, authority, expected) in [
        ("api.example.com", "api.example.com", "open"),
        ("API.example.com", "api.EXAMPLE.com:8443", "open"),
        ("api.example.com", "api.example.com.", "open"),
        ("api.example.com", "api.example.com.:80", "open"),
        ("api.example.com", "api.example.com.evil.org", "token"),
        ("api.example.com", "xapi.example.com", "token"),
        ("api.example.com", "", "token"),
        ("*.example.com", "api.example.com", "open"),
        ("*.example.com", "A.B.Example.Com:80", "open"),
        ("*.example.com", "example.com", "token"),
        ("*.example.com", ".example.com", "token"),
        ("*.example.com", "badexample.com", "token"),
        ("*.example.com", "api.example.com.evil.org", "token"),
        ("[::1]", "[::1]:8080", "open"),
        ("[::1]", "[::1]", "open"),
        ("[::1]", "[::2]", "token"),
        ("192.0.2.1", "192.0.2.1:80", "open"),
    ] {
        let target = Target { authority: Some(authority.as_bytes()), ..get("/") };
        assert_eq!(asked(&on(pattern), &target), expected, "{pattern} {authority}");
    }
    assert_eq!(asked(&on("example.com"), &Target { authority: None, ..get("/") }), "token");
}

#[test]
fn patterns_that_can_never_match_are_refused() {
    for bad in ["", "public", "/a?b", "*"] {
        assert_eq!(
            PathPattern::exact(bad.to_owned(), Case::Counts).unwrap_err(),
            InvalidPattern::NotAPath,
            "{bad}"
        );
        assert_eq!(
            PathPattern::prefix(bad.to_owned(), Case::Counts).unwrap_err(),
            InvalidPattern::NotAPath,
            "{bad}"
        );
    }
    for bad in ["(", "a)|(b", "[", "a{100000}", "(?x) a # b"] {
        assert!(matches!(PathPattern::regex(bad, Case::Counts), Err(InvalidPattern::NotARegex(_))), "{bad}");
    }
    for bad in
        ["", "*", "*.", "*example.com", "a.*.b", "a b", "example.com:80", "https://a", "a/b", "example.com."]
    {
        assert_eq!(bad.parse::<HostPattern>(), Err(InvalidHost), "{bad}");
    }
}

#[test]
fn an_exemption_for_a_path_that_is_never_exempt_is_noticed() {
    for bad in ["/a//b", "/a/%2fb", "/a;b", "/a/../b"] {
        assert_eq!(exact(bad).check_reachable_without_token(), Err(InvalidPattern::NotPlain), "{bad}");
        assert_eq!(prefix(bad).check_reachable_without_token(), Err(InvalidPattern::NotPlain), "{bad}");
    }
    assert_eq!(exact("/a/.").check_reachable_without_token(), Err(InvalidPattern::NotPlain));
    assert_eq!(prefix("/.").check_reachable_without_token(), Ok(()));
    assert_eq!(regex("/a;b").check_reachable_without_token(), Ok(()));
    assert_eq!(prefix("/public/").check_reachable_without_token(), Ok(()));
}

proptest! {
    #[test]
    fn no_path_with_an_ambiguous_part_is_ever_exempt(
        head in "/?[a-z./%]{0,8}",
        part in prop::sample::select(vec!["//", "/./", "/../", "%2f", "%2F", "%5c", "%5C", "%2e", "%2E", "\\", ";"]),
        tail in "[a-z./%]{0,8}",
    ) {
        let rules = Rules::new(vec![rule(PathPattern::Any, Auth::None, &[]), rule(PathPattern::Any, Auth::Optional, &[])]);
        let path = format!("{head}{part}{tail}");
        prop_assert_eq!(asked(&rules, &get(&path)), "token");
    }

    #[test]
    fn no_spelling_of_a_path_needs_less_than_the_plain_one(
        segments in prop::collection::vec(prop::sample::select(vec!["public", "secret", "admin", "users", "keys", "maybe", "a"]), 1..5),
        slash in any::<bool>(),
        spelling in prop::collection::vec((0_u8..8, any::<bool>()), 40),
    ) {
        let end = if slash { "/" } else { "" };
        let plain = format!("/{}{end}", segments.join("/"));
        let mut spelt = Vec::new();
        for (byte, (way, upper)) in plain.bytes().zip(spelling) {
            let escape = if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
            match (way, byte) {
                (0, _) => spelt.extend_from_slice(escape.as_bytes()),
                (1, _) => spelt.extend_from_slice(escape.replace('%', "%25").as_bytes()),
                (2, b'/') => spelt.extend_from_slice(b"//"),
                (3, b'/') => spelt.extend_from_slice(b"/./"),
                (4, b'/') => spelt.extend_from_slice(b"/x/../"),
                (5, b'/') => spelt.extend_from_slice(b"\\"),
                (6, b'/') => spelt.extend_from_slice(b"/x/..;y=z/"),
                _ => spelt.push(byte),
            }
        }
        let rules = by_path();
        let needs = |path| rules.requirement(&Target { path: Some(path), ..get("") }).into_owned();
        let (least, found) = (needs(plain.as_bytes()), needs(&spelt));
        prop_assert!(found.auth >= least.auth, "{} {:?}", spelt.escape_ascii(), found);
        prop_assert!(least.scopes.iter().all(|scope| found.scopes.contains(scope)), "{} {:?}", spelt.escape_ascii(), found);
    }

    #[test]
    fn no_bytes_in_a_request_make_the_rules_panic(
        path in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
        authority in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
        method in proptest::collection::vec(any::<u8>(), 0..9),
    ) {
        let target = Target { method: &method, path: path.as_deref(), authority: authority.as_deref(), ..Target::default() };
        let mut rules = by_path();
        rules.rules.push(Rule { host: Some("*.example.com".parse().unwrap()), ..rule(PathPattern::Any, Auth::None, &[]) });
        let _ = rules.requirement(&target);
    }

    #[test]
    fn the_query_changes_nothing(path in "/[a-z/.;%0-9]{0,12}", query in "[ -~]{0,12}") {
        let rules = by_path();
        let with_query = format!("{path}?{query}");
        prop_assert_eq!(asked(&rules, &get(&path)), asked(&rules, &get(&with_query)));
    }
}
