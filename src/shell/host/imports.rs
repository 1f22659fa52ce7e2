//! The host's functions (proxy-wasm ABI 0.2.1). Statuses are numbers, of which hosts may have others
//! than we know, and every one is looked at.

/// What a host function returns: 0 for success.
pub(super) type Status = u32;

#[link(wasm_import_module = "env")]
#[allow(unsafe_code, reason = "the host's functions are foreign")]
unsafe extern "C" {
    pub(super) fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        size: usize,
        data: *mut *mut u8,
        data_size: *mut usize,
    ) -> Status;
    pub(super) fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> Status;
    pub(super) fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> Status;
    pub(super) fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> Status;
    pub(super) fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> Status;
    pub(super) fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> Status;
    pub(super) fn proxy_set_property(
        path: *const u8,
        path_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> Status;
    pub(super) fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> Status;
    pub(super) fn proxy_http_call(
        cluster: *const u8,
        cluster_size: usize,
        headers: *const u8,
        headers_size: usize,
        body: *const u8,
        body_size: usize,
        trailers: *const u8,
        trailers_size: usize,
        timeout: u32,
        call: *mut u32,
    ) -> Status;
    pub(super) fn proxy_log(level: u32, message: *const u8, message_size: usize) -> Status;
    pub(super) fn proxy_continue_stream(stream: u32) -> Status;
    pub(super) fn proxy_set_effective_context(context: u32) -> Status;
    pub(super) fn proxy_set_tick_period_milliseconds(period: u32) -> Status;
    pub(super) fn proxy_register_shared_queue(name: *const u8, name_size: usize, queue: *mut u32) -> Status;
    pub(super) fn proxy_enqueue_shared_queue(queue: u32, value: *const u8, value_size: usize) -> Status;
    pub(super) fn proxy_dequeue_shared_queue(queue: u32, data: *mut *mut u8, size: *mut usize) -> Status;
    pub(super) fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> Status;
    pub(super) fn proxy_record_metric(id: u32, value: u64) -> Status;
    pub(super) fn proxy_increment_metric(id: u32, offset: i64) -> Status;
}
