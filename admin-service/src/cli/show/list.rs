//! A list of the API: the table of all its pages, or one JSON page that holds the items of all.

use serde_json::Value;

use super::table::Table;
use super::{Progress, note, print};
use crate::cli::Failure;
use crate::cli::remote::{Client, Page, Service, pages};

/// A column: its head, and its cell in a row.
pub(in crate::cli) struct Column(pub(in crate::cli) &'static str, pub(in crate::cli) fn(&Value) -> String);

/// Which list, and how it is shown.
pub(in crate::cli) struct List<'a> {
    /// The path below `/api/v1`.
    pub(in crate::cli) path: &'a str,
    /// Its query, but for the pages.
    pub(in crate::cli) query: &'a [(&'static str, String)],
    /// How many items at most; `None`: all.
    pub(in crate::cli) most: Option<u64>,
    /// What its items are called.
    pub(in crate::cli) what: &'static str,
    /// The columns of its table.
    pub(in crate::cli) columns: &'static [Column],
}

impl List<'_> {
    /// Asks for all pages and prints them.
    pub(in crate::cli) fn show(&self, service: &Service, client: &Client) -> Result<(), Failure> {
        if service.json { self.as_json(client) } else { self.as_table(client) }
    }

    fn each_page(
        &self,
        client: &Client,
        mut each: impl FnMut(&Page) -> Result<(), Failure>,
    ) -> Result<u64, Failure> {
        let progress = Progress::of_reading(self.what);
        let mut count = 0;
        pages(client, self.path, self.query, self.most, |page| {
            each(page)?;
            count += page.items.len() as u64;
            progress.at(count, None);
            Ok(())
        })?;
        Ok(count)
    }

    fn as_table(&self, client: &Client) -> Result<(), Failure> {
        let mut table = Table::new(self.columns.iter().map(|Column(head, _)| (*head).to_owned()).collect());
        let row = |item: &Value| self.columns.iter().map(|Column(_, cell)| cell(item)).collect();
        let count = self.each_page(client, |page| {
            let items = page.items.iter().map(|item| serde_json::from_str(item.get()).unwrap_or_default());
            if page.items.is_empty() { Ok(()) } else { print(table.lines(items.map(|item| row(&item)))) }
        })?;
        if count == 0 {
            note(&format!("there are no {}", self.what));
        }
        Ok(())
    }

    /// An item per line. When a page fails, what was printed is no JSON, so that nobody takes it for the whole.
    fn as_json(&self, client: &Client) -> Result<(), Failure> {
        let mut between = "{\"items\": [\n";
        let mut next_cursor = None;
        self.each_page(client, |page| {
            let mut text = String::new();
            for item in &page.items {
                text += between;
                text += item.get();
                between = ",\n";
            }
            next_cursor.clone_from(&page.next_cursor);
            print(&text)
        })?;
        let begin = if between.starts_with('{') { between } else { "" };
        print(format!("{begin}\n], \"next_cursor\": {}}}\n", Value::from(next_cursor)))
    }
}
