//! `cargo xtask ci`: format, lints, docs, packaging and tests, on any machine. Fast checks come first; the first failure
//! ends it.

use crate::args::{Args, Usage};
use crate::console::Outcome;
use crate::steps::{self, AfterFailure, Requirement, Run as _, Step};
use crate::subcommand::Subcommand;
use crate::workspace::{self, Package};

pub(crate) const RUSTFMT: Requirement = Requirement {
    probe: &["fmt", "--version"],
    missing: "rustfmt is not installed: rustup component add rustfmt",
};

pub(crate) const CLIPPY: Requirement = Requirement {
    probe: &["clippy", "--version"],
    missing: "clippy is not installed: rustup component add clippy",
};

const DENY: Requirement = Requirement {
    probe: &["deny", "--version"],
    missing: "cargo-deny is not installed: cargo install cargo-deny --locked",
};

/// The oldest Rust that the crates support.
const OLDEST: &str = "1.89";

const OLD_TOOLCHAIN: Requirement = Requirement {
    probe: &["which", "--toolchain", OLDEST, "cargo"],
    missing: "the oldest supported Rust is not installed: rustup toolchain install 1.89",
};

pub(crate) const COMMAND: Subcommand = Subcommand {
    name: "ci",
    usage: "[--keep-going] [--from STEP]",
    summary: "Check format, lints, docs, packages and dependencies, and run all tests",
    about: "\
Runs, in this order: format, generated pages, project lints, clippy with all features and with each
feature of each crate alone, docs, the guarantees of each backend, dependency and packaging checks,
a check of the library for macOS, and `cargo xtask test`. The first failure ends it. The long proofs are not part of it:
`cargo xtask proofs` runs them. A tool that is not installed is reported as not run.",
    options: &[
        ("--keep-going", "run the steps after a failed one too"),
        ("--from STEP", "begin with the first step whose name begins like this (default: the first)"),
    ],
    examples: &[
        ("cargo xtask ci", "all of it"),
        ("cargo xtask ci --from docs", "continue with the step `docs`"),
    ],
    run,
};

fn run(mut args: Args) -> Outcome {
    let after_failure = if args.flag("--keep-going") { AfterFailure::Continue } else { AfterFailure::Stop };
    let from: Option<String> = args.option("--from")?;
    args.finish()?;
    let mut steps = steps(&workspace::packages()?);
    if let Some(from) = from {
        let first = steps.iter().position(|step| step.name().starts_with(&from));
        let first = first.ok_or_else(|| Usage::error(format!("no step begins with `{from}`")))?;
        steps.drain(..first);
    }
    steps::run(&steps, after_failure)
}

fn steps(packages: &[Package]) -> Vec<Step> {
    let mut steps = vec![
        Step::cargo("format", &["fmt", "--all", "--check"]).requires(RUSTFMT),
        Step::cargo("generated docs", &["xtask", "codegen", "--check"]),
        Step::cargo("tidy", &["xtask", "tidy"]),
        // `--locked`: a fresh clone builds the versions that were tested.
        Step::cargo(
            "lints, all features",
            &["clippy", "--locked", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"],
        )
        .requires(CLIPPY),
    ];
    steps.extend(packages.iter().flat_map(single_features));
    steps.push(
        Step::cargo("docs", &["doc", "--workspace", "--no-deps", "--all-features"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    );
    steps.push(Step::cargo("guarantees of each backend", &["xtask", "guarantees", "--check"]));
    steps.extend(for_dependents());
    steps.push(Step::cargo("test", &["xtask", "test"]));
    steps
}

/// Checks the library for macOS, with the features that no C compiler for macOS is needed for: all but `sqlite`.
/// `runner` adds nothing there, and has to compile.
const APPLE: &[&str] = &[
    "run",
    "stable",
    "cargo",
    "check",
    "--locked",
    "--target",
    "aarch64-apple-darwin",
    "--package",
    "sessionkit",
    "--no-default-features",
    "--features",
    "file,legacy,mock,observer-channel,observer-closure,observer-progress,observer-tracing,runner,sled",
];

const APPLE_STD: Requirement = Requirement {
    probe: &["target", "add", "--toolchain", "stable", "aarch64-apple-darwin"],
    missing: "the standard library for macOS cannot be installed: rustup target add aarch64-apple-darwin",
};

/// Returns the checks of everything that dependents rely on besides behaviour: Rust version, licences, packages.
fn for_dependents() -> [Step; 5] {
    [
        Step::tool("the library on macOS compiles", "rustup", APPLE)
            .env("RUSTFLAGS", "-D warnings")
            .requires(APPLE_STD),
        Step::cargo("Rust versions of dependencies", &["xtask", "msrv"]),
        Step::tool(
            "build with the oldest Rust",
            "rustup",
            &["run", OLDEST, "cargo", "check", "--locked", "--workspace", "--all-features"],
        )
        .env("CARGO_TARGET_DIR", "target/oldest")
        .requires(OLD_TOOLCHAIN),
        // Without the advisories: they need the network, and change without a change here.
        Step::cargo(
            "licences, versions and sources of dependencies",
            &["deny", "--all-features", "check", "bans", "licenses", "sources"],
        )
        .requires(DENY),
        // `--no-verify`: the packages cannot be built alone, because no registry has their dependencies yet.
        Step::cargo(
            "packages",
            &["package", "--locked", "--workspace", "--exclude", "xtask", "--no-verify", "--allow-dirty"],
        ),
    ]
}

/// Returns the checks of a crate with no feature and with each feature alone. Clippy runs without the tests: their
/// dependencies could enable a feature that the crate lacks. If the crate has features, its tests are then built with
/// each, since `cargo test` is expected to work with any.
fn single_features(package: &Package) -> Vec<Step> {
    let none = std::iter::once(None);
    let each = || none.clone().chain(package.features.iter().map(Some));
    let step = |feature: Option<&String>, title: &str, before: &[&str], after: &[&str]| {
        let name = &*package.name;
        let mut args = before.to_vec();
        args.extend(["--package", name, "--no-default-features"]);
        args.extend(feature.iter().flat_map(|feature| ["--features", feature.as_str()]));
        args.extend(after);
        let selection = feature.map_or("no feature".to_owned(), |feature| format!("`{feature}` alone"));
        Step::cargo(format!("{title}, {name}, {selection}"), &args)
    };
    let lints = each().map(|feature| {
        step(feature, "lints", &["clippy", "--no-deps"], &["--", "-D", "warnings"]).requires(CLIPPY)
    });
    let tests = each().map(|feature| step(feature, "tests build", &["check", "--tests", "--examples"], &[]));
    let differs = !package.features.is_empty();
    lints.chain(tests.filter(|_| differs)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_is_checked_alone() {
        let features = vec!["channel".to_owned(), "tracing".to_owned()];
        let package = Package { name: "observers".into(), features, ..Package::default() };
        let steps = format!("{:?}", single_features(&package));
        for what in ["no feature", "`channel` alone", "`tracing` alone"] {
            for how in ["lints", "tests build"] {
                assert!(steps.contains(&format!("{how}, observers, {what}")), "{steps}");
            }
        }
    }

    #[test]
    fn the_oldest_rust_matches_the_manifest() {
        let manifest = std::fs::read_to_string(workspace::root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains(&format!("\nrust-version = \"{OLDEST}\"\n")));
        assert!(OLD_TOOLCHAIN.missing.ends_with(OLDEST));
    }

    #[test]
    fn the_test_command_is_the_last_step() {
        assert_eq!(steps(&[]).last(), Some(&Step::cargo("test", &["xtask", "test"])));
    }
}
