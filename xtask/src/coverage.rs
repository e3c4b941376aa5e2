//! `cargo xtask coverage`: which lines of the core and of the file storage no test runs.
//!
//! The compiler's own instrumentation, read by the tools of LLVM, of any version that knows the form of the profiles: those
//! of rustup, those that `LLVM_PROFDATA` and `LLVM_COV` name, or those of the system. Lines of tests are not counted,
//! covered or not.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Outcome;
use crate::args::Args;
use crate::workspace::{cargo, output, root};

/// What is measured, by the tests of these and of the testkit.
const CRATES: &[&str] = &["session-core", "session-storage-file"];
const TESTS: &[&str] = &["-p", "session-core", "-p", "session-storage-file", "-p", "session-testkit"];

/// Percent of the lines of each.
const AIM: f64 = 95.0;

const ABSENT: &str =
    "not run: no llvm-profdata and llvm-cov: rustup component add llvm-tools, or install LLVM 19 or newer";

pub(crate) fn run(args: Args) -> Outcome {
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
            // Each process writes a file of its own: many end at once, and some in the middle of that.
            .env("LLVM_PROFILE_FILE", profiles.join("%p-%m.profraw"));
        command
    };
    let built = output(test().args(["--no-run", "--message-format=json"]))?;
    let programs = programs(&String::from_utf8(built)?);
    // What was built with instruments wrote profiles as well, and so did earlier runs.
    if profiles.exists() {
        fs::remove_dir_all(&profiles)?;
    }
    if !test().status()?.success() {
        return Err("a test failed: what ran is not what is tested".into());
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
    let files = count(&lcov, |path| fs::read_to_string(root().join(path)).ok());
    let (report, below) = report(&files);
    eprint!("{report}");
    if below.is_empty() { Ok(()) } else { Err(format!("below {AIM} %: {}", below.join(", ")).into()) }
}

/// A tool of LLVM: the one that is named, the compiler's own, or the newest of the system.
fn tool(name: &str, variable: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let sysroot = output(Command::new("rustc").args(["--print", "target-libdir"])).ok();
    let own = sysroot.and_then(|path| {
        let path = String::from_utf8(path).ok()?;
        Some(Path::new(path.trim()).parent()?.join("bin").join(name))
    });
    // What has no version in its name may be older than the profiles.
    let systems = (19..40).rev().map(|version| PathBuf::from(format!("{name}-{version}")));
    let systems = systems.chain(std::iter::once(PathBuf::from(name)));
    let works = |tool: &PathBuf| {
        let asked = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    named.into_iter().chain(own).chain(systems).find(works)
}

/// The test programs that Cargo says it built.
fn programs(messages: &str) -> Vec<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages
        .filter(|message| message.pointer("/profile/test") == Some(&Value::Bool(true)))
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .collect()
}

/// The lines of a file that could run, and those of them that did not.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lines {
    all: usize,
    missed: Vec<usize>,
}

/// Reads a trace file in the form of lcov: `SF:` names a file, `DA:` a line and how often it ran.
fn count(lcov: &str, source: impl Fn(&str) -> Option<String>) -> BTreeMap<String, Lines> {
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

/// How many lines stand before the tests of a file.
fn before_tests(source: &str) -> usize {
    let lines: Vec<_> = source.lines().collect();
    let tests = |two: &[&str]| matches!(two, ["#[cfg(test)]", module] if module.starts_with("mod ") && module.ends_with('{'));
    lines.windows(2).position(tests).unwrap_or(lines.len())
}

/// What to print, and the crates that are below the aim. Files below it are told with their lines.
fn report(files: &BTreeMap<String, Lines>) -> (String, Vec<&'static str>) {
    let (mut text, mut below) = (String::new(), Vec::new());
    for name in CRATES {
        let ours = || files.iter().filter(|(path, _)| path.starts_with(&format!("{name}/")));
        for (path, lines) in ours() {
            let figure = percent(lines.all, lines.missed.len());
            let missed = ranges(&lines.missed);
            let missed = if figure < AIM { format!("  not run: {missed}") } else { String::new() };
            let _ = writeln!(text, "{figure:6.2} %  {path}{missed}");
        }
        let all = ours().map(|(_, lines)| lines.all).sum();
        let missed = ours().map(|(_, lines)| lines.missed.len()).sum();
        let figure = percent(all, missed);
        let _ = writeln!(text, "{figure:6.2} %  {name}, {all} lines, {missed} of them not run\n");
        if figure < AIM {
            below.push(*name);
        }
    }
    (text, below)
}

/// Nothing that was measured is nothing that is covered.
#[expect(clippy::cast_precision_loss, reason = "fewer lines than a float counts")]
fn percent(all: usize, missed: usize) -> f64 {
    if all == 0 { 0.0 } else { 100.0 * all.saturating_sub(missed) as f64 / all as f64 }
}

/// `3-5, 9`.
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
    fn lines_of_the_crates_are_counted_and_those_of_tests_are_not() {
        let lcov = format!(
            "TN:\nSF:{}/session-core/src/a.rs\nDA:1,4\nDA:2,0\nDA:3,0\nDA:5,0\nDA:8,9\nend_of_record\n\
             SF:session-core/src/a/tests.rs\nDA:1,1\nend_of_record\nSF:session-testkit/src/b.rs\nDA:1,1\nend_of_record\n\
             SF:session-storage-file/src/c.rs\nDA:1,1\nend_of_record\n",
            root().display()
        );
        let source = |_: &str| Some("1\n2\n3\n4\n5\n#[cfg(test)]\nmod tests {\n8\n}\n".to_owned());
        let files = count(&lcov, source);
        assert_eq!(files.len(), 2, "{files:?}");
        assert_eq!(files["session-core/src/a.rs"], Lines { all: 4, missed: vec![2, 3, 5] });
        let (text, below) = report(&files);
        assert!(text.contains(" 25.00 %  session-core/src/a.rs  not run: 2-3, 5\n"), "{text}");
        assert!(text.contains(" 25.00 %  session-core, 4 lines, 3 of them not run\n"), "{text}");
        assert!(text.contains("100.00 %  session-storage-file/src/c.rs\n"), "{text}");
        assert_eq!(below, ["session-core"]);
    }

    #[test]
    fn programs_are_those_that_test() {
        let messages = "{\"executable\":\"a\",\"profile\":{\"test\":true}}\nnot JSON\n\
                        {\"executable\":\"b\",\"profile\":{\"test\":false}}\n{\"executable\":null,\"profile\":{\"test\":true}}\n";
        assert_eq!(programs(messages), [PathBuf::from("a")]);
    }

    #[test]
    fn nothing_measured_is_nothing_covered() {
        assert_eq!(report(&BTreeMap::new()).1, CRATES);
    }
}
