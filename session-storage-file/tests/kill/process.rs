//! A child process that exchanges lines with the test. The test waits for lines, never for time.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::roles;

/// A seeded generator (`SplitMix64`, Steele, Lea and Flood 2014).
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    /// All lines received so far.
    pub(crate) received: Vec<String>,
}

impl Process {
    pub(crate) fn start(role: &str, store: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process_with_a_role", "--nocapture"])
            .env(roles::ROLE, role)
            .env(roles::STORE, store)
            .env(roles::ARGUMENT, arguments.first().copied().unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let Ok(line) = line else { break };
                // With one thread the test harness prints the name of the test first, on the same line.
                if let Some((_, line)) = line.split_once(roles::MARK)
                    && sender.send(line.to_owned()).is_err()
                {
                    break;
                }
            }
        });
        Self { child, stdin, lines, received: Vec::new() }
    }

    /// Waits for the next line.
    pub(crate) fn line(&mut self, timeout: Duration) -> String {
        let line = self.lines.recv_timeout(timeout).unwrap_or_else(|error| {
            panic!("the process sent nothing more ({error}) after {:?}", self.received.last())
        });
        self.received.push(line.clone());
        line
    }

    /// Returns the rest of the first line, received or to come, that starts with `prefix`.
    pub(crate) fn value_of(&mut self, prefix: &str, timeout: Duration) -> String {
        let after = |line: &String| line.strip_prefix(prefix).map(|rest| rest.trim_start().to_owned());
        if let Some(value) = self.received.iter().find_map(after) {
            return value;
        }
        loop {
            let line = self.line(timeout);
            if let Some(value) = after(&line) {
                return value;
            }
        }
    }

    /// Returns `true` if it has sent this line; does not wait for later ones.
    pub(crate) fn has_sent(&mut self, prefix: &str, text: &str) -> bool {
        while let Ok(line) = self.lines.try_recv() {
            self.received.push(line);
        }
        self.received
            .iter()
            .any(|line| line.strip_prefix(prefix).is_some_and(|rest| rest.trim_start() == text))
    }

    pub(crate) fn send(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends SIGSTOP, and returns once the process is stopped.
    pub(crate) fn sigstop(&self) {
        self.signal(Signal::STOP);
        let path = format!("/proc/{}/stat", self.child.id());
        while !std::fs::read_to_string(&path).unwrap().contains(") T ") {
            std::thread::yield_now();
        }
    }

    pub(crate) fn sigcont(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills it, and returns the lines that were not received yet.
    pub(crate) fn kill(&mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.iter().collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have exited by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
