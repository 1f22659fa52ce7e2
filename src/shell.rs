//! The only code that knows proxy-wasm: it turns Envoy's callbacks into calls of the pure modules, and their decisions
//! into host calls. Nothing here decides.

use proxy_wasm::types::LogLevel;

mod callout;
mod edge;
mod host;
mod http;
mod metrics;
mod root;
mod shared;

#[allow(unsafe_code, reason = "the entry point, as the SDK's macro writes it")]
mod entry {
    proxy_wasm::main! {{
        super::start();
    }}
}

fn start() {
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|id| Box::new(root::Root::new(id)));
}
