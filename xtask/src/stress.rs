//! `cargo xtask stress`: every test many times, each in a process of its own, more of them at a time than the machine has
//! processors. A test that waits for a time, a signal or a process shows here whether it only does so on an idle machine.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::args::{Args, Usage};
use crate::console::Outcome;
use crate::subcommand::Subcommand;
use crate::workspace::{cargo, root};

/// Time after which a test is ended and has failed.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Interval of looking at a running test.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The folder for the outputs of failed tests.
const OUTPUTS: &str = "target/stress";

pub(crate) const COMMAND: Subcommand = Subcommand {
    name: "stress",
    usage: "[--rounds N] [--parallel P] [--longest SECONDS] [TARGET…]",
    summary: "Run each test many times on a loaded machine",
    about: "\
Builds the tests as `cargo xtask test` does, and runs each of them N times, in a process of its own
and P at a time. The order is another one in each round. The output of a failed run is kept in
target/stress. A test that takes longer than --longest in the first round runs only once.",
    options: &[
        ("--rounds N", "runs of each test (default: 10)"),
        ("--parallel P", "tests at a time (default: 10)"),
        ("--longest SECONDS", "time of a test that runs in each round (default: 15)"),
        ("TARGET…", "test targets, such as `ctl`, or crates, for their unit tests (default: all)"),
    ],
    examples: &[("cargo xtask stress --rounds 200 steps terminal", "the tests of steps and terminals")],
    run,
};

/// A test, by its target and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Test {
    target: String,
    name: String,
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.target, self.name)
    }
}

/// A program with tests.
#[derive(Debug, Clone)]
struct Program {
    target: String,
    path: PathBuf,
    /// The folder of its crate, in which Cargo starts tests.
    folder: PathBuf,
}

fn run(mut args: Args) -> Outcome {
    let rounds: u64 = args.option("--rounds")?.unwrap_or(10);
    let parallel: usize = args.option("--parallel")?.unwrap_or(10);
    let longest = Duration::from_secs(args.option("--longest")?.unwrap_or(15));
    let targets = args.names()?;
    let programs = programs()?;
    if let Some(unknown) = targets.iter().find(|name| programs.iter().all(|program| program.target != **name))
    {
        return Err(Usage::error(format!("there is no target `{unknown}`")));
    }
    let mut tests = BTreeMap::new();
    for program in programs.iter().filter(|program| targets.is_empty() || targets.contains(&program.target)) {
        for name in names(program)? {
            tests.insert(Test { target: program.target.clone(), name }, program.clone());
        }
    }
    eprintln!("{} tests, {rounds} times, {parallel} at a time", tests.len());
    fs::create_dir_all(root().join(OUTPUTS))?;
    let mut times: BTreeMap<Test, Duration> = BTreeMap::new();
    let mut failures: BTreeMap<Test, u64> = BTreeMap::new();
    for round in 1..=rounds {
        let begin = Instant::now();
        let is_short = |test: &Test| times.get(test).is_none_or(|time| *time <= longest);
        let mut queue: Vec<(&Test, &Program)> = tests.iter().filter(|(test, _)| is_short(test)).collect();
        shuffle(&mut queue, round);
        let count = queue.len();
        for (test, result) in run_all(queue, parallel, round)? {
            times.entry(test.clone()).or_insert(result.took);
            if !result.passed {
                eprintln!("round {round}: {test} failed after {:.1} s", result.took.as_secs_f64());
                *failures.entry(test).or_default() += 1;
            }
        }
        eprintln!("round {round}: {count} tests in {} s", begin.elapsed().as_secs());
    }
    for (test, times) in &failures {
        eprintln!("{times} of {rounds} failed: {test}");
    }
    if failures.is_empty() { Ok(()) } else { Err(format!("{} tests failed", failures.len()).into()) }
}

/// The end of one run of a test.
#[derive(Debug, Clone, Copy)]
struct Ran {
    passed: bool,
    took: Duration,
}

