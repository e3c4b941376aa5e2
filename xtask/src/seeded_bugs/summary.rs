//! The report of seeded bugs: a line for each, and the number that was caught.

use std::fmt::{self, Write as _};
use std::time::Duration;

/// Number of failed tests to list; a bug in the core may fail dozens.
const SHOWN: usize = 3;

/// The result of one bug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BugResult {
    /// The suite failed.
    Caught {
        took: Duration,
        /// The tests that failed.
        by: Vec<String>,
    },
    /// The suite did not end in time.
    Hung {
        limit: Duration,
        /// The tests that the harness reported as slow.
        by: Vec<String>,
    },
    /// The suite passed: a test is missing, or the patch names the wrong suite.
    Survived,
    /// The patch does not apply or compile. That is an error of the patch, not of the tests.
    Unfit(String),
}

impl BugResult {
    pub(super) const fn is_caught(&self) -> bool {
        matches!(self, Self::Caught { .. } | Self::Hung { .. })
    }
}

/// A bug and its result.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) result: BugResult,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.result {
            BugResult::Caught { took, by } => {
                write!(f, "caught    {name} in {:.1} s by {}", took.as_secs_f64(), names(by))
            }
            BugResult::Hung { limit, by } => {
                write!(f, "caught    {name} by a hang of more than {} s in {}", limit.as_secs(), names(by))
            }
            BugResult::Survived => write!(
                f,
                "SURVIVED  {name}: add the missing test, or name the suite that detects it in the patch"
            ),
            BugResult::Unfit(why) => write!(f, "UNFIT     {name}: {why}"),
        }
    }
}

fn names(by: &[String]) -> String {
    let shown = by.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match by.len() {
        0 => "no named test: see the output of the suite".to_owned(),
        many if many > SHOWN => format!("{shown} and {} more", many - SHOWN),
        _ => shown,
    }
}

/// Formats the table at the end.
pub(crate) fn summary(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let _ = writeln!(text, "{row}");
    }
    let caught = rows.iter().filter(|row| row.result.is_caught()).count();
    let survived = rows.iter().filter(|row| row.result == BugResult::Survived).count();
    let unfit = rows.len() - caught - survived;
    let _ = write!(text, "{caught} caught, {survived} survived, {unfit} unfit, ");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_each_result() {
        let row = |name: &str, result| Row { name: name.to_owned(), result };
        let by = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let second = Duration::from_secs(1);
        let text = summary(&[
            row("a", BugResult::Caught { took: second * 3, by: by(&["x", "y"]) }),
            row("b", BugResult::Caught { took: second, by: by(&["1", "2", "3", "4", "5"]) }),
            row("c", BugResult::Hung { limit: second * 90, by: by(&["x"]) }),
            row("d", BugResult::Survived),
            row("e", BugResult::Unfit("it does not apply: no".into())),
        ]);
        for line in [
            "caught    a in 3.0 s by x, y\n",
            "caught    b in 1.0 s by 1, 2, 3 and 2 more\n",
            "caught    c by a hang of more than 90 s in x\n",
            "SURVIVED  d: ",
            "UNFIT     e: it does not apply: no\n",
            "\n3 caught, 1 survived, 1 unfit, ",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
