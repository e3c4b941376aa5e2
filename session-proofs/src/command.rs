//! `sessionctl` as the proofs call it: on one store, with an environment of its own, and never longer than a limit.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};
use serde_json::Value;
use session_core::ErrorCode;

/// Time after which a call is a hang.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The variable that every process of a proof inherits, by which it is found.
pub(crate) const TAG: &str = "SESSION_PROOF_TAG";

/// A store and the environment in which it is used.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) binary: PathBuf,
    pub(crate) backend: &'static str,
    pub(crate) store: PathBuf,
    /// Holds the folder of sockets and a home.
    pub(crate) folder: PathBuf,
    pub(crate) tag: String,
}

/// The end of a call.
#[derive(Debug)]
pub(crate) struct Output {
    /// The exit code, or 128 and the number of the signal. `None` after a hang.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    /// The call was killed on purpose.
    pub(crate) killed: bool,
}

/// The treatment of a call that takes long.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// It is a hang.
    Limit,
    /// It is killed on purpose at this moment: the process alone, or its group.
    Kill { after: Duration, group: bool },
}

impl Place {
    pub(crate) fn url(&self) -> String {
        format!("{}:{}", self.backend, self.store.display())
    }

    /// Creates the folders that a call expects.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        for name in ["run", "home", "tmp"] {
            fs::create_dir_all(self.folder.join(name))?;
        }
        fs::set_permissions(self.folder.join("run"), fs::Permissions::from_mode(0o700))
    }

    /// Sets the environment: nothing of this process's own but `PATH`.
    pub(crate) fn environment(&self, command: &mut Command) {
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.folder.join("home")).env("TMPDIR", self.folder.join("tmp"));
        command.env("XDG_RUNTIME_DIR", self.folder.join("run")).env("LANG", "C").env(TAG, &self.tag);
        command.env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--store").arg(self.url()).args(args);
        self.environment(&mut command);
        command
    }

    pub(crate) fn call(&self, args: &[&str]) -> io::Result<Output> {
        finish(self.command(args), &self.folder, Patience::Limit)
    }

    /// Lists all sessions.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub(crate) fn heads(&self) -> Result<Vec<Value>, String> {
        let output = self.call(&["ls", "--all", "--json"]).map_err(|error| error.to_string())?;
        let heads = serde_json::from_str::<Vec<Value>>(&output.out);
        match heads {
            Ok(heads) if output.code == Some(0) => Ok(heads),
            _ => Err(format!("ls: {}", output.describe())),
        }
    }

    /// Lists what `verify` finds wrong: nothing in a store that lost no acknowledged record.
    pub(crate) fn verify(&self) -> Result<Vec<String>, String> {
        let output = self.call(&["verify", "--json"]).map_err(|error| error.to_string())?;
        let Ok(report) = serde_json::from_str::<Value>(&output.out) else {
            return Err(format!("verify: {}", output.describe()));
        };
        let mut wrong = Vec::new();
        for session in report.get("sessions").and_then(Value::as_array).into_iter().flatten() {
            if !matches!(text(session, "verdict"), "healthy" | "torn") {
                wrong.push(format!("verdict {}: {session}", text(session, "verdict")));
            }
        }
        wrong.extend(
            report
                .get("problems")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|problem| format!("problem {problem}")),
        );
        if wrong.is_empty() && output.code != Some(0) {
            wrong.push(format!("verify: {}", output.describe()));
        }
        Ok(wrong)
    }
}

impl Output {
    /// Returns the code of the error that the call has named.
    pub(crate) fn error_code(&self) -> Option<&'static str> {
        let json = |code: &str| format!("\"code\":\"{code}\"");
        let named = |code: &&str| self.err.contains(&format!("[{code}]")) || self.err.contains(&json(code));
        ErrorCode::ALL.iter().map(|code| code.as_str()).find(named)
    }

    pub(crate) fn describe(&self) -> String {
        let code = self.code.map_or_else(|| "hang".to_owned(), |code| format!("exit code {code}"));
        let err: String = self.err.chars().take(400).collect();
        format!("{code}, stderr {err:?}")
    }

    /// Returns `true` after a panic of our own. sled 0.34 panics in its threads where a flush fails; our threads catch
    /// that, and the result is judged as any other.
    pub(crate) fn panicked(&self) -> bool {
        let of_sled = |line: &&str| line.contains("/sled-0.34.7/");
        let mut panics = self.err.lines().filter(|line| line.contains("panicked at"));
        self.code == Some(101) || self.code == Some(134) || panics.any(|line| !of_sled(&line))
    }
}

/// Returns a text of a JSON object, empty if it has none.
pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Returns a number of a JSON object, 0 if it has none.
pub(crate) fn number(value: &Value, name: &str) -> f64 {
    value.get(name).and_then(Value::as_f64).unwrap_or(0.0)
}

/// Runs a command to its end. Its output goes to files: a process that it leaves behind does not hold it up.
pub(crate) fn finish(mut command: Command, folder: &Path, patience: Patience) -> io::Result<Output> {
    let (mut out, mut err) = (tempfile::tempfile_in(folder)?, tempfile::tempfile_in(folder)?);
    command.stdout(out.try_clone()?).stderr(err.try_clone()?).process_group(0);
    let mut child = command.spawn()?;
    let (limit, group) = match patience {
        Patience::Limit => (LIMIT, true),
        Patience::Kill { after, group } => (after, group),
    };
    let ended = wait(&mut child, limit)?;
    if !ended {
        let pid = Pid::from_child(&child);
        let _ = if group { kill_process_group(pid, Signal::KILL) } else { kill_process(pid, Signal::KILL) };
    }
    let status = child.wait()?;
    let hang = !ended && matches!(patience, Patience::Limit);
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(Output {
        code: code.filter(|_| !hang),
        out: content(&mut out)?,
        err: content(&mut err)?,
        killed: !ended && !hang,
    })
}

/// Waits for the end of a process without reaping it. Returns `false` when the time is up.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> io::Result<bool> {
    let descriptor = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout =
            Timespec { tv_sec: left.as_secs().try_into().unwrap_or(0), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn content(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
