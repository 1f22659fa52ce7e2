//! A configuration that operators start from, with the addresses and ports of a test put into its text.

use super::test_dir::root;

/// A file of this repository, as one test changes it.
pub struct ConfigFile {
    name: &'static str,
    pub text: String,
}

impl ConfigFile {
    pub fn read(name: &'static str) -> Self {
        let text = std::fs::read_to_string(root().join(name)).unwrap_or_else(|_| panic!("{name} is missing"));
        Self { name, text }
    }

    /// Replaces text that has to be there.
    pub fn replace(&mut self, from: &str, to: &str) {
        assert!(self.text.contains(from), "{} no longer has \"{from}\"", self.name);
        self.text = self.text.replace(from, to);
    }
}
