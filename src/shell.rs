//! The only code that knows proxy-wasm (ABI 0.2.1): it turns Envoy's callbacks into calls of the pure modules, and their
//! decisions into host calls. Nothing here decides.
//!
//! No SDK stands between: its share of a decision was a fifth, and its wrappers panic on a status that they do not expect.

mod callbacks;
mod callout;
mod contexts;
mod edge;
mod host;
mod http;
mod logger;
mod metrics;
mod refusals;
mod shared;
