//! How paths, methods and hosts are spelt, against the rules. Envoy's own normalisation is off, so this is the filter's
//! own defence: no spelling gets more than the plain one, and what reaches the upstream is what was judged.

use serde_json::{Value, json};

use crate::support::{World, raw};

/// What a request needs, and so which answers it gets with no token, and with a token that carries no scope.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Needs {
    Nothing,
    Token,
    Scope,
    /// Envoy refuses it by itself.
    Refused,
}
use Needs::{Nothing, Refused, Scope, Token};

impl Needs {
    fn statuses(self) -> [u16; 2] {
        match self {
            Nothing => [200, 200],
            Token => [401, 200],
            Scope => [401, 403],
            Refused => [400, 400],
        }
    }
}

fn rules() -> Value {
    json!([
        {"match": {"path": "/health"}, "auth": "none"},
        {"match": {"path_prefix": "/public/", "methods": ["GET", "HEAD"]}, "auth": "none"},
        {"match": {"path_regex": "/files/[0-9]+\\.txt"}, "auth": "none"},
        {"match": {"path_prefix": "/admin/"}, "scopes": ["admin"]},
        {"match": {"path_regex": "/v[0-9]+/admin(/.*)?", "methods": ["POST", "DELETE"]}, "scopes": ["admin"]},
        {"match": {"path_prefix": "/report/", "methods": ["GET"]}, "scopes": ["admin"]},
        {"match": {"host": "adm.example.com"}, "scopes": ["admin"]},
        {"match": {"host": "open.example.com"}, "auth": "none"},
        {"match": {"host": "*.docs.example.com", "path_prefix": "/read/"}, "auth": "optional"},
    ])
}

