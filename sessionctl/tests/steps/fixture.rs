//! Scripts with steps that run as sessions of a store in a temporary folder.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sessionkit::SessionId;
use sessionkit::workflow::{AnswerError, AnswerTo, answer};

const BINARY: &str = env!("CARGO_BIN_EXE_sessionctl");
/// Longer than any step takes on a busy machine; only a failing test waits for so long.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A store with a folder for the files of its scripts.
pub(crate) struct Fixture {
    folder: tempfile::TempDir,
    scheme: &'static str,
}

/// The outputs and exit code of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{text}: {self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn prints(self, text: &str) -> Self {
        assert_eq!(self.stdout, text, "{self:#?}");
        self
    }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::on("file")
    }

    pub(crate) fn on(scheme: &'static str) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), scheme }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Returns the text of a file; empty if there is none.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn url(&self) -> String {
        format!("{}:{}", self.scheme, self.path("store").display())
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SESSIONCTL_") || name == "NO_COLOR" {
                command.env_remove(name);
            }
        }
        // Scripts find the command by its name.
        let folder = PathBuf::from(BINARY).parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&path))).unwrap();
        command
            .args(args)
            .env("PATH", path)
            .env("RUST_BACKTRACE", "0")
            .env("SESSIONCTL_CONFIG", "")
            .env("SESSIONCTL_STORE", self.url())
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn ctl(&self, args: &[&str]) -> Ran {
        ran(&mut self.command(args))
    }

    /// Runs a script as the session `it`, to its end.
    pub(crate) fn run(&self, script: &str) -> Ran {
        self.write("script", script);
        self.ctl(&["run", "--quiet", "--name", "it", "--", "sh", "./script"])
    }

    /// Starts a script as the session `it`. Its owner is the returned process.
    pub(crate) fn spawn(&self, script: &str) -> Child {
        self.write("script", script);
        let mut command = self.command(&["run", "--quiet", "--name", "it", "--", "sh", "./script"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let ran = self.ctl(&[args, &["--json"]].concat());
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"))
    }

    /// Returns the steps of a session, each with its state.
    pub(crate) fn steps(&self, session: &str) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let steps = self.json(&["steps", session]);
        steps["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| (text(&step["step"]), text(&step["state"])))
            .collect()
    }

    /// Returns the state of one step of the session `it`.
    pub(crate) fn state(&self, step: &str) -> String {
        let steps = self.steps("it");
        steps.into_iter().find(|(name, _)| name == step).map_or_else(|| "none".to_owned(), |(_, state)| state)
    }

    pub(crate) fn status(&self) -> String {
        self.json(&["show", "it"])["status"].as_str().unwrap().to_owned()
    }

    /// Answers a question of the session `it`, as any other process may. Waits until the session exists.
    pub(crate) fn answer(&self, name: &str, value: &str) -> Result<(), AnswerError> {
        eventually("the session", || self.ctl(&["show", "it"]).code == Some(0));
        let id: SessionId = self.json(&["show", "it"])["id"].as_str().unwrap().parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let manager = sessionkit::open(&self.url()).await.unwrap();
            answer(&*manager, id, AnswerTo::Named(name.to_owned()), value).await.map(drop)
        })
    }

    /// Starts a script like [`spawn`](Self::spawn), with its standard error in the file `errors`.
    pub(crate) fn spawn_with_errors(&self, args: &[&str]) -> Child {
        let errors = std::fs::OpenOptions::new().create(true).append(true).open(self.path("errors")).unwrap();
        self.command(args).stdout(Stdio::null()).stderr(errors).spawn().unwrap()
    }

    /// Waits until a file exists, and returns its text.
    #[track_caller]
    pub(crate) fn wait_for(&self, name: &str) -> String {
        eventually(name, || !self.read(name).is_empty());
        self.read(name)
    }
}

pub(crate) fn ran(command: &mut Command) -> Ran {
    let Output { status, stdout, stderr } = command.output().unwrap();
    Ran {
        code: status.code(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// Kills a process that a test started, and reaps it.
pub(crate) fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Sends a signal to a process of a script, by the id that it wrote.
pub(crate) fn signal(pid: &str, signal: Signal) {
    kill_process(Pid::from_raw(pid.trim().parse().unwrap()).unwrap(), signal).unwrap();
}

/// Polls until a condition holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
