//! Lists of steps, run in order. Each is reported as passed, failed or *not run* with the reason, and with its time.

use std::fmt::{self, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::console::Outcome;
use crate::workspace::{cargo, root};

/// An entry of a list of steps.
pub(crate) trait Run {
    /// Returns the title of the step.
    fn name(&self) -> &str;

    /// Returns the command that repeats it; `None` if the failure itself names one.
    fn reproduction(&self) -> Option<String>;

    /// Runs it.
    ///
    /// # Errors
    /// The failure, in a few words; the details are on stderr already.
    fn run(&self) -> Result<Completion, String>;
}

/// The result of a step that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Completion {
    Passed,
    /// Skipped, for this reason.
    NotRun(String),
}

/// One call of Cargo or of another tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    name: String,
    program: &'static str,
    args: Vec<String>,
    env: Vec<(&'static str, &'static str)>,
    requirement: Option<Requirement>,
}

/// A tool without which a step is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Requirement {
    /// Arguments of the step's program that succeed if the tool is installed.
    pub(crate) probe: &'static [&'static str],
    /// The reason to print if it is not.
    pub(crate) missing: &'static str,
}

/// Treatment of the later steps once one has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterFailure {
    /// They run all the same.
    Continue,
    /// They are reported as not run.
    Stop,
}

impl Step {
    /// Creates a step that runs `cargo` with these arguments.
    pub(crate) fn cargo(name: impl Into<String>, args: &[&str]) -> Self {
        Self::tool(name, "cargo", args)
    }

    /// Creates a step that runs another program with these arguments.
    pub(crate) fn tool(name: impl Into<String>, program: &'static str, args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self { name: name.into(), program, args, env: Vec::new(), requirement: None }
    }

    pub(crate) fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.push((name, value));
        self
    }

    pub(crate) fn requires(mut self, requirement: Requirement) -> Self {
        self.requirement = Some(requirement);
        self
    }

    fn command(&self) -> Command {
        if self.program == "cargo" {
            return cargo();
        }
        let mut command = Command::new(self.program);
        command.current_dir(root());
        command
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{name}={value} ")?;
        }
        write!(f, "{} {}", self.program, self.args.join(" "))
    }
}

impl Run for Step {
    fn name(&self) -> &str {
        &self.name
    }

    fn reproduction(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn run(&self) -> Result<Completion, String> {
        if let Some(Requirement { probe, missing }) = self.requirement
            && !succeeds(self.command().args(probe).stdout(Stdio::null()).stderr(Stdio::null()))
        {
            return Ok(Completion::NotRun(missing.to_owned()));
        }
        eprintln!("\n=== {}: {self}", self.name);
        match self.command().args(&self.args).envs(self.env.iter().copied()).status() {
            Ok(status) if status.success() => Ok(Completion::Passed),
            Ok(status) => Err(status.to_string()),
            Err(error) => Err(format!("{} did not start: {error}", self.program)),
        }
    }
}

/// A step with its result and its duration.
type Row<'a, S> = (&'a S, Result<Completion, String>, Duration);

/// Runs the steps and prints a table of the results.
///
/// # Errors
/// The names of the steps that failed. A step that was not run is no error, and is never reported as passed.
pub(crate) fn run<S: Run>(steps: &[S], after_failure: AfterFailure) -> Outcome {
    let rows = run_each(steps, after_failure);
    eprint!("\n{}", summary(&rows));
    let failed: Vec<_> =
        rows.iter().filter(|(_, result, _)| result.is_err()).map(|(step, ..)| step.name()).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}

fn run_each<S: Run>(steps: &[S], after_failure: AfterFailure) -> Vec<Row<'_, S>> {
    let mut failed = false;
    let mut rows = Vec::new();
    for step in steps {
        let begin = Instant::now();
        let result = if failed && after_failure == AfterFailure::Stop {
            Ok(Completion::NotRun("a step before it failed".to_owned()))
        } else {
            step.run()
        };
        failed |= result.is_err();
        rows.push((step, result, begin.elapsed()));
    }
    rows
}

