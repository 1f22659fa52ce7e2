//! Envoy's listeners in a file that it watches, as a control plane would change them (LDS): for reloads while it runs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::envoy_config::{EnvoyConfig, connection_manager};
use super::filter::Filter;
use super::test_dir;

/// The file, and what is in it.
pub struct ListenerFile {
    folder: PathBuf,
    /// The part of the bootstrap that went into the file, in its place.
    listeners: Arc<Mutex<Value>>,
}

impl ListenerFile {
    /// Takes the listeners out of a configuration.
    pub fn of(mut config: EnvoyConfig) -> (Self, EnvoyConfig) {
        let folder = test_dir::file("listeners", "d");
        std::fs::create_dir(&folder).expect("a folder for the file");
        config.folders.push(folder.clone());
        let file = Self { folder: folder.clone(), listeners: Arc::default() };
        let listeners = Arc::clone(&file.listeners);
        let config = config.change(move |bootstrap| {
            let taken = json!({"static_resources": {"listeners": bootstrap["static_resources"]["listeners"].take()}});
            write(&folder, &taken);
            *listeners.lock().expect("the listeners") = taken;
            bootstrap["static_resources"]["listeners"] = json!([]);
            bootstrap["node"] = json!({"id": "test", "cluster": "test"});
            bootstrap["dynamic_resources"] = json!({"lds_config": {
                "resource_api_version": "V3",
                "path_config_source": {"path": folder.join("lds.json"), "watched_directory": {"path": folder}},
            }});
        });
        (file, config)
    }

    /// Replaces the filter's configuration, in a way that Envoy notices.
    pub fn set_plugin(&self, plugin: &Value) {
        let mut listeners = self.listeners.lock().expect("the listeners");
        let filter = &mut connection_manager(&mut listeners)["http_filters"][0];
        Filter::chosen().configuration(filter)["value"] = plugin.clone();
        write(&self.folder, &listeners);
    }
}

/// Writes the file all at once.
fn write(folder: &std::path::Path, listeners: &Value) {
    let mut resources = listeners["static_resources"]["listeners"].clone();
    for listener in resources.as_array_mut().expect("a list of listeners") {
        listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    }
    let (new, file) = (folder.join("new.json"), folder.join("lds.json"));
    std::fs::write(&new, json!({"resources": resources}).to_string()).expect("the listeners are written");
    std::fs::rename(new, file).expect("the file is replaced");
}
