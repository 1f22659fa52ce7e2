//! What Envoy calls: the callbacks of the ABI that a decision needs, each by the name that `exports.txt` lists.
//!
//! Numbers come as the ABI passes them: a context's identifier first, flags as 0 or 1.

#![allow(unsafe_code, reason = "functions that the host calls have to keep their names")]

use super::callout::Ended;
use super::contexts::Contexts;
use super::http::Action;
use super::{host, logger};

unsafe extern "C" {
    /// Runs what has to run before anything else of the module. Whoever does not call it once has it run at each callback.
    fn __wasm_call_ctors();
}

#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    // SAFETY: the linker makes it, and it is called once, before any other code of this module.
    unsafe { __wasm_call_ctors() };
    logger::start();
}

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    host::allocate(size)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(_: u32, _: usize) -> u32 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(context: u32, root: u32) {
    Contexts::of_this_vm(|contexts| contexts.created(context, root));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(root: u32, size: usize) -> u32 {
    Contexts::of_this_vm(|contexts| contexts.configure(root, size)).into()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(root: u32) {
    if let Some(edge) = Contexts::of_this_vm(|contexts| contexts.edge(root)) {
        edge.tick();
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(root: u32, call: u32, headers: usize, body_size: usize, _: usize) {
    if let Some(edge) = Contexts::of_this_vm(|contexts| contexts.edge(root)) {
        edge.callout_ended(Ended { call, has_headers: headers > 0, body_size });
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_queue_ready(root: u32, queue: u32) {
    if let Some(edge) = Contexts::of_this_vm(|contexts| contexts.edge(root)) {
        edge.woken(queue);
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(stream: u32, _: usize, end_of_stream: u32) -> Action {
    Contexts::of_this_vm(|contexts| contexts.request_headers(stream, end_of_stream != 0))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(stream: u32, _: usize, _: u32) -> Action {
    Contexts::of_this_vm(|contexts| contexts.request_body(stream))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(stream: u32, _: usize) -> Action {
    Contexts::of_this_vm(|contexts| contexts.request_trailers(stream))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(stream: u32, _: usize, _: u32) -> Action {
    Contexts::of_this_vm(|contexts| contexts.response_headers(stream));
    Action::Continue
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(context: u32) {
    Contexts::of_this_vm(|contexts| contexts.deleted(context));
}
