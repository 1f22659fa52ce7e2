//! Tables: columns as wide as their widest cell so far, so that a long list is shown page by page.

use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The widest cell, in columns of a terminal; what is longer is cut. An identifier is not.
const WIDEST: usize = 40;
/// Between two columns.
const GAP: usize = 2;

/// A column: its head, and its cell in a row.
pub(in crate::cli) struct Column(pub(in crate::cli) &'static str, pub(in crate::cli) fn(&Value) -> String);

/// A table that grows.
pub(super) struct Table {
    columns: &'static [Column],
    widths: Vec<usize>,
    begun: bool,
}

impl Table {
    pub fn new(columns: &'static [Column]) -> Self {
        Self { columns, widths: columns.iter().map(|Column(head, _)| head.width()).collect(), begun: false }
    }

    /// The lines of these items, at first below the heads.
    pub fn lines(&mut self, items: &[Value]) -> String {
        let row =
            |item: &Value| self.columns.iter().map(|Column(_, cell)| cut(&cell(item))).collect::<Vec<_>>();
        let rows: Vec<Vec<String>> = items.iter().map(row).collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let heads =
            (!self.begun).then(|| self.columns.iter().map(|Column(head, _)| (*head).to_owned()).collect());
        self.begun = true;
        heads.iter().chain(&rows).map(|row| self.line(row)).collect()
    }

    fn line(&self, row: &[String]) -> String {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&self.widths) {
            line += cell;
            line += &" ".repeat(width.saturating_sub(cell.width()) + GAP);
        }
        format!("{}\n", line.trim_end())
    }
}

/// A cell of at most the widest width.
fn cut(cell: &str) -> String {
    if cell.width() <= WIDEST {
        return cell.to_owned();
    }
    let mut width = 1;
    let fits = |character: &char| {
        width += character.width().unwrap_or(0);
        width <= WIDEST
    };
    cell.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::show::text;

    const COLUMNS: &[Column] =
        &[Column("NAME", |item| text(&item["name"])), Column("N", |item| text(&item["n"]))];

    #[test]
    fn columns_stand_below_each_other_whatever_the_width_of_their_characters() {
        let mut table = Table::new(COLUMNS);
        let lines = table.lines(&[json!({"name": "日本", "n": 1}), json!({"name": "alice", "n": null})]);
        insta::assert_snapshot!(lines, @r"
        NAME   N
        日本   1
        alice  -
        ");
        assert_eq!(table.lines(&[json!({"name": "bob", "n": 2})]), "bob    2\n");
    }

    #[test]
    fn a_long_cell_is_cut() {
        assert_eq!(cut(&"x".repeat(40)), "x".repeat(40));
        assert_eq!(cut(&"x".repeat(41)), format!("{}…", "x".repeat(39)));
        assert_eq!(cut(&"日".repeat(21)), format!("{}…", "日".repeat(19)));
    }
}
