//! `cargo xtask seeded-bugs`: a check that the tests of this workspace detect bugs. Each patch in
//! `session-testkit/seeded-bugs` is one plausible bug. It is applied to a copy of the tree, and the suite that the patch
//! names has to fail. `session_testkit::faulty_storages` does the same for the laws: it has storages with one fault each, while
//! the patches break the code of this workspace.

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
use self::summary::{BugResult, Row, summary};
use crate::args::{Args, Usage};
use crate::console::Outcome;
use crate::subcommand::Subcommand;
use crate::workspace;

/// Time that a suite may take, in addition to three times its time without a bug, before it is treated as hung. More than
/// the minute after which the harness names a test that is still running.
const HANG_MARGIN: Duration = Duration::from_secs(75);

pub(crate) const COMMAND: Subcommand = Subcommand {
    name: "seeded-bugs",
    usage: "[NAME…] [--list]",
    summary: "Check that the tests detect seeded bugs",
    about: "\
Applies each patch of session-testkit/seeded-bugs to a copy of the tree in target/seeded-bugs, builds
the suite that the patch names, and runs it. A bug is caught if the suite fails or hangs. Fails if a
bug survives, or if a patch does not apply or compile. Each bug costs a build: all of them take more
than half an hour. The output of a suite is kept in target/seeded-bugs/NAME.out and NAME.err.",
    options: &[
        ("NAME…", "bugs to seed (default: all)"),
        ("--list", "list the bugs with their suites, and seed none"),
    ],
    examples: &[("cargo xtask seeded-bugs create-log-not-flushed", "one bug")],
    run,
};

fn run(mut args: Args) -> Outcome {
    let list = args.flag("--list");
    let names = args.names()?;
    let bugs = select(bug::read_all(&workspace::files()?)?, &names)?;
    if list {
        for Bug { name, description, suite, .. } in &bugs {
            eprintln!("{name}\n    {description}\n    {suite}");
        }
        eprintln!("{} bugs", bugs.len());
        return Ok(());
    }
    let begin = Instant::now();
    let copy = SourceCopy::update()?;
    let baselines = baselines(&copy, &bugs)?;
    let mut rows = Vec::new();
    for bug in &bugs {
        let baseline = baselines.get(&bug.suite).copied().unwrap_or_default();
        let result = run_bug(&copy, bug, baseline * 3 + HANG_MARGIN)?;
        let row = Row { name: bug.name.clone(), result };
        eprintln!("{row}");
        rows.push(row);
    }
    eprint!("\n{}in {} s\n", summary(&rows), begin.elapsed().as_secs());
    let missed = rows.iter().filter(|row| !row.result.is_caught()).count();
    if missed == 0 { Ok(()) } else { Err(format!("{missed} bugs were not caught").into()) }
}

/// Returns the bugs with these names, or all, ordered by crate and suite so that little has to be built again between two.
fn select(mut bugs: Vec<Bug>, names: &[String]) -> Result<Vec<Bug>, Box<dyn std::error::Error>> {
    if let Some(unknown) = names.iter().find(|name| bugs.iter().all(|bug| bug.name != **name)) {
        return Err(Usage::error(format!("there is no bug `{unknown}`: `--list` shows them all")));
    }
    bugs.retain(|bug| names.is_empty() || names.contains(&bug.name));
    bugs.sort_by_cached_key(|bug| (bug.package(), bug.suite.clone(), bug.name.clone()));
    Ok(bugs)
}

/// Runs each suite without a bug: it has to pass, so that a failure means the bug. Returns the time of each.
fn baselines(
    copy: &SourceCopy,
    bugs: &[Bug],
) -> Result<BTreeMap<Suite, Duration>, Box<dyn std::error::Error>> {
    let mut baselines = BTreeMap::new();
    for suite in bugs.iter().map(|bug| &bug.suite) {
        if baselines.contains_key(suite) {
            continue;
        }
        suite_run::build(copy, suite)
            .map_err(|error| format!("without a bug, {suite} does not build:\n{error}"))?;
        match suite_run::run(copy, suite, HANG_MARGIN * 8, "baseline")? {
            SuiteResult::Passed(took) => {
                eprintln!("passed in {:.1} s without a bug: {suite}", took.as_secs_f64());
                baselines.insert(suite.clone(), took);
            }
            failure @ (SuiteResult::Failed { .. } | SuiteResult::Hung { .. }) => {
                return Err(format!("without a bug, {suite} does not pass: {failure:?}").into());
            }
        }
    }
    Ok(baselines)
}

fn run_bug(copy: &SourceCopy, bug: &Bug, limit: Duration) -> Result<BugResult, Box<dyn std::error::Error>> {
    let patched = match copy.patch(bug) {
        Ok(patched) => patched,
        Err(error) => return Ok(BugResult::Unfit(format!("it does not apply: {error}"))),
    };
    let result = match suite_run::build(copy, &bug.suite) {
        Err(error) => BugResult::Unfit(format!("it does not build:\n{error}")),
        Ok(()) => match suite_run::run(copy, &bug.suite, limit, &bug.name)? {
            SuiteResult::Passed(_) => BugResult::Survived,
            SuiteResult::Failed { took, failed } => BugResult::Caught { took, by: failed },
            SuiteResult::Hung { slow } => BugResult::Hung { limit, by: slow },
        },
    };
    patched.revert()?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bug(name: &str, path: &str, suite: &str) -> Bug {
        let text = format!(
            "Bug: b.\nLost: l.\nCaught by: cargo test -p {suite} --all-features\n\n--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-a\n+b\n"
        );
        Bug::parse(name, &text).unwrap()
    }

    #[test]
    fn bugs_are_ordered_by_crate_and_unknown_names_refused() {
        let bugs = [bug("c", "x/src/a.rs", "x"), bug("b", "y/src/a.rs", "x"), bug("a", "x/src/b.rs", "x")];
        let names = |bugs: Vec<Bug>| bugs.into_iter().map(|bug| bug.name).collect::<Vec<_>>();
        assert_eq!(names(select(bugs.to_vec(), &[]).unwrap()), ["a", "c", "b"]);
        assert_eq!(names(select(bugs.to_vec(), &["b".into(), "c".into()]).unwrap()), ["c", "b"]);
        let error = select(bugs.to_vec(), &["d".into()]).unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains("`d`"), "{error}");
    }
}
