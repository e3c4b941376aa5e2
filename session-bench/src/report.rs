//! The report of the measurements, as tables and as JSON. A missed target is shown but is not a failure, because
//! figures of one run on one machine are not a test.

use std::fmt::Write as _;

use serde::Serialize;

/// A table with its targets.
#[derive(Debug, Serialize)]
pub(crate) struct Section {
    pub(crate) title: String,
    /// The names of the columns, with units.
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Row>,
    #[serde(rename = "aims")]
    pub(crate) targets: Vec<Target>,
}

/// The figures of one contender.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// One figure for each column; `None` where a column does not apply.
    pub(crate) figures: Vec<Option<f64>>,
}

/// A ratio or figure with the bound that it should meet.
#[derive(Debug, Serialize)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) bound: Bound,
    pub(crate) met: bool,
}

/// The bound of a target.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Section {
    pub(crate) fn new(title: impl Into<String>, columns: &[&'static str]) -> Self {
        Self { title: title.into(), columns: columns.to_vec(), rows: Vec::new(), targets: Vec::new() }
    }

    pub(crate) fn row(&mut self, name: impl Into<String>, figures: &[f64]) {
        let figures = figures.iter().map(|figure| figure.is_finite().then_some(*figure)).collect();
        self.rows.push(Row { name: name.into(), figures });
    }

    pub(crate) fn target(&mut self, what: impl Into<String>, measured: f64, bound: Bound) {
        let met = match bound {
            Bound::AtLeast(least) => measured >= least,
            Bound::AtMost(most) => measured <= most,
        };
        self.targets.push(Target { what: what.into(), measured, bound, met });
    }

    /// Renders the section as a table.
    pub(crate) fn render(&self) -> String {
        let name_width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(24);
        let mut text = format!("\n{}\n{:name_width$}", self.title, "");
        for column in &self.columns {
            let _ = write!(text, " {column:>12}");
        }
        text.push('\n');
        for row in &self.rows {
            let _ = write!(text, "{:name_width$}", row.name);
            for figure in &row.figures {
                let _ = write!(text, " {:>12}", figure.map_or_else(|| "-".to_owned(), short));
            }
            text.push('\n');
        }
        for target in &self.targets {
            let (word, bound) = match target.bound {
                Bound::AtLeast(bound) => ("at least", bound),
                Bound::AtMost(bound) => ("at most", bound),
            };
            let mark = if target.met { "met   " } else { "MISSED" };
            let _ = writeln!(
                text,
                "  {mark} {}: {} ({word} {})",
                target.what,
                short(target.measured),
                short(bound)
            );
        }
        text
    }
}

/// Formats a figure with three or four significant digits.
fn short(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_is_marked() {
        let mut section = Section::new("title", &["ms"]);
        section.row("one", &[12.34]);
        section.row("none", &[f64::NAN]);
        section.target("enough", 2.6, Bound::AtLeast(2.5));
        section.target("too much", 1.61, Bound::AtMost(1.6));
        assert_eq!([section.targets[0].met, section.targets[1].met], [true, false]);
        let text = section.render();
        assert!(text.contains("  met    enough: 2.60 (at least 2.50)\n"), "{text}");
        assert!(text.contains("  MISSED too much: 1.61 (at most 1.60)\n"), "{text}");
        assert!(text.contains("12.3") && text.contains("none") && text.ends_with(")\n"), "{text}");
    }
}
