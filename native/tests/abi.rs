//! The bindings against the Envoy that they are for: a name that it does not have keeps the module from loading, and so does a hook
//! that it looks for in vain.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const CALLBACKS: &str = include_str!("../src/abi.rs");
const HOOKS: &str = include_str!("../src/hooks.rs");
const LIB_SH: &str = include_str!("../../scripts/lib.sh");

/// The pinned Envoy, if it is on this machine: what `LATCHKEY_ENVOY` names, or what `make run` and `make e2e` have installed.
fn envoy() -> Option<PathBuf> {
    let named = std::env::var_os("LATCHKEY_ENVOY").map(PathBuf::from).filter(|path| path.is_file());
    named.or_else(|| {
        let version = LIB_SH.lines().find_map(|line| line.trim().strip_prefix("ENVOY_VERSION="))?;
        let library = Path::new("../.run").join(format!("envoy-{version}")).join("lib");
        let python = std::fs::read_dir(library).ok()?.next()?.ok()?.path();
        Some(python.join("site-packages/envoy/_bin/envoy")).filter(|path| path.is_file())
    })
}

/// The whole strings of a program: names of symbols, and what it looks up by name.
struct Strings(Vec<u8>);

impl Strings {
    fn of_envoy() -> Option<Self> {
        let program = envoy().and_then(|path| std::fs::read(path).ok());
        if program.is_none() {
            eprintln!("skipped: the pinned Envoy is not on this machine; scripts/envoy.sh installs it");
        }
        program.map(Self)
    }

    fn beginning(&self, with: &str) -> BTreeSet<&str> {
        let strings = self.0.split(|byte| *byte == 0).filter(|string| string.starts_with(with.as_bytes()));
        strings.filter_map(|string| std::str::from_utf8(string).ok()).collect()
    }
}

/// The names in a source that begin so.
fn names<'a>(source: &'a str, with: &str) -> BTreeSet<&'a str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    source.split(|c| !is_part(c)).filter(|word| word.starts_with(with)).collect()
}

#[test]
fn envoy_has_every_callback_that_the_module_calls() {
    let Some(envoy) = Strings::of_envoy() else { return };
    let called = names(CALLBACKS, "envoy_dynamic_module_callback_");
    assert!(called.len() > 20, "{called:?}");
    let there = envoy.beginning("envoy_dynamic_module_callback_");
    let missing: Vec<_> = called.difference(&there).collect();
    assert!(missing.is_empty(), "Envoy has no {missing:?}");
}

#[test]
fn the_module_has_every_hook_that_envoy_looks_for_and_no_other() {
    let Some(envoy) = Strings::of_envoy() else { return };
    let is_hook = |name: &&str| !name.contains(' ');
    let mut wanted: BTreeSet<_> =
        envoy.beginning("envoy_dynamic_module_on_http_filter_").into_iter().filter(is_hook).collect();
    wanted.insert("envoy_dynamic_module_on_program_init");
    // Streams of a configuration, which are looked for only when one is begun.
    wanted.retain(|name| !name.starts_with("envoy_dynamic_module_on_http_filter_config_http_stream_"));
    assert!(wanted.len() > 20, "{wanted:?}");
    assert_eq!(names(HOOKS, "envoy_dynamic_module_on_"), wanted);
}

#[test]
fn the_module_says_the_version_of_the_abi_that_envoy_has() {
    let Some(envoy) = Strings::of_envoy() else { return };
    assert!(CALLBACKS.contains(r#"c"v0.2.0""#) && envoy.beginning("v0.2.0").contains("v0.2.0"));
}
