//! Tables: columns as wide as their widest cell so far, so that a long list is shown page by page.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The widest cell, in columns of a terminal; what is longer is cut. An identifier is not.
const WIDEST: usize = 60;
/// Between two columns.
const GAP: usize = 2;

/// A table that grows.
pub(super) struct Table {
    heads: Vec<String>,
    widths: Vec<usize>,
    begun: bool,
}

impl Table {
    pub fn new(heads: Vec<String>) -> Self {
        Self { widths: heads.iter().map(|head| head.width()).collect(), heads, begun: false }
    }

    /// The lines of these rows, at first below the heads.
    pub fn lines(&mut self, rows: impl IntoIterator<Item = Vec<String>>) -> String {
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|row| row.iter().map(|cell| cut(cell)).collect()).collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let heads = (!self.begun).then_some(&self.heads);
        self.begun = true;
        heads.into_iter().chain(&rows).map(|row| self.line(row)).collect()
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
    use super::*;

    fn row(cells: [&str; 2]) -> Vec<String> {
        cells.map(str::to_owned).to_vec()
    }

    #[test]
    fn columns_stand_below_each_other_whatever_the_width_of_their_characters() {
        let mut table = Table::new(row(["NAME", "N"]));
        insta::assert_snapshot!(table.lines([row(["日本", "1"]), row(["alice", "-"])]), @r"
        NAME   N
        日本   1
        alice  -
        ");
        assert_eq!(table.lines([row(["bob", "2"])]), "bob    2\n");
    }

    #[test]
    fn a_long_cell_is_cut() {
        assert_eq!(cut(&"x".repeat(60)), "x".repeat(60));
        assert_eq!(cut(&"x".repeat(61)), format!("{}…", "x".repeat(59)));
        assert_eq!(cut(&"日".repeat(31)), format!("{}…", "日".repeat(29)));
    }
}
