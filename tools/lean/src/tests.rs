use std::collections::BTreeSet;

use walrus::{FunctionBuilder, Module, ModuleConfig, ValType};

use super::{Error, exports, lean, listed};

/// A mangled name, as the compiler gives them.
const MANGLED: &str = "_ZN8latchkey5shell4http6Stream6decide17h0b9b141b607ad7d3E";

/// A module with one callback for each of `callbacks`, which calls the host's function of that name by a helper.
fn module(callbacks: &[&str]) -> Vec<u8> {
    let mut module = Module::with_config(ModuleConfig::new());
    let nothing = module.types.add(&[], &[]);
    for name in callbacks {
        let (host, _) = module.add_import_func("env", &format!("host_{name}"), nothing);
        let mut helper = FunctionBuilder::new(&mut module.types, &[], &[]);
        helper.name(MANGLED.to_owned()).func_body().call(host);
        let helper = helper.finish(vec![], &mut module.funcs);
        let mut callback = FunctionBuilder::new(&mut module.types, &[ValType::I32], &[]);
        callback.name((*name).to_owned()).func_body().call(helper);
        let context = module.locals.add(ValType::I32);
        let callback = callback.finish(vec![context], &mut module.funcs);
        module.exports.add(name, callback);
    }
    module.emit_wasm()
}

fn set<'a>(names: &[&'a str]) -> BTreeSet<&'a str> {
    names.iter().copied().collect()
}

#[test]
fn what_the_list_does_not_name_is_gone_and_so_is_what_it_alone_reached() {
    let before = module(&["on_request", "on_log", "on_data"]);
    let after = lean(&before, &set(&["on_request"])).expect("a lean module");
    assert_eq!(exports(&after).expect("a module"), BTreeSet::from(["on_request".to_owned()]));
    let after_parsed = Module::from_buffer(&after).expect("a module");
    let imports: Vec<_> = after_parsed.imports.iter().map(|import| import.name.as_str()).collect();
    assert_eq!(imports, ["host_on_request"]);
    assert_eq!(after_parsed.funcs.iter_local().count(), 2);
    assert!(after.len() < before.len());
}

#[test]
fn functions_keep_their_names_in_the_words_of_the_source() {
    let after = lean(&module(&["on_request"]), &set(&["on_request"])).expect("a lean module");
    let after = Module::from_buffer(&after).expect("a module");
    let names: BTreeSet<_> =
        after.funcs.iter_local().filter_map(|(id, _)| after.funcs.get(id).name.clone()).collect();
    assert_eq!(
        names,
        BTreeSet::from(["latchkey::shell::http::Stream::decide".to_owned(), "on_request".to_owned()])
    );
}

#[test]
fn an_export_that_is_missing_is_told_by_name() {
    let error =
        lean(&module(&["on_request"]), &set(&["on_delete", "on_request", "on_tick"])).expect_err("no module");
    assert!(matches!(&error, Error::Missing(names) if names == &["on_delete", "on_tick"]));
    assert_eq!(
        error.to_string(),
        "the module does not export on_delete, on_tick: build it so that it does, or take it off the list"
    );
}

#[test]
fn what_is_no_module_is_told() {
    let error = lean(b"#!/bin/sh", &BTreeSet::new()).expect_err("no module");
    assert!(error.to_string().starts_with("this is no WebAssembly module: "), "{error}");
}

#[test]
fn a_list_has_one_name_a_line_and_comments() {
    let list = "# What is kept.\n\non_request # each request\n  on_delete\n#on_log\n";
    assert_eq!(listed(list), set(&["on_delete", "on_request"]));
}
