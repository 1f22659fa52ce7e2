//! Which of the two filters the tests are of: `LATCHKEY_TEST_FILTER` says `wasm`, which it is without it, or `native`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::dist;

/// The filter, in one of the forms in which Envoy loads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// As a module of proxy-wasm.
    Wasm,
    /// As a dynamic module.
    Native,
}

impl Filter {
    /// That of this run.
    pub fn chosen() -> Self {
        match std::env::var("LATCHKEY_TEST_FILTER").as_deref() {
            Err(_) | Ok("" | "wasm") => Self::Wasm,
            Ok("native") => Self::Native,
            Ok(other) => panic!("LATCHKEY_TEST_FILTER is wasm or native, and not {other}"),
        }
    }

    /// What is loaded.
    pub fn file(self) -> PathBuf {
        match self {
            Self::Wasm => dist::filter(),
            Self::Native => dist::native_filter(),
        }
    }

    /// The entry of Envoy's `http_filters`, around this configuration.
    pub fn entry(self, plugin: &Value) -> Value {
        match self {
            Self::Wasm => wasm(plugin),
            Self::Native => native(plugin),
        }
    }

    /// Where such an entry has the configuration.
    pub fn configuration(self, entry: &mut Value) -> &mut Value {
        match self {
            Self::Wasm => &mut entry["typed_config"]["config"]["configuration"],
            Self::Native => &mut entry["typed_config"]["filter_config"],
        }
    }

    /// Whether this run is of the native filter, which what a test is about does not exist for; says so.
    pub fn has_no(self, what: &str) -> bool {
        let skips = self == Self::Native;
        if skips {
            eprintln!("skipped: a native filter has no {what}");
        }
        skips
    }

    /// How many caches, and feeds, there are in an Envoy with so many workers.
    pub fn edges(self, workers: u64) -> u64 {
        match self {
            Self::Wasm => workers,
            Self::Native => workers.min(1),
        }
    }

    /// What a bootstrap needs for it beside the entry.
    pub fn prepare(self, bootstrap: &mut Value) {
        if self == Self::Native {
            // As the wasm filter's in Prometheus: without a prefix of Envoy's.
            let strip = "envoy.reloadable_features.dynamic_modules_strip_custom_stat_prefix";
            bootstrap["layered_runtime"] =
                json!({"layers": [{"name": "static", "static_layer": {strip: true}}]});
        }
    }

    /// The counter that says how often the filter has died, or has panicked and gone on.
    pub fn deaths(self) -> &'static str {
        match self {
            Self::Wasm => "wasm.latchkey.vm_reload_success",
            Self::Native => "dynamicmodulescustom.latchkey.panics",
        }
    }

    /// What the names of its metrics begin with in `/stats`.
    pub fn stats_prefix(self) -> &'static str {
        match self {
            Self::Wasm => "wasmcustom.",
            Self::Native => "dynamicmodulescustom.",
        }
    }
}

/// Whether this line of `/stats` is of the filter's metric `<name>` or `<name>.<case>`, whichever filter it is; then what follows its name.
pub fn metric<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    if let Some(rest) = line.strip_prefix("wasmcustom.latchkey.") {
        return rest.strip_prefix(name)?.strip_prefix(": ");
    }
    let (found, value) = line.strip_prefix("dynamicmodulescustom.latchkey.")?.split_once(": ")?;
    // A label is told as `<name>.<label>.<case>`.
    let is_it = match (name.split_once('.'), &found.split('.').collect::<Vec<_>>()[..]) {
        (None, [found]) => *found == name,
        (Some((name, case)), [found, _, of]) => (*found, *of) == (name, case),
        _ => false,
    };
    is_it.then_some(value)
}

fn configuration(plugin: &Value) -> Value {
    json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": plugin})
}

fn wasm(plugin: &Value) -> Value {
    json!({
        "name": "latchkey",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "latchkey",
                "failure_policy": "FAIL_RELOAD",
                "reload_config": {"backoff": {"base_interval": "0.2s"}},
                "vm_config": {
                    "vm_id": "latchkey",
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": dist::filter()}},
                    "environment_variables": {"host_env_keys": ["LATCHKEY_EDGE_SECRET"]},
                },
                "configuration": configuration(plugin),
            },
        },
    })
}

fn native(plugin: &Value) -> Value {
    json!({
        "name": "latchkey",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
            "dynamic_module_config": {"module": {"local": {"filename": dist::native_filter()}}},
            "filter_name": "latchkey",
            "filter_config": configuration(plugin),
        },
    })
}
