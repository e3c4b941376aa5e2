//! Reads from git the branch of a worktree and the times of its first and last use. Git runs isolated: without hooks,
//! without the configuration of user and system, without network, and without writing.

use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use session_core::Timestamp;

/// Timeout of one call of git.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum bytes of the output that are read.
const OUTPUT_BYTES: u64 = 4 * 1024 * 1024;

/// Overrides of settings with which a repository could run programs or use the network.
const NEUTRAL_CONFIG: &[&str] = &[
    "core.hooksPath=.git-has-no-hooks-here",
    "core.fsmonitor=false",
    "core.pager=cat",
    "core.sshCommand=false",
    "core.askPass=false",
    "core.editor=false",
    "credential.helper=",
    "gpg.program=false",
    "log.showSignature=false",
    "log.mailmap=false",
    "maintenance.auto=false",
    "gc.auto=0",
    "protocol.allow=never",
];

/// The data that git has about a worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Worktree {
    /// The name of its folder.
    pub(crate) name: String,
    pub(crate) path: String,
    /// `None` if no branch is checked out.
    pub(crate) branch: Option<String>,
    pub(crate) created: Option<Timestamp>,
    pub(crate) last: Option<Timestamp>,
    pub(crate) notes: Vec<String>,
}

impl Worktree {
    /// Reads the worktree at this path from git.
    pub(crate) fn inspect(git: &str, name: &str, path: &Path) -> Result<Self, String> {
        let text = path.to_str().ok_or("has a path that is not UTF-8")?.to_owned();
        let run = |arguments: &[&str]| run_git(git, path, arguments);
        let top = run(&["rev-parse", "--show-toplevel"])?.into_stdout()?;
        // For a folder that is no worktree, git reports the enclosing worktree.
        if Path::new(top.trim_end()) != path {
            return Err("is not a git worktree".to_owned());
        }
        let branch = match run(&["symbolic-ref", "--quiet", "--short", "HEAD"])? {
            Output { code: Some(1), .. } => None,
            output => Some(output.into_stdout()?.trim_end().to_owned()),
        };
        let mut worktree =
            Self { name: name.to_owned(), path: text, branch, created: None, last: None, notes: Vec::new() };
        let reflog =
            run(&["log", "--walk-reflogs", "--no-patch", "--date=unix", "--format=%gd", "HEAD", "--"])?;
        let mut times = reflog.out.lines().filter_map(reflog_time);
        worktree.last = times.next();
        worktree.created = times.next_back().or(worktree.last);
        if worktree.last.is_none() {
            let commit = run(&["log", "-1", "--no-patch", "--format=%ct", "HEAD", "--"])?;
            worktree.last = commit.out.trim().parse().ok().and_then(seconds);
            worktree.created = worktree.last;
            worktree.notes.push(match worktree.last {
                Some(_) => "git has no reflog of it: the time of its commit is used".to_owned(),
                None => "git has no times for it".to_owned(),
            });
        }
        Ok(worktree)
    }
}

/// Parses the time in `HEAD@{1740823200}`.
fn reflog_time(line: &str) -> Option<Timestamp> {
    seconds(line.strip_suffix('}')?.rsplit_once("@{")?.1.parse().ok()?)
}

fn seconds(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_millis(seconds.checked_mul(1000)?)
}

struct Output {
    code: Option<i32>,
    out: String,
    stderr: String,
}

impl Output {
    fn into_stdout(self) -> Result<String, String> {
        if self.code == Some(0) {
            return Ok(self.out);
        }
        let reason = self.stderr.lines().next().unwrap_or_default();
        Err(format!("cannot be read by git: {}", reason.chars().take(200).collect::<String>()))
    }
}

fn command(git: &str, path: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(git);
    // Not by changing the working directory: if `PATH` names the current folder, a program of the worktree would run.
    command.arg("-C").arg(path).env_clear();
    if let Some(programs) = std::env::var_os("PATH") {
        command.env("PATH", programs);
    }
    command
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        // A list of allowed protocols that contains none.
        .env("GIT_ALLOW_PROTOCOL", "none")
        .arg("--no-pager");
    for setting in NEUTRAL_CONFIG {
        command.args(["-c", setting]);
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs git with a timeout.
fn run_git(git: &str, path: &Path, arguments: &[&str]) -> Result<Output, String> {
    let failed = |error: io::Error| {
        if error.kind() == io::ErrorKind::NotFound {
            return "git is not installed, which is needed to read it".to_owned();
        }
        format!("cannot run git: {error}")
    };
    let mut child = command(git, path, arguments).spawn().map_err(failed)?;
    let readers = reader(child.stdout.take()).and_then(|out| Ok((out, reader(child.stderr.take())?)));
    let (out, stderr) = match readers {
        Ok(readers) => readers,
        Err(error) => {
            let _ = child.kill().and_then(|()| child.wait());
            return Err(failed(error));
        }
    };
    let code = wait(&mut child).map_err(failed)?.ok_or("cannot be read by git in time")?;
    Ok(Output { code: code.code(), out: text(out), stderr: text(stderr) })
}

/// Reads on a thread, so that the process does not block on a full pipe.
fn reader(pipe: Option<impl io::Read + Send + 'static>) -> io::Result<std::thread::JoinHandle<Vec<u8>>> {
    std::thread::Builder::new().name("session-git".to_owned()).spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // After an error, the bytes read before it are used.
            let _ = pipe.take(OUTPUT_BYTES).read_to_end(&mut bytes);
        }
        bytes
    })
}

fn text(reader: std::thread::JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
}

fn wait(child: &mut Child) -> io::Result<Option<std::process::ExitStatus>> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// `GIT_DIR` and many other variables would let git read another repository, or run a program.
    #[test]
    fn git_gets_no_variables_of_the_user() {
        let folder = tempfile::tempdir().unwrap();
        let git = folder.path().join("git");
        std::fs::write(&git, "#!/bin/sh\nexec env\n").unwrap();
        std::fs::set_permissions(&git, std::fs::Permissions::from_mode(0o700)).unwrap();
        let printed = run_git(git.to_str().unwrap(), folder.path(), &["log"]).unwrap().into_stdout().unwrap();
        assert!(printed.contains("GIT_OPTIONAL_LOCKS=0"), "{printed}");
        // Cargo sets it for its tests.
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some() && !printed.contains("CARGO_PKG_NAME"));
    }
}
