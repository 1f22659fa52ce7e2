//! Requests that servers read in different ways: other methods, hosts, paths and what headers put in their place.

use super::*;

fn about(methods: &[&str], path: PathPattern, auth: Auth, scopes: &[&str]) -> Rule {
    let methods = methods.iter().map(|method| (*method).to_owned()).collect();
    Rule { methods, ..rule(path, auth, scopes) }
}

#[test]
fn a_method_matches_a_rule_that_asks_for_less_to_the_letter_and_one_that_asks_for_more_in_every_reading() {
    let open = Rules::new(vec![about(&["GET", "HEAD"], prefix("/"), Auth::None, &[])]);
    let get_alone = Rules::new(vec![about(&["GET"], prefix("/"), Auth::None, &[])]);
    let strict = Rules::new(vec![
        about(&["GET"], prefix("/"), Auth::Required, &["read"]),
        about(&["POST"], prefix("/"), Auth::Required, &["write"]),
    ]);
    for (method, by_open, by_get_alone, by_strict) in [
        ("GET", "open", "open", "read"),
        ("HEAD", "open", "token", "read"),
        ("POST", "token", "token", "write"),
        ("get", "token", "token", "read"),
        ("head", "token", "token", "read"),
        ("Head", "token", "token", "read"),
        ("pOST", "token", "token", "write"),
        ("M-SEARCH", "token", "token", "token"),
        ("P0ST", "token", "token", "token"),
        ("", "token", "token", "token"),
    ] {
        let target = Target { method: method.as_bytes(), ..get("/") };
        assert_eq!(asked(&open, &target), by_open, "{method}");
        assert_eq!(asked(&get_alone, &target), by_get_alone, "{method}");
        assert_eq!(asked(&strict, &target), by_strict, "{method}");
    }
    let any = Rules::new(vec![rule(PathPattern::Any, Auth::None, &[])]);
    for (method, expected) in [
        ("M-SEARCH", "open"),
        ("HEAD", "open"),
        ("BREW", "open"),
        ("brew", "token"),
        ("G3T", "token"),
        ("", "token"),
    ] {
        assert_eq!(asked(&any, &Target { method: method.as_bytes(), ..get("/") }), expected, "{method}");
    }
}

#[test]
fn where_one_method_needs_less_than_the_rest_no_other_spelling_of_it_does() {
    let rules = Rules::new(vec![
        about(&["GET"], prefix("/"), Auth::Required, &[]),
        rule(PathPattern::Any, Auth::Required, &["admin"]),
    ]);
    for (method, expected) in [("GET", "token"), ("get", "admin"), ("HEAD", "admin"), ("POST", "admin")] {
        assert_eq!(asked(&rules, &Target { method: method.as_bytes(), ..get("/") }), expected, "{method}");
    }
}

