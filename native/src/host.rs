//! Envoy's callbacks, made safe: whose memory is whose, and for how long.

#![allow(unsafe_code, reason = "the callbacks are foreign; what they need is held here by types")]

use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::ptr;
use std::slice;

use latchkey::engine::{Dispatch, Kind, Level, LocalReply};

use crate::abi::{self, Buffer, Header};

/// How many headers a request may have before room for them is made on the heap.
const FEW_HEADERS: usize = 48;

impl Buffer {
    const NULL: Self = Self { data: ptr::null(), length: 0 };

    fn of(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr().cast(), length: bytes.len() }
    }

    /// What it holds.
    ///
    /// # Safety
    /// The bytes are there for `'a`, and nobody changes them meanwhile.
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.data.is_null() || self.length == 0 {
            return &[];
        }
        // SAFETY: the caller says so.
        unsafe { slice::from_raw_parts(self.data.cast(), self.length) }
    }
}

impl Header {
    fn of(name: &str, value: &str) -> Self {
        Self { name: Buffer::of(name.as_bytes()), value: Buffer::of(value.as_bytes()) }
    }

    /// Name and value.
    ///
    /// # Safety
    /// As [`Buffer::bytes`].
    pub unsafe fn pair<'a>(self) -> (&'a [u8], &'a [u8]) {
        // SAFETY: the caller says so.
        unsafe { (self.name.bytes(), self.value.bytes()) }
    }
}

/// Which headers.
#[derive(Clone, Copy)]
pub enum Map {
    RequestHeaders,
    RequestTrailers,
}

impl Map {
    fn number(self) -> u32 {
        match self {
            Self::RequestHeaders => abi::header_map::REQUEST_HEADERS,
            Self::RequestTrailers => abi::header_map::REQUEST_TRAILERS,
        }
    }
}

/// A stream, during one of its hooks.
pub struct StreamHost(abi::StreamPtr);

impl StreamHost {
    /// The stream that Envoy knows by this pointer.
    ///
    /// # Safety
    /// The pointer is that of a hook which has not returned when this is used last.
    pub unsafe fn new(stream: abi::StreamPtr) -> Self {
        Self(stream)
    }

