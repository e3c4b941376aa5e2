//! The payloads that are more than a few fields: where a session came from, what an iteration changed, how far it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::limits::{self, LimitError};

/// The program behind a session: what is needed to run it again. Values of inherited variables are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Origin {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The working directory.
    pub cwd: PathBuf,
    /// Variables that were set for this session, with their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The names of the variables that were inherited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inherited: Vec<String>,
}

impl Origin {
    /// A program with its arguments, run in a directory.
    #[must_use]
    pub fn new(argv: Vec<String>, cwd: PathBuf) -> Self {
        Self { argv, cwd, env: BTreeMap::new(), inherited: Vec::new() }
    }

    /// Variables set for this session, kept with their values.
    #[must_use]
    pub fn env(mut self, env: BTreeMap<String, String>) -> Self {
        self.env = env;
        self
    }

    /// The names of inherited variables.
    #[must_use]
    pub fn inherited(mut self, names: Vec<String>) -> Self {
        self.inherited = names;
        self
    }
}

/// What one iteration changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Changes {
    /// Files changed.
    pub files_changed: u64,
    /// Lines added.
    pub lines_added: u64,
    /// Lines removed.
    pub lines_removed: u64,
    /// Commits made.
    pub commits: u64,
}

impl Changes {
    /// These changes.
    #[must_use]
    pub const fn new(files_changed: u64, lines_added: u64, lines_removed: u64, commits: u64) -> Self {
        Self { files_changed, lines_added, lines_removed, commits }
    }
}

/// One report of progress. What is `None` is not said, and stays as it was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ProgressReport {
    /// How much is done, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// What is being done now, at most 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The part of the work that this is, at most 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Steps done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_steps: Option<u64>,
    /// Steps in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_steps: Option<u64>,
    /// Time left, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<u64>,
}

impl ProgressReport {
    /// A report that says nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How much is done, 0 to 100.
    #[must_use]
    pub fn percent(mut self, percent: f64) -> Self {
        self.percent = Some(percent);
        self
    }

    /// What is being done now.
    #[must_use]
    pub fn step(mut self, step: impl Into<String>) -> Self {
        self.step = Some(step.into());
        self
    }

    /// The part of the work that this is.
    #[must_use]
    pub fn phase(mut self, phase: impl Into<String>) -> Self {
        self.phase = Some(phase.into());
        self
    }

    /// Steps done.
    #[must_use]
    pub fn completed_steps(mut self, steps: u64) -> Self {
        self.completed_steps = Some(steps);
        self
    }

    /// Steps in all.
    #[must_use]
    pub fn total_steps(mut self, steps: u64) -> Self {
        self.total_steps = Some(steps);
        self
    }

    /// Time left, in seconds.
    #[must_use]
    pub fn eta(mut self, seconds: u64) -> Self {
        self.eta = Some(seconds);
        self
    }

    /// Takes over what a later report says; what it leaves out stays.
    pub fn merge(&mut self, later: Self) {
        let Self { percent, step, phase, completed_steps, total_steps, eta } = later;
        self.percent = percent.or(self.percent);
        self.step = step.or_else(|| self.step.take());
        self.phase = phase.or_else(|| self.phase.take());
        self.completed_steps = completed_steps.or(self.completed_steps);
        self.total_steps = total_steps.or(self.total_steps);
        self.eta = eta.or(self.eta);
    }

    /// Merges a later report so that steps and percent never go backwards: an attempt that starts over reports small
    /// numbers again, and they wait until it is beyond where the last one was. What the report leaves out stays. An
    /// estimate of the time left holds until the work advances without a new one.
    ///
    /// Returns `true` if the work advanced.
    pub(crate) fn advance(&mut self, later: Self) -> bool {
        let before = self.position();
        let eta = later.eta;
        self.merge(Self {
            completed_steps: later.completed_steps.max(self.completed_steps),
            percent: match (later.percent, self.percent) {
                (Some(new), Some(old)) => Some(new.max(old)),
                (new, old) => new.or(old),
            },
            ..later
        });
        let advanced = before != self.position();
        if advanced {
            self.eta = eta;
        }
        advanced
    }

    /// Returns steps and percent. A report that nothing is done yet does not advance the work.
    fn position(&self) -> (u64, f64) {
        (self.completed_steps.unwrap_or(0), self.percent.unwrap_or(0.0))
    }

    /// Whether the report can be written.
    ///
    /// # Errors
    /// A percentage outside 0 to 100, a step or phase beyond 256 bytes.
    pub fn check(&self) -> Result<(), LimitError> {
        if self.percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            return Err(LimitError::invalid("percent", "is not between 0 and 100"));
        }
        limits::at_most("step (bytes)", self.step.as_ref().map_or(0, String::len), limits::STEP_BYTES)?;
        limits::at_most("phase (bytes)", self.phase.as_ref().map_or(0, String::len), limits::STEP_BYTES)
    }
}
