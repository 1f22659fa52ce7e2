//! Host calls by the `proxy-wasm` crate's `hostcalls`, never its `String` getters. Some of these panic where a host returns a status
//! that Envoy gives only for a capability which is withheld; that kills the VM and lets nothing pass (docs/decisions/engine.md).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, Bytes, MapType, MetricType};

use crate::engine::{Definition, Dispatch, Kind, Level};

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
pub fn plugin_configuration(size: usize) -> Bytes {
    hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size).ok().flatten().unwrap_or_default()
}

/// The body of a callout's response, in its callback.
pub fn callout_body(size: usize) -> Option<Bytes> {
    if size == 0 {
        return Some(Bytes::new());
    }
    hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, size).ok().flatten()
}

/// Where the current stream comes from, as Envoy sees it.
pub fn client_address() -> Option<SocketAddr> {
    let address = hostcalls::get_property(vec!["source", "address"]).ok().flatten()?;
    std::str::from_utf8(&address).ok()?.parse().ok()
}

/// Removes every header of this name. `false`: the host did not, or the name is none that it could have.
pub fn remove_header(map: MapType, name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|name| hostcalls::remove_map_value(map, name).is_ok())
}

/// Adds a request header. Unlike replacing one, it does not make Envoy look for others of its name.
pub fn add_request_header(name: &str, value: &str) -> bool {
    hostcalls::add_map_value(MapType::HttpRequestHeaders, name, value).is_ok()
}

/// Sets a response header in the place of any that the upstream has sent by this name; in the callback of the response's headers.
pub fn set_response_header(name: &str, value: &str) -> bool {
    hostcalls::set_map_value(MapType::HttpResponseHeaders, name, Some(value)).is_ok()
}

/// Sets `wasm.<name>` in the current stream's filter state.
pub fn set_filter_state(name: &str, value: &str) -> bool {
    hostcalls::set_property(vec![name], Some(value.as_bytes())).is_ok()
}

/// Lets a paused request go on, once the current callback has returned.
pub fn resume_request() -> bool {
    hostcalls::resume_http_request().is_ok()
}

/// Makes the calls that follow act on another context of this VM, until the current callback returns. `false`: it is gone, and the
/// calls would act on the current one.
pub fn act_on(context: u32) -> bool {
    hostcalls::set_effective_context(context).is_ok()
}

/// Has the current root context tick every `period`.
pub fn set_tick_period(period: Duration) {
    // There is nothing else to do where the host does not; it is no harm to anything that is decided.
    let _ = hostcalls::set_tick_period(period);
}

/// Registers a queue that wakes the current root context, under a name that no other VM has.
pub fn register_queue(name: &str) -> Option<u32> {
    hostcalls::register_shared_queue(name).ok()
}

/// Has the host call `on_queue_ready` once more.
pub fn enqueue(queue: u32) -> bool {
    hostcalls::enqueue_shared_queue(queue, Some(&[0])).is_ok()
}

/// Takes one message from a queue; `false`: there is none.
pub fn dequeue(queue: u32) -> bool {
    hostcalls::dequeue_shared_queue(queue).is_ok_and(|message| message.is_some())
}

/// Sends a callout from the running root context. `None`: it could not be sent, and no callback follows.
pub fn dispatch(dispatch: &Dispatch) -> Option<u32> {
    let headers = dispatch.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let Dispatch { cluster, body, timeout, .. } = dispatch;
    hostcalls::dispatch_http_call(cluster, headers, Some(body), Vec::new(), *timeout).ok()
}

/// Defines a metric; each definition takes memory in the host, so once per VM.
pub fn define_metric(definition: &Definition) -> Option<u32> {
    let kind = match definition.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    };
    let name = definition.name;
    // proxy-wasm knows no labels.
    let name = match definition.label {
        Some((_, case)) => format!("latchkey.{name}.{case}"),
        None => format!("latchkey.{name}"),
    };
    hostcalls::define_metric(kind, &name).ok()
}

/// Changes a metric by a difference, or adds a value to a histogram.
pub fn change_metric(id: u32, kind: Kind, difference: i64) {
    // A host that does not count does not.
    let _ = match kind {
        Kind::Histogram => hostcalls::record_metric(id, u64::try_from(difference).unwrap_or_default()),
        Kind::Counter | Kind::Gauge => hostcalls::increment_metric(id, difference),
    };
}

/// Writes a line to Envoy's log.
pub fn log(level: Level, line: &str) {
    match level {
        Level::Info => log::info!("{line}"),
        Level::Warn => log::warn!("{line}"),
        Level::Error => log::error!("{line}"),
    }
}
