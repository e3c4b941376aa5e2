//! The run of a suite in the copy: built first, then run with a time limit; all its processes are ended.

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

/// Interval between two checks for the end of a suite.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Time that killed processes may take to exit.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of lines to show of a failed build.
const SHOWN: usize = 20;

/// The result of a suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SuiteResult {
    Passed(Duration),
    Failed {
        took: Duration,
        /// The failed tests that the harness has named.
        failed: Vec<String>,
    },
    /// It did not end in time.
    Hung {
        /// Tests that the harness reported as still running.
        slow: Vec<String>,
    },
}

/// Builds a suite's tests.
///
/// # Errors
/// The last lines of the compiler's output.
pub(crate) fn build(copy: &SourceCopy, suite: &Suite) -> Result<(), String> {
    let output =
        cargo(copy).args(&suite.cargo).arg("--no-run").output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = stderr.lines().collect();
    Err(lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default().join("\n"))
}

/// Runs a suite that was built. Its output is kept in `target/seeded-bugs/NAME.out` and `NAME.err`.
///
/// # Errors
/// Cargo cannot start, or a killed process does not exit.
pub(crate) fn run(
    copy: &SourceCopy,
    suite: &Suite,
    limit: Duration,
    name: &str,
) -> Result<SuiteResult, Box<dyn Error>> {
    let log = |extension: &str| -> PathBuf { source_copy::folder().join(format!("{name}.{extension}")) };
    // Orphaned processes of the suite become children of this process, where they are found and killed.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let begin = Instant::now();
    // Files, not pipes: a process that is left running would keep a pipe open.
    let cargo = cargo(copy)
        .args(&suite.cargo)
        .arg("--")
        .args(&suite.harness)
        .stdin(Stdio::null())
        .stdout(File::create(log("out"))?)
        .stderr(File::create(log("err"))?)
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
    let printed = String::from_utf8_lossy(&fs::read(log("out"))?).into_owned();
    Ok(match status.map(WaitStatus::exit_status) {
        Some(Some(0)) => SuiteResult::Passed(took),
        Some(_) => SuiteResult::Failed { took, failed: failed(&printed) },
        None => SuiteResult::Hung { slow: slow(&printed) },
    })
}

fn cargo(copy: &SourceCopy) -> Command {
    let mut cargo = workspace::cargo();
    cargo.current_dir(copy.root()).env("CARGO_TARGET_DIR", source_copy::folder().join("target"));
    cargo
}

/// Kills all children of this process, and the orphans that they leave, until none remains.
fn end_children() -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Err(Errno::CHILD) => return Ok(()),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) if begin.elapsed() > EXIT_TIMEOUT => {
                return Err("killed processes of a suite do not exit".into());
            }
            Ok(None) => {
                for child in children()? {
                    // It may have exited already.
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

/// Reads the parent from a line of `/proc/PID/stat`: it follows the name, which may contain anything.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Reads the tests that the harness lists at its end.
fn failed(output: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut lines = output.lines();
    while lines.any(|line| line == "failures:") {
        let listed = lines.by_ref().map_while(|line| line.strip_prefix("    "));
        names.extend(listed.map(str::to_owned));
    }
    names
}

/// Reads the tests that the harness reports as slow.
fn slow(output: &str) -> Vec<String> {
    let lines = output.lines().filter_map(|line| line.split_once(" has been running for over "));
    lines.filter_map(|(test, _)| test.strip_prefix("test ").map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tests_are_read_from_the_last_list_of_a_harness() {
        let output = "running 2 tests\ntest a::b ... FAILED\n\nfailures:\n\n---- a::b stdout ----\n    indented\n\n\
                    failures:\n    a::b\n    c\n\ntest result: FAILED.\n\nfailures:\n    d\n";
        assert_eq!(failed(output), ["a::b", "c", "d"]);
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
