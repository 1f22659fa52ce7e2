//! Where a VM starts.

#![allow(unsafe_code, missing_docs, reason = "the macro's function is called by the host, by its name")]

use proxy_wasm::types::LogLevel;

use super::root::Root;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|context| Box::new(Root::new(context)));
}}
