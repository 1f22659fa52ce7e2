//! What servers read, and what the filter asks for it: real servers behind a real Envoy, and requests that mean one thing to
//! one server and another to the next. Whatever a handler is reached by, the request has what the rules ask for what that
//! server read, over HTTP/1.1 and HTTP/2, with Envoy's normalisation and without.

pub mod attempt;
mod scene;
mod spellings;
pub mod table;

use serde_json::{Value, json};

use self::attempt::{Ran, Request};
use self::scene::{Holder, May, Scene};
use crate::support::random;
use crate::support::servers::Software;

use Software::{Flask, FlaskOverrides, Jetty, Node, NodeFolds, Tomcat};

const PLAIN: [Software; 4] = [Flask, Node, Tomcat, Jetty];

fn open() -> Value {
    json!({"match": {"path_prefix": "/public/", "methods": ["GET", "HEAD"]}, "auth": "none"})
}

/// Some paths need a scope.
fn scoped() -> Value {
    json!([
        open(),
        {"match": {"path_prefix": "/rest/admin/"}, "scopes": ["admin"]},
        {"match": {"path_prefix": "/write/", "methods": ["POST"]}, "scopes": ["write"]},
        {"match": {"path_prefix": "/report/", "methods": ["GET"]}, "scopes": ["report"]},
    ])
}

/// Everything needs a scope, but for some paths.
fn denying() -> Value {
    json!([open(), {"match": {"path_prefix": "/rest/pub/"}}, {"match": {}, "scopes": ["admin"]}])
}

/// Whether a server read what needs no token.
fn is_open(ran: &Ran) -> bool {
    ran.handler == "public" && ["GET", "HEAD"].contains(&ran.method.as_str())
}

fn may_where_scoped(holder: Holder, ran: &Ran) -> bool {
    is_open(ran) || holder == Holder::Token && !["admin", "write", "report"].contains(&ran.handler.as_str())
}

fn may_where_denied(holder: Holder, ran: &Ran) -> bool {
    // Flask has no handler for `/rest/pub//x`, and still reads a path below /rest/pub/.
    let is_pub = ran.handler == "pub" || ran.handler == "other" && ran.path.starts_with("/rest/pub/");
    is_open(ran) || holder == Holder::Token && is_pub
}

/// What is meant to pass does, so that what follows attacks something.
async fn assert_control(scene: &Scene) {
    let passes = &[Some(200)][..];
    scene.assert_statuses(&Request::get("/public/x"), [passes, passes, passes]).await;
    scene.assert_statuses(&Request::get("/rest/admin/x"), [&[Some(401)], &[Some(403)], passes]).await;
    scene.assert_statuses(&Request::get("/rest/pub/x"), [&[Some(401)], passes, passes]).await;
}

#[tokio::test]
async fn no_spelling_reaches_a_handler_whose_scope_the_token_lacks() {
    let Some(scene) = Scene::start(&PLAIN, scoped()).await else { return };
    assert_control(&scene).await;
    scene.attack(&table::requests(), may_where_scoped).await.assert_closed();
}

#[tokio::test]
async fn no_spelling_leaves_the_paths_that_alone_need_no_scope() {
    let Some(scene) = Scene::start(&PLAIN, denying()).await else { return };
    assert_control(&scene).await;
    scene.attack_in_turns(&table::requests(), may_where_denied).await.assert_closed();
}

#[tokio::test]
async fn no_random_spelling_gets_past_what_the_server_read_needs() {
    let seed = random::seed();
    println!("LATCHKEY_TEST_SEED={seed}");
    let rows: [(Value, May, usize); 2] =
        [(scoped(), may_where_scoped, 700), (denying(), may_where_denied, 300)];
    for (number, (rules, may, count)) in (0..).zip(rows) {
        let Some(scene) = Scene::start(&PLAIN, rules).await else { return };
        let spellings = spellings::requests(seed.wrapping_add(number), count);
        scene.attack_in_turns(&spellings, may).await.assert_closed();
    }
}

#[tokio::test]
async fn letter_case_makes_no_difference_where_the_rule_says_so() {
    let rules = json!([
        open(),
        {"match": {"path_separated_prefix": "/rest/admin", "ignore_case": true}, "scopes": ["admin"]},
    ]);
    let Some(scene) = Scene::start(&[NodeFolds], rules).await else { return };
    let mut requests = table::requests();
    let shouted: Vec<_> = requests.iter().map(|request| request.target.to_uppercase()).collect();
    requests.extend(shouted.iter().map(|target| Request::get(target)));
    for target in [
        "/REST/ADMIN/x",
        "/Rest/Admin",
        "/rest/aDMIN/",
        "/REST/x/../ADMIN",
        "/REST/%41DMIN/x",
        "/REST;/ADMIN/x",
    ] {
        requests.push(Request::get(target));
    }
    let spelt = spellings::requests(random::seed(), 150).into_iter();
    requests.extend(spelt.map(|request| Request::get(&request.target.replace("admin", "Admin"))));
    let may: May = |holder, ran| is_open(ran) || holder == Holder::Token && ran.handler != "admin";
    scene.attack(&requests, may).await.assert_closed();
}

