//! `cargo xtask ci`: all that CI runs, on any machine. What fails fast comes first; a failure ends it.

use crate::Outcome;
use crate::args::{Args, Usage};
use crate::steps::{self, AfterFailure, Need, Step};
use crate::workspace::{self, Package};

const RUSTFMT: Need =
    Need { probe: &["fmt", "--version"], missing: "rustfmt is not here: rustup component add rustfmt" };

const CLIPPY: Need =
    Need { probe: &["clippy", "--version"], missing: "clippy is not here: rustup component add clippy" };

pub(crate) fn run(mut args: Args) -> Outcome {
    let after_failure = if args.flag("--keep-going") { AfterFailure::GoOn } else { AfterFailure::Stop };
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
    steps.push(Step::cargo("test", &["xtask", "test"]));
    steps
}

/// A crate with no feature, and with each by itself. Without its tests: what they need could bring in what is missing.
fn alone(package: &Package) -> Vec<Step> {
    let none = std::iter::once(None);
    let each = package.features.iter().map(Some);
    none.chain(each)
        .map(|feature| {
            let name = &*package.name;
            let mut args = vec!["clippy", "--package", name, "--no-deps", "--no-default-features"];
            args.extend(feature.iter().flat_map(|feature| ["--features", feature.as_str()]));
            args.extend(["--", "-D", "warnings"]);
            let what = feature.map_or("no feature".to_owned(), |feature| format!("`{feature}` alone"));
            Step::cargo(format!("lints, {name}, {what}"), &args).needs(CLIPPY)
        })
        .collect()
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
            assert!(steps.contains(&format!("lints, observers, {what}")), "{steps}");
        }
    }

    #[test]
    fn the_command_of_the_readme_comes_last() {
        assert_eq!(steps(&[]).last(), Some(&Step::cargo("test", &["xtask", "test"])));
    }
}
