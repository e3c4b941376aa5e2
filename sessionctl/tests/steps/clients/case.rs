//! One case: calls of a client over attempts, and what must come out.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use sessionkit::workflow::{AnswerTo, answer};
use sessionkit::{Head, SessionId};

use super::language::Language;
use crate::fixture::{Fixture, eventually, kill, signal};

/// The file with the calls of the next attempt.
const CALLS: &str = "calls";

/// Calls of a client over attempts, and what must come out.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    store: &'static str,
    actions: Vec<Action>,
}

#[derive(Debug)]
enum Action {
    Write(&'static str, String),
    Start(Vec<&'static str>),
    /// Runs the calls outside of a session, with these variables.
    StartOutside(Vec<(&'static str, &'static str)>),
    /// Ends with these results and this exit code, or any but 0.
    Ends(Value, Option<i32>),
    TakesAtLeast(Duration),
    TakesAtMost(Duration),
    WaitForFile(&'static str),
    WaitForQuestion,
    WaitForSleep,
    Answer(&'static str, &'static str),
    KillOwner,
    SignalOwner(Signal),
    SignalFile(&'static str, Signal),
    FileIs(&'static str, &'static str),
    Lines(&'static str, usize),
    LinesAreEqual(&'static str, usize),
    CompletedSteps(usize),
    Says(&'static str),
    /// The process whose id is in the file does not run.
    IsGone(&'static str),
    Steps(Vec<(&'static str, &'static str)>),
    Status(&'static str),
}

/// Creates a case.
pub(super) const fn case(name: &'static str) -> Case {
    Case { name, store: "file", actions: Vec::new() }
}

impl Case {
    pub(super) const fn on(mut self, store: &'static str) -> Self {
        self.store = store;
        self
    }

    fn then(mut self, action: Action) -> Self {
        self.actions.push(action);
        self
    }

    pub(super) fn write(self, file: &'static str, text: impl Into<String>) -> Self {
        self.then(Action::Write(file, text.into()))
    }

    /// Sets the calls of this attempt and those that follow.
    pub(super) fn calls(self, calls: &Value) -> Self {
        self.write(CALLS, calls.to_string())
    }

    /// Starts the first attempt.
    pub(super) fn run(self) -> Self {
        self.then(Action::Start(vec!["run", "--quiet", "--name", "it", "--", "sh", "./script"]))
    }

    /// Starts the next attempt after the death of the owner.
    pub(super) fn resume(self) -> Self {
        self.then(Action::Start(vec!["resume", "--quiet", "it"]))
    }

    /// Starts a retry.
    pub(super) fn retry(self, options: &[&'static str]) -> Self {
        self.then(Action::Start([&["retry", "--quiet"], options, &["it"]].concat()))
    }

    /// Starts the first attempt, with all of it inside a step.
    pub(super) fn run_inside_step(self) -> Self {
        let line = ["sessionctl", "step", "outer", "--", "sh", "./script"];
        self.then(Action::Start([["run", "--quiet", "--name", "it", "--"].as_slice(), &line].concat()))
    }

    /// Runs the calls outside of a session, with these variables.
    pub(super) fn run_outside(self, variables: &[(&'static str, &'static str)]) -> Self {
        self.then(Action::StartOutside(variables.to_vec()))
    }

    /// Expects the end of the attempt, with these results and lines of output, and this exit code.
    pub(super) fn ends(self, code: i32, results: Value) -> Self {
        self.then(Action::Ends(results, Some(code)))
    }

    /// Expects the end of the attempt, with any exit code but 0.
    pub(super) fn fails(self, results: Value) -> Self {
        self.then(Action::Ends(results, None))
    }

    /// Expects that at least this time has passed since the last `run` or `retry`.
    pub(super) fn takes_at_least(self, duration: Duration) -> Self {
        self.then(Action::TakesAtLeast(duration))
    }

    pub(super) fn takes_at_most(self, duration: Duration) -> Self {
        self.then(Action::TakesAtMost(duration))
    }

    pub(super) fn waits_for(self, file: &'static str) -> Self {
        self.then(Action::WaitForFile(file))
    }

    pub(super) fn waits_for_question(self) -> Self {
        self.then(Action::WaitForQuestion)
    }

    pub(super) fn waits_for_sleep(self) -> Self {
        self.then(Action::WaitForSleep)
    }

    pub(super) fn answer(self, name: &'static str, value: &'static str) -> Self {
        self.then(Action::Answer(name, value))
    }

    pub(super) fn kill_owner(self) -> Self {
        self.then(Action::KillOwner)
    }

    pub(super) fn signal_owner(self, signal: Signal) -> Self {
        self.then(Action::SignalOwner(signal))
    }

    pub(super) fn signal(self, file: &'static str, signal: Signal) -> Self {
        self.then(Action::SignalFile(file, signal))
    }

    pub(super) fn file_is(self, file: &'static str, text: &'static str) -> Self {
        self.then(Action::FileIs(file, text))
    }

    pub(super) fn equal_lines(self, file: &'static str, count: usize) -> Self {
        self.then(Action::LinesAreEqual(file, count))
    }

    pub(super) fn lines(self, file: &'static str, count: usize) -> Self {
        self.then(Action::Lines(file, count))
    }

    pub(super) fn steps_are_completed(self, count: usize) -> Self {
        self.then(Action::CompletedSteps(count))
    }

    /// Expects a text on standard error of the attempt that has ended.
    pub(super) fn says(self, text: &'static str) -> Self {
        self.then(Action::Says(text))
    }

    pub(super) fn gone(self, file: &'static str) -> Self {
        self.then(Action::IsGone(file))
    }

    pub(super) fn steps(self, steps: &[(&'static str, &'static str)]) -> Self {
        self.then(Action::Steps(steps.to_vec()))
    }

    pub(super) fn status(self, status: &'static str) -> Self {
        self.then(Action::Status(status))
    }

    /// Runs the case with the client of a language.
    pub(super) fn run_with(self, language: &Language) {
        let label = format!("{}: {}", language.name(), self.name);
        let fixture = Fixture::on(self.store);
        fixture.write("script", &language.script(CALLS));
        let mut running =
            Running { fixture, label, attempt: None, stderr: String::new(), since: Instant::now() };
        for action in self.actions {
            running.act(action);
        }
        assert!(running.attempt.is_none(), "{}: the case ends before its last attempt", running.label);
    }
}

/// A case that runs.
struct Running {
    fixture: Fixture,
    label: String,
    attempt: Option<Child>,
    /// The standard error of the last attempt that ended.
    stderr: String,
    /// The start of the first attempt since one ended by itself.
    since: Instant,
}

impl Running {
    fn act(&mut self, action: Action) {
        let Self { fixture, label, .. } = self;
        match action {
            Action::Write(file, text) => fixture.write(file, &text),
            Action::Start(args) => {
                let command = fixture.command(&args);
                if args.first() != Some(&"resume") {
                    self.since = Instant::now();
                }
                self.start(command);
            }
            Action::StartOutside(variables) => {
                let mut shell = Command::new("sh");
                for (name, _) in std::env::vars_os() {
                    if name.to_string_lossy().starts_with("SESSIONCTL_") {
                        shell.env_remove(name);
                    }
                }
                shell.arg("./script").current_dir(fixture.path("")).stdin(Stdio::null()).envs(variables);
                self.start(shell);
            }
            Action::Ends(results, code) => self.ends(&results, code),
            Action::TakesAtLeast(duration) => {
                let elapsed = self.since.elapsed();
                assert!(elapsed >= duration, "{label}: {elapsed:?}");
            }
            Action::TakesAtMost(duration) => {
                let elapsed = self.since.elapsed();
                assert!(elapsed <= duration, "{label}: {elapsed:?}");
            }
            Action::WaitForFile(file) => drop(fixture.wait_for(file)),
            Action::WaitForQuestion => eventually("a question", || self.head().waits.questions > 0),
            Action::WaitForSleep => eventually("a sleep", || self.head().is_waiting()),
            Action::Answer(name, value) => self.answer(name, value),
            Action::KillOwner => kill(self.attempt.take().unwrap()),
            Action::SignalOwner(number) => {
                signal(&self.attempt.as_ref().unwrap().id().to_string(), number);
            }
            Action::SignalFile(file, number) => signal(&fixture.wait_for(file), number),
            Action::FileIs(file, text) => assert_eq!(fixture.read(file), text, "{label}: {file}"),
            Action::Lines(file, count) => {
                assert_eq!(fixture.read(file).lines().count(), count, "{label}: {file}");
            }
            Action::Says(text) => {
                assert!(self.stderr.contains(text), "{label}: {text}: {}", self.stderr);
            }
            Action::CompletedSteps(count) => {
                let steps = fixture.steps("it");
                let completed = steps.iter().filter(|(_, state)| state == "completed");
                assert_eq!(completed.count(), count, "{label}: {steps:?}");
            }
            Action::LinesAreEqual(file, count) => {
                let text = fixture.read(file);
                let lines: Vec<&str> = text.lines().collect();
                assert_eq!(lines.len(), count, "{label}: {text}");
                assert!(lines.iter().all(|line| *line == lines[0] && !line.is_empty()), "{label}: {text}");
            }
            Action::IsGone(file) => {
                let process = Path::new("/proc").join(fixture.wait_for(file).trim());
                eventually("the end of the command", || !process.exists());
            }
            Action::Steps(steps) => {
                let found = fixture.steps("it");
                let found: Vec<_> =
                    found.iter().map(|(step, state)| (step.as_str(), state.as_str())).collect();
                assert_eq!(found, steps, "{label}");
            }
            Action::Status(status) => assert_eq!(fixture.status(), status, "{label}"),
        }
    }

    fn start(&mut self, mut command: Command) {
        assert!(self.attempt.is_none(), "{}: the former attempt runs", self.label);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        self.attempt = Some(child);
    }

    fn ends(&mut self, results: &Value, code: Option<i32>) {
        let output = self.attempt.take().unwrap().wait_with_output().unwrap();
        self.stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let context = format!("{}: {}, {}", self.label, output.status, self.stderr);
        let stdout = String::from_utf8(output.stdout).unwrap();
        // A line of the command's own is a text.
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line));
        let found: Vec<Value> = stdout.lines().map(parse).collect();
        assert_eq!(shortened(&Value::from(found)), shortened(results), "{context}");
        match code {
            Some(code) => assert_eq!(output.status.code(), Some(code), "{context}"),
            None => assert_ne!(output.status.code(), Some(0), "{context}"),
        }
    }

    /// Calls the library as another process would.
    fn outside<T>(&self, call: impl AsyncFnOnce(&dyn sessionkit::SessionManager, SessionId) -> T) -> T {
        // An attempt that was started just now may not have created it yet.
        eventually("the session", || self.fixture.ctl(&["show", "it"]).code == Some(0));
        let id = self.fixture.json(&["show", "it"])["id"].as_str().unwrap().parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let manager = sessionkit::open(&self.fixture.url()).await.unwrap();
            call(&*manager, id).await
        })
    }

    fn head(&self) -> Head {
        self.outside(async |manager, id| manager.get_head(id).await.unwrap())
    }

    fn answer(&self, name: &str, value: &str) {
        let to = AnswerTo::Named(name.to_owned());
        self.outside(async |manager, id| answer(manager, id, to, value).await.map(drop).unwrap());
    }
}

/// Shortens long texts, so that a difference can be read.
fn shortened(results: &Value) -> String {
    let mut text = results.to_string();
    if text.len() > 2000 {
        let sum = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
        text.truncate((0..=200).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0));
        text = format!("{text}… ({sum:x})");
    }
    text
}
