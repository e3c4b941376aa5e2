//! Calls of git. The arguments are arrays, the environment has no variable of git but ours, and nothing that only the
//! repository names is run: no hooks, no monitor of the file system, no filters, drivers or helpers.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, BufWriter, Read as _, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Result, WorktreeError};

/// The oldest git that reads attributes from a given tree only, and merges without a worktree.
const NEEDED: &str = "2.41";

/// Settings of every call: a repository cannot have a program run, and git starts no work in the background.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.pager=cat",
    "core.editor=false",
    "core.askPass=false",
    "core.quotePath=false",
    "gpg.program=false",
    "commit.gpgSign=false",
    "log.showSignature=false",
    "diff.external=",
    "maintenance.auto=false",
    "gc.auto=0",
    "advice.graftFileDeprecated=false",
];

/// The most that is read of what a call with a timeout prints.
const OUTPUT_BYTES: u64 = 4 * 1024 * 1024;

/// Settings with which a transport of the repository would run a program.
const TRANSPORT: [&str; 4] = ["core.sshcommand", "core.gitproxy", "credential.helper", "remote.*.vcs"];

/// Git as an installed program.
#[derive(Debug, Clone)]
pub struct Git {
    program: OsString,
}

impl Default for Git {
    fn default() -> Self {
        Self { program: "git".into() }
    }
}

/// The end of a call.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Output {
    /// Returns what git printed as an error, shortened.
    pub(crate) fn reason(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).take(4).collect();
        let mut reason = session_core::text::visible(&lines.join("; ")).into_owned();
        if reason.is_empty() {
            reason = self.code.map_or_else(|| "it was killed".to_owned(), |code| format!("exit code {code}"));
        }
        reason.chars().take(600).collect()
    }

    /// Returns standard output without its last line end.
    pub(crate) fn line(&self) -> &[u8] {
        self.stdout.strip_suffix(b"\n").unwrap_or(&self.stdout)
    }

    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(self.line()))
    }

    /// Splits standard output at its NUL bytes.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &[u8]> {
        self.stdout.split(|byte| *byte == 0).filter(|field| !field.is_empty())
    }
}

/// A call that is about to be made.
pub(crate) struct Call {
    command: Command,
    what: String,
    input: Option<Input>,
    stdin: Option<Stdio>,
    stdout: Option<Stdio>,
    timeout: Option<Duration>,
}

/// Writes the input of a call.
type Input = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

impl Git {
    /// Uses another program than the `git` of `PATH`.
    #[must_use]
    pub fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into() }
    }

    /// Prepares a call in a directory. `what` completes "git cannot …".
    pub(crate) fn call(&self, dir: &Path, what: impl Into<String>) -> Call {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.as_bytes().starts_with(b"GIT_") {
                command.env_remove(name);
            }
        }
        // Not by changing the working directory: if `PATH` names the current folder, a program of the worktree would run.
        command.arg("-C").arg(dir).arg("--no-pager").arg("--no-optional-locks");
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0").env("GIT_NO_REPLACE_OBJECTS", "1");
        Call { command, what: what.into(), input: None, stdin: None, stdout: None, timeout: None }
    }

    /// Checks that git is there, and new enough.
    pub(crate) fn check(&self) -> Result<()> {
        let output = self.call(Path::new("/"), "print its version").args(["version"]).run()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = text.trim().strip_prefix("git version ").unwrap_or_default().to_owned();
        if number(&found) < number(NEEDED) {
            return Err(WorktreeError::GitTooOld { found, needed: NEEDED });
        }
        Ok(())
    }

    /// Returns the programs that only the repository's own configuration names.
    pub(crate) fn unapproved(&self, dir: &Path) -> Result<Unapproved> {
        let pattern = r"^(filter\..*\.(smudge|clean|process)|merge\..*\.driver|diff\..*\.(command|textconv)|core\.sshcommand|core\.gitproxy|credential\..*helper|remote\..*\.(vcs|uploadpack))$";
        let call = self.call(dir, "read the configuration");
        let output = call.args(["config", "-z", "--show-scope", "--get-regexp", pattern]).output()?;
        Ok(Unapproved::parse(&output.stdout))
    }
}

/// The programs that only a repository's own configuration names, and how they are switched off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unapproved {
    pub(crate) settings: Vec<String>,
    /// For people: `filter lfs`, `core.sshcommand`.
    pub(crate) names: BTreeSet<String>,
    /// The settings of the repository: `key=value`, one per line, escaped so that no two configurations have the same text.
    pub(crate) text: String,
}

