//! `cargo xtask tidy`: the rules of the house that neither the compiler nor clippy knows. An ordinary test runs it too.
//!
//! A rule is a function from what it looks at to findings; each has a test that shows it catching a violation.

mod code;
mod invariant_tests;
mod layers;
mod manifests;
mod patches;
mod reading_list;
mod sources;
mod texts;

use std::fmt;

use crate::args::Args;
use crate::workspace::{self, File, Package};
use crate::{Error, Outcome};

/// A broken rule: where, what, and how to repair it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    /// From 1.
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

pub(crate) fn run(args: Args) -> Outcome {
    args.finish()?;
    let findings = findings()?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    if findings.is_empty() { Ok(()) } else { Err(format!("{} things are untidy", findings.len()).into()) }
}

fn findings() -> Result<Vec<Finding>, Box<dyn Error>> {
    Ok(check(&workspace::packages()?, &workspace::files()?))
}

fn check(packages: &[Package], files: &[File]) -> Vec<Finding> {
    let mut findings = layers::check(packages);
    findings.extend(patches::check(packages, files));
    findings.extend(manifests::check(packages));
    findings.extend(invariant_tests::check(files));
    findings.extend(reading_list::check(files));
    for file in files {
        findings.extend(texts::check(file));
        if file.is("rs") {
            findings.extend(sources::check(file));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let findings: Vec<_> = findings().unwrap().iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    #[test]
    fn every_kind_of_rule_is_asked() {
        let package = Package { name: "stranger".into(), ..Package::default() };
        let files = [
            File { path: "a/src/lib.rs".into(), text: "fn a() {}\n".into() },
            File { path: "README.md".into(), text: "[here](nowhere.md)\n".into() },
            File {
                path: "ARCHITECTURE.md".into(),
                text: concat!("# A\n\n- Invar", "iant: it holds\n").into(),
            },
        ];
        let findings = check(&[package], &files);
        for part in [
            "stranger",
            "a/src/lib.rs:1",
            "README.md:1",
            "seeded-bugs",
            "ARCHITECTURE.md:1",
            "ARCHITECTURE.md:3",
        ] {
            assert!(
                findings.iter().any(|finding| finding.to_string().contains(part)),
                "{part}: {findings:?}"
            );
        }
    }
}
