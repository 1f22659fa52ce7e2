//! What Envoy calls: each hook that it looks for in a module with an HTTP filter, behind the [guard](crate::guard). Ten are empty, as
//! callouts go out from the configuration, and whole.

#![allow(
    unsafe_code,
    reason = "Envoy calls these by their names, with pointers that are its or that it got here"
)]

use std::ffi::{c_char, c_void};
use std::ptr;
use std::rc::Rc;
use std::slice;
use std::sync::Arc;

use latchkey::engine::Level;

use crate::abi::{self, Buffer, ConfigPtr, Header, StreamPtr, body_status, headers_status, trailers_status};
use crate::configuration::{Configuration, Response};
use crate::guard::{hook, stream_hook};
use crate::host::{self, ConfigHost, StreamHost};
use crate::stream::Stream;

/// A configuration, held during a hook, whoever lets go of it meanwhile.
///
/// # Safety
/// The pointer is what `config_new` has returned, and `config_destroy` has not come yet.
unsafe fn configuration(pointer: *const Configuration) -> Arc<Configuration> {
    // SAFETY: it came from `Arc::into_raw`, and the share that `config_destroy` will drop is still there.
    unsafe {
        Arc::increment_strong_count(pointer);
        Arc::from_raw(pointer)
    }
}

/// A stream, held during a hook: Envoy may destroy it from within a callback.
///
/// # Safety
/// The pointer is what `filter_new` has returned, and `filter_destroy` has not come yet; all hooks of a stream come on one thread.
unsafe fn stream(pointer: *const Stream) -> Rc<Stream> {
    // SAFETY: it came from `Rc::into_raw`, and the share that `filter_destroy` will drop is still there.
    unsafe {
        Rc::increment_strong_count(pointer);
        Rc::from_raw(pointer)
    }
}

