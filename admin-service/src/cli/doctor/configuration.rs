//! Whether `latchkey serve` would take these settings, and whether they are wise.

use super::finding::Findings;
use crate::config::ServeArgs;
use crate::telemetry;

const CHECK: &str = "configuration";

pub(super) fn check(serve: &ServeArgs, findings: &mut Findings) {
    let before = findings.problems();
    let refused = [
        serve.edge_listen_is_safe().err().map(|error| error.to_string()),
        serve.database.url().err().map(|error| error.to_string()),
        telemetry::filter(&serve.log).err().map(|error| error.to_string()),
        one_port_twice(serve),
    ];
    for message in refused.into_iter().flatten() {
        findings.problem(
            CHECK,
            message,
            "latchkey serve does not start with it; `latchkey serve --help` lists the settings.",
        );
    }
    // The check of the edge secret tells of one that cannot be read.
    let readable = serve.secret_source().is_none_or(|source| source.secrets().is_ok());
    if findings.problems() == before && readable {
        let (api, edge, metrics) = (serve.listen, serve.edge_listen, serve.metrics_listen);
        findings.ok(
            CHECK,
            format!("latchkey serve would listen on {api}, {edge} (edges) and {metrics} (metrics)."),
        );
    }
    let public = serve.public_url.as_deref().unwrap_or_default();
    if !serve.listen.ip().is_loopback() && !public.starts_with("https://") {
        findings.warning(
            CHECK,
            format!("--listen {} is reached by other machines, and the service speaks no TLS.", serve.listen),
            "Put a proxy that speaks TLS before it, and name what users call as --public-url https://…",
        );
    }
    if public.starts_with("https://") && serve.trusted_proxies.is_none() {
        findings.warning(
            CHECK,
            format!("--public-url {public} is a proxy's, and no proxy is trusted: all clients have its address."),
            "Name it by --trusted-proxies, so that networks of tokens, failed attempts and the audit log go by the client.",
        );
    }
}

/// Two listeners on one port, which only one of them gets.
fn one_port_twice(serve: &ServeArgs) -> Option<String> {
    let mut ports = [serve.listen, serve.edge_listen, serve.metrics_listen].map(|address| address.port());
    ports.sort_unstable();
    let twice = ports.windows(2).find(|pair| matches!(pair, [one, other] if one == other && *one != 0));
    twice
        .and_then(<[u16]>::first)
        .map(|port| format!("two of --listen, --edge-listen and --metrics-listen name the port {port}."))
}