impl Unapproved {
    /// Parses pairs of a scope and a setting. What the user or the system also names, with the same value, is approved.
    fn parse(listed: &[u8]) -> Self {
        let fields: Vec<&[u8]> = listed.split(|byte| *byte == 0).collect();
        let (mut own, mut others) = (BTreeSet::new(), BTreeSet::new());
        for pair in fields.chunks_exact(2) {
            let [scope, setting] = pair else { continue };
            let is_own = matches!(*scope, b"local" | b"worktree");
            (if is_own { &mut own } else { &mut others }).insert(*setting);
        }
        let mut unapproved = Self::default();
        for setting in own.difference(&others) {
            let mut parts = setting.splitn(2, |byte| *byte == b'\n');
            let (key, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let _ = writeln!(unapproved.text, "{}={}", key.escape_ascii(), value.escape_ascii());
            let key = String::from_utf8_lossy(key).into_owned();
            let subject = subject(&key);
            let is_filter = subject.starts_with("filter.");
            if !unapproved.names.insert(subject.replacen('.', " ", usize::from(is_filter))) {
                continue;
            }
            if is_filter {
                for (key, value) in [("smudge", ""), ("clean", ""), ("process", ""), ("required", "false")] {
                    unapproved.settings.push(format!("{subject}.{key}={value}"));
                }
            } else if TRANSPORT.contains(&subject.as_str()) || subject.starts_with("credential.") {
                let value = if subject.starts_with("core.") { "false" } else { "" };
                unapproved.settings.push(format!("{subject}={value}"));
            } else {
                unapproved.settings.push(format!("{subject}=false"));
            }
        }
        unapproved
    }
}

/// Returns the part of a setting's name that is switched off as a whole: all settings of a filter are one.
fn subject(key: &str) -> String {
    match key.strip_prefix("filter.").and_then(|rest| rest.rsplit_once('.')) {
        Some((name, _)) => format!("filter.{name}"),
        None => key.to_owned(),
    }
}

impl Call {
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Keeps a lock for as long as git runs, even if this process is killed.
    pub(crate) fn holding(mut self, lock: impl AsFd) -> Result<Self> {
        let copy = lock.as_fd().try_clone_to_owned();
        // Git reads nothing from it.
        let copy = copy
            .map_err(|error| WorktreeError::Git { what: "be run".to_owned(), reason: error.to_string() })?;
        self.stdin = Some(copy.into());
        Ok(self)
    }

    /// Adds settings. They come before the arguments.
    pub(crate) fn settings<S: AsRef<OsStr>>(mut self, settings: impl IntoIterator<Item = S>) -> Self {
        for setting in settings {
            self.command.arg("-c").arg(setting);
        }
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Fetches nothing, even if an object of a partial clone is missing.
    pub(crate) fn offline(self) -> Self {
        self.env("GIT_NO_LAZY_FETCH", "1").env("GIT_ALLOW_PROTOCOL", "none")
    }

    /// Kills git after this time, and reads at most 4 MiB of what it prints: for repositories of strangers, where a device in
    /// place of a file would block it for ever.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Passes bytes to standard input.
    pub(crate) fn input(self, input: Vec<u8>) -> Self {
        self.stream(move |out| out.write_all(&input))
    }

    /// Passes what this function writes to standard input. It runs in a thread of its own: git may print before it has read
    /// everything.
    pub(crate) fn stream(
        mut self,
        input: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.input = Some(Box::new(input));
        self
    }

    /// Discards standard output.
    pub(crate) fn silent(mut self) -> Self {
        self.stdout = Some(Stdio::null());
        self
    }

    /// Runs git to its end, whatever its exit code.
    ///
    /// # Errors
    /// If git cannot be started, or its input not written for another reason than that it has ended.
    pub(crate) fn output(mut self) -> Result<Output> {
        let failed = |error: io::Error| {
            if error.kind() == io::ErrorKind::NotFound {
                return WorktreeError::GitMissing;
            }
            WorktreeError::Git { what: self.what.clone(), reason: error.to_string() }
        };
        let piped = if self.input.is_none() { Stdio::null() } else { Stdio::piped() };
        let stdout = self.stdout.take().unwrap_or_else(Stdio::piped);
        self.command.stdin(self.stdin.take().unwrap_or(piped)).stdout(stdout).stderr(Stdio::piped());
        let mut child = self.command.spawn().map_err(failed)?;
        let writer = match (child.stdin.take(), self.input.take()) {
            (Some(stdin), Some(input)) => {
                let write = move || {
                    let mut out = BufWriter::with_capacity(1 << 16, stdin);
                    input(&mut out)?;
                    out.flush()
                };
                Some(std::thread::Builder::new().spawn(write).map_err(failed)?)
            }
            _ => None,
        };
        let output = match self.timeout {
            Some(timeout) => wait_at_most(child, timeout),
            None => child.wait_with_output(),
        }
        .map_err(failed)?;
        if let Some(Err(error)) = writer.and_then(|writer| writer.join().ok())
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(failed(error));
        }
        Ok(Output { code: output.status.code(), stdout: output.stdout, stderr: output.stderr })
    }