/// Formats the table. The line of totals is the last one.
fn summary<S: Run>(rows: &[Row<'_, S>]) -> String {
    let (mut text, mut passed, mut failed, mut skipped) = (String::new(), 0, 0, 0);
    for (step, result, took) in rows {
        let (name, seconds) = (step.name(), took.as_secs());
        let _ = match result {
            Ok(Completion::Passed) => {
                passed += 1;
                writeln!(text, "passed   {name} ({seconds} s)")
            }
            Ok(Completion::NotRun(reason)) => {
                skipped += 1;
                writeln!(text, "not run  {name}: {reason}")
            }
            Err(error) => {
                failed += 1;
                let again =
                    step.reproduction().map_or_else(String::new, |command| format!("; again: {command}"));
                writeln!(text, "FAILED   {name} ({seconds} s): {error}{again}")
            }
        };
    }
    let total: Duration = rows.iter().map(|(_, _, took)| *took).sum();
    let _ = writeln!(text, "total    {} s", total.as_secs());
    let _ = writeln!(text, "{passed} passed, {failed} failed, {skipped} skipped");
    text
}

fn succeeds(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(&'static str);

    impl Run for Fake {
        fn name(&self) -> &str {
            self.0
        }

        fn reproduction(&self) -> Option<String> {
            Some(format!("cargo {}", self.0))
        }

        fn run(&self) -> Result<Completion, String> {
            match self.0 {
                "one" => Ok(Completion::NotRun("no such tool here".into())),
                "three" => Err("exit status: 1".into()),
                _ => Ok(Completion::Passed),
            }
        }
    }

    fn report(after_failure: AfterFailure) -> String {
        let steps = ["one", "two", "three", "four"].map(Fake);
        let mut rows = run_each(&steps, after_failure);
        for row in &mut rows {
            row.2 = Duration::from_secs(3);
        }
        summary(&rows)
    }

    #[test]
    fn the_table_shows_each_result() {
        assert_eq!(
            report(AfterFailure::Continue),
            "not run  one: no such tool here\n\
             passed   two (3 s)\n\
             FAILED   three (3 s): exit status: 1; again: cargo three\n\
             passed   four (3 s)\n\
             total    12 s\n\
             2 passed, 1 failed, 1 skipped\n"
        );
    }

    #[test]
    fn steps_after_a_failure_are_not_run_if_asked() {
        let stopped = report(AfterFailure::Stop);
        assert!(stopped.contains("not run  four: a step before it failed\n"), "{stopped}");
        assert!(stopped.ends_with("1 passed, 1 failed, 2 skipped\n"), "{stopped}");
    }

    #[test]
    fn a_missing_tool_is_reported_as_not_run() {
        let step = Step::cargo("here", &["--version"]);
        let missing = Requirement { probe: &["no-such-command"], missing: "get it" };
        let there = Requirement { probe: &["--version"], missing: "" };
        assert_eq!(step.clone().requires(missing).run(), Ok(Completion::NotRun("get it".into())));
        assert_eq!(step.requires(there).run(), Ok(Completion::Passed));
        let tool = Step::tool("elsewhere", "no-such-program", &["--version"]);
        let absent = Requirement { probe: &["--version"], missing: "get that" };
        assert_eq!(tool.clone().requires(absent).run(), Ok(Completion::NotRun("get that".into())));
        assert!(tool.run().is_err());
        assert!(Step::cargo("wrong", &["no-such-command"]).run().is_err());
    }

    #[test]
    fn the_reproduction_includes_the_environment() {
        let step = Step::cargo("a", &["test"]).env("CARGO_TARGET_DIR", "target/b");
        assert_eq!(step.reproduction().unwrap(), "CARGO_TARGET_DIR=target/b cargo test");
    }
}
