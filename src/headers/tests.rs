use super::*;

fn bytes<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<(&'a [u8], &'a [u8])> {
    pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()
}

#[test]
fn a_request_is_read_in_one_pass() {
    let pairs = bytes(&[
        (":method", "POST"),
        (":path", "/a?b"),
        (":authority", "example.com:80"),
        ("authorization", "Bearer x"),
        ("content-type", "application/grpc+proto"),
        ("x_latchkey_user", "mallory"),
        ("x-other", "1"),
    ]);
    let read = RequestHeaders::read(pairs, &IdentityHeaders::default());
    assert_eq!(read.target.method, b"POST");
    assert_eq!(read.target.path, Some(b"/a?b".as_slice()));
    assert_eq!(read.target.authority, Some(b"example.com:80".as_slice()));
    assert_eq!(read.authorization, Values::One(b"Bearer x"));
    assert!(read.grpc);
    assert_eq!(read.spoofed, [b"x_latchkey_user"]);
}

#[test]
fn every_spelling_of_an_identity_header_is_noticed_and_nothing_else() {
    let headers = IdentityHeaders::default();
    for name in [
        "x-latchkey-user",
        "X-Latchkey-User",
        "x_latchkey-user",
        "X_LATCHKEY_TOKEN_ID",
        "x-latchkey_scopes",
        "x.latchkey.user",
        "x~latchkey!scopes",
    ] {
        assert!(headers.is_spoof(name.as_bytes()), "{name}");
    }
    for name in ["x-latchkey-user2", "x-latchkey", "x-latchkey-users", "latchkey-user", "authorization", ""] {
        assert!(!headers.is_spoof(name.as_bytes()), "{name}");
    }
}

#[test]
fn headers_that_override_method_or_path_are_noticed_however_they_are_spelt_and_no_other_is() {
    let pairs = bytes(&[
        (":method", "POST"),
        ("x-http-method-override", "DELETE"),
        ("X_HTTP_METHOD", "PUT"),
        ("x-method_override", "PATCH"),
        ("x-original-url", "/a"),
        ("X-Rewrite-Url", "/b"),
        ("x.rewrite.url", "/c"),
        ("x-forwarded-proto", "https"),
        ("x-http-methods", "DELETE"),
        ("x-original-uri", "/d"),
        ("http-method-override", "DELETE"),
    ]);
    let overrides = RequestHeaders::read(pairs, &IdentityHeaders::default()).target.overrides.unwrap();
    assert_eq!(overrides.methods, [b"DELETE".as_slice(), b"PUT", b"PATCH"]);
    assert_eq!(overrides.paths, [b"/a", b"/b", b"/c"]);
}

#[test]
fn each_of_a_list_of_overriding_methods_counts_and_a_long_list_is_too_many() {
    let read = |name: &str, value: &str| {
        let pairs = [(name.as_bytes().to_vec(), value.as_bytes().to_vec())];
        let pairs = pairs.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        let overrides = RequestHeaders::read(pairs, &IdentityHeaders::default()).target.overrides.unwrap();
        let texts = |list: &[&[u8]]| list.iter().map(|it| it.escape_ascii().to_string()).collect::<Vec<_>>();
        (texts(&overrides.methods), texts(&overrides.paths))
    };
    let methods = |value| read("x-http-method-override", value).0;
    assert_eq!(methods("DELETE, GET"), ["DELETE, GET", "DELETE", "GET"]);
    assert_eq!(methods("DELETE,"), ["DELETE,", "DELETE"]);
    assert_eq!(methods("GET"), ["GET"]);
    let many: Vec<_> = (0..5000).map(|number| format!("M{number}")).collect();
    assert!((9..=10).contains(&methods(&many.join(",")).len()));
    assert_eq!(read("x-original-url", "/y, /x").1, ["/y, /x", "/y", "/x"]);
}

#[test]
fn names_that_would_break_a_request_are_refused() {
    assert_eq!("X-User".parse::<HeaderName>().unwrap().as_str(), "x-user");
    for bad in
        ["", "x user", "x_user", ":path", "Host", "authorization", "Content-Length", "é", &"x".repeat(129)]
    {
        assert_eq!(bad.parse::<HeaderName>(), Err(InvalidHeaderName), "{bad}");
    }
}

#[test]
fn grpc_is_told_as_envoy_tells_it() {
    for (content_type, grpc) in [
        ("application/grpc", true),
        ("application/grpc+json", true),
        ("application/grpc-web", false),
        ("application/grpc;x=y", false),
        ("Application/grpc", false),
        ("application/json", false),
    ] {
        assert_eq!(is_grpc(content_type.as_bytes()), grpc, "{content_type}");
    }
}

#[test]
fn json_is_told_by_its_media_type() {
    for (content_type, json) in [
        ("application/json", true),
        ("Application/JSON; charset=utf-8", true),
        ("application/json ;x", true),
        ("application/jsonp", false),
        ("application/problem+json", false),
        ("text/html", false),
        ("", false),
    ] {
        assert_eq!(is_json(content_type.as_bytes()), json, "{content_type}");
    }
}

#[test]
fn what_is_logged_of_a_request_is_one_short_word_without_the_query() {
    assert_eq!(without_query(b"/a/b?token=x?y"), b"/a/b");
    assert_eq!(without_query(b"/a"), b"/a");
    assert_eq!(loggable("/a b\n\u{e9}\0/c".as_bytes(), 64), "/a?b????/c");
    assert_eq!(loggable(b"/abcdef", 4), "/abc…");
    assert_eq!(loggable(b"/abc", 4), "/abc");
}
