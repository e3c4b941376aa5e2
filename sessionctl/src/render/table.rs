//! Tables with columns aligned by display width.

use sessionkit::text::{cut_columns, visible};
use unicode_width::UnicodeWidthStr as _;

use crate::term::Term;

const GAP: &str = "  ";

/// Rows of cells, each with its colour.
#[derive(Debug, Default)]
pub(crate) struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<(String, &'static str)>>,
}

impl Table {
    pub(crate) fn new(heading: &[&'static str]) -> Self {
        Self { heading: heading.to_vec(), rows: Vec::new() }
    }

    /// Appends a row; the second part of each cell is an SGR code, or empty.
    pub(crate) fn row(&mut self, cells: Vec<(String, &'static str)>) {
        self.rows.push(cells.into_iter().map(|(text, sgr)| (visible(&text).into_owned(), sgr)).collect());
    }

    /// Formats the table; its last column is truncated to the width of the terminal.
    pub(crate) fn render(&self, term: &Term) -> String {
        let heading = self.heading.iter().map(|text| ((*text).to_owned(), ""));
        let columns = self.heading.len();
        let mut widths: Vec<usize> = self.heading.iter().map(|text| text.width()).collect();
        for row in &self.rows {
            for (width, (text, _)) in widths.iter_mut().zip(row) {
                *width = (*width).max(text.width());
            }
        }
        let before_last: usize = widths.iter().take(columns - 1).map(|width| width + GAP.len()).sum();
        let last = term.columns().map(|all| all.saturating_sub(before_last).max(8));
        let line = |cells: Vec<(String, String)>| {
            let mut line = String::new();
            for (at, ((text, painted), width)) in cells.into_iter().zip(&widths).enumerate() {
                line.push_str(&painted);
                if at + 1 < columns {
                    line.push_str(&" ".repeat(width - text.width()));
                    line.push_str(GAP);
                }
            }
            line.truncate(line.trim_end().len());
            line.push('\n');
            line
        };
        let fit = |at: usize, text: String| match last {
            Some(room) if at + 1 == columns => cut(&text, room),
            _ => text,
        };
        let mut out = line(heading.map(|(text, _)| (text.clone(), term.heading(&text))).collect());
        for row in &self.rows {
            let cells = row.iter().enumerate().map(|(at, (text, sgr))| {
                let text = fit(at, text.clone());
                let painted = term.tint(sgr, &text);
                (text, painted)
            });
            out.push_str(&line(cells.collect()));
        }
        out
    }
}

/// Truncates a text to at most `room` columns.
pub(crate) fn cut(text: &str, room: usize) -> String {
    cut_columns(text, room).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::ColorWhen;

    #[test]
    fn columns_align_with_wide_and_unsafe_cells() {
        let mut table = Table::new(&["ID", "NAME", "COMMAND"]);
        table.row(vec![("1".into(), ""), ("日本".into(), ""), ("a\u{1b}[31mb".into(), "")]);
        table.row(vec![("22".into(), ""), ("x".into(), ""), ("c".into(), "")]);
        let text = table.render(&Term::new(false, ColorWhen::Never));
        assert_eq!(text, "ID  NAME  COMMAND\n1   日本  a\\u{1b}[31mb\n22  x     c\n");
    }

    #[test]
    fn text_is_truncated_by_display_width() {
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("abcdef", 4), "abc…");
    }
}
