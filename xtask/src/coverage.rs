//! `cargo xtask coverage`: line coverage of the core and of the file backend.
//!
//! The compiler's instrumentation, read by LLVM's tools of any version that can read the profiles: those of rustup, those
//! that `LLVM_PROFDATA` and `LLVM_COV` name, or those of the system. Lines of tests do not enter the figures.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::args::Args;
use crate::console::Outcome;
use crate::subcommand::Subcommand;
use crate::workspace::{cargo, output, root};

/// The measured crates.
const CRATES: &[&str] = &["session-core", "session-storage-file"];
/// The crates whose tests run.
const TESTS: &[&str] = &["-p", "session-core", "-p", "session-storage-file", "-p", "session-testkit"];

/// Percent of the lines of each crate that tests must run.
const TARGET: f64 = 95.0;

const ABSENT: &str = "not run: llvm-profdata and llvm-cov are not installed: rustup component add llvm-tools, or install LLVM 19 or newer";

pub(crate) const COMMAND: Subcommand = Subcommand {
    name: "coverage",
    usage: "",
    summary: "Measure the line coverage of the core and of the file backend",
    about: "\
Builds session-core, session-storage-file and session-testkit with instrumentation in target/coverage,
runs their tests, and prints the coverage of each file of the first two, with the line numbers of
files below 95 %. Fails if a crate is below 95 %. Requires llvm-profdata and llvm-cov: those of
`rustup component add llvm-tools`, those that the variables LLVM_PROFDATA and LLVM_COV name, or LLVM
19 or newer of the system.",
    options: &[],
    examples: &[("cargo xtask coverage", "takes some minutes")],
    run,
};

fn run(args: Args) -> Outcome {
    args.finish()?;
    let profdata = tool("llvm-profdata", "LLVM_PROFDATA").ok_or(ABSENT)?;
    let cov = tool("llvm-cov", "LLVM_COV").ok_or(ABSENT)?;
    let target = root().join("target/coverage");
    let profiles = target.join("profiles");
    let test = || {
        let mut command = cargo();
        command
            .args(["test", "--locked", "--all-features", "--lib", "--tests", "--no-fail-fast"])
            .args(TESTS)
            .env("CARGO_TARGET_DIR", &target)
            .env("RUSTFLAGS", "-C instrument-coverage")
            // One file for each process: many end concurrently, and some are killed while they write it.
            .env("LLVM_PROFILE_FILE", profiles.join("%p-%m.profraw"));
        command
    };
    let built = output(test().args(["--no-run", "--message-format=json"]))?;
    let programs = programs(&String::from_utf8(built)?);
    // Instrumented build scripts write profiles as well, and earlier runs have left some.
    if profiles.exists() {
        fs::remove_dir_all(&profiles)?;
    }
    if !test().status()?.success() {
        return Err("a test failed: the coverage would be incomplete".into());
    }
    let merged = target.join("all.profdata");
    let files = fs::read_dir(&profiles)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    output(
        Command::new(profdata).args(["merge", "-sparse", "-failure-mode=all", "-o"]).arg(&merged).args(files),
    )?;
    let mut export = Command::new(cov);
    export.args(["export", "--format=lcov", "--instr-profile"]).arg(&merged);
    for program in programs {
        export.arg("--object").arg(program);
    }
    let lcov = String::from_utf8(output(&mut export)?)?;
    let files = parse_lcov(&lcov, |path| fs::read_to_string(root().join(path)).ok());
    let (report, below) = report(&files);
    eprint!("{report}");
    if below.is_empty() { Ok(()) } else { Err(format!("below {TARGET} %: {}", below.join(", ")).into()) }
}

/// Finds a tool of LLVM: the one in the variable, the compiler's own, or the newest of the system.
fn tool(name: &str, variable: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let sysroot = output(Command::new("rustc").args(["--print", "target-libdir"])).ok();
    let own = sysroot.and_then(|path| {
        let path = String::from_utf8(path).ok()?;
        Some(Path::new(path.trim()).parent()?.join("bin").join(name))
    });
    // A name without a version comes last: that tool may be too old for the profiles.
    let systems = (19..40).rev().map(|version| PathBuf::from(format!("{name}-{version}")));
    let systems = systems.chain(std::iter::once(PathBuf::from(name)));
    let works = |tool: &PathBuf| {
        let asked = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    named.into_iter().chain(own).chain(systems).find(works)
}

/// Returns the test programs from Cargo's build messages.
fn programs(messages: &str) -> Vec<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages
        .filter(|message| message.pointer("/profile/test") == Some(&Value::Bool(true)))
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .collect()
}

/// The executable lines of a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lines {
    all: usize,
    /// Numbers of those that did not run.
    missed: Vec<usize>,
}

