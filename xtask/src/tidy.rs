//! `cargo xtask tidy`: project lints beyond rustc and clippy. An ordinary test runs them too.
//!
//! A rule is a function from files or crates to findings. Each has a test that shows it catching a violation.

mod code;
mod cycles;
mod error_codes;
mod finding;
mod invariant_tests;
mod layers;
mod log_messages;
mod manifests;
mod patches;
mod reading_list;
mod sources;
mod texts;
mod words;

use std::error::Error;

use self::finding::Finding;
use crate::args::{Args, Flag, Usage};
use crate::console::{self, Outcome};
use crate::subcommand::Subcommand;
use crate::workspace::{self, File, Package};

pub(crate) const COMMAND: Subcommand = Subcommand {
    name: "tidy",
    usage: "[--words [WORD]] [--cycles]",
    summary: "Check the project lints beyond rustc and clippy",
    about: "\
Checks all files that git tracks or would add. Each finding is one line with its place and a repair:
refused words in comments, texts and names; doc comments that open with a question word; names of
more than 60 characters; files of more than 400 lines without tests and comments; cycles between the
modules of a crate; dependencies that break the layers; incomplete manifests; invariants without a
test; stale seeded bugs; dead links; stubs; paths of one machine; log calls without a message.
Exits with 1 if there is a finding.",
    options: &[
        ("--words [WORD]", "print the counts of the words to review, or the places of one; exits with 0"),
        ("--cycles", "print all cycles between modules, the known ones too; exits with 0"),
    ],
    examples: &[
        ("cargo xtask tidy", "all rules"),
        ("cargo xtask tidy --words \"at once\"", "each place of one word"),
    ],
    run,
};

fn run(mut args: Args) -> Outcome {
    let words = args.optional_value("--words");
    let cycles = args.flag("--cycles");
    args.finish()?;
    if let Some(flag) = words {
        let word = match &flag {
            Flag::Bare => None,
            Flag::Value(word) => Some(&**word),
        };
        let report = words::review(&workspace::files()?, word);
        return console::print(&report.map_err(Usage::error)?);
    }
    if cycles {
        return console::print(&cycles::report(&workspace::packages()?, &workspace::files()?));
    }
    let findings = findings()?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        1 => Err("1 finding".into()),
        many => Err(format!("{many} findings").into()),
    }
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
    findings.extend(cycles::check(packages, files));
    for file in files {
        findings.extend(texts::check(file));
        findings.extend(words::check(file));
        if file.is("rs") {
            findings.extend(sources::check(file));
            findings.extend(error_codes::check(file));
            findings.extend(log_messages::check(file));
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
    fn every_kind_of_rule_is_applied() {
        let package =
            Package { name: "foreign".into(), manifest_path: "a/Cargo.toml".into(), ..Package::default() };
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        let files = [
            file("a/src/lib.rs", "mod b;\nmod c;\n"),
            file("a/src/b.rs", "//! B.\nuse crate::c::C;\n"),
            file("a/src/c.rs", "//! C.\nuse crate::b::B;\n"),
            file("README.md", "[here](nowhere.md)\n"),
            file("docs/a.md", concat!("As an", "ew.\n")),
            file("ARCHITECTURE.md", concat!("# A\n\n- Invar", "iant: it holds\n")),
        ];
        let findings = check(&[package], &files);
        for part in [
            "`foreign`",
            "a/src/lib.rs:1",
            "a/src/b.rs:2",
            "README.md:1",
            "docs/a.md:1",
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
