//! Makes a proxy-wasm module lean: it exports what a list names, and holds what that reaches.
//!
//! The SDK exports every callback that there is, and a host calls each that it finds, for each request. The names of functions
//! stay, as Envoy's traces of a trap are made of them, but in the words of the source: these are shorter than the linker's.

use std::collections::BTreeSet;

use walrus::{Module, ModuleConfig, ModuleFunctions};

#[cfg(test)]
mod tests;

/// Why a module was not made lean.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was given is no module, or one that does not validate.
    #[error("this is no WebAssembly module: {0}")]
    NotAModule(String),
    /// The list names what the module does not export.
    #[error("the module does not export {}: build it so that it does, or take it off the list", .0.join(", "))]
    Missing(Vec<String>),
}

/// The exports that a list names: one a line; `#` begins a comment.
#[must_use]
pub fn listed(list: &str) -> BTreeSet<&str> {
    let names = list.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    names.filter(|name| !name.is_empty()).collect()
}

/// The names of what a module exports.
///
/// # Errors
/// [`Error::NotAModule`].
pub fn exports(wasm: &[u8]) -> Result<BTreeSet<String>, Error> {
    Ok(parse(wasm)?.exports.iter().map(|export| export.name.clone()).collect())
}

/// The module with the exports `keep` alone, and without what only the others reached: functions, and imports from the host.
///
/// # Errors
/// It is no module, or lacks an export that is to be kept.
pub fn lean(wasm: &[u8], keep: &BTreeSet<&str>) -> Result<Vec<u8>, Error> {
    let mut module = parse(wasm)?;
    let exported: BTreeSet<_> = module.exports.iter().map(|export| export.name.as_str()).collect();
    let missing: Vec<_> = keep.difference(&exported).map(ToString::to_string).collect();
    if !missing.is_empty() {
        return Err(Error::Missing(missing));
    }
    let unwanted = module.exports.iter().filter(|export| !keep.contains(export.name.as_str()));
    let unwanted: Vec<_> = unwanted.map(walrus::Export::id).collect();
    for export in unwanted {
        module.exports.delete(export);
    }
    walrus::passes::gc::run(&mut module);
    shorten(&mut module.funcs);
    Ok(module.emit_wasm())
}

fn parse(wasm: &[u8]) -> Result<Module, Error> {
    let mut config = ModuleConfig::new();
    config.generate_producers_section(false);
    config.parse(wasm).map_err(|error| Error::NotAModule(format!("{error:#}")))
}

/// Gives functions the names that they have in the source.
fn shorten(functions: &mut ModuleFunctions) {
    for function in functions.iter_mut() {
        if let Some(name) = &mut function.name {
            *name = format!("{:#}", rustc_demangle::demangle(name));
        }
    }
}
