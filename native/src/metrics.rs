//! What was counted, as Envoy names it: `latchkey.<name>`, with the case as a label.

use latchkey::engine::{Definition, Kind, Metrics};

use crate::host::ConfigHost;
use crate::process;

/// The metrics of one configuration; those of all have the same names, and count together.
pub struct HostMetrics {
    /// Each definition, with Envoy's identifier; `None`: Envoy did not define it.
    definitions: Vec<(Definition, Option<usize>)>,
    /// Panics that were caught.
    panics: Option<usize>,
}

impl HostMetrics {
    /// Defines all of them.
    pub fn define(host: &ConfigHost) -> Self {
        let mut definitions: Vec<(Definition, Option<usize>)> = Vec::new();
        for definition in Metrics::definitions() {
            // The cases of one metric are defined together.
            let known = definitions.iter().find(|(known, _)| known.name == definition.name);
            let id = known.map_or_else(|| define(host, &definition), |(_, id)| *id);
            // Each case is there from the start, for whoever looks at its rate.
            if let (Kind::Counter, Some(id), Some((_, case))) = (definition.kind, id, definition.label) {
                host.change_metric(Kind::Counter, id, Some(case), 0);
            }
            definitions.push((definition, id));
        }
        let panics = Definition { kind: Kind::Counter, name: "panics", label: None };
        Self { definitions, panics: define(host, &panics) }
    }

    /// Tells Envoy what was counted since it was last told, by whichever configuration.
    pub fn tell(&self, host: &ConfigHost) {
        process::metrics().take(|place, difference| {
            if let Some((definition, Some(id))) = self.definitions.get(place) {
                let case = definition.label.map(|(_, case)| case);
                host.change_metric(definition.kind, *id, case, difference);
            }
        });
        if let (Some(id), true) = (self.panics, process::has_panicked()) {
            host.change_metric(Kind::Counter, id, None, process::take_panics());
        }
    }
}

fn define(host: &ConfigHost, definition: &Definition) -> Option<usize> {
    let Definition { kind, name, label } = definition;
    host.define_metric(*kind, &format!("latchkey.{name}"), label.map(|(key, _)| key))
}
