//! `cargo xtask quick`: format, project lints, clippy and tests, for the crates that changed.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;

use crate::args::Args;
use crate::ci::{CLIPPY, RUSTFMT};
use crate::console::Outcome;
use crate::steps::{self, AfterFailure, Step};
use crate::subcommand::Subcommand;
use crate::test::{EXAMPLES, Example};
use crate::workspace::{self, Package, git};

/// Branches to compare with if `--since` is not given; the first that exists.
const BASES: &[&str] = &["origin/main", "main"];

/// Files outside of crates that affect the lints of every crate.
const SHARED: &[&str] = &["Cargo.toml", "Cargo.lock", "clippy.toml", "rust-toolchain.toml", "rust-toolchain"];

/// A workspace of its own, like [`EXAMPLES`], which Cargo's list of packages does not contain.
const LIBFUZZER: &str = "fuzz";

/// Sizes of the proofs inside the tests, smaller than those of `cargo test`.
const SIZES: &[(&str, &str)] = &[
    ("SESSION_BACKENDS_SEQUENCES", "20"),
    ("SESSION_CRASH_IMAGES", "300"),
    ("SESSION_DAMAGE_CASES", "250"),
    ("SESSION_HEADS", "100"),
    ("SESSION_KILL_CYCLES", "6"),
    ("SESSION_KILL_PLACES", "1"),
    ("SESSION_KILL_RACES", "4"),
    ("SESSION_MACHINE_SEQUENCES", "20000"),
    ("SESSION_MANY", "20"),
    ("SESSION_MOVES_SESSIONS", "15"),
    ("SESSION_REPLAYS", "30"),
    ("SESSION_TREE_ROUNDS", "4"),
];

/// A crate, and its tests that take too long for this command at any size, as filters of the harness.
const SLOW: &[(&str, &[&str])] = &[("sessionctl", &["migrate::", "hostile::"])];

pub(crate) const COMMAND: Subcommand = Subcommand {
    name: "quick",
    usage: "[--since REF]",
    summary: "Check format, lints and tests of the crates that changed, in less than 90 seconds",
    about: "\
Compares the working tree, untracked files included, with the merge base of HEAD and REF. On a branch
that is everything the branch and the working tree change; on an up-to-date main it is the changes
that are not committed yet. Runs the format check and the project lints, then clippy and the tests of
each changed crate, with all features. A changed Cargo.toml or Cargo.lock at the root lints every
crate. If no crate has changed, only format and project lints run.

Not covered, `cargo xtask test` covers them: crates that depend on the changed ones, examples in
docs, and the proofs beyond a small size.",
    options: &[("--since REF", "a commit or branch (default: origin/main, or main, or else HEAD)")],
    examples: &[
        ("cargo xtask quick", "after each change"),
        ("cargo xtask quick --since HEAD", "only the changes that are not committed"),
    ],
    run,
};

/// The parts of the repository that changed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    crates: BTreeSet<String>,
    /// A file of [`SHARED`].
    shared: Option<String>,
    examples: BTreeSet<&'static Example>,
    libfuzzer: bool,
}

fn run(mut args: Args) -> Outcome {
    let since: Option<String> = args.option("--since")?;
    args.finish()?;
    let (reference, base) = base(since)?;
    let paths = changed_paths(&base)?;
    let changes = Changes::of(&paths, &workspace::packages()?);
    eprintln!("{} files differ from {reference} (commit {:.12})", paths.len(), base);
    eprintln!("{}", changes.describe());
    steps::run(&changes.steps(), AfterFailure::Continue)
}

/// Returns the name of the reference, and the commit to compare the working tree with.
fn base(since: Option<String>) -> Result<(String, String), Box<dyn Error>> {
    let exists =
        |name: &&&str| git(&["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")]).is_ok();
    let reference = match since {
        Some(reference) => reference,
        None => (*BASES.iter().find(exists).unwrap_or(&"HEAD")).to_owned(),
    };
    let base = git(&["merge-base", "HEAD", &reference])?;
    Ok((reference, base.trim().to_owned()))
}

/// Returns the paths, from the root, of files that differ from a commit, deleted and untracked ones included.
fn changed_paths(base: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let tracked = git(&["diff", "--name-only", "--no-renames", "-z", base])?;
    let untracked = git(&["ls-files", "-z", "--others", "--exclude-standard"])?;
    Ok(tracked.split_terminator('\0').chain(untracked.split_terminator('\0')).map(str::to_owned).collect())
}

impl Changes {
    /// Assigns each path to the crate with the longest folder that contains it.
    fn of(paths: &[String], packages: &[Package]) -> Self {
        let folders: Vec<(&str, &Path)> = packages
            .iter()
            .filter_map(|package| Some((&*package.name, Path::new(&package.manifest_path).parent()?)))
            .chain(
                EXAMPLES
                    .iter()
                    .map(|example| example.folder)
                    .chain([LIBFUZZER])
                    .map(|name| (name, Path::new(name))),
            )
            .collect();
        let mut changes = Self::default();
        for path in paths {
            let inside = folders.iter().filter(|(_, folder)| Path::new(path).starts_with(folder));
            match inside.max_by_key(|(_, folder)| folder.components().count()) {
                Some((LIBFUZZER, _)) => changes.libfuzzer = true,
                Some((name, _)) => match EXAMPLES.iter().find(|example| example.folder == *name) {
                    Some(example) => drop(changes.examples.insert(example)),
                    None => drop(changes.crates.insert((*name).to_owned())),
                },
                None if SHARED.contains(&&**path) => changes.shared = Some(path.clone()),
                None => {}
            }
        }
        changes
    }

