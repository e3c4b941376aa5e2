//! `cargo xtask seeded-bugs [NAME…] [--list]`: whether the tests of this workspace notice bugs. Each patch in
//! `session-testkit/seeded-bugs` is one bug that a tired engineer could write; a copy of the tree gets one after the other,
//! and the suite that the patch names has to turn red. `session_testkit::saboteurs` is the same idea for the laws: there
//! storages with a fault are what is run, here our own code is what is broken.

pub(crate) mod bug;
mod source_copy;
mod suite_run;
mod summary;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub(crate) use self::source_copy::applies;

use self::bug::{Bug, Suite};
use self::source_copy::SourceCopy;
use self::suite_run::SuiteResult;
use self::summary::{Row, summary};
use crate::Outcome;
use crate::args::{Args, Usage};
use crate::workspace::{self, File};

/// What a suite may take beyond three times what it takes without a bug, before that counts as a hang. More than the
/// minute after which the harness names a test that is still running.
const HANG_MARGIN: Duration = Duration::from_secs(75);

/// What became of a bug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BugResult {
    /// The suite turned red.
    Caught {
        took: Duration,
        /// The tests that failed.
        by: Vec<String>,
    },
    /// The suite came to no end in time.
    Hung {
        limit: Duration,
        /// The tests that the harness called slow.
        by: Vec<String>,
    },
    /// The suite stayed green: a test is missing, or the patch names the wrong suite.
    Survived,
    /// The patch does not apply or compile: an error of the gallery, which says nothing of the tests.
    Unfit(String),
}

pub(crate) fn run(mut args: Args) -> Outcome {
    let list = args.flag("--list");
    let names = args.names()?;
    let bugs = chosen(bug::read_all(&workspace::files()?)?, &names)?;
    if list {
        for Bug { name, what, suite, .. } in &bugs {
            eprintln!("{name}\n    {what}\n    {suite}");
        }
        eprintln!("{} bugs", bugs.len());
        return Ok(());
    }
    let begin = Instant::now();
    let tree = SourceCopy::copy()?;
    let baselines = baselines(&tree, &bugs)?;
    let mut rows = Vec::new();
    for bug in &bugs {
        let green = baselines.get(&bug.suite).copied().unwrap_or_default();
        let result = run_bug(&tree, bug, green * 3 + HANG_MARGIN)?;
        let row = Row { name: bug.name.clone(), result };
        eprintln!("{row}");
        rows.push(row);
    }
    eprint!("\n{}in {} s\n", summary(&rows), begin.elapsed().as_secs());
    let lived = rows.iter().filter(|row| !row.result.is_caught()).count();
    if lived == 0 { Ok(()) } else { Err(format!("{lived} bugs were not caught").into()) }
}

impl BugResult {
    const fn is_caught(&self) -> bool {
        matches!(self, Self::Caught { .. } | Self::Hung { .. })
    }
}

/// The bugs of these names, or all: those of one crate and suite in a row, so that little is built anew in between.
fn chosen(mut bugs: Vec<Bug>, names: &[String]) -> Result<Vec<Bug>, Box<dyn std::error::Error>> {
    if let Some(unknown) = names.iter().find(|name| bugs.iter().all(|bug| bug.name != **name)) {
        return Err(Usage::error(format!("there is no bug `{unknown}`: `--list` shows them all")));
    }
    bugs.retain(|bug| names.is_empty() || names.contains(&bug.name));
    bugs.sort_by_cached_key(|bug| (bug.place(), bug.suite.clone(), bug.name.clone()));
    Ok(bugs)
}

/// Shows that the unpatched copy is green, so that red means the bug; how long each suite takes.
fn baselines(
    tree: &SourceCopy,
    bugs: &[Bug],
) -> Result<BTreeMap<Suite, Duration>, Box<dyn std::error::Error>> {
    let mut baselines = BTreeMap::new();
    for suite in bugs.iter().map(|bug| &bug.suite) {
        if baselines.contains_key(suite) {
            continue;
        }
        suite_run::build(tree, suite)
            .map_err(|error| format!("without a bug, {suite} does not build:\n{error}"))?;
        match suite_run::run(tree, suite, HANG_MARGIN * 8, "green")? {
            SuiteResult::Green(took) => {
                eprintln!("green in {:.1} s: {suite}", took.as_secs_f64());
                baselines.insert(suite.clone(), took);
            }
            red @ (SuiteResult::Red { .. } | SuiteResult::Hung { .. }) => {
                return Err(format!("without a bug, {suite} is not green: {red:?}").into());
            }
        }
    }
    Ok(baselines)
}

fn run_bug(tree: &SourceCopy, bug: &Bug, limit: Duration) -> Result<BugResult, Box<dyn std::error::Error>> {
    let patched = match tree.patch(bug) {
        Ok(patched) => patched,
        Err(error) => return Ok(BugResult::Unfit(format!("it does not apply: {error}"))),
    };
    let result = match suite_run::build(tree, &bug.suite) {
        Err(error) => BugResult::Unfit(format!("it does not build:\n{error}")),
        Ok(()) => match suite_run::run(tree, &bug.suite, limit, &bug.name)? {
            SuiteResult::Green(_) => BugResult::Survived,
            SuiteResult::Red { took, failed } => BugResult::Caught { took, by: failed },
            SuiteResult::Hung { slow } => BugResult::Hung { limit, by: slow },
        },
    };
    patched.revert()?;
    Ok(result)
}

/// What `tidy` asks of the gallery; reads nothing but what it is given.
pub(crate) fn patches(files: &[File]) -> impl Iterator<Item = &File> {
    files.iter().filter(|file| file.path.starts_with(bug::FOLDER) && file.is("patch"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bug(name: &str, place: &str, suite: &str) -> Bug {
        let text = format!(
            "Bug: b.\nLost: l.\nCaught by: cargo test -p {suite} --all-features\n\n--- a/{place}\n+++ b/{place}\n@@ -1 +1 @@\n-a\n+b\n"
        );
        Bug::parse(name, &text).unwrap()
    }

    #[test]
    fn bugs_of_one_place_are_in_a_row_and_a_name_that_nobody_has_is_told() {
        let bugs = [bug("c", "x/src/a.rs", "x"), bug("b", "y/src/a.rs", "x"), bug("a", "x/src/b.rs", "x")];
        let names = |bugs: Vec<Bug>| bugs.into_iter().map(|bug| bug.name).collect::<Vec<_>>();
        assert_eq!(names(chosen(bugs.to_vec(), &[]).unwrap()), ["a", "c", "b"]);
        assert_eq!(names(chosen(bugs.to_vec(), &["b".into(), "c".into()]).unwrap()), ["c", "b"]);
        let error = chosen(bugs.to_vec(), &["d".into()]).unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains("`d`"), "{error}");
    }
}