/// A hook of a stream, for what Envoy is told where it has passed, where it has not, and where the hook has panicked.
///
/// # Safety
/// The pointers are those of a hook of the stream.
unsafe fn of_stream(
    name: &str,
    envoy: StreamPtr,
    module: *const Stream,
    [passed, stopped, panicked]: [u32; 3],
    run: impl FnOnce(&Stream, StreamHost),
) -> u32 {
    // SAFETY: the caller says so.
    let stream = unsafe { stream(module) };
    stream_hook(
        name,
        &stream,
        // SAFETY: the hook has not returned.
        || unsafe { StreamHost::new(envoy) },
        panicked,
        |host| {
            run(&stream, host);
            if stream.has_passed() { passed } else { stopped }
        },
    )
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_program_init() -> *const c_char {
    abi::VERSION.as_ptr()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
    envoy: ConfigPtr,
    _name: Buffer,
    config: Buffer,
) -> *const Configuration {
    hook(
        "config_new",
        || {
            // SAFETY: both are there until the hook returns.
            let (host, json) = unsafe { (ConfigHost::new(envoy), config.bytes()) };
            Configuration::new(&host, json).map_or_else(ptr::null, |made| Arc::into_raw(Arc::new(made)))
        },
        ptr::null,
    )
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(module: *const Configuration) {
    // SAFETY: this is the share that `config_new` gave to Envoy; it is dropped once, here.
    hook("config_destroy", || unsafe { Arc::from_raw(module) }.detach(), || ());
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_scheduled(
    envoy: ConfigPtr,
    module: *const Configuration,
    event: u64,
) {
    // SAFETY: these are the pointers of a hook of the configuration.
    let (configuration, host) = unsafe { (configuration(module), ConfigHost::new(envoy)) };
    hook("config_scheduled", || configuration.on_event(&host, event), || configuration.on_panic());
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_http_callout_done(
    envoy: ConfigPtr,
    module: *const Configuration,
    callout: u64,
    result: u32,
    headers: *const Header,
    headers_length: usize,
    chunks: *const Buffer,
    chunks_length: usize,
) {
    hook(
        "config_http_callout_done",
        || {
            // SAFETY: these are the pointers of a hook of the configuration.
            let (configuration, host) = unsafe { (configuration(module), ConfigHost::new(envoy)) };
            if result != abi::CALLOUT_ANSWERED {
                return configuration.on_callout(&host, callout, None);
            }
            // SAFETY: headers and body are there, as many as it says, until the hook returns.
            let response = unsafe {
                let headers = list(headers, headers_length).iter().map(|header| header.pair());
                let chunks = list(chunks, chunks_length).iter().map(|chunk| chunk.bytes());
                Response { headers: headers.collect(), chunks: chunks.collect() }
            };
            configuration.on_callout(&host, callout, Some(&response));
        },
        || (),
    );
}

/// A list of Envoy's.
///
/// # Safety
/// There are so many, for `'a`; or the pointer is null.
unsafe fn list<'a, T>(first: *const T, length: usize) -> &'a [T] {
    if first.is_null() {
        return &[];
    }
    // SAFETY: the caller says so.
    unsafe { slice::from_raw_parts(first, length) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_per_route_config_new(
    _name: Buffer,
    _config: Buffer,
) -> *const c_void {
    hook(
        "per_route_config_new",
        || {
            let line = "latchkey: a route has no configuration of its own: use rules, or `disabled`";
            host::log(Level::Error, line);
            ptr::null()
        },
        ptr::null,
    )
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_per_route_config_destroy(_module: *const c_void) {}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_new(
    module: *const Configuration,
    _envoy: StreamPtr,
) -> *const Stream {
    // SAFETY: the configuration outlives its streams.
    hook("new", || Rc::into_raw(Rc::new(Stream::new(unsafe { configuration(module) }))), ptr::null)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_destroy(module: *const Stream) {
    // SAFETY: this is the share that `filter_new` gave to Envoy; it is dropped once, here.
    hook("destroy", || drop(unsafe { Rc::from_raw(module) }), || ());
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(
    envoy: StreamPtr,
    module: *const Stream,
    _end_of_stream: bool,
) -> u32 {
    // What comes after the headers is Envoy's to hold, as far as its buffers go, while the request waits.
    let stopped = headers_status::STOP_ALL_ITERATION_AND_WATERMARK;
    let statuses = [headers_status::CONTINUE, stopped, stopped];
    // SAFETY: these are the pointers of a hook of the stream.
    unsafe { of_stream("request_headers", envoy, module, statuses, Stream::on_request_headers) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_request_body(
    envoy: StreamPtr,
    module: *const Stream,
    _end_of_stream: bool,
) -> u32 {
    let stopped = body_status::STOP_ITERATION_AND_WATERMARK;
    let statuses = [body_status::CONTINUE, stopped, stopped];
    // SAFETY: these are the pointers of a hook of the stream.
    unsafe { of_stream("request_body", envoy, module, statuses, |_, _| ()) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_request_trailers(
    envoy: StreamPtr,
    module: *const Stream,
) -> u32 {
    let stopped = trailers_status::STOP_ITERATION;
    let statuses = [trailers_status::CONTINUE, stopped, stopped];
    // SAFETY: these are the pointers of a hook of the stream.
    unsafe { of_stream("request_trailers", envoy, module, statuses, Stream::on_request_trailers) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_response_headers(
    envoy: StreamPtr,
    module: *const Stream,
    _end_of_stream: bool,
) -> u32 {
    // A local reply is a response too, and goes on.
    let statuses = [headers_status::CONTINUE, headers_status::CONTINUE, headers_status::STOP_ITERATION];
    // SAFETY: these are the pointers of a hook of the stream.
    unsafe { of_stream("response_headers", envoy, module, statuses, Stream::on_response_headers) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn envoy_dynamic_module_on_http_filter_scheduled(
    envoy: StreamPtr,
    module: *const Stream,
    _event: u64,
) {
    // SAFETY: these are the pointers of a hook of the stream.
    unsafe { of_stream("scheduled", envoy, module, [0; 3], Stream::on_woken) };
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_response_body(
    _envoy: StreamPtr,
    _module: *const Stream,
    _end_of_stream: bool,
) -> u32 {
    body_status::CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_response_trailers(
    _envoy: StreamPtr,
    _module: *const Stream,
) -> u32 {
    trailers_status::CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_local_reply(
    _envoy: StreamPtr,
    _module: *const Stream,
    _status: u32,
    _details: Buffer,
    _reset_imminent: bool,
) -> u32 {
    abi::local_reply_status::CONTINUE
}

/// Hooks that Envoy wants to be there, and that have nothing to do.
macro_rules! empty_hooks {
    ($($name:ident($($argument:ty),*);)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name($(_: $argument),*) {}
        )*
    };
}

empty_hooks! {
    envoy_dynamic_module_on_http_filter_stream_complete(StreamPtr, *const Stream);
    envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(StreamPtr, *const Stream);
    envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(StreamPtr, *const Stream);
    envoy_dynamic_module_on_http_filter_http_callout_done(
        StreamPtr, *const Stream, u64, u32, *const Header, usize, *const Buffer, usize
    );
    envoy_dynamic_module_on_http_filter_http_stream_headers(
        StreamPtr, *const Stream, u64, *const Header, usize, bool
    );
    envoy_dynamic_module_on_http_filter_http_stream_data(
        StreamPtr, *const Stream, u64, *const Buffer, usize, bool
    );
    envoy_dynamic_module_on_http_filter_http_stream_trailers(
        StreamPtr, *const Stream, u64, *const Header, usize
    );
    envoy_dynamic_module_on_http_filter_http_stream_complete(StreamPtr, *const Stream, u64);
    envoy_dynamic_module_on_http_filter_http_stream_reset(StreamPtr, *const Stream, u64, u32);
}