pub const ROWS: &[(&str, &str, &str, Needs)] = &[
    // An exact path.
    ("GET", "/health", "gateway", Nothing),
    ("POST", "/health", "gateway", Nothing),
    ("GET", "/health?x=/../..;%2f", "gateway", Nothing),
    ("GET", "/health/", "gateway", Token),
    ("GET", "/Health", "gateway", Token),
    ("GET", "/health.", "gateway", Token),
    ("GET", "/healthy", "gateway", Token),
    ("GET", "//health", "gateway", Token),
    ("GET", "/health;x", "gateway", Token),
    ("GET", "/%68ealth", "gateway", Token),
    ("GET", "/health%20", "gateway", Token),
    ("GET", "/./health", "gateway", Token),
    ("GET", "/health/.", "gateway", Token),
    // A prefix, with methods.
    ("GET", "/public/", "gateway", Nothing),
    ("GET", "/public/logo.png", "gateway", Nothing),
    ("HEAD", "/public/logo.png", "gateway", Nothing),
    ("GET", "/public/a/b%20c", "gateway", Nothing),
    ("GET", "/public/...", "gateway", Nothing),
    ("GET", "/public/a..b", "gateway", Nothing),
    ("GET", "/public/.hidden", "gateway", Nothing),
    ("GET", "/public/?next=/../x//y%2f", "gateway", Nothing),
    ("GET", "/public", "gateway", Token),
    ("GET", "/publicity", "gateway", Token),
    ("GET", "/PUBLIC/", "gateway", Token),
    ("POST", "/public/", "gateway", Token),
    ("PROPFIND", "/public/", "gateway", Token),
    ("get", "/public/", "gateway", Refused),
    ("OPTIONS", "/public/", "gateway", Token),
    // Spellings that one server normalises and another does not.
    ("GET", "/public//", "gateway", Token),
    ("GET", "//public/", "gateway", Token),
    ("GET", "/public/../orders", "gateway", Token),
    ("GET", "/public/./orders", "gateway", Token),
    ("GET", "/public/..", "gateway", Token),
    ("GET", "/public/.", "gateway", Token),
    ("GET", "/public/a/../../orders", "gateway", Token),
    ("GET", "/public/%2e%2e/orders", "gateway", Token),
    ("GET", "/public/%2E%2E/orders", "gateway", Token),
    ("GET", "/public/.%2e/orders", "gateway", Token),
    ("GET", "/public/%2e/orders", "gateway", Token),
    ("GET", "/public/..%2forders", "gateway", Token),
    ("GET", "/public/..%2Forders", "gateway", Token),
    ("GET", "/public/..%5corders", "gateway", Token),
    ("GET", "/public/..%5Corders", "gateway", Token),
    ("GET", "/public/..\\orders", "gateway", Token),
    ("GET", "/public\\..\\orders", "gateway", Token),
    ("GET", "/public/..;/orders", "gateway", Token),
    ("GET", "/public/;jsessionid=1", "gateway", Token),
    ("GET", "/orders/../public/", "gateway", Token),
    ("GET", "/public/../?x", "gateway", Token),
    ("GET", "/public/..?x", "gateway", Token),
    ("GET", "/public/..%3b/orders", "gateway", Token),
    ("GET", "/public/%252e%252e/orders", "gateway", Token),
    ("GET", "/public/a%00", "gateway", Token),
    ("GET", "/public/%61", "gateway", Nothing),
    ("GET", "/%70ublic/a", "gateway", Token),
    ("GET", "/public/../admin/users", "gateway", Scope),
    ("GET", "/public/#/../orders", "gateway", Refused),
    // A pattern is about the whole path.
    ("GET", "/files/12.txt", "gateway", Nothing),
    ("GET", "/files/12.txt?v=1", "gateway", Nothing),
    ("GET", "/files/12xtxt", "gateway", Token),
    ("GET", "/files/12.txt/", "gateway", Token),
    ("GET", "/x/files/12.txt", "gateway", Token),
    ("GET", "/files/12.txt%00", "gateway", Token),
    ("GET", "/files/.txt", "gateway", Token),
    // A rule that asks for more decides on odd spellings too.
    ("GET", "/admin/users", "gateway", Scope),
    ("GET", "/admin//users", "gateway", Scope),
    ("GET", "/admin/../admin/users", "gateway", Scope),
    ("GET", "/admin/%2e%2e/public/", "gateway", Scope),
    ("GET", "/admin/;x", "gateway", Scope),
    ("GET", "/admin\\", "gateway", Scope),
    ("GET", "/%61dmin/users", "gateway", Scope),
    ("GET", "/%2561dmin/users", "gateway", Scope),
    ("GET", "//admin/users", "gateway", Scope),
    ("GET", "/x/../admin/users", "gateway", Scope),
    ("GET", "/x/..;/admin/users", "gateway", Scope),
    ("GET", "/x/..%2fadmin/users", "gateway", Scope),
    ("GET", "/admin%2fusers", "gateway", Scope),
    ("POST", "/v1/%61dmin", "gateway", Scope),
    ("POST", "/v1/admin", "gateway", Scope),
    ("DELETE", "/v22/admin/users//7", "gateway", Scope),
    ("GET", "/v1/admin", "gateway", Token),
    ("POST", "/v1/administration", "gateway", Token),
    // A step that normalises hides what a server sees that does not take it.
    ("GET", "/admin;%3f/users", "gateway", Scope),
    ("GET", "/;%23/admin/users", "gateway", Scope),
    ("GET", "/;a=%253f/admin/users", "gateway", Scope),
    ("GET", "/x;%3f/%2e%2e;a/admin/users", "gateway", Scope),
    ("GET", "/x//../../admin/users", "gateway", Scope),
    ("GET", "/%252e%252e/../admin/users", "gateway", Scope),
    ("GET", "/x%3f/../admin/users", "gateway", Scope),
    ("GET", "/x%23/../admin/users", "gateway", Scope),
    ("GET", "/a\\b/../admin/users", "gateway", Scope),
    ("GET", "/a%5cb/../admin/users", "gateway", Scope),
    ("GET", "/..;/../admin/users", "gateway", Scope),
    // A final slash, or none, is no other path where more is asked for; nor is HEAD another method than GET.
    ("GET", "/admin", "gateway", Scope),
    ("GET", "/admin?x", "gateway", Scope),
    ("GET", "/%61dmin", "gateway", Scope),
    ("GET", "/administration", "gateway", Token),
    ("GET", "/report/x", "gateway", Scope),
    ("HEAD", "/report/x", "gateway", Scope),
    ("POST", "/report/x", "gateway", Token),
    // UTF-8 that is none, or longer than it need be.
    ("GET", "/public/%c3%a9", "gateway", Nothing),
    ("GET", "/public/%c0%ae%c0%ae/orders", "gateway", Token),
    ("GET", "/public/%e0%80%ae%e0%80%ae/orders", "gateway", Token),
    ("GET", "/public/%c3", "gateway", Token),
    ("GET", "/public/%ff", "gateway", Token),
    ("GET", "/x/%c0%ae%c0%ae/admin/users", "gateway", Scope),
    // Hosts.
    ("GET", "/", "adm.example.com", Scope),
    ("GET", "/", "adm.example.com:8443", Scope),
    ("GET", "/", "adm.example.com.", Scope),
    ("GET", "/", "adm.example.com..", Scope),
    ("GET", "/", "adm.example.com:80:80", Scope),
    ("GET", "/", "u@adm.example.com", Scope),
    ("GET", "/", "open.example.com:80@adm.example.com", Scope),
    ("GET", "/", "adm%2eexample.com", Scope),
    ("GET", "/", "open.example.com:x", Scope),
    ("GET", "/", "u@open.example.com", Scope),
    ("GET", "/", "open.example.com", Nothing),
    ("GET", "/", "OPEN.example.COM", Nothing),
    ("GET", "/", "open.example.com:8443", Nothing),
    ("GET", "/", "open.example.com.", Nothing),
    ("GET", "/", "xopen.example.com", Token),
    ("GET", "/", "open.example.com.evil.example", Token),
    ("GET", "/", "sub.open.example.com", Token),
    ("GET", "/admin/users", "open.example.com", Scope),
    ("GET", "/../orders", "open.example.com", Token),
    ("GET", "/read/x", "a.docs.example.com", Nothing),
    ("GET", "/read/x", "a.b.docs.example.com", Nothing),
    ("GET", "/read/x", "docs.example.com", Token),
    ("GET", "/read/../x", "a.docs.example.com", Token),
    ("GET", "/other", "a.docs.example.com", Token),
    // A whole URL in the request line: its host counts, not the header's.
    ("GET", "http://gateway/public/", "other", Nothing),
    ("GET", "http://gateway/public/../orders", "other", Token),
    ("GET", "http://open.example.com/", "gateway", Nothing),
    ("GET", "http://gateway/", "open.example.com", Token),
    ("GET", "http://gateway", "other", Token),
    ("GET", "public/", "gateway", Refused),
];