#[test]
fn what_a_header_puts_in_the_place_of_method_or_path_is_another_reading() {
    let rules = Rules::new(vec![
        about(&["DELETE"], prefix("/"), Auth::Required, &["delete"]),
        rule(prefix("/admin/"), Auth::Required, &["admin"]),
        about(&["GET", "POST"], prefix("/"), Auth::None, &[]),
    ]);
    let with = |methods: &[&'static str], paths: &[&'static str]| {
        let bytes = |texts: &[&'static str]| texts.iter().map(|text| text.as_bytes()).collect();
        let overrides = Overrides { methods: bytes(methods), paths: bytes(paths) };
        let is_none = overrides.methods.is_empty() && overrides.paths.is_empty();
        let overrides = (!is_none).then(|| Box::new(overrides));
        asked(&rules, &Target { overrides, ..get("/x") })
    };
    assert_eq!(with(&[], &[]), "open");
    for (methods, paths, expected) in [
        (&["GET"][..], &[][..], "token"),
        (&["DELETE"], &[], "delete"),
        (&["delete"], &[], "delete"),
        (&["POST", "Delete"], &[], "delete"),
        (&[], &["/x"], "token"),
        (&[], &["/admin/x?y"], "admin"),
        (&[], &["https://example.com/admin/x"], "admin"),
        (&[], &["/x", "/y;z/../admin"], "admin"),
        (&["DELETE"], &["/admin"], "delete admin"),
        (&["A", "B", "C", "D", "E", "F", "G", "H"], &[], "delete admin"),
    ] {
        assert_eq!(with(methods, paths), expected, "{methods:?} {paths:?}");
    }
}

#[test]
fn an_authority_that_servers_may_read_differently_is_never_exempt_and_needs_what_any_host_needs() {
    let on = |host: &str, auth, scopes: &[&str]| Rule {
        host: Some(host.parse().unwrap()),
        ..rule(PathPattern::Any, auth, scopes)
    };
    let rules = Rules::new(vec![
        on("pub.example.com", Auth::None, &[]),
        on("adm.example.com", Auth::Required, &["admin"]),
        on("*.ops.example.com", Auth::Required, &["ops"]),
        on("[0:0::1]", Auth::Required, &["six"]),
        on("127.0.0.1", Auth::Required, &["four"]),
        rule(prefix("/open/"), Auth::None, &[]),
    ]);
    for (authority, expected) in [
        ("pub.example.com", "open"),
        ("pub.example.com:443", "open"),
        ("PUB.example.com.", "open"),
        ("adm.example.com.:80", "admin"),
        ("a.ops.example.com", "ops"),
        ("[::1]:80", "six"),
        ("127.0.0.1:80", "four"),
        ("other_host", "token"),
    ] {
        let target = Target { authority: Some(authority.as_bytes()), ..get("/x") };
        assert_eq!(asked(&rules, &target), expected, "{authority}");
    }
    for authority in [
        "pub.example.com:80@adm.example.com",
        "u@adm.example.com",
        "u:p@pub.example.com",
        "adm.example.com..",
        "adm%2eexample.com",
        "adm.example.com:80:80",
        "pub.example.com:x",
        "pub.example.com:",
        "a,adm.example.com",
        "pub..example.com",
        ".example.com",
        "",
        ":80",
        "pub.example.com ",
        "pub.example.com/x",
        "p\\u",
        "p\u{fc}b",
        "[::1",
        "[::1]x",
        "[0:0:0:0:0:0:0:1]",
        "[::1%25eth0]",
        "127.1",
        "127.0.1.0x",
        "2130706433",
        "0x7f.0.0.0x1",
        "127.0.0.01",
    ] {
        for path in ["/x", "/open/x"] {
            let target = Target { authority: Some(authority.as_bytes()), ..get(path) };
            assert_eq!(asked(&rules, &target), "admin ops six four", "{authority}");
        }
    }
}

#[test]
fn what_is_open_to_every_host_is_closed_to_an_authority_that_servers_may_read_differently() {
    let open = Rules::new(vec![rule(prefix("/"), Auth::None, &[])]);
    assert_eq!(asked(&open, &Target { authority: Some(b"u@example.com"), ..get("/") }), "token");
    assert_eq!(asked(&open, &Target { authority: None, ..get("/") }), "token");
}

#[test]
fn a_final_slash_makes_no_request_need_less() {
    let rules = Rules::new(vec![
        rule(prefix("/rest/admin/"), Auth::Required, &["admin"]),
        rule(exact("/rest/one"), Auth::Required, &["one"]),
        rule(exact("/rest/two/"), Auth::Required, &["two"]),
        rule(prefix("/rest/public/"), Auth::None, &[]),
        rule(prefix("/rest/plain/"), Auth::Required, &[]),
        rule(prefix("/rest/"), Auth::Required, &["rest"]),
    ]);
    for (path, expected) in [
        ("/rest/admin/", "admin"),
        ("/rest/admin", "admin rest"),
        ("/rest/admin?x", "admin rest"),
        ("/rest/admin;", "rest admin"),
        ("/rest/one", "one"),
        ("/rest/one/", "one rest"),
        ("/rest/two/", "two"),
        ("/rest/two", "two rest"),
        ("/rest/public/", "open"),
        ("/rest/public", "rest"),
        ("/rest/plain/", "token"),
        ("/rest/plain", "rest"),
        ("/rest/adm", "rest"),
        ("/rest/administrators", "rest"),
    ] {
        assert_eq!(asked(&rules, &get(path)), expected, "{path}");
    }
}

#[test]
fn a_separated_prefix_is_a_path_and_all_below_it() {
    let separated = |path: &str, case| PathPattern::separated_prefix(path.to_owned(), case);
    let rules = Rules::new(vec![
        rule(separated("/rest/admin", Case::Counts).unwrap(), Auth::Required, &["admin"]),
        rule(separated("/docs", Case::Ignored).unwrap(), Auth::None, &[]),
    ]);
    for (path, expected) in [
        ("/rest/admin", "admin"),
        ("/rest/admin?x", "admin"),
        ("/rest/admin/", "admin"),
        ("/rest/admin/x", "admin"),
        ("/rest/admin;x", "admin"),
        ("/rest/%61dmin", "admin"),
        ("/rest/administrators", "token"),
        ("/rest/ADMIN", "token"),
        ("/rest", "token"),
        ("/Docs/x", "open"),
        ("/docs", "open"),
        ("/docsx", "token"),
    ] {
        assert_eq!(asked(&rules, &get(path)), expected, "{path}");
    }
    assert_eq!(separated("/a/", Case::Counts).unwrap_err(), InvalidPattern::EndsInSlash);
    assert_eq!(separated("/", Case::Counts).unwrap_err(), InvalidPattern::EndsInSlash);
    assert_eq!(separated("a", Case::Counts).unwrap_err(), InvalidPattern::NotAPath);
}

#[test]
fn case_is_ignored_where_a_rule_says_so() {
    let text = || "/Rest/Admin/".to_owned();
    for (pattern, below) in [
        (PathPattern::exact(text(), Case::Ignored).unwrap(), "token"),
        (PathPattern::prefix(text(), Case::Ignored).unwrap(), "admin"),
        (PathPattern::regex("/rest/ADMIN/?.*", Case::Ignored).unwrap(), "admin"),
    ] {
        let rules = Rules::new(vec![rule(pattern, Auth::Required, &["admin"])]);
        for path in ["/rest/admin/", "/REST/ADMIN/", "/Rest/Admin/", "/rest/%41dmin/", "/rest/aDMIN"] {
            assert_eq!(asked(&rules, &get(path)), "admin", "{path} {rules:?}");
        }
        assert_eq!(asked(&rules, &get("/REST/admin/x")), below, "{rules:?}");
        assert_eq!(asked(&rules, &get("/rest/xdmin/")), "token");
    }
}

#[test]
fn a_path_beyond_8_kib_is_never_exempt_and_too_long_for_a_regex() {
    let long = |head: &str, length: usize| format!("{head}{}", "a".repeat(length - head.len()));
    let rules = Rules::new(vec![
        rule(regex("/files/b+"), Auth::Required, &["files"]),
        rule(prefix("/admin/"), Auth::Required, &["admin"]),
        rule(regex("/open/.*"), Auth::None, &[]),
        rule(prefix("/"), Auth::None, &[]),
    ]);
    for (head, length, expected) in [
        ("/open/", 8192, "open"),
        ("/open/", 8193, "files"),
        ("/files/", 8192, "open"),
        ("/admin/", 8193, "files admin"),
        ("/%20", 8192, "open"),
        ("/%20", 16384, "files admin"),
        ("/x/../", 9000, "files admin"),
    ] {
        assert_eq!(asked(&rules, &get(&long(head, length))), expected, "{head} {length}");
    }
}

#[test]
fn what_has_more_readings_than_are_looked_at_needs_what_all_rules_ask() {
    let many = "/a%252f..%255c;b//c\\..%3fd%2523e;f/%2e%2e";
    assert_eq!(asked(&by_path(), &get(many)), "secret keys admin write");
}

#[test]
fn every_path_that_was_seen_to_pass_a_rule_for_admin_needs_its_scope() {
    let by_prefix = Rules::new(vec![rule(prefix("/rest/admin/"), Auth::Required, &["admin"])]);
    let by_default = Rules::new(vec![
        rule(prefix("/rest/pub/"), Auth::Required, &[]),
        rule(PathPattern::Any, Auth::Required, &["admin"]),
    ]);
    for path in [
        "/rest/admin/x",
        "/rest/admin;%3f/x",
        "/rest/;%23/admin/x",
        "/rest/;a=%253f/admin/x",
        "/rest/pub/x;%3f/%2e%2e;a/%2e%2e;a/admin/x",
        "/rest//../admin/x",
        "/rest//../rest/admin/x",
        "/rest/%252e%252e/../admin/x",
        "/rest/x%3f/../admin/x",
        "/rest/pub/x%3f/../../admin/x",
        "/rest/a\\b/../admin/x",
        "/rest/..;/../admin/x",
        "/rest/a%5cb/../admin/x",
        "/rest/admin",
        "/rest/admin?",
        "/rest/admin;",
        "/rest/adm%69n",
        "//host/rest/admin/x",
        "/\\host/rest/admin/x",
        "/rest/%c0%ae/admin/x",
        "/rest/x/%c0%ae%c0%ae%c0%afadmin/x",
        "/rest/%u0061dmin/x",
        "/rest%u002fadmin%uff0fx",
        "/rest/ad%09min/x",
        "/rest/ad%ffmin/x",
    ] {
        let needs_admin = |rules: &Rules| rules.requirement(&get(path)).scopes.contains(&"admin".to_owned());
        assert!(needs_admin(&by_prefix), "{path}");
        assert!(needs_admin(&by_default), "{path}");
    }
    for plain in ["/rest/pub/x", "/rest/pub/x%20y", "/rest/pub/x;y", "/rest/pub/x%2fy", "/rest/pub//x"] {
        assert_eq!(asked(&by_prefix, &get(plain)), "token", "{plain}");
        assert_eq!(asked(&by_default, &get(plain)), "token", "{plain}");
    }
}
