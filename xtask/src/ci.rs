//! `cargo xtask ci`: all that CI runs, on any machine. What fails fast comes first; a failure ends it.

use crate::Outcome;
use crate::args::{Args, Usage};
use crate::steps::{self, AfterFailure, Requirement, Step};
use crate::workspace::{self, Package};

const RUSTFMT: Requirement = Requirement {
    probe: &["fmt", "--version"],
    missing: "rustfmt is not here: rustup component add rustfmt",
};

const CLIPPY: Requirement = Requirement {
    probe: &["clippy", "--version"],
    missing: "clippy is not here: rustup component add clippy",
};

const DENY: Requirement = Requirement {
    probe: &["deny", "--version"],
    missing: "cargo-deny is not here: cargo install cargo-deny --locked",
};

/// The oldest Rust that the crates promise to need.
const OLDEST: &str = "1.89";

const OLD_TOOLCHAIN: Requirement = Requirement {
    probe: &["which", "--toolchain", OLDEST, "cargo"],
    missing: "the oldest Rust is not here: rustup toolchain install 1.89",
};

pub(crate) fn run(mut args: Args) -> Outcome {
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
        Step::cargo("format", &["fmt", "--all", "--check"]).needs(RUSTFMT),
        Step::cargo("generated docs", &["xtask", "codegen", "--check"]),
        Step::cargo("tidy", &["xtask", "tidy"]),
        // `--locked`: what is built from a fresh clone is what was tested.
        Step::cargo(
            "lints, all features",
            &["clippy", "--locked", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"],
        )
        .needs(CLIPPY),
    ];
    steps.extend(packages.iter().flat_map(alone));
    steps.push(
        Step::cargo("docs", &["doc", "--workspace", "--no-deps", "--all-features"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    );
    steps.push(Step::cargo("what each backend promises", &["xtask", "guarantees", "--check"]));
    steps.extend(for_others());
    steps.push(Step::cargo("test", &["xtask", "test"]));
    steps
}

/// What whoever depends on the crates relies on, beside that they work.
fn for_others() -> [Step; 4] {
    [
        Step::cargo("dependencies need no newer Rust", &["xtask", "msrv"]),
        Step::tool(
            "the oldest Rust",
            "rustup",
            &["run", OLDEST, "cargo", "check", "--locked", "--workspace", "--all-features"],
        )
        .env("CARGO_TARGET_DIR", "target/oldest")
        .needs(OLD_TOOLCHAIN),
        // Without the advisories, which change without anything changing here, and need the network.
        Step::cargo(
            "licences, versions and sources of dependencies",
            &["deny", "--all-features", "check", "bans", "licenses", "sources"],
        )
        .needs(DENY),
        // Not built from what is packed: the packages of the workspace are not in any registry yet.
        Step::cargo(
            "packages",
            &["package", "--locked", "--workspace", "--exclude", "xtask", "--no-verify", "--allow-dirty"],
        ),
    ]
}

/// A crate with no feature, and with each by itself. Without its tests: what they need could bring in what is missing.
/// Then with them, as far as that they build, where features make a difference: `cargo test` is for any of them.
fn alone(package: &Package) -> Vec<Step> {
    let none = std::iter::once(None);
    let each = || none.clone().chain(package.features.iter().map(Some));
    let step = |feature: Option<&String>, what: &str, before: &[&str], after: &[&str]| {
        let name = &*package.name;
        let mut args = before.to_vec();
        args.extend(["--package", name, "--no-default-features"]);
        args.extend(feature.iter().flat_map(|feature| ["--features", feature.as_str()]));
        args.extend(after);
        let which = feature.map_or("no feature".to_owned(), |feature| format!("`{feature}` alone"));
        Step::cargo(format!("{what}, {name}, {which}"), &args)
    };
    let lints = each().map(|feature| {
        step(feature, "lints", &["clippy", "--no-deps"], &["--", "-D", "warnings"]).needs(CLIPPY)
    });
    let tests = each().map(|feature| step(feature, "tests build", &["check", "--tests", "--examples"], &[]));
    let differs = !package.features.is_empty();
    lints.chain(tests.filter(|_| differs)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_is_looked_at_alone_and_none_too() {
        let features = vec!["channel".to_owned(), "tracing".to_owned()];
        let package = Package { name: "observers".into(), features, ..Package::default() };
        let steps = format!("{:?}", alone(&package));
        for what in ["no feature", "`channel` alone", "`tracing` alone"] {
            for how in ["lints", "tests build"] {
                assert!(steps.contains(&format!("{how}, observers, {what}")), "{steps}");
            }
        }
    }

    #[test]
    fn the_oldest_rust_that_is_tried_is_the_one_that_is_promised() {
        let manifest = std::fs::read_to_string(workspace::root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains(&format!("\nrust-version = \"{OLDEST}\"\n")));
        assert!(OLD_TOOLCHAIN.missing.ends_with(OLDEST));
    }

    #[test]
    fn the_command_of_the_readme_comes_last() {
        assert_eq!(steps(&[]).last(), Some(&Step::cargo("test", &["xtask", "test"])));
    }
}
