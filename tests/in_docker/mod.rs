//! What only containers make honest. `make test` leaves this module out, and says so, where Envoy runs as a process.

mod compose;
mod outages;
mod replicas;