#[tokio::test]
async fn no_spelling_of_a_path_gets_more_than_the_plain_one_and_the_upstream_gets_what_was_judged() {
    let as_sent = json!({
        "normalize_path": false, "merge_slashes": false, "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
    });
    let world = World::with(|config| config.rules(rules()).http(as_sent)).await;
    let alice = world.admin.user_with_token("alice").await;
    let credential = format!("authorization: Bearer {}\n", alice.token);
    for (method, target, host, needs) in ROWS {
        for (authorization, status) in [("", needs.statuses()[0]), (credential.as_str(), needs.statuses()[1])]
        {
            let what = format!("{method} {target} of {host}, which needs {needs:?}");
            let before = world.upstream.count();
            let request =
                format!("{method} {target} HTTP/1.1\nhost: {host}\nconnection: close\n{authorization}\n");
            let answer = raw::answer(world.envoy.port(), &raw::lines(&request)).await;
            assert_eq!(raw::status(&answer), Some(status), "{what}: {}", answer.escape_ascii());
            assert_eq!(world.upstream.count() - before, usize::from(status == 200), "{what}");
            if status == 200 {
                let seen = world.upstream.last();
                let path = target
                    .strip_prefix("http://")
                    .map_or(*target, |rest| rest.find('/').map_or("/", |slash| &rest[slash..]));
                assert_eq!((seen.path.as_str(), seen.method.as_str()), (path, *method), "{what}");
            }
        }
    }
}

/// Headers from which some servers take the method or the path.
const OVERRIDES: [(&str, &str); 5] = [
    ("X-HTTP-Method-Override", "DELETE"),
    ("x-http-method", "DELETE"),
    ("X-METHOD-OVERRIDE", "DELETE"),
    ("X-Original-URL", "/orders"),
    ("x-rewrite-url", "/orders"),
];

#[tokio::test]
async fn what_says_that_it_is_another_request_or_is_very_long_is_open_to_nobody() {
    let world = World::with(|config| config.rules(rules())).await;
    let alice = world.admin.user_with_token("alice").await;
    let headers = OVERRIDES.map(|(name, value)| ("/public/x".to_owned(), format!("{name}: {value}\n")));
    let long = (format!("/public/{}", "x".repeat(8 << 10)), String::new());
    for (target, header) in headers.into_iter().chain([long]) {
        for (authorization, status) in
            [(String::new(), 401), (format!("authorization: Bearer {}\n", alice.token), 200)]
        {
            let before = world.upstream.count();
            let request =
                format!("GET {target} HTTP/1.1\nhost: gateway\nconnection: close\n{header}{authorization}\n");
            let answer = raw::answer(world.envoy.port(), &raw::lines(&request)).await;
            assert_eq!(raw::status(&answer), Some(status), "{header}: {}", answer.escape_ascii());
            assert_eq!(world.upstream.count() - before, usize::from(status == 200), "{header}");
        }
    }
}
