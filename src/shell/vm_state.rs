//! What all root contexts of a VM share.

use std::cell::RefCell;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use super::host;
use crate::config::Config;
use crate::engine::{Definition, EdgeState, Metrics, Seed, States};

thread_local! {
    static VM: VmState = VmState::new();
}

/// The states of this VM, and its metrics as the host names them.
struct VmState {
    states: RefCell<States>,
    metrics: Arc<Metrics>,
    /// Each definition, with the host's identifier; `None`: the host did not define it.
    definitions: Vec<(Definition, Option<u32>)>,
}

impl VmState {
    fn new() -> Self {
        let metrics = Arc::<Metrics>::default();
        let definitions = Metrics::definitions().into_iter();
        let definitions = definitions.map(|it| (it, host::define_metric(&it))).collect();
        Self { states: RefCell::new(States::new(Arc::clone(&metrics), 1)), metrics, definitions }
    }
}

/// What a root context with this configuration shares with others.
pub fn state_of(config: &Config) -> Arc<EdgeState> {
    // The host seeds these with its own random generator.
    let seed = Seed([RandomState::new().hash_one(0), RandomState::new().hash_one(1)]);
    VM.with(|vm| vm.states.borrow_mut().of(config, seed))
}

/// Tells the host what was counted, if it should not wait for a tick.
pub fn publish_due_metrics() {
    if VM.with(|vm| vm.metrics.is_due()) {
        publish_metrics();
    }
}

/// Tells the host what was counted since it was last told.
pub fn publish_metrics() {
    VM.with(|vm| {
        vm.metrics.take(|place, difference| {
            if let Some((definition, Some(id))) = vm.definitions.get(place) {
                host::change_metric(*id, definition.kind, difference);
            }
        });
    });
}
