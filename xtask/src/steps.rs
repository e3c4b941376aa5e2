//! Lists of steps: run one after the other, each reported as passed, failed or *not run* with the reason.

use std::fmt::{self, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::workspace::{cargo, root};

/// One call of Cargo, or of another tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// What it shows, for people.
    name: String,
    program: &'static str,
    args: Vec<String>,
    env: Vec<(&'static str, &'static str)>,
    needs: Option<Requirement>,
}

/// What must be on the machine for a step to be run at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Requirement {
    /// Arguments of the step's program that succeed where it is there.
    pub(crate) probe: &'static [&'static str],
    /// What to say where it is not.
    pub(crate) missing: &'static str,
}

/// What becomes of the later steps once one has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterFailure {
    /// They are run all the same.
    Continue,
    /// They are not.
    Stop,
}

#[derive(Debug, PartialEq, Eq)]
enum Result {
    Passed(Duration),
    Failed(String),
    NotRun(String),
}

impl Step {
    /// A step that is `cargo` with these arguments.
    pub(crate) fn cargo(name: impl Into<String>, args: &[&str]) -> Self {
        Self::tool(name, "cargo", args)
    }

    /// A step that is another program with these arguments.
    pub(crate) fn tool(name: impl Into<String>, program: &'static str, args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self { name: name.into(), program, args, env: Vec::new(), needs: None }
    }

    pub(crate) fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.push((name, value));
        self
    }

    pub(crate) fn needs(mut self, need: Requirement) -> Self {
        self.needs = Some(need);
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn run(&self) -> Result {
        if let Some(Requirement { probe, missing }) = self.needs
            && !succeeds(self.command().args(probe).stdout(Stdio::null()).stderr(Stdio::null()))
        {
            return Result::NotRun(missing.to_owned());
        }
        eprintln!("\n=== {}: {self}", self.name);
        let begin = Instant::now();
        let status = self.command().args(&self.args).envs(self.env.iter().copied()).status();
        match status {
            Ok(status) if status.success() => Result::Passed(begin.elapsed()),
            Ok(status) => Result::Failed(status.to_string()),
            Err(error) => Result::Failed(format!("{} did not start: {error}", self.program)),
        }
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
        write!(f, "{} {}", self.program, self.args.join(" "))
    }
}

/// Runs the steps and prints what became of each.
///
/// # Errors
/// Where a step failed; its name. A step that was not run is no error, and never counts as passed.
pub(crate) fn run(steps: &[Step], after_failure: AfterFailure) -> Outcome {
    let results = results(steps, after_failure, Step::run);
    eprint!("\n{}", summary(&results));
    let failed: Vec<_> = results
        .iter()
        .filter(|(_, result)| matches!(result, Result::Failed(_)))
        .map(|(step, _)| &*step.name)
        .collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}

fn results(
    steps: &[Step],
    after_failure: AfterFailure,
    run: impl Fn(&Step) -> Result,
) -> Vec<(&Step, Result)> {
    let mut failed = false;
    let mut results = Vec::new();
    for step in steps {
        let result = if failed && after_failure == AfterFailure::Stop {
            Result::NotRun("a step before it failed".to_owned())
        } else {
            run(step)
        };
        failed |= matches!(result, Result::Failed(_));
        results.push((step, result));
    }
    results
}

fn summary(results: &[(&Step, Result)]) -> String {
    let (mut text, mut passed, mut failed, mut skipped) = (String::new(), 0, 0, 0);
    for (step, result) in results {
        let name = &step.name;
        let _ = match result {
            Result::Passed(took) => {
                passed += 1;
                writeln!(text, "passed   {name} ({} s)", took.as_secs())
            }
            Result::Failed(how) => {
                failed += 1;
                writeln!(text, "FAILED   {name}: {how}; again: {step}")
            }
            Result::NotRun(why) => {
                skipped += 1;
                writeln!(text, "not run  {name}: {why}")
            }
        };
    }
    let _ = writeln!(text, "{passed} passed, {failed} failed, {skipped} skipped");
    text
}

fn succeeds(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(after_failure: AfterFailure) -> String {
        let steps = ["one", "two", "three", "four"].map(|name| Step::cargo(name, &[name]));
        let run = |step: &Step| match &*step.name {
            "one" => Result::NotRun("no such tool here".into()),
            "three" => Result::Failed("exit status: 1".into()),
            _ => Result::Passed(Duration::from_secs(3)),
        };
        summary(&results(&steps, after_failure, run))
    }

    #[test]
    fn every_step_is_told_by_what_became_of_it() {
        assert_eq!(
            outcomes(AfterFailure::Continue),
            "not run  one: no such tool here\n\
             passed   two (3 s)\n\
             FAILED   three: exit status: 1; again: cargo three\n\
             passed   four (3 s)\n\
             2 passed, 1 failed, 1 skipped\n"
        );
        let stopped = outcomes(AfterFailure::Stop);
        assert!(stopped.contains("not run  four: a step before it failed\n"), "{stopped}");
        assert!(stopped.ends_with("1 passed, 1 failed, 2 skipped\n"), "{stopped}");
    }

    #[test]
    fn what_a_step_needs_is_looked_for_and_its_absence_is_no_pass() {
        let step = Step::cargo("here", &["--version"]);
        let missing = Requirement { probe: &["no-such-command"], missing: "get it" };
        let there = Requirement { probe: &["--version"], missing: "" };
        assert_eq!(step.clone().needs(missing).run(), Result::NotRun("get it".into()));
        assert!(matches!(step.needs(there).run(), Result::Passed(_)));
        let tool = Step::tool("elsewhere", "no-such-program", &["--version"]);
        let absent = Requirement { probe: &["--version"], missing: "get that" };
        assert_eq!(tool.clone().needs(absent).run(), Result::NotRun("get that".into()));
        assert!(matches!(tool.run(), Result::Failed(_)));
        assert!(matches!(Step::cargo("wrong", &["no-such-command"]).run(), Result::Failed(_)));
    }
}
