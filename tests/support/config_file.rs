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

    /// Replaces as many of the last places of a text, of which there have to be more or as many.
    pub fn replace_last(&mut self, from: &str, to: &str, places: usize) {
        let parts: Vec<&str> = self.text.rsplitn(places + 1, from).collect();
        assert_eq!(parts.len(), places + 1, "{} has \"{from}\" too seldom", self.name);
        let (first, rest) = parts.split_last().expect("one part at least");
        self.text = rest.iter().rev().fold((*first).to_owned(), |text, part| format!("{text}{to}{part}"));
    }

    /// Replaces text that has to be there.
    pub fn replace(&mut self, from: &str, to: &str) {
        assert!(self.text.contains(from), "{} no longer has \"{from}\"", self.name);
        self.text = self.text.replace(from, to);
    }
}
