//! A running service: whether its listeners answer, and whether it says that it can do its work.

use std::net::SocketAddr;

use secrecy::SecretString;
use serde_json::Value;

use super::finding::Findings;
use super::{Args, PATIENCE, clock, edge, unauthorized};
use crate::api::BASE;
use crate::cli::remote::{Answer, Http, Method, Unreached};
use crate::clock::Sources;
use crate::domain::changes::Position;
use crate::telemetry::{FEEDS_WAITING, FORWARDED_IGNORED};

const CHECK: &str = "service";

/// One listener: where it is, and whether somebody said that it is there.
struct Listener {
    url: String,
    named: bool,
}

impl Listener {
    fn of(named: Option<&String>, address: SocketAddr) -> Self {
        Self { url: named.cloned().unwrap_or_else(|| local(address)), named: named.is_some() }
    }

    fn get(&self, path: &str) -> Result<Answer, Unreached> {
        Http::to(&self.url, PATIENCE).send(Method::GET, &format!("{}{path}", self.url), [], String::new())
    }
}

/// How a listener of this machine is reached from it.
fn local(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    format!("http://{address}")
}

pub(super) fn check(
    args: &Args,
    secrets: &[SecretString],
    database: Option<&Position>,
    sources: &Sources,
    findings: &mut Findings,
) {
    let api = Listener::of(args.url.as_ref(), args.serve.listen);
    let edges = Listener::of(args.edge_url.as_ref(), args.serve.edge_listen);
    let metrics = Listener::of(None, args.serve.metrics_listen);
    let api_answer = api.get(&format!("{BASE}/me"));
    let edge_answer = edge::probe(&edges.url, secrets.first());
    let metrics_answer = metrics.get("/readyz");
    if api_answer.is_err() && edge_answer.is_err() && metrics_answer.is_err() && !api.named && !edges.named {
        findings.skipped(
            CHECK,
            format!("none runs here: nothing answers at {}, {} or {}.", api.url, edges.url, metrics.url),
        );
        return;
    }
    let here = !api.named && !edges.named || metrics_answer.is_ok();
    match api_answer {
        Ok(answer) => tell_api(&api.url, &answer, sources, findings),
        Err(unreached) => silent("the management API", &api.url, &unreached, findings),
    }
    match edge_answer {
        Ok(_) => edge::check(&edges.url, secrets, database, findings),
        Err(unreached) => silent("the edge API", &edges.url, &unreached, findings),
    }
    match metrics_answer {
        Ok(answer) => {
            tell_readiness(&metrics, &answer, findings);
            if let Ok(answer) = metrics.get("/metrics") {
                unauthorized::check(&answer.text, sources.now(), findings);
            }
        }
        Err(unreached) if here => silent("what monitoring asks", &metrics.url, &unreached, findings),
        // It is another machine's service, whose metrics need not be reached from here.
        Err(_) => {}
    }
}

fn silent(what: &str, url: &str, unreached: &Unreached, findings: &mut Findings) {
    findings.problem(
        CHECK,
        format!("{what} does not answer at {url}: {}.", unreached.why()),
        "Start `latchkey serve`, or name where it is: --url, --edge-url, --metrics-listen.",
    );
}

/// A caller without a token is told so by the API, and by nothing else.
fn tell_api(url: &str, answer: &Answer, sources: &Sources, findings: &mut Findings) {
    let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    match body.pointer("/error/code").and_then(Value::as_str) {
        Some("api_key_missing") => findings.ok(CHECK, format!("the management API answers at {url}.")),
        Some("unavailable") => findings.problem(
            CHECK,
            format!("the management API at {url} cannot do its work now."),
            "Its log says why; most often its database does not answer.",
        ),
        _ => findings.problem(
            CHECK,
            format!("what answers at {url} is not the management API (status {}).", answer.status),
            "Name where it is: --url or --listen.",
        ),
    }
    let date = answer.headers.get("date").and_then(|value| value.to_str().ok());
    clock::check_date(sources.now(), date, findings);
}

fn tell_readiness(metrics: &Listener, answer: &Answer, findings: &mut Findings) {
    let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    let Some(checks) = body.get("checks").and_then(Value::as_object) else {
        findings.problem(
            CHECK,
            format!(
                "what answers at {} is not what monitoring asks (status {}).",
                metrics.url, answer.status
            ),
            "Name where it is: --metrics-listen.",
        );
        return;
    };
    let failing = checks.iter().filter(|(_, said)| said.as_str() != Some("ok"));
    let failing: Vec<String> =
        failing.map(|(what, said)| format!("{what} {}", said.as_str().unwrap_or("?"))).collect();
    if answer.status.is_success() && failing.is_empty() {
        let text = metrics.get("/metrics").map(|answer| answer.text).unwrap_or_default();
        if let Some(count) = gauge(&text, FORWARDED_IGNORED) {
            findings.warning(
                CHECK,
                format!(
                    "{count} requests came through a proxy and none is trusted: all its clients count as one."
                ),
                "Name the proxy by --trusted-proxies, or have it send no X-Forwarded-For.",
            );
        }
        let waiting = gauge(&text, FEEDS_WAITING);
        let edges =
            waiting.map(|waiting| format!("; {waiting} feeds of edges wait for changes")).unwrap_or_default();
        findings.ok(CHECK, format!("it is ready{edges}."));
    } else if answer.status.is_success() {
        findings.warning(
            CHECK,
            format!("it is ready, but: {}.", failing.join(", ")),
            "Its log says why; it recovers by itself when the cause is gone.",
        );
    } else {
        let advice = match body.get("code").and_then(Value::as_str) {
            Some("not_bootstrapped") => {
                "If that is the right database, `latchkey bootstrap` makes its first administrator; else correct --database-url."
            }
            _ => "Its log says why; it recovers by itself when the cause is gone.",
        };
        findings.problem(CHECK, format!("it is not ready: {}.", failing.join(", ")), advice);
    }
}

/// The value of a metric without labels.
fn gauge(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map(|value| value.trim().to_owned())
}