#[tokio::test]
async fn a_method_is_what_the_server_takes_it_for() {
    let Some(scene) = Scene::start(&PLAIN, scoped()).await else { return };
    let mut requests = Vec::new();
    for method in ["POST", "post", "Post", "pOST", "PUT", "BREW", "P0ST", "GET", "get", "Head", "*"] {
        requests.extend(
            ["/write/x", "/report/x", "/public/x", "/rest/admin/x"].map(|it| Request::new(method, it)),
        );
    }
    scene.attack(&requests, may_where_scoped).await.assert_closed();
    // A response to HEAD does not say what ran.
    let refused = [&[Some(401)][..], &[Some(403)], &[Some(200)]];
    scene.assert_statuses(&Request::new("HEAD", "/report/x"), refused).await;
    scene.assert_statuses(&Request::new("HEAD", "/rest/admin/x"), refused).await;
}

#[tokio::test]
async fn a_lower_case_method_needs_what_the_upper_case_one_does() {
    let Some(scene) = Scene::start(&[Flask], scoped()).await else { return };
    for method in ["post", "Post", "pOST"] {
        // Envoy itself refuses it over HTTP/1.1.
        let statuses = [&[Some(400), Some(401)][..], &[Some(400), Some(403)], &[Some(400), Some(200)]];
        scene.assert_statuses(&Request::new(method, "/write/x"), statuses).await;
    }
}

#[tokio::test]
async fn a_final_slash_makes_no_difference_where_the_rule_asks_for_more() {
    let Some(scene) = Scene::start(&[Tomcat, Jetty], scoped()).await else { return };
    for target in ["/rest/admin", "/rest/admin?x", "/rest/adm%69n"] {
        scene.assert_statuses(&Request::get(target), [&[Some(401)], &[Some(403)], &[Some(200)]]).await;
    }
}

/// Authorities of which some server reads another host than another one does.
const HOSTS: &[&str] = &[
    "adm.example.com",
    "ADM.Example.com",
    "adm.example.com:80",
    "adm.example.com.",
    "adm.example.com..",
    "adm.example.com.:80",
    "adm.example.com..:80",
    "adm.example.com:",
    "adm.example.com:80:80",
    "adm.example.com:x",
    "u@adm.example.com",
    "u:p@adm.example.com",
    "@adm.example.com",
    ":@adm.example.com",
    "pub.example.com@adm.example.com",
    "pub.example.com:80@adm.example.com",
    "pub.example.com:80@adm.example.com:80",
    "pub.example.com:@adm.example.com.",
    "a@b@adm.example.com",
    "adm%2eexample.com",
    "adm%2Eexample%2Ecom",
    "%61dm.example.com",
    "adm%2eexample.com:80",
    "adm%E3%80%82example.com",
    "%EF%BD%81dm.example.com",
    "adm%C2%AD.example.com",
    "adm.example.com/",
    "adm.example.com/@pub.example.com",
    "adm.example.com?@pub.example.com",
    "adm.example.com#@pub.example.com",
    "adm.example.com\\@pub.example.com",
    "adm.example.com\\.pub.example.com",
    "pub.example.com,adm.example.com",
    "adm.example.com,pub.example.com",
    "a\tdm.example.com",
    "pub.example.com:80\\@adm.example.com",
    "pub.example.com:x",
    "pub.example.com.",
    "pub.example.com",
    "[adm.example.com]",
];

#[tokio::test]
async fn a_host_is_what_the_server_takes_it_for() {
    let rules = json!([
        {"match": {"host": "pub.example.com"}, "auth": "none"},
        {"match": {"host": "adm.example.com"}, "scopes": ["admin"]},
    ]);
    let Some(scene) = Scene::start(&[Node, Flask, Tomcat, Jetty], rules).await else { return };
    let at = |host: &str| Request::get("/q").host(host);
    scene.assert_statuses(&at("pub.example.com"), [&[Some(200)]; 3]).await;
    scene.assert_statuses(&at("adm.example.com"), [&[Some(401)], &[Some(403)], &[Some(200)]]).await;
    let requests: Vec<_> = HOSTS.iter().map(|host| at(host)).collect();
    let may: May = |holder, ran| match holder {
        Holder::Nobody => ran.host.trim_end_matches('.').eq_ignore_ascii_case("pub.example.com"),
        Holder::Token => !ran.host.trim_end_matches('.').eq_ignore_ascii_case("adm.example.com"),
    };
    scene.attack(&requests, may).await.assert_closed();
}

#[tokio::test]
async fn no_header_turns_a_request_into_another_one() {
    let Some(scene) = Scene::start(&[FlaskOverrides], scoped()).await else { return };
    let mut requests = Vec::new();
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        for value in ["DELETE", "POST", "post", "GET"] {
            for (method, target) in
                [("GET", "/public/x"), ("GET", "/write/x"), ("PUT", "/write/x"), ("POST", "/report/x")]
            {
                requests.push(Request::new(method, target).header(name, value));
            }
        }
    }
    for name in ["X-Original-URL", "X-Rewrite-URL"] {
        for value in ["/rest/admin/x", "/rest/admin", "/rest/pub/x", "/rest/%61dmin/x", "/rest/admin/x?y"] {
            requests
                .extend(["/public/x", "/rest/pub/x"].map(|target| Request::get(target).header(name, value)));
        }
    }
    scene.attack(&requests, may_where_scoped).await.assert_closed();
}
