//! The wasm shell: proxy-wasm's contexts and host calls, mapped to the [engine](crate::engine) and nothing else. It stands on the
//! `proxy-wasm` crate; what that has not is in `foreign.rs`.

#[cfg(target_arch = "wasm32")]
mod foreign;
#[cfg(target_arch = "wasm32")]
mod host;
mod pairs;
mod protobuf_struct;
#[cfg(target_arch = "wasm32")]
mod root;
#[cfg(target_arch = "wasm32")]
mod start;
#[cfg(target_arch = "wasm32")]
mod stream;
#[cfg(target_arch = "wasm32")]
mod vm_state;