    /// Runs git, which has to succeed, and passes what it prints to this function.
    ///
    /// # Errors
    /// Those of [`run`](Self::run); an error of the function.
    pub(crate) fn read(mut self, read: impl FnOnce(&mut dyn BufRead) -> io::Result<()>) -> Result<()> {
        let what = self.what.clone();
        let failed = |error: io::Error| WorktreeError::Git { what: what.clone(), reason: error.to_string() };
        let (reader, writer) = io::pipe().map_err(failed)?;
        self.stdout = Some(writer.into());
        // Git ends when nothing reads what it prints.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, || self.run()).map_err(failed)?;
            let read = read(&mut BufReader::with_capacity(1 << 16, reader)).map_err(failed);
            match thread.join() {
                Ok(ran) => ran.and(read),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs git, which has to succeed, with its output as the input of a second call, and returns the output of that one.
    ///
    /// # Errors
    /// Those of [`run`](Self::run), of both.
    pub(crate) fn pipe_into(mut self, mut next: Self) -> Result<Output> {
        let what = self.what.clone();
        let failed = |error: io::Error| WorktreeError::Git { what: what.clone(), reason: error.to_string() };
        let (reader, writer) = io::pipe().map_err(failed)?;
        (self.stdout, next.stdin) = (Some(writer.into()), Some(reader.into()));
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, || self.run()).map_err(failed)?;
            let output = next.run();
            match thread.join() {
                Ok(ran) => ran.and(output),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs git, which has to succeed.
    ///
    /// # Errors
    /// [`WorktreeError::Git`] for any other exit code than 0.
    pub(crate) fn run(self) -> Result<Output> {
        let what = self.what.clone();
        let output = self.output()?;
        if output.code == Some(0) {
            return Ok(output);
        }
        Err(WorktreeError::Git { what, reason: output.reason() })
    }
}

/// Waits for the end of a child like `wait_with_output`, and kills it after `timeout`.
fn wait_at_most(mut child: Child, timeout: Duration) -> io::Result<process::Output> {
    let readers = reader(child.stdout.take()).and_then(|out| Ok((out, reader(child.stderr.take())?)));
    let (stdout, stderr) = match readers {
        Ok(readers) => readers,
        Err(error) => {
            child.kill().and_then(|()| child.wait())?;
            return Err(error);
        }
    };
    let deadline = Instant::now() + timeout;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            // The readers are not waited for: a child of git may keep the pipes open.
            child.kill().and_then(|()| child.wait())?;
            let message = format!("it did not end within {} s", timeout.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let join = |reader: JoinHandle<Vec<u8>>| reader.join().unwrap_or_default();
    Ok(process::Output { status, stdout: join(stdout), stderr: join(stderr) })
}

/// Reads a pipe in a thread, so that the child does not block on a full one.
fn reader(pipe: Option<impl io::Read + Send + 'static>) -> io::Result<JoinHandle<Vec<u8>>> {
    std::thread::Builder::new().name("session-git".to_owned()).spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // After an error, the bytes read before it are used.
            let _ = pipe.take(OUTPUT_BYTES).read_to_end(&mut bytes);
        }
        bytes
    })
}

/// Returns the first two numbers of a version.
fn number(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(number("2.47.3") > number(NEEDED));
        assert!(number("2.41.0.windows.1") >= number(NEEDED));
        assert!(number("2.9.5") < number(NEEDED));
        assert!(number("") < number(NEEDED));
    }

    /// A device in place of `HEAD` blocked the import of an old store.
    #[test]
    fn a_git_that_does_not_end_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("git");
        let pid = folder.path().join("pid");
        std::fs::write(&program, format!("#!/bin/sh\necho $$ >{}\nexec sleep 100\n", pid.display())).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let call = Git::new(program).call(folder.path(), "read it");
        let error = call.timeout(Duration::from_secs(1)).output().unwrap_err();
        assert_eq!(error.to_string(), "git cannot read it: it did not end within 1 s");
        let pid = std::fs::read_to_string(pid).unwrap();
        assert!(!Path::new("/proc").join(pid.trim()).exists(), "git is still running");
    }

    #[test]
    fn what_the_user_names_too_is_approved() {
        let listed = b"global\0filter.lfs.smudge\ngit-lfs smudge\0local\0filter.lfs.smudge\ngit-lfs smudge\0\
            local\0filter.evil.x.process\nrm -rf /\0local\0core.sshcommand\nx\0worktree\0merge.m.driver\ny\nz\0";
        let unapproved = Unapproved::parse(listed);
        let names: Vec<&str> = unapproved.names.iter().map(String::as_str).collect();
        assert_eq!(names, ["core.sshcommand", "filter evil.x", "merge.m.driver"]);
        assert!(unapproved.settings.contains(&"filter.evil.x.process=".to_owned()), "{unapproved:?}");
        assert!(unapproved.settings.contains(&"core.sshcommand=false".to_owned()));
        assert!(!unapproved.settings.iter().any(|setting| setting.contains("lfs")));
        assert_eq!(
            unapproved.text,
            "core.sshcommand=x\nfilter.evil.x.process=rm -rf /\nmerge.m.driver=y\\nz\n"
        );
    }

    /// A repository replaced the program of a filter that the user has.
    #[test]
    fn another_program_under_the_users_name_is_not_approved() {
        let listed = b"global\0filter.lfs.smudge\ngit-lfs smudge\0local\0filter.lfs.smudge\nrm -rf /\0";
        assert_eq!(Unapproved::parse(listed).text, "filter.lfs.smudge=rm -rf /\n");
    }
}