    /// Reads headers where they are. `None`: there are none to read. What is read cannot outlive `read`, and no header can be changed
    /// meanwhile, as that takes `&mut self`.
    pub fn headers<R>(&self, map: Map, read: impl FnOnce(Pairs<'_>) -> R) -> Option<R> {
        let map = map.number();
        // SAFETY: the stream is there, by `StreamHost::new`.
        let count = unsafe { abi::envoy_dynamic_module_callback_http_get_headers_size(self.0, map) };
        let mut few = [const { MaybeUninit::<Header>::uninit() }; FEW_HEADERS];
        let mut many = Vec::new();
        let room: &mut [MaybeUninit<Header>] = if count <= FEW_HEADERS {
            &mut few
        } else {
            many.resize_with(count, MaybeUninit::uninit);
            &mut many
        };
        let room = room.as_mut_ptr().cast::<Header>();
        // SAFETY: there is room for as many headers as there are.
        if !unsafe { abi::envoy_dynamic_module_callback_http_get_headers(self.0, map, room) } {
            return None;
        }
        // SAFETY: Envoy has filled as many as it said there are.
        Some(read(Pairs(unsafe { slice::from_raw_parts(room, count) }.iter())))
    }

    /// Removes every header of this name.
    pub fn remove_header(&mut self, map: Map, name: &[u8]) -> bool {
        // SAFETY: the stream is there, and so are the bytes during the call; no value: what is there goes.
        unsafe {
            abi::envoy_dynamic_module_callback_http_set_header(
                self.0,
                map.number(),
                Buffer::of(name),
                Buffer::NULL,
            )
        }
    }

    /// Adds a request header, whose value is not empty.
    pub fn add_request_header(&mut self, name: &str, value: &str) -> bool {
        let map = abi::header_map::REQUEST_HEADERS;
        let Header { name, value } = Header::of(name, value);
        // SAFETY: the stream is there, and so are the bytes during the call.
        unsafe { abi::envoy_dynamic_module_callback_http_add_header(self.0, map, name, value) }
    }

    /// Sets a response header in the place of any that the upstream has sent by this name.
    pub fn set_response_header(&mut self, name: &str, value: &str) -> bool {
        let map = abi::header_map::RESPONSE_HEADERS;
        let Header { name, value } = Header::of(name, value);
        // SAFETY: the stream is there, and so are the bytes during the call.
        unsafe { abi::envoy_dynamic_module_callback_http_set_header(self.0, map, name, value) }
    }

    /// Sets a value of the stream's filter state.
    pub fn set_filter_state(&mut self, key: &str, value: &str) -> bool {
        let Header { name, value } = Header::of(key, value);
        // SAFETY: the stream is there, and so are the bytes during the call.
        unsafe { abi::envoy_dynamic_module_callback_http_set_filter_state_bytes(self.0, name, value) }
    }

    /// Where the stream comes from, as Envoy sees it.
    pub fn client_address(&self) -> Option<SocketAddr> {
        let mut address = Buffer::NULL;
        // SAFETY: the stream is there, and Envoy writes one buffer.
        let known = unsafe {
            abi::envoy_dynamic_module_callback_http_filter_get_attribute_string(
                self.0,
                abi::SOURCE_ADDRESS,
                &raw mut address,
            )
        };
        // SAFETY: the address is there until the hook returns.
        let address = known.then(|| unsafe { address.bytes() })?;
        std::str::from_utf8(address).ok()?.parse().ok()
    }

    /// Makes a local reply. The stream may be gone afterwards, hence `self`.
    pub fn reply(self, reply: &LocalReply, grpc_status: Option<u8>) {
        // Envoy makes trailers of a local reply to gRPC, which say that all is well if they are not told.
        let grpc_status = grpc_status.map(|status| status.to_string());
        let headers = reply.headers.iter().map(|(name, value)| Header::of(name, value));
        let grpc = grpc_status.iter().map(|status| Header::of("grpc-status", status));
        let mut headers: Vec<Header> = headers.chain(grpc).collect();
        // SAFETY: the stream is there, and so are all bytes during the call.
        unsafe {
            abi::envoy_dynamic_module_callback_http_send_response(
                self.0,
                u32::from(reply.status()),
                headers.as_mut_ptr(),
                headers.len(),
                Buffer::of(reply.body.as_bytes()),
                Buffer::of(reply.details().as_bytes()),
            );
        }
    }

    /// Lets a request go on that was held. The stream may be gone afterwards, hence `self`.
    pub fn continue_request(self) {
        // SAFETY: the stream is there.
        unsafe { abi::envoy_dynamic_module_callback_http_filter_continue_decoding(self.0) };
    }

    /// What wakes the stream.
    pub fn scheduler(&self) -> StreamScheduler {
        // SAFETY: the stream is there.
        StreamScheduler(unsafe { abi::envoy_dynamic_module_callback_http_filter_scheduler_new(self.0) })
    }
}

/// Headers as Envoy has them: names and values.
pub struct Pairs<'a>(slice::Iter<'a, Header>);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: the bytes are there for 'a: until the hook ends or a header is changed, which is not before `headers` returns.
        self.0.next().map(|header| unsafe { header.pair() })
    }
}

/// Wakes a stream, from any thread; where the stream is gone, nothing happens.
pub struct StreamScheduler(abi::SchedulerPtr);

// SAFETY: the ABI says that events may be committed from any thread.
unsafe impl Send for StreamScheduler {}
// SAFETY: the same.
unsafe impl Sync for StreamScheduler {}

impl StreamScheduler {
    /// Has Envoy call the stream's `scheduled` hook on its worker thread.
    pub fn wake(&self) {
        // SAFETY: the scheduler is there until it is dropped.
        unsafe { abi::envoy_dynamic_module_callback_http_filter_scheduler_commit(self.0, 0) };
    }
}

impl Drop for StreamScheduler {
    fn drop(&mut self) {
        // SAFETY: it is deleted once, here.
        unsafe { abi::envoy_dynamic_module_callback_http_filter_scheduler_delete(self.0) };
    }
}

/// A configuration, during one of its hooks on the main thread.
pub struct ConfigHost(abi::ConfigPtr);

impl ConfigHost {
    /// The configuration that Envoy knows by this pointer.
    ///
    /// # Safety
    /// The pointer is that of a hook which has not returned when this is used last.
    pub unsafe fn new(config: abi::ConfigPtr) -> Self {
        Self(config)
    }

