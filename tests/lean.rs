//! The module that is deployed: what it exports, and how large it is.

use std::collections::BTreeSet;

use crate::closed::withheld::CAPABILITIES;
use crate::support::dist;

/// The largest that the module may be, in bytes.
const LIMIT: usize = 640 * 1024;

/// What is no capability: an operator can withhold none of these.
const NO_CAPABILITIES: [&str; 3] = ["memory", "_initialize", "proxy_abi_version_0_2_1"];

#[test]
fn lean_the_module_exports_what_the_list_names_and_nothing_else() {
    let module = std::fs::read(dist::filter()).expect("the module");
    let exported = latchkey_lean::exports(&module).expect("a module");
    let listed: BTreeSet<_> = latchkey_lean::listed(include_str!("../src/shell/exports.txt"));
    assert_eq!(exported.iter().map(String::as_str).collect::<BTreeSet<_>>(), listed);
    let callbacks = CAPABILITIES.iter().filter(|name| name.starts_with("proxy_on_"));
    assert_eq!(callbacks.chain(&NO_CAPABILITIES).copied().collect::<BTreeSet<_>>(), listed);
    assert!(module.len() <= LIMIT, "{} bytes", module.len());
}

/// Envoy calls what is exported: a callback that the shell has and the list does not would never be called.
#[test]
fn closed_every_callback_that_the_shell_has_is_exported() {
    let listed = latchkey_lean::listed(include_str!("../src/shell/exports.txt"));
    let sources = [include_str!("../src/shell/root.rs"), include_str!("../src/shell/stream.rs")];
    let functions = sources.iter().flat_map(|source| source.lines());
    let callbacks = functions.filter_map(|line| line.strip_prefix("    fn on_")?.split('(').next());
    let callbacks: BTreeSet<String> = callbacks.map(exported_name).collect();
    assert!(callbacks.len() >= 8, "{callbacks:?}");
    for callback in callbacks {
        assert!(listed.contains(callback.as_str()), "{callback} is not exported");
    }
}

/// A method of the `proxy-wasm` crate's contexts, after `on_`, as hosts call it.
fn exported_name(method: &str) -> String {
    let name = method.strip_prefix("http_").filter(|_| !method.starts_with("http_call_"));
    format!("proxy_on_{}", name.unwrap_or(method))
}
