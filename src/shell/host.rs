//! Every call of the host, each with its result checked: none of these panics, whatever the host answers.

#![allow(unsafe_code, reason = "the host's functions are foreign; nothing outside this module calls them")]

use std::mem::ManuallyDrop;
use std::ptr;
use std::time::{Duration, Instant};

use self::imports::Status;
use crate::headers::serialise_pairs;

mod imports;

/// What a host function returns when it did what it was asked.
const OK: Status = 0;

/// The header maps and buffers of the ABI that the filter touches.
const REQUEST_HEADERS: u32 = 0;
const REQUEST_TRAILERS: u32 = 1;
const RESPONSE_HEADERS: u32 = 2;
const CALLOUT_HEADERS: u32 = 6;
const CALLOUT_BODY: u32 = 4;
const PLUGIN_CONFIGURATION: u32 = 7;
const REQUEST_STREAM: u32 = 0;

thread_local! {
    #[expect(clippy::disallowed_methods, reason = "this is where the filter's clock is")]
    static START: Instant = Instant::now();
}

/// The time since this VM first asked: never goes back, whatever happens to the wall clock.
pub fn now() -> Duration {
    START.with(Instant::elapsed)
}

/// An environment variable of the VM.
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The plugin's configuration, in `on_configure`.
pub fn plugin_configuration(size: usize) -> Vec<u8> {
    buffer(PLUGIN_CONFIGURATION, size).unwrap_or_default()
}

/// The request's header map, as [`crate::headers::Pairs`] reads it; before the request is resumed alone.
pub fn request_headers() -> Option<Vec<u8>> {
    header_map(REQUEST_HEADERS)
}

/// The request's trailers, in their callback.
pub fn request_trailers() -> Option<Vec<u8>> {
    header_map(REQUEST_TRAILERS)
}

/// The headers of a callout's answer, in its callback.
pub fn callout_headers() -> Option<Vec<u8>> {
    header_map(CALLOUT_HEADERS)
}

/// The body of a callout's answer, in its callback.
pub fn callout_body(size: usize) -> Option<Vec<u8>> {
    buffer(CALLOUT_BODY, size)
}

/// Removes every request header of this name.
pub fn remove_request_header(name: &[u8]) -> bool {
    remove(REQUEST_HEADERS, name)
}

/// Removes every request trailer of this name.
pub fn remove_request_trailer(name: &[u8]) -> bool {
    remove(REQUEST_TRAILERS, name)
}

