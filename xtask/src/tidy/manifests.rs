//! Rules about published crates: the manifest is complete, and README and licences are included.

use std::path::Path;

use super::finding::Finding;
use crate::workspace::{self, Package};

/// Prefixes of lines that the manifest of a published crate must have, with the repair.
const LINES: &[(&str, &str)] = &[
    ("description =", "describe the crate in one sentence"),
    ("license", "inherit the licence: `license.workspace = true`"),
    ("keywords", "inherit the keywords: `keywords.workspace = true`"),
    ("categories", "name its categories"),
    ("include", "inherit the packed files: `include.workspace = true`"),
    ("rust-version", "inherit the Rust version: `rust-version.workspace = true`"),
    (
        "[package.metadata.docs.rs]",
        "document all features: `[package.metadata.docs.rs]` with `all-features = true`",
    ),
];

/// Files next to the manifest. The licences require that their texts are distributed.
const FILES: &[&str] = &["README.md", "LICENSE-MIT", "LICENSE-APACHE"];

pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    packages
        .iter()
        .filter(|package| is_published(package))
        .flat_map(|package| missing(package, workspace::exists))
        .collect()
}

fn is_published(package: &Package) -> bool {
    !package.manifest.lines().any(|line| line == "publish = false")
}

fn missing(package: &Package, exists: impl Fn(&Path) -> bool) -> Vec<Finding> {
    let folder = Path::new(&package.manifest_path).parent().unwrap_or(Path::new(""));
    let lines = LINES
        .iter()
        .filter(|(begin, _)| !package.manifest.lines().any(|line| line.starts_with(begin)))
        .map(|(_, repair)| format!("the manifest of a published crate is incomplete: {repair}"));
    let files = FILES
        .iter()
        .filter(|file| !exists(&folder.join(file)))
        .map(|file| format!("a published crate lacks `{file}`: write it, or link the one of the workspace"));
    lines.chain(files).map(|message| Finding::new(&package.manifest_path, 1, message)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETE: &str = "[package]\ndescription = \"a\"\nlicense.workspace = true\nkeywords.workspace = true\n\
                         categories = []\ninclude.workspace = true\nrust-version.workspace = true\n\n\
                         [package.metadata.docs.rs]\nall-features = true\n";

    fn package(manifest: &str) -> Package {
        Package {
            name: "a".into(),
            manifest: manifest.into(),
            manifest_path: "a/Cargo.toml".into(),
            ..Package::default()
        }
    }

    #[test]
    fn a_missing_line_or_file_is_named() {
        assert_eq!(missing(&package(COMPLETE), |_| true), []);
        for (begin, repair) in LINES {
            let manifest: String =
                COMPLETE.lines().filter(|line| !line.starts_with(begin)).collect::<Vec<_>>().join("\n");
            let found = missing(&package(&manifest), |_| true);
            assert!(found.len() == 1 && found[0].message.ends_with(repair), "{begin}: {found:?}");
        }
        for file in FILES {
            let found = missing(&package(COMPLETE), |path| path != Path::new("a").join(file));
            assert!(found.len() == 1 && found[0].message.contains(file), "{file}: {found:?}");
        }
    }

    #[test]
    fn a_private_crate_is_exempt() {
        assert!(!is_published(&package("[package]\npublish = false\n")));
        assert!(is_published(&package(COMPLETE)));
    }
}
