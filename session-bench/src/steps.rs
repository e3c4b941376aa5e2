//! Cost of steps: replayed and new ones as processes, and the first and the last of many in one session.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::quiet;
use crate::report::{Bound, Section};
use crate::stats::{median, millis, quantile};

/// Factor for the number of rounds, because times of processes vary more than those of calls.
const ROUNDS_FACTOR: usize = 30;
/// Rounds that warm up.
const WARM_UP: usize = 10;
/// Steps in one session, of which the first and the last tenth are compared.
const MANY: usize = 10_000;
/// Bytes of a record, for the plain flush next to it.
const RECORD: usize = 300;

/// A session whose program waits, with the variables that its steps need.
pub(crate) struct RunningSession {
    owner: Child,
    folder: PathBuf,
    variables: Vec<(String, String)>,
}

impl RunningSession {
    pub(crate) fn start(sessionctl: &Path, folder: &Path) -> Self {
        let script = "env >env.new; mv env.new env; while ! [ -e end ]; do sleep 0.05; done";
        Self::with(sessionctl, folder, &["run", "--name", "it", "--", "sh", "-c", script])
    }

    fn with(sessionctl: &Path, folder: &Path, args: &[&str]) -> Self {
        let mut command = quiet(sessionctl);
        command.args(args).current_dir(folder);
        command.env("SESSIONCTL_STORE", format!("file:{}", folder.join("store").display()));
        let owner = command.stderr(Stdio::null()).spawn().expect("sessionctl can be run");
        while !folder.join("env").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let text = std::fs::read_to_string(folder.join("env")).expect("the variables can be read");
        let variables = text.lines().filter_map(|line| line.split_once('='));
        let variables = variables.filter(|(name, _)| name.starts_with("SESSIONCTL_"));
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { owner, folder: folder.to_owned(), variables }
    }

    /// Kills the owner, and starts the next attempt.
    pub(crate) fn kill_and_resume(&mut self, sessionctl: &Path) {
        self.owner.kill().expect("the owner runs");
        self.owner.wait().expect("the owner was started here");
        std::fs::remove_file(self.folder.join("env")).expect("the file is there");
        let next = Self::with(sessionctl, &self.folder, &["resume", "it"]);
        self.variables.clone_from(&next.variables);
        self.owner = next.into_owner();
    }

    /// Takes the process out of it, which then ends nothing when it is dropped.
    fn into_owner(mut self) -> Child {
        let nothing = quiet("true").spawn().expect("a program can be run");
        self.folder = PathBuf::from("/nonexistent");
        std::mem::replace(&mut self.owner, nothing)
    }

    /// Returns a command in the environment of the session.
    pub(crate) fn command(&self, sessionctl: &Path) -> Command {
        let mut command = quiet(sessionctl);
        command.envs(self.variables.iter().map(|(name, value)| (name, value))).stderr(Stdio::null());
        command
    }

    /// Returns the command of a step that runs `true`.
    fn step(&self, sessionctl: &Path, name: &str) -> Command {
        let mut command = self.command(sessionctl);
        command.args(["step", name, "--key", name, "--", "true"]);
        command
    }

    pub(crate) fn socket(&self) -> &str {
        let socket = self.variables.iter().find(|(name, _)| name == "SESSIONCTL_SOCKET");
        socket.map(|(_, path)| path.as_str()).expect("a session has a socket")
    }

    /// Runs one step over the protocol, and returns the time from its beginning to its recorded end.
    fn record_step(&self, number: usize) -> Duration {
        let start = Instant::now();
        let stream = UnixStream::connect(self.socket()).expect("the owner listens");
        let mut stream = BufReader::new(stream);
        let mut send = |message: Value| {
            stream.get_mut().write_all(format!("{message}\n").as_bytes()).expect("the owner reads");
            let mut answer = String::new();
            stream.read_line(&mut answer).expect("the owner answers");
            assert!(!answer.contains("error"), "{answer}");
        };
        send(
            json!({ "step": { "version": 1, "name": format!("many-{number}"), "argv": ["true"], "value": false } }),
        );
        send(json!({ "end": { "exit_code": 0 } }));
        start.elapsed()
    }
}

impl Drop for RunningSession {
    fn drop(&mut self) {
        let _ = File::create(self.folder.join("end"));
        let _ = self.owner.wait();
    }
}

/// Measures the steps of a running session.
pub(crate) fn costs(sessionctl: Option<&Path>, folder: &Path, rounds: usize) -> Vec<Section> {
    let Some(sessionctl) = sessionctl else {
        eprintln!("not run: cost of steps, because --sessionctl PATH is missing");
        return Vec::new();
    };
    let folder = tempfile::tempdir_in(folder).expect("a folder can be created");
    eprintln!("cost of steps …");
    let session = RunningSession::start(sessionctl, folder.path());
    let mut plain = File::create(folder.path().join("plain")).expect("a file can be created");
    let record = [b'x'; RECORD];
    let mut flush = || {
        let start = Instant::now();
        plain.write_all(&record).and_then(|()| plain.sync_data()).expect("the disk can be written");
        start.elapsed()
    };
    let run = |mut command: Command| {
        let start = Instant::now();
        let status = command.status().expect("a program can be run");
        assert!(status.success(), "{command:?}: {status}");
        start.elapsed()
    };
    run(session.step(sessionctl, "replayed"));
    let mut times: [Vec<f64>; 4] = Default::default();
    for round in 0..rounds * ROUNDS_FACTOR + WARM_UP {
        let all = [
            run(quiet("true")),
            flush(),
            run(session.step(sessionctl, "replayed")),
            run(session.step(sessionctl, &format!("new-{round}"))),
        ];
        for (times, took) in times.iter_mut().zip(all).filter(|_| round >= WARM_UP) {
            times.push(millis(took));
        }
    }
    let [alone, flushed, replayed, new] = &times;
    let mut section = Section::new("steps as processes", &["p50 ms", "p90 ms", "best ms"]);
    for (name, times) in [
        ("true", alone),
        ("a flush of 300 bytes", flushed),
        ("a replayed step", replayed),
        ("a new step", new),
    ] {
        section.row(name, &[median(times), quantile(times, 0.9), quantile(times, 0.0)]);
    }
    let replay = median(replayed) - median(alone);
    section.target("a replayed step minus true, ms", replay, Bound::AtMost(2.0));
    let more = median(new) - median(replayed) - 2.0 * median(flushed);
    section.target("a new step minus a replayed one and two flushes, ms", more, Bound::AtMost(3.0));
    vec![section, many(&session)]
}

/// Compares the last steps of many with the first.
fn many(session: &RunningSession) -> Section {
    let times: Vec<f64> = (0..MANY).map(|number| millis(session.record_step(number))).collect();
    let (first, last) =
        (times.get(..MANY / 10).unwrap_or_default(), times.get(MANY - MANY / 10..).unwrap_or_default());
    let mut section =
        Section::new(format!("{MANY} steps in one session, over the protocol"), &["p50 ms", "p90 ms"]);
    for (name, times) in [("the first tenth", first), ("the last tenth", last)] {
        section.row(name, &[median(times), quantile(times, 0.9)]);
    }
    section.target("the last tenth to the first", median(last) / median(first), Bound::AtMost(1.3));
    section
}
