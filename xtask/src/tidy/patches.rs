//! Rules about the gallery of seeded bugs: each patch still applies and says what it is, and there are enough of them.
//! Whether the tests notice them takes far longer to find out: `cargo xtask seeded-bugs`.

use std::error::Error;

use super::Finding;
use crate::seeded_bugs::bug::{Bug, FOLDER, name_of};
use crate::seeded_bugs::{applies, patches};
use crate::workspace::{File, Package};

/// With fewer bugs than this, nothing is shown.
const FEWEST: usize = 25;

pub(super) fn check(packages: &[Package], files: &[File]) -> Vec<Finding> {
    let mut findings = check_patches(packages, files, applies);
    let count = patches(files).count();
    if count < FEWEST {
        let message =
            format!("{count} bugs, {FEWEST} are the fewest: where one became impossible, seed another");
        findings.push(Finding::new(FOLDER, 1, message));
    }
    findings
}

fn check_patches(
    packages: &[Package],
    files: &[File],
    applies: impl Fn(&str) -> Result<(), Box<dyn Error>>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in patches(files) {
        let mut find = |message: String| findings.push(Finding::new(&file.path, 1, message));
        match Bug::parse(&name_of(file), &file.text) {
            Err(what) => find(format!("{what}: the testing page says what belongs there")),
            Ok(bug) if packages.iter().all(|package| package.name != bug.suite.package()) => {
                find(format!("`{}` is no crate of this workspace", bug.suite.package()));
            }
            Ok(bug) => {
                if let Err(error) = applies(&bug.path()) {
                    find(format!(
                        "it does not apply any more: seed the same bug in the code of today ({error})"
                    ));
                }
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_that_is_not_what_it_should_be_is_found() {
        let package = Package { name: "a".into(), ..Package::default() };
        let patch = "Bug: b.\nLost: l.\nCaught by: cargo test -p a --all-features\n\n--- a/x\n+++ b/x\n";
        let file = |name: &str, text: &str| File { path: format!("{FOLDER}{name}.patch"), text: text.into() };
        let files = [
            file("good", patch),
            file("stale", patch),
            file("mute", "--- a/x\n+++ b/x\n"),
            file("stranger", &patch.replace("-p a", "-p b")),
        ];
        let stale = |path: &str| if path.contains("stale") { Err("no".into()) } else { Ok(()) };
        let found: Vec<String> =
            check_patches(&[package], &files, stale).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        for (found, part) in found.iter().zip(["does not apply any more", "no diff", "`b` is no crate"]) {
            assert!(found.contains(part), "{found}");
        }
    }

    #[test]
    fn too_few_bugs_are_found() {
        let found = check(&[], &[]);
        assert!(matches!(found.as_slice(), [few] if few.to_string().contains("0 bugs")), "{found:?}");
    }
}
