//! A suite run in the copy: built first, then run within a limit, and nothing of it left running.

use std::error::Error;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use super::bug::Suite;
use super::source_copy::{self, SourceCopy};
use crate::workspace;

/// How often is looked whether a suite has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long processes that were killed may take to be gone.
const GONE: Duration = Duration::from_secs(10);
/// Lines of a failed build that are shown.
const SHOWN: usize = 20;

/// How a suite went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SuiteResult {
    Green(Duration),
    Red {
        took: Duration,
        /// The tests that failed, as far as the harness came to name them.
        failed: Vec<String>,
    },
    /// It came to no end in time.
    Hung {
        /// Tests that the harness said it was still waiting for.
        slow: Vec<String>,
    },
}

/// Builds a suite's tests.
///
/// # Errors
/// The end of what the compiler said.
pub(crate) fn build(tree: &SourceCopy, suite: &Suite) -> Result<(), String> {
    let output =
        cargo(tree).args(&suite.cargo).arg("--no-run").output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    Err(lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default().join("\n"))
}

/// Runs a suite that was built. What it prints is kept in `target/seeded-bugs/NAME.out` and `NAME.err`.
///
/// # Errors
/// Where Cargo does not start, or a process that was killed does not go.
pub(crate) fn run(
    tree: &SourceCopy,
    suite: &Suite,
    limit: Duration,
    name: &str,
) -> Result<SuiteResult, Box<dyn Error>> {
    let kept = |ending: &str| -> PathBuf { source_copy::folder().join(format!("{name}.{ending}")) };
    // What a bug leaves running becomes a child of this process, and is found.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let begin = Instant::now();
    // Files, not pipes: what is left running would hold a pipe open.
    let cargo = cargo(tree)
        .args(&suite.cargo)
        .arg("--")
        .args(&suite.harness)
        .stdin(Stdio::null())
        .stdout(File::create(kept("out"))?)
        .stderr(File::create(kept("err"))?)
        .spawn()?;
    let cargo = Pid::from_raw(i32::try_from(cargo.id())?);
    let mut status = None;
    while status.is_none() && begin.elapsed() < limit {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, ended))) if Some(pid) == cargo => status = Some(ended),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => std::thread::sleep(POLL_INTERVAL),
            Err(error) => return Err(error.into()),
        }
    }
    let took = begin.elapsed();
    end_children()?;
    let said = String::from_utf8_lossy(&fs::read(kept("out"))?).into_owned();
    Ok(match status.map(WaitStatus::exit_status) {
        Some(Some(0)) => SuiteResult::Green(took),
        Some(_) => SuiteResult::Red { took, failed: failed(&said) },
        None => SuiteResult::Hung { slow: slow(&said) },
    })
}

fn cargo(tree: &SourceCopy) -> Command {
    let mut cargo = workspace::cargo();
    cargo.current_dir(tree.root()).env("CARGO_TARGET_DIR", source_copy::folder().join("target"));
    cargo
}

/// Kills all children of this process, and those that they leave behind, until there are none.
fn end_children() -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Err(Errno::CHILD) => return Ok(()),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) if begin.elapsed() > GONE => {
                return Err("processes of a suite do not go although they were killed".into());
            }
            Ok(None) => {
                for child in children()? {
                    // It may have ended meanwhile.
                    let _ = rustix::process::kill_process(child, Signal::KILL);
                }
                std::thread::sleep(POLL_INTERVAL);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn children() -> Result<Vec<Pid>, Box<dyn Error>> {
    let me = std::process::id();
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let parent = fs::read_to_string(format!("/proc/{pid}/stat")).ok().as_deref().and_then(parent);
        if parent == Some(me) {
            children.extend(Pid::from_raw(pid));
        }
    }
    Ok(children)
}

/// The parent in a line of `/proc/PID/stat`: behind the name, which may hold anything.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The tests that a harness names at its end.
fn failed(said: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut lines = said.lines();
    while lines.any(|line| line == "failures:") {
        let listed = lines.by_ref().map_while(|line| line.strip_prefix("    "));
        names.extend(listed.map(str::to_owned));
    }
    names
}

fn slow(said: &str) -> Vec<String> {
    let lines = said.lines().filter_map(|line| line.split_once(" has been running for over "));
    lines.filter_map(|(test, _)| test.strip_prefix("test ").map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_that_failed_are_those_of_the_last_list_of_each_harness() {
        let said = "running 2 tests\ntest a::b ... FAILED\n\nfailures:\n\n---- a::b stdout ----\n    indented\n\n\
                    failures:\n    a::b\n    c\n\ntest result: FAILED.\n\nfailures:\n    d\n";
        assert_eq!(failed(said), ["a::b", "c", "d"]);
        assert_eq!(failed("test a ... ok\n"), [""; 0]);
    }

    #[test]
    fn a_slow_test_is_named() {
        assert_eq!(slow("test a ... ok\ntest b::c has been running for over 60 seconds\n"), ["b::c"]);
    }

    #[test]
    fn a_hostile_name_does_not_hide_the_parent() {
        assert_eq!(parent("12 (a) S 1 (b) ) R 34 5 6"), Some(34));
        assert_eq!(parent("12 (a"), None);
    }
}