    /// Returns the filters of tests to skip.
    fn skipped(&self) -> impl Iterator<Item = &'static str> {
        let changed = SLOW.iter().filter(|(name, _)| self.crates.contains(*name));
        changed.flat_map(|(_, filters)| filters.iter().copied())
    }

    fn describe(&self) -> String {
        let mut lines = Vec::new();
        if self.crates.is_empty() {
            lines.push("no crate has changed: no crate is tested".to_owned());
        } else {
            let names: Vec<_> = self.crates.iter().map(String::as_str).collect();
            lines.push(format!("changed crates: {}", names.join(", ")));
            lines.push(
                "not run: examples in docs, crates that depend on these, proofs beyond a small size".into(),
            );
            lines.extend(
                self.skipped().map(|filter| format!("not run: tests named `{filter}`, they are slow")),
            );
        }
        if let Some(path) = &self.shared {
            lines.push(format!("{path} has changed: every crate is linted"));
        }
        for example in &self.examples {
            lines.push(format!("{} has changed: its tests run", example.folder));
        }
        if self.libfuzzer {
            lines.push(format!("not run: {LIBFUZZER} has changed, and requires a nightly compiler"));
        }
        lines.join("\n")
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = vec![
            Step::cargo("format", &["fmt", "--all", "--check"]).requires(RUSTFMT),
            Step::cargo("tidy", &["xtask", "tidy"]),
        ];
        let selected: Vec<&str> = self.crates.iter().flat_map(|name| ["--package", name]).collect();
        if self.shared.is_some() || !self.crates.is_empty() {
            let linted = if self.shared.is_some() { &["--workspace"][..] } else { &selected };
            let before = ["clippy", "--locked", "--all-targets", "--all-features"];
            let args = [&before, linted, &["--", "-D", "warnings"]].concat();
            steps.push(Step::cargo("clippy", &args).requires(CLIPPY));
        }
        if !self.crates.is_empty() {
            let before = ["test", "--locked", "--all-features", "--no-fail-fast", "--tests"];
            let skipped: Vec<&str> = self.skipped().flat_map(|filter| ["--skip", filter]).collect();
            let args = [&before, &selected[..], &["--"], &skipped].concat();
            let test = Step::cargo("tests of the changed crates", &args);
            steps.push(SIZES.iter().fold(test, |test, (name, value)| test.env(name, value)));
        }
        steps.extend(self.examples.iter().map(|example| example.step()));
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::Run;

    fn changes(paths: &[&str]) -> Changes {
        let package = |name: &str, folder: &str| Package {
            name: name.to_owned(),
            manifest_path: format!("{folder}/Cargo.toml"),
            ..Package::default()
        };
        let packages = [package("a", "a"), package("ab", "ab"), package("inner", "a/inner")];
        let paths: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
        Changes::of(&paths, &packages)
    }

    fn commands(paths: &[&str]) -> Vec<String> {
        changes(paths).steps().iter().filter_map(Run::reproduction).collect()
    }

    #[test]
    fn a_file_belongs_to_the_crate_with_the_longest_folder() {
        for (path, name) in [("a/src/lib.rs", "a"), ("ab/x", "ab"), ("a/inner/src/lib.rs", "inner")] {
            assert_eq!(changes(&[path]).crates.into_iter().collect::<Vec<_>>(), [name]);
        }
    }

    #[test]
    fn changed_crates_are_checked_with_one_call_each() {
        let commands = commands(&["a/src/lib.rs", "ab/src/lib.rs", "a/Cargo.toml"]);
        assert_eq!(commands.len(), 4, "{commands:?}");
        for part in
            ["clippy --locked --all-targets --all-features --package a --package ab --", "-D warnings"]
        {
            assert!(commands[2].contains(part), "{commands:?}");
        }
        assert!(commands[3].contains("--package a --package ab"), "{commands:?}");
        assert!(commands[3].contains("SESSION_CRASH_IMAGES="), "{commands:?}");
    }

    #[test]
    fn slow_tests_are_skipped_and_reported() {
        for (name, filters) in SLOW {
            let changes = Changes { crates: [(*name).to_owned()].into(), ..Changes::default() };
            let command = changes.steps().iter().filter_map(Run::reproduction).next_back().unwrap();
            for filter in *filters {
                assert!(command.contains(&format!("--skip {filter}")), "{command}");
                assert!(changes.describe().contains(filter), "{filter}");
            }
        }
        assert!(!commands(&["a/src/lib.rs"]).concat().contains("--skip"));
    }

    #[test]
    fn without_a_changed_crate_only_format_and_tidy_run() {
        for paths in [&[][..], &["README.md", "docs/guide.md"]] {
            assert_eq!(commands(paths), ["cargo fmt --all --check", "cargo xtask tidy"]);
            assert!(changes(paths).describe().contains("no crate has changed"));
        }
    }

    #[test]
    fn a_shared_manifest_lints_every_crate() {
        for path in SHARED {
            let commands = commands(&[path]);
            assert!(commands.len() == 3 && commands[2].contains(" --workspace --"), "{commands:?}");
            assert!(changes(&[path]).describe().contains("every crate is linted"));
        }
    }

    #[test]
    fn excluded_workspaces_are_handled() {
        let commands = commands(&["examples/own-backend/src/lib.rs", "fuzz/fuzz_targets/slot.rs"]);
        assert_eq!(commands.len(), 3, "{commands:?}");
        assert!(commands[2].contains("examples/own-backend/Cargo.toml"), "{commands:?}");
        assert!(self::commands(&["examples/user/src/lib.rs"])[2].contains("examples/user/Cargo.toml"));
        assert!(changes(&["fuzz/Cargo.toml"]).describe().contains("not run: fuzz has changed"));
    }
}
