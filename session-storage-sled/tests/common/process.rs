//! A child process of a test: this test program, started again with a role.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const ROLE: &str = "SESSION_SLED_ROLE";
const STORE: &str = "SESSION_SLED_STORE";
/// The prefix of lines for the test, among those of the test harness.
const MARK: &str = "\u{1}";

/// Returns the role of this process and its store; `None` in the tests themselves.
pub(crate) fn role() -> Option<(String, std::path::PathBuf)> {
    Some((std::env::var(ROLE).ok()?, std::env::var_os(STORE)?.into()))
}

pub(crate) fn print_line(line: &str) {
    // One write: a line is printed completely or not at all.
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("{MARK}{line}\n").as_bytes()).unwrap();
    stdout.flush().unwrap();
}

/// Keeps what is open until this process is killed.
pub(crate) fn hold<T>(_open: T) -> ! {
    print_line("open");
    loop {
        std::thread::park();
    }
}

/// Sets up a command that starts a process with a role.
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
    pub(crate) received: Vec<String>,
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
        Self { child, lines, received: Vec::new() }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Receives the next line, if it comes in time.
    pub(crate) fn line(&mut self, timeout: Duration) -> Option<String> {
        let line = self.lines.recv_timeout(timeout).ok()?;
        self.received.push(line.clone());
        Some(line)
    }

    /// Kills the process and receives its remaining lines.
    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        self.child.wait().unwrap();
        self.received.extend(self.lines.iter());
    }

    /// Waits for the process to end; `None` if it does not end in time.
    pub(crate) fn end(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.received.extend(self.lines.iter());
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
