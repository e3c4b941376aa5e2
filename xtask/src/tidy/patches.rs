//! Rules about seeded bugs: each patch applies and has a complete header, and there are enough of them. That the tests
//! detect them is checked by `cargo xtask seeded-bugs`, which takes far longer.

use std::error::Error;

use super::finding::Finding;
use crate::seeded_bugs::applies;
use crate::seeded_bugs::bug::{Bug, FOLDER, name_of, patches};
use crate::workspace::{File, Package};

/// The minimum number of bugs; fewer would show little about the tests.
const MINIMUM: usize = 25;

pub(super) fn check(packages: &[Package], files: &[File]) -> Vec<Finding> {
    let mut findings = check_patches(packages, files, applies);
    let count = patches(files).count();
    if count < MINIMUM {
        let message = format!(
            "{count} seeded bugs, the minimum is {MINIMUM}: replace a bug that became impossible by another"
        );
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
            Err(error) => find(format!("{error}: docs/testing.md describes the header")),
            Ok(bug) if packages.iter().all(|package| package.name != bug.suite.package()) => {
                find(format!("`{}` is not a crate of this workspace", bug.suite.package()));
            }
            Ok(bug) => {
                if let Err(error) = applies(&bug.path()) {
                    find(format!(
                        "the patch does not apply: write the same bug against the current code ({error})"
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
    fn an_invalid_or_stale_patch_is_found() {
        let package = Package { name: "a".into(), ..Package::default() };
        let patch = "Bug: b.\nLost: l.\nCaught by: cargo test -p a --all-features\n\n--- a/x\n+++ b/x\n";
        let file = |name: &str, text: &str| File { path: format!("{FOLDER}{name}.patch"), text: text.into() };
        let files = [
            file("good", patch),
            file("stale", patch),
            file("headless", "--- a/x\n+++ b/x\n"),
            file("foreign", &patch.replace("-p a", "-p b")),
        ];
        let stale = |path: &str| if path.contains("stale") { Err("no".into()) } else { Ok(()) };
        let found: Vec<String> =
            check_patches(&[package], &files, stale).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        for (found, part) in found.iter().zip(["does not apply", "no diff", "`b` is not a crate"]) {
            assert!(found.contains(part), "{found}");
        }
    }

    #[test]
    fn too_few_bugs_are_found() {
        let found = check(&[], &[]);
        assert!(matches!(found.as_slice(), [few] if few.to_string().contains("0 seeded bugs")), "{found:?}");
    }
}