/// Runs the tests of a round, so many at a time.
fn run_all(
    queue: Vec<(&Test, &Program)>,
    parallel: usize,
    round: u64,
) -> Result<Vec<(Test, Ran)>, Box<dyn Error>> {
    let (queue, results) = (Mutex::new(queue), Mutex::new(Vec::new()));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let work = || {
        while let Some((test, program)) = next() {
            let ran = run_one(test, program, round).map_err(|error| format!("{test}: {error}"))?;
            results.lock().unwrap_or_else(PoisonError::into_inner).push((test.clone(), ran));
        }
        Ok::<(), String>(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..parallel.max(1)).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err("it panicked".to_owned())))
    })?;
    Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn run_one(test: &Test, program: &Program, round: u64) -> io::Result<Ran> {
    let path = root().join(OUTPUTS).join(format!("{}.{}.{round}", test.target, test.name.replace("::", ".")));
    let out = fs::File::create(&path)?;
    let begin = Instant::now();
    let mut child = Command::new(&program.path)
        .args(["--exact", &test.name, "--nocapture"])
        .current_dir(&program.folder)
        .env("CARGO_MANIFEST_DIR", &program.folder)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()?;
    let passed = loop {
        if let Some(status) = child.try_wait()? {
            break status.success();
        }
        if begin.elapsed() > TIMEOUT {
            child.kill()?;
            child.wait()?;
            break false;
        }
        thread::sleep(POLL_INTERVAL);
    };
    if passed {
        fs::remove_file(&path)?;
    }
    Ok(Ran { passed, took: begin.elapsed() })
}

/// Orders the tests of a round in another way than those of the other rounds.
fn shuffle(queue: &mut [(&Test, &Program)], round: u64) {
    let place = |(test, _): &(&Test, &Program)| {
        let text = format!("{round} {test}");
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    queue.sort_by_cached_key(place);
}

/// Returns the names of a program's tests.
fn names(program: &Program) -> Result<Vec<String>, Box<dyn Error>> {
    let output = Command::new(&program.path).arg("--list").current_dir(&program.folder).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

/// Builds all programs with tests. Those without libtest have none that could be named.
fn programs() -> Result<Vec<Program>, Box<dyn Error>> {
    let args = [
        "test",
        "--locked",
        "--workspace",
        "--all-features",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ];
    let output = cargo().args(args).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err("the tests do not build".into());
    }
    let mut programs = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<Value>(line) else { continue };
        programs.extend(program(&message));
    }
    Ok(programs)
}

/// Returns the program with tests that a message of Cargo names.
fn program(message: &Value) -> Option<Program> {
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
    if message.pointer("/profile/test")? != true || text("/reason") != Some("compiler-artifact") {
        return None;
    }
    let path = text("/executable")?;
    let folder = PathBuf::from(text("/manifest_path")?).parent()?.to_owned();
    let target = text("/target/name")?.to_owned();
    (!WITHOUT_LIBTEST.contains(&target.as_str())).then(|| Program { target, path: path.into(), folder })
}

/// Targets with a harness of their own, which do not list tests.
const WITHOUT_LIBTEST: [&str; 4] = ["inherit", "kills", "late", "lifetimes"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_read_from_the_messages_of_cargo() {
        let message = |target: &str, test: bool| {
            serde_json::json!({
                "reason": "compiler-artifact", "profile": { "test": test }, "executable": "/t/deps/ctl-1",
                "manifest_path": "/w/sessionctl/Cargo.toml", "target": { "name": target },
            })
        };
        let found = program(&message("ctl", true)).unwrap();
        assert_eq!((found.target.as_str(), found.folder), ("ctl", PathBuf::from("/w/sessionctl")));
        assert!(program(&message("ctl", false)).is_none() && program(&message("kills", true)).is_none());
    }

    #[test]
    fn rounds_have_other_orders() {
        let test = |name: &str| Test { target: "t".to_owned(), name: name.to_owned() };
        let tests: Vec<Test> = ["a", "b", "c", "d", "e"].map(test).to_vec();
        let program = Program { target: "t".to_owned(), path: PathBuf::new(), folder: PathBuf::new() };
        let order = |round| {
            let mut queue: Vec<_> = tests.iter().map(|test| (test, &program)).collect();
            shuffle(&mut queue, round);
            queue.into_iter().map(|(test, _)| test.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(order(1), order(1));
        assert!((2..10).any(|round| order(round) != order(1)));
    }
}