/// Parses lcov's trace format: `SF:` names a file, `DA:` a line and its number of executions.
fn parse_lcov(lcov: &str, source: impl Fn(&str) -> Option<String>) -> BTreeMap<String, Lines> {
    let root = format!("{}/", root().display());
    let mut files: BTreeMap<String, Lines> = BTreeMap::new();
    let (mut path, mut end) = (None, 0);
    for line in lcov.lines() {
        if let Some(file) = line.strip_prefix("SF:") {
            let file = file.strip_prefix(&root).unwrap_or(file);
            path = is_counted(file).then(|| file.to_owned());
            end = path.as_deref().and_then(&source).map_or(usize::MAX, |text| before_tests(&text));
        }
        let ran = line.strip_prefix("DA:").and_then(|data| data.split_once(','));
        let Some((path, (number, times))) = path.as_ref().zip(ran) else { continue };
        let number: usize = number.parse().unwrap_or_default();
        if number <= end {
            let lines = files.entry(path.clone()).or_default();
            lines.all += 1;
            lines.missed.extend((times == "0").then_some(number));
        }
    }
    files
}

fn is_counted(path: &str) -> bool {
    let ours = CRATES.iter().any(|name| path.starts_with(&format!("{name}/src/")));
    ours && !path.ends_with("/tests.rs")
}

/// Returns the number of lines before the tests of a file.
fn before_tests(source: &str) -> usize {
    let lines: Vec<_> = source.lines().collect();
    let tests = |two: &[&str]| matches!(two, ["#[cfg(test)]", module] if module.starts_with("mod ") && module.ends_with('{'));
    lines.windows(2).position(tests).unwrap_or(lines.len())
}

/// Formats the report, with the lines of files below the target, and returns the crates below it.
fn report(files: &BTreeMap<String, Lines>) -> (String, Vec<&'static str>) {
    let (mut text, mut below) = (String::new(), Vec::new());
    for name in CRATES {
        let ours = || files.iter().filter(|(path, _)| path.starts_with(&format!("{name}/")));
        for (path, lines) in ours() {
            let figure = percent(lines.all, lines.missed.len());
            let missed = ranges(&lines.missed);
            let missed = if figure < TARGET { format!("  not run: {missed}") } else { String::new() };
            let _ = writeln!(text, "{figure:6.2} %  {path}{missed}");
        }
        let all = ours().map(|(_, lines)| lines.all).sum();
        let missed = ours().map(|(_, lines)| lines.missed.len()).sum();
        let figure = percent(all, missed);
        let _ = writeln!(text, "{figure:6.2} %  {name}, {all} lines, {missed} of them not run\n");
        if figure < TARGET {
            below.push(*name);
        }
    }
    (text, below)
}

/// Returns 0 for a crate without measured lines, so that it fails.
#[expect(clippy::cast_precision_loss, reason = "a file has far fewer than 2^52 lines")]
fn percent(all: usize, missed: usize) -> f64 {
    if all == 0 { 0.0 } else { 100.0 * all.saturating_sub(missed) as f64 / all as f64 }
}

/// Formats line numbers as ranges, `3-5, 9`.
fn ranges(numbers: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let text = |(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_tests_do_not_enter_the_figures() {
        let lcov = format!(
            "TN:\nSF:{}/session-core/src/a.rs\nDA:1,4\nDA:2,0\nDA:3,0\nDA:5,0\nDA:8,9\nend_of_record\n\
             SF:session-core/src/a/tests.rs\nDA:1,1\nend_of_record\nSF:session-testkit/src/b.rs\nDA:1,1\nend_of_record\n\
             SF:session-storage-file/src/c.rs\nDA:1,1\nend_of_record\n",
            root().display()
        );
        let source = |_: &str| Some("1\n2\n3\n4\n5\n#[cfg(test)]\nmod tests {\n8\n}\n".to_owned());
        let files = parse_lcov(&lcov, source);
        assert_eq!(files.len(), 2, "{files:?}");
        assert_eq!(files["session-core/src/a.rs"], Lines { all: 4, missed: vec![2, 3, 5] });
        let (text, below) = report(&files);
        assert!(text.contains(" 25.00 %  session-core/src/a.rs  not run: 2-3, 5\n"), "{text}");
        assert!(text.contains(" 25.00 %  session-core, 4 lines, 3 of them not run\n"), "{text}");
        assert!(text.contains("100.00 %  session-storage-file/src/c.rs\n"), "{text}");
        assert_eq!(below, ["session-core"]);
    }

    #[test]
    fn only_test_programs_are_read() {
        let messages = "{\"executable\":\"a\",\"profile\":{\"test\":true}}\nnot JSON\n\
                        {\"executable\":\"b\",\"profile\":{\"test\":false}}\n{\"executable\":null,\"profile\":{\"test\":true}}\n";
        assert_eq!(programs(messages), [PathBuf::from("a")]);
    }

    #[test]
    fn a_crate_without_measured_lines_fails() {
        assert_eq!(report(&BTreeMap::new()).1, CRATES);
    }
}