/// Adds a request header. Unlike replacing one, it does not make Envoy look for others of its name.
pub fn add_request_header(name: &str, value: &str) -> bool {
    // SAFETY: both texts live for the whole call, and the host only reads them.
    let status = unsafe {
        imports::proxy_add_header_map_value(
            REQUEST_HEADERS,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    };
    status == OK
}

/// Sets a response header in the place of any that the upstream has sent by this name; in the callback of the response's headers.
pub fn set_response_header(name: &str, value: &str) -> bool {
    // SAFETY: both texts live for the whole call, and the host only reads them.
    let status = unsafe {
        imports::proxy_replace_header_map_value(
            RESPONSE_HEADERS,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    };
    status == OK
}

/// Sets `wasm.<name>` in the stream's filter state.
pub fn set_filter_state(name: &str, value: &str) -> bool {
    // SAFETY: both texts live for the whole call, and the host only reads them.
    let status =
        unsafe { imports::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    status == OK
}

/// One of Envoy's attributes; `path` is NUL-separated.
pub fn property(path: &str) -> Option<Vec<u8>> {
    // SAFETY: the path lives for the whole call; `received` says why the results may be taken.
    received(|data, size| unsafe { imports::proxy_get_property(path.as_ptr(), path.len(), data, size) })
}

/// Answers the request in the upstream's place. `details` are the response code details of the access log.
/// `headers` are serialised.
pub fn send_local_response(status: u16, details: &str, headers: &[u8], body: &str) -> bool {
    // SAFETY: all buffers live for the whole call, and the host only reads them. -1: no gRPC status of our own.
    let status = unsafe {
        imports::proxy_send_local_response(
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
    status == OK
}

/// Lets a paused request go on, once the current callback has returned.
pub fn resume_request() -> bool {
    // SAFETY: no memory is passed.
    unsafe { imports::proxy_continue_stream(REQUEST_STREAM) == OK }
}

/// Makes the calls that follow act on another context of this VM, until the current callback returns. `false`: it is gone,
/// and the calls would act on the current one.
pub fn act_on(context: u32) -> bool {
    // SAFETY: no memory is passed.
    unsafe { imports::proxy_set_effective_context(context) == OK }
}

/// Has the root context tick every `period`; zero: no more.
pub fn set_tick_period(period: Duration) -> bool {
    let period = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
    // SAFETY: no memory is passed.
    unsafe { imports::proxy_set_tick_period_milliseconds(period) == OK }
}

/// Registers a queue that wakes the current root context, under a name that no other VM has.
pub fn register_queue(name: &str) -> Option<u32> {
    let mut queue = 0;
    // SAFETY: the name lives for the whole call, and the host writes one number.
    let status = unsafe { imports::proxy_register_shared_queue(name.as_ptr(), name.len(), &raw mut queue) };
    (status == OK).then_some(queue)
}

/// Has the host call `on_queue_ready` once more.
pub fn enqueue(queue: u32) -> bool {
    let message = [0_u8];
    // SAFETY: the message lives for the whole call, and the host only reads it.
    unsafe { imports::proxy_enqueue_shared_queue(queue, message.as_ptr(), message.len()) == OK }
}

/// Takes one message from a queue.
pub fn dequeue(queue: u32) -> Option<Vec<u8>> {
    // SAFETY: `received` says why the results may be taken.
    received(|data, size| unsafe { imports::proxy_dequeue_shared_queue(queue, data, size) })
}

/// The kinds of metrics of the ABI.
#[derive(Clone, Copy)]
pub enum MetricKind {
    /// Only grows.
    Counter = 0,
    /// Grows and shrinks.
    Gauge = 1,
    /// A distribution.
    Histogram = 2,
}

/// Defines a metric; each definition takes memory in the host, so once per VM.
pub fn define_metric(kind: MetricKind, name: &str) -> Option<u32> {
    let mut id = 0;
    // SAFETY: the name lives for the whole call, and the host writes one number.
    let status = unsafe { imports::proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut id) };
    (status == OK).then_some(id)
}

/// Changes a metric by a difference.
pub fn increment_metric(id: u32, difference: i64) -> bool {
    // SAFETY: no memory is passed.
    unsafe { imports::proxy_increment_metric(id, difference) == OK }
}

/// Adds a value to a histogram.
pub fn record_metric(id: u32, value: u64) -> bool {
    // SAFETY: no memory is passed.
    unsafe { imports::proxy_record_metric(id, value) == OK }
}

/// Sends a callout. It belongs to the root context of the current one, which hears its answer, whatever becomes of the current
/// one. `None`: it could not be sent, and no callback follows.
pub fn dispatch(cluster: &str, headers: &[(&str, &str)], body: &[u8], timeout: Duration) -> Option<u32> {
    let (headers, trailers, mut call) = (serialise_pairs(headers), serialise_pairs(&[]), 0);
    let timeout = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    // SAFETY: all buffers live for the whole call, and the host only reads them; it writes one number.
    let status = unsafe {
        imports::proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            trailers.as_ptr(),
            trailers.len(),
            timeout,
            &raw mut call,
        )
    };
    (status == OK).then_some(call)
}

/// The levels of Envoy's log, as the ABI numbers them.
#[derive(Clone, Copy)]
pub enum LogLevel {
    Info = 2,
    Warn = 3,
    Error = 4,
    Critical = 5,
}

/// Writes a line to Envoy's log.
pub fn log(level: LogLevel, message: &str) {
    // SAFETY: the message lives for the whole call, and the host only reads it. A host that does not take it, does not.
    unsafe { imports::proxy_log(level as u32, message.as_ptr(), message.len()) };
}

/// Memory for what the host hands over; `received` takes it back.
pub fn allocate(size: usize) -> *mut u8 {
    ManuallyDrop::new(Vec::<u8>::with_capacity(size)).as_mut_ptr()
}

fn header_map(map: u32) -> Option<Vec<u8>> {
    // SAFETY: `received` says why the results may be taken.
    received(|data, size| unsafe { imports::proxy_get_header_map_pairs(map, data, size) })
}

fn buffer(buffer: u32, size: usize) -> Option<Vec<u8>> {
    // SAFETY: `received` says why the results may be taken.
    received(|data, got| unsafe { imports::proxy_get_buffer_bytes(buffer, 0, size, data, got) })
}

fn remove(map: u32, name: &[u8]) -> bool {
    // SAFETY: the name lives for the whole call, and the host only reads it.
    unsafe { imports::proxy_remove_header_map_value(map, name.as_ptr(), name.len()) == OK }
}

/// What the host returns in memory that it has this module allocate. `None`: it returned another status than success.
fn received(call: impl FnOnce(*mut *mut u8, *mut usize) -> Status) -> Option<Vec<u8>> {
    let (mut data, mut size) = (ptr::null_mut(), 0);
    if call(&raw mut data, &raw mut size) != OK {
        return None;
    }
    if data.is_null() {
        return Some(Vec::new());
    }
    // SAFETY: the host got `data` from `allocate`, which forgets a `Vec<u8>` of this capacity, and filled `size` bytes of it; it is
    // ours now.
    Some(unsafe { Vec::from_raw_parts(data, size, size) })
}
