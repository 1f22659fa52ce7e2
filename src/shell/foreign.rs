//! The host functions that the `proxy-wasm` crate does not offer as they are needed here, each with the reason.

#![allow(unsafe_code, reason = "the host's functions are foreign; nothing outside this module calls them")]

use std::ptr;

use proxy_wasm::types::{Bytes, MapType, Status};

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_get_header_map_pairs(map: MapType, data: *mut *mut u8, size: *mut usize) -> u32;
}

unsafe extern "C" {
    /// The crate's own callback.
    fn proxy_on_queue_ready(root: u32, queue: u32);
}

/// Makes a local reply to the current stream's request. The crate's `send_http_response` leaves out the response code details, by
/// which access logs tell denials apart, and panics on a status other than success. `headers` are serialised.
pub fn send_local_reply(status: u16, details: &str, headers: &[u8], body: &str) -> bool {
    // SAFETY: all buffers live for the whole call, and the host only reads them. -1: no gRPC status of our own.
    let status = unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            -1,
        )
    };
    status == Status::Ok as u32
}

/// A header map in the host's encoding, to be read in place. The crate's `get_map_bytes` makes a `String` and a `Vec` of each pair,
/// which costs a request more than the whole decision, and panics on a name that is no UTF-8. `None`: the host gave none.
pub fn header_map(map: MapType) -> Option<Bytes> {
    let (mut data, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the host writes one pointer and one number.
    let status = unsafe { proxy_get_header_map_pairs(map, &raw mut data, &raw mut size) };
    if status != Status::Ok as u32 {
        return None;
    }
    if data.is_null() {
        return Some(Vec::new());
    }
    // SAFETY: the host got `data` from the crate's `proxy_on_memory_allocate`, which forgets a boxed slice of exactly this size, and
    // has filled it; it is ours now.
    Some(unsafe { Vec::from_raw_parts(data, size, size) })
}

/// Enters a root context from the hook of one of its streams, as if `queue` were ready. The crate delivers the end of a callout to the
/// context whose hook is running when it is sent, and drops it when that is gone; so callouts have to be sent from here.
pub fn enter_root(root: u32, queue: u32) {
    // SAFETY: the crate's callback takes two numbers. It borrows the root contexts, which no hook of a stream does.
    unsafe { proxy_on_queue_ready(root, queue) };
}
