//! Outage is not refusal: whatever the service does or fails to do, a request that needs it gets the contract's 503 and
//! nothing of it reaches the upstream; and the first request after the outage passes.

mod answers;
mod callouts;
mod known;
mod service;