    /// What wakes the configuration.
    pub fn scheduler(&self) -> ConfigScheduler {
        // SAFETY: the configuration is there.
        ConfigScheduler(unsafe {
            abi::envoy_dynamic_module_callback_http_filter_config_scheduler_new(self.0)
        })
    }

    /// Sends a callout. `None`: it was not sent. Otherwise Envoy tells its end by this number, perhaps before this returns.
    pub fn send(&self, dispatch: &Dispatch) -> Option<u64> {
        let Dispatch { cluster, headers, body, timeout, .. } = dispatch;
        let mut headers: Vec<Header> = headers.iter().map(|(name, value)| Header::of(name, value)).collect();
        let mut id = 0;
        // SAFETY: the configuration is there, and so are all bytes during the call; Envoy writes one number.
        let result = unsafe {
            abi::envoy_dynamic_module_callback_http_filter_config_http_callout(
                self.0,
                &raw mut id,
                Buffer::of(cluster.as_bytes()),
                headers.as_mut_ptr(),
                headers.len(),
                Buffer::of(body),
                u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            )
        };
        (result == abi::CALLOUT_SENT).then_some(id)
    }

    /// Defines a metric, with a label or without, while the configuration is made.
    pub fn define_metric(&self, kind: Kind, name: &str, label: Option<&str>) -> Option<usize> {
        let define = match kind {
            Kind::Counter => abi::envoy_dynamic_module_callback_http_filter_config_define_counter,
            Kind::Gauge => abi::envoy_dynamic_module_callback_http_filter_config_define_gauge,
            Kind::Histogram => abi::envoy_dynamic_module_callback_http_filter_config_define_histogram,
        };
        let mut labels = label.map(|label| Buffer::of(label.as_bytes()));
        let labels = labels.as_mut_slice();
        let name = Buffer::of(name.as_bytes());
        let mut id = 0;
        // SAFETY: the configuration is there, and so are all bytes during the call; Envoy writes one number.
        let result = unsafe { define(self.0, name, labels.as_mut_ptr(), labels.len(), &raw mut id) };
        (result == abi::METRICS_SUCCESS).then_some(id)
    }

    /// Changes a metric by a difference, or adds a value to a histogram.
    pub fn change_metric(&self, kind: Kind, id: usize, label: Option<&str>, difference: i64) {
        let change = match kind {
            Kind::Counter => abi::envoy_dynamic_module_callback_http_filter_config_increment_counter,
            Kind::Gauge if difference < 0 => {
                abi::envoy_dynamic_module_callback_http_filter_config_decrement_gauge
            }
            Kind::Gauge => abi::envoy_dynamic_module_callback_http_filter_config_increment_gauge,
            Kind::Histogram => abi::envoy_dynamic_module_callback_http_filter_config_record_histogram_value,
        };
        let mut labels = label.map(|label| Buffer::of(label.as_bytes()));
        let labels = labels.as_mut_slice();
        // SAFETY: the configuration is there, and so are all bytes during the call.
        unsafe { change(self.0, id, labels.as_mut_ptr(), labels.len(), difference.unsigned_abs()) };
    }
}

/// Wakes a configuration, from any thread; where it is gone, nothing happens.
pub struct ConfigScheduler(abi::SchedulerPtr);

// SAFETY: the ABI says that events may be committed from any thread.
unsafe impl Send for ConfigScheduler {}
// SAFETY: the same.
unsafe impl Sync for ConfigScheduler {}

impl ConfigScheduler {
    /// Has Envoy call the configuration's `scheduled` hook on the main thread.
    pub fn wake(&self, event: u64) {
        // SAFETY: the scheduler is there until it is dropped.
        unsafe { abi::envoy_dynamic_module_callback_http_filter_config_scheduler_commit(self.0, event) };
    }
}

impl Drop for ConfigScheduler {
    fn drop(&mut self) {
        // SAFETY: it is deleted once, here.
        unsafe { abi::envoy_dynamic_module_callback_http_filter_config_scheduler_delete(self.0) };
    }
}

/// Writes a line to Envoy's log.
pub fn log(level: Level, line: &str) {
    let level = match level {
        Level::Info => abi::log_level::INFO,
        Level::Warn => abi::log_level::WARN,
        Level::Error => abi::log_level::ERROR,
    };
    // SAFETY: the bytes are there during the call.
    unsafe { abi::envoy_dynamic_module_callback_log(level, Buffer::of(line.as_bytes())) };
}
