//! Envoy's dynamic-module ABI, version 0.2.0, as far as it is used here: written from the documentation of its header, whose names
//! it keeps. A released function never changes there; a new one gets another name.

#![allow(unsafe_code, reason = "the callbacks are foreign; nothing outside host.rs calls them")]

use std::ffi::{c_char, c_void};

/// The version that [`hooks`](crate::hooks) tells Envoy; another one makes it warn.
pub const VERSION: &std::ffi::CStr = c"v0.2.0";

/// Bytes of Envoy's or of this module's: `envoy_buffer` and `module_buffer`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Buffer {
    pub data: *const c_char,
    pub length: usize,
}

/// A header: `envoy_http_header` and `module_http_header`, which are four words in this order.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Header {
    pub name: Buffer,
    pub value: Buffer,
}

/// A filter configuration as Envoy knows it.
pub type ConfigPtr = *mut c_void;
/// A stream's filter as Envoy knows it.
pub type StreamPtr = *mut c_void;
/// What wakes a configuration on the main thread, or a stream's filter on its worker thread.
pub type SchedulerPtr = *mut c_void;

/// `http_header_type`.
pub mod header_map {
    pub const REQUEST_HEADERS: u32 = 0;
    pub const REQUEST_TRAILERS: u32 = 1;
    pub const RESPONSE_HEADERS: u32 = 2;
}

/// `on_http_filter_{request,response}_headers_status`.
pub mod headers_status {
    pub const CONTINUE: u32 = 0;
    pub const STOP_ITERATION: u32 = 1;
    pub const STOP_ALL_ITERATION_AND_WATERMARK: u32 = 4;
}

/// `on_http_filter_{request,response}_body_status`.
pub mod body_status {
    pub const CONTINUE: u32 = 0;
    pub const STOP_ITERATION_AND_WATERMARK: u32 = 2;
}

/// `on_http_filter_{request,response}_trailers_status`.
pub mod trailers_status {
    pub const CONTINUE: u32 = 0;
    pub const STOP_ITERATION: u32 = 1;
}

/// `on_http_filter_local_reply_status`.
pub mod local_reply_status {
    pub const CONTINUE: u32 = 0;
}

/// `log_level`.
pub mod log_level {
    pub const INFO: u32 = 2;
    pub const WARN: u32 = 3;
    pub const ERROR: u32 = 4;
}

/// `http_callout_init_result`: that a callout was sent. All others say that it was not.
pub const CALLOUT_SENT: u32 = 0;
/// `http_callout_result`: that there is a response. All others say that there is none.
pub const CALLOUT_ANSWERED: u32 = 0;
/// `metrics_result`: all is well.
pub const METRICS_SUCCESS: u32 = 0;
/// `attribute_id`: `source.address`.
pub const SOURCE_ADDRESS: u32 = 24;

unsafe extern "C" {
    pub fn envoy_dynamic_module_callback_log(level: u32, message: Buffer);

    pub fn envoy_dynamic_module_callback_http_filter_config_define_counter(
        config: ConfigPtr,
        name: Buffer,
        label_names: *mut Buffer,
        label_names_length: usize,
        id: *mut usize,
    ) -> u32;
    pub fn envoy_dynamic_module_callback_http_filter_config_define_gauge(
        config: ConfigPtr,
        name: Buffer,
        label_names: *mut Buffer,
        label_names_length: usize,
        id: *mut usize,
    ) -> u32;
    pub fn envoy_dynamic_module_callback_http_filter_config_define_histogram(
        config: ConfigPtr,
        name: Buffer,
        label_names: *mut Buffer,
        label_names_length: usize,
        id: *mut usize,
    ) -> u32;
    pub fn envoy_dynamic_module_callback_http_filter_config_increment_counter(
        config: ConfigPtr,
        id: usize,
        label_values: *mut Buffer,
        label_values_length: usize,
        value: u64,
    ) -> u32;
    pub fn envoy_dynamic_module_callback_http_filter_config_increment_gauge(
        config: ConfigPtr,
        id: usize,
        label_values: *mut Buffer,
        label_values_length: usize,
        value: u64,
    ) -> u32;
    pub fn envoy_dynamic_module_callback_http_filter_config_decrement_gauge(
        config: ConfigPtr,
        id: usize,
        label_values: *mut Buffer,
        label_values_length: usize,
        value: u64,
    ) -> u32;
    pub fn envoy_dynamic_module_callback_http_filter_config_record_histogram_value(
        config: ConfigPtr,
        id: usize,
        label_values: *mut Buffer,
        label_values_length: usize,
        value: u64,
    ) -> u32;

    pub fn envoy_dynamic_module_callback_http_get_headers_size(stream: StreamPtr, map: u32) -> usize;
    pub fn envoy_dynamic_module_callback_http_get_headers(
        stream: StreamPtr,
        map: u32,
        headers: *mut Header,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_add_header(
        stream: StreamPtr,
        map: u32,
        name: Buffer,
        value: Buffer,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_set_header(
        stream: StreamPtr,
        map: u32,
        name: Buffer,
        value: Buffer,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_send_response(
        stream: StreamPtr,
        status: u32,
        headers: *mut Header,
        headers_length: usize,
        body: Buffer,
        details: Buffer,
    );
    pub fn envoy_dynamic_module_callback_http_set_filter_state_bytes(
        stream: StreamPtr,
        key: Buffer,
        value: Buffer,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_filter_get_attribute_string(
        stream: StreamPtr,
        attribute: u32,
        value: *mut Buffer,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_filter_continue_decoding(stream: StreamPtr);

    pub fn envoy_dynamic_module_callback_http_filter_config_http_callout(
        config: ConfigPtr,
        callout_id: *mut u64,
        cluster: Buffer,
        headers: *mut Header,
        headers_length: usize,
        body: Buffer,
        timeout_milliseconds: u64,
    ) -> u32;

    pub fn envoy_dynamic_module_callback_http_filter_scheduler_new(stream: StreamPtr) -> SchedulerPtr;
    pub fn envoy_dynamic_module_callback_http_filter_scheduler_commit(scheduler: SchedulerPtr, event: u64);
    pub fn envoy_dynamic_module_callback_http_filter_scheduler_delete(scheduler: SchedulerPtr);
    pub fn envoy_dynamic_module_callback_http_filter_config_scheduler_new(config: ConfigPtr) -> SchedulerPtr;
    pub fn envoy_dynamic_module_callback_http_filter_config_scheduler_commit(
        scheduler: SchedulerPtr,
        event: u64,
    );
    pub fn envoy_dynamic_module_callback_http_filter_config_scheduler_delete(scheduler: SchedulerPtr);
}
