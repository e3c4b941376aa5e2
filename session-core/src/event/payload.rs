//! The larger payloads: origin of a session, progress reports.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::limits::{self, LimitError};
use crate::os_text;
use crate::text::escape_bytes;

/// The program that a session runs, with everything needed to run it again. Values of inherited variables are not
/// stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "independent options of a program")]
pub struct Origin {
    /// The program and its arguments.
    #[serde(with = "os_text::list")]
    pub argv: Vec<OsString>,
    /// The working directory.
    #[serde(with = "os_text::path")]
    pub cwd: PathBuf,
    /// Variables that were set for this session, with their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "os_text::map")]
    pub env: BTreeMap<String, OsString>,
    /// The names of the variables that were inherited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inherited: Vec<String>,
    /// The silence after which background processes of the ended program are ended, in milliseconds, if it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linger_ms: Option<u64>,
    /// `true` to leave all background processes of the ended program running.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_background: bool,
    /// `true` to let the program run on when its output has no reader any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_running: bool,
    /// `true` if exit code 0 after SIGTERM or SIGHUP is success.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub complete_on_term: bool,
    /// `true` if standard error goes into the pipe of standard output.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub merge: bool,
    /// The number of bytes of the end of standard output that are kept, if it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_bytes: Option<u64>,
    /// The terminal of its own that the program has, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Box<Terminal>>,
    /// The standard input of the first run, if something was given to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    /// The command that is run for each question, if it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_ask: Option<Box<Hook>>,
}

/// A command that is run when something happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hook {
    /// The command, for `sh -c`.
    pub command: String,
}

/// A terminal that a program has of its own.
///
/// ```
/// use session_core::Terminal;
///
/// // Standard error goes elsewhere.
/// let terminal = Terminal { stderr: false, ..Terminal::new("xterm-256color", 50, 132) };
/// assert!(terminal.stdin && terminal.stdout);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// `true` if it is the standard input.
    pub stdin: bool,
    /// `true` if it is the standard output.
    pub stdout: bool,
    /// `true` if it is the standard error.
    pub stderr: bool,
    /// Its kind: the value of the variable `TERM`.
    pub term: String,
    /// The number of its rows when the session began.
    pub rows: u16,
    /// The number of its columns when the session began.
    pub columns: u16,
}

impl Terminal {
    /// Creates a terminal of a kind and size for all three standard streams.
    #[must_use]
    pub fn new(term: impl Into<String>, rows: u16, columns: u16) -> Self {
        Self { stdin: true, stdout: true, stderr: true, term: term.into(), rows, columns }
    }
}

/// The standard input of a program, as far as a later run can find it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Input {
    /// A pipe or a socket: what was read is gone.
    Pipe,
    /// A regular file.
    File(#[serde(with = "os_text::path")] PathBuf),
}

impl Origin {
    /// Creates an origin from a program with its arguments and the directory that it runs in.
    #[must_use]
    pub fn new(argv: impl IntoIterator<Item = impl Into<OsString>>, cwd: PathBuf) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            cwd,
            env: BTreeMap::new(),
            inherited: Vec::new(),
            linger_ms: None,
            keep_background: false,
            keep_running: false,
            complete_on_term: false,
            merge: false,
            keep_bytes: None,
            terminal: None,
            input: None,
            on_ask: None,
        }
    }

    /// Sets the variables that were set for this session; their values are stored.
    #[must_use]
    pub fn env(mut self, env: impl IntoIterator<Item = (String, impl Into<OsString>)>) -> Self {
        self.env = env.into_iter().map(|(name, value)| (name, value.into())).collect();
        self
    }

    /// Returns the program and its arguments with spaces in between, for people.
    pub(crate) fn command_line(&self) -> String {
        self.argv.iter().map(|arg| escape_bytes(arg)).collect::<Vec<_>>().join(" ")
    }

    /// Sets the names of inherited variables.
    #[must_use]
    pub fn inherited(mut self, names: Vec<String>) -> Self {
        self.inherited = names;
        self
    }
}

/// A progress report. Fields that are `None` keep their previous value.
///
/// ```
/// use session_core::ProgressReport;
///
/// let mut report = ProgressReport::new().step("a.csv").total_steps(3).completed_steps(1);
/// report.merge(ProgressReport::new().phase("load").percent(40.0).eta(90));
/// assert_eq!((report.percent, report.completed_steps), (Some(40.0), Some(1)));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ProgressReport {
    /// The share of the work that is done, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// The current step, at most 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The current phase, at most 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The number of completed steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_steps: Option<u64>,
    /// The total number of steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_steps: Option<u64>,
    /// The remaining time in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<u64>,
}

impl ProgressReport {
    /// Creates an empty report.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the share of the work that is done, 0 to 100.
    #[must_use]
    pub fn percent(mut self, percent: f64) -> Self {
        self.percent = Some(percent);
        self
    }

    /// Sets the current step.
    #[must_use]
    pub fn step(mut self, step: impl Into<String>) -> Self {
        self.step = Some(step.into());
        self
    }

    /// Sets the current phase.
    #[must_use]
    pub fn phase(mut self, phase: impl Into<String>) -> Self {
        self.phase = Some(phase.into());
        self
    }

    /// Sets the number of completed steps.
    #[must_use]
    pub fn completed_steps(mut self, steps: u64) -> Self {
        self.completed_steps = Some(steps);
        self
    }

    /// Sets the total number of steps.
    #[must_use]
    pub fn total_steps(mut self, steps: u64) -> Self {
        self.total_steps = Some(steps);
        self
    }

    /// Sets the remaining time in seconds.
    #[must_use]
    pub fn eta(mut self, seconds: u64) -> Self {
        self.eta = Some(seconds);
        self
    }

    /// Merges a later report: its fields replace those of this one, except where they are `None`.
    pub fn merge(&mut self, later: Self) {
        let Self { percent, step, phase, completed_steps, total_steps, eta } = later;
        self.percent = percent.or(self.percent);
        self.step = step.or_else(|| self.step.take());
        self.phase = phase.or_else(|| self.phase.take());
        self.completed_steps = completed_steps.or(self.completed_steps);
        self.total_steps = total_steps.or(self.total_steps);
        self.eta = eta.or(self.eta);
    }

    /// Merges a later report so that steps and percent never decrease. An attempt that repeats work reports small
    /// numbers again; they take effect once they exceed the highest ones so far. Fields that are `None` keep their
    /// value. An estimate of the remaining time is kept until the work advances without a new one.
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

    /// Checks the limits of a report.
    ///
    /// # Errors
    /// A percentage outside 0 to 100; a step or phase longer than 256 bytes.
    pub fn check(&self) -> Result<(), LimitError> {
        if self.percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            return Err(LimitError::invalid("percent", "is not between 0 and 100"));
        }
        limits::at_most("step (bytes)", self.step.as_ref().map_or(0, String::len), limits::STEP_BYTES)?;
        limits::at_most("phase (bytes)", self.phase.as_ref().map_or(0, String::len), limits::STEP_BYTES)
    }
}
