//! A process of the test's own: this test program, started again with a role.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const ROLE: &str = "SESSION_SLED_ROLE";
const STORE: &str = "SESSION_SLED_STORE";
/// Begins each line that is meant for the test, among those of the test harness.
const MARK: &str = "\u{1}";

/// The role of this process and its store; `None` for the tests themselves.
pub(crate) fn role() -> Option<(String, std::path::PathBuf)> {
    Some((std::env::var(ROLE).ok()?, std::env::var_os(STORE)?.into()))
}

pub(crate) fn say(line: &str) {
    // One write: a line is said whole or not at all.
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("{MARK}{line}\n").as_bytes()).unwrap();
    stdout.flush().unwrap();
}

/// The command that starts a process with a role.
pub(crate) fn command(program: &mut Command, role: &str, store: &Path) {
    program
        .args(["--exact", "process_with_a_role", "--nocapture"])
        .env(ROLE, role)
        .env(STORE, store)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
}

pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    pub(crate) heard: Vec<String>,
}

impl Process {
    pub(crate) fn start(role: &str, store: &Path, quiet: bool) -> Self {
        let mut program = Command::new(std::env::current_exe().unwrap());
        command(&mut program, role, store);
        if quiet {
            program.stderr(Stdio::null());
        }
        let mut child = program.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let Ok(line) = line else { break };
                if let Some((_, line)) = line.split_once(MARK)
                    && sender.send(line.to_owned()).is_err()
                {
                    break;
                }
            }
        });
        Self { child, lines, heard: Vec::new() }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it says, if it says one in time.
    pub(crate) fn line(&mut self, patience: Duration) -> Option<String> {
        let line = self.lines.recv_timeout(patience).ok()?;
        self.heard.push(line.clone());
        Some(line)
    }

    /// Ends it at once; all that it said is heard then.
    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        self.child.wait().unwrap();
        self.heard.extend(self.lines.iter());
    }

    /// Waits for its end; `None` if that does not come in time.
    pub(crate) fn end(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.heard.extend(self.lines.iter());
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
