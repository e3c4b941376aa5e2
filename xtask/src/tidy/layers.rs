//! Rules about crates: the permitted dependencies of each, and the lints that it inherits.

use super::finding::Finding;
use crate::workspace::Package;

/// Permitted dependencies: a crate, the crates that it may depend on, and those that only its tests may depend on. A name
/// that ends with `*` matches all names with that prefix. The first line that matches a crate applies.
const LAYERS: &[(&str, &[&str], &[&str])] = &[
    ("session-core", &[], &[]),
    ("session-testkit", &["session-core"], &[]),
    // Shared by the backends over an embedded database; no other crate may depend on it.
    ("session-storage-engine", &["session-core"], &["session-testkit"]),
    ("session-storage-*", &["session-core", "session-storage-engine"], &["session-testkit"]),
    ("session-observers", &["session-core"], &["session-testkit"]),
    ("session-legacy", &["session-core", "session-worktree"], &[]),
    ("session-inherit", &[], &[]),
    ("session-workflow", &["session-core"], &["session-testkit"]),
    ("session-worktree", &["session-core"], &[]),
    ("session-runner", &["session-core", "session-inherit"], &["session-testkit"]),
    ("sessionkit-macros", &[], &[]),
    (
        "sessionkit",
        &[
            "session-core",
            "session-storage-*",
            "session-observers",
            "session-runner",
            "session-workflow",
            "session-worktree",
            "session-legacy",
            "sessionkit-macros",
        ],
        &["session-testkit"],
    ),
    ("sessionctl", &["sessionkit", "session-inherit"], &["session-testkit"]),
    ("session-bench", &["session-core", "session-storage-*", "session-worktree"], &[]),
    ("session-fuzz", &["session*"], &[]),
    ("session-proofs", &["session-core", "session-testkit"], &[]),
    ("xtask", &["session*"], &[]),
];

/// The one crate that may contain `unsafe` code. A lint that is forbidden cannot be lowered, so it has lints of its own.
pub(super) const UNSAFE: &str = "session-inherit";

pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    packages.iter().flat_map(|package| dependencies(package).into_iter().chain(lints(package))).collect()
}

fn dependencies(package: &Package) -> Vec<Finding> {
    let name = &package.name;
    let Some((_, always, tests)) = LAYERS.iter().find(|(pattern, ..)| matches(pattern, name)) else {
        return vec![finding(
            package,
            name,
            format!("`{name}` has no layer: add a line to LAYERS in xtask/src/tidy/layers.rs"),
        )];
    };
    let allowed = |dependency: &str, only_tests: bool| {
        always.iter().chain(tests.iter().filter(|_| only_tests)).any(|pattern| matches(pattern, dependency))
    };
    package
        .dependencies
        .iter()
        .filter(|(dependency, only_tests)| !allowed(dependency, *only_tests))
        .map(|(dependency, only_tests)| {
            let subject = if *only_tests { format!("the tests of `{name}`") } else { format!("`{name}`") };
            let permitted = if always.is_empty() { "no crate of the workspace".to_owned() } else { always.join(", ") };
            finding(
                package,
                dependency,
                format!(
                    "{subject} may not depend on `{dependency}`: dependencies point to lower layers, and `{name}` may \
                     depend on {permitted}; move the shared code to a lower crate, or the caller to a higher one"
                ),
            )
        })
        .collect()
}

fn lints(package: &Package) -> Option<Finding> {
    if package.name == UNSAFE {
        return None;
    }
    let mut lines = package.manifest.lines().map(str::trim).filter(|line| !line.is_empty());
    let inherits = lines.any(|line| line == "[lints]") && lines.next() == Some("workspace = true");
    (!inherits).then(|| {
        Finding::new(
            &package.manifest_path,
            1,
            "the crate does not inherit the lints of the workspace: add `[lints]` with `workspace = true`",
        )
    })
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

/// Creates a finding at the first line of the manifest that begins with the word.
fn finding(package: &Package, word: &str, message: String) -> Finding {
    let line = package.manifest.lines().position(|line| line.starts_with(word)).map_or(1, |at| at + 1);
    Finding::new(&package.manifest_path, line, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, bool)]) -> Package {
        Package {
            name: name.to_owned(),
            manifest: "[package]\n[dependencies]\nsession-core.workspace = true\n[lints]\nworkspace = true\n"
                .into(),
            manifest_path: format!("{name}/Cargo.toml"),
            features: Vec::new(),
            dependencies: dependencies.iter().map(|(name, tests)| ((*name).to_owned(), *tests)).collect(),
        }
    }

    fn messages(name: &str, dependencies: &[(&str, bool)]) -> Vec<String> {
        check(&[package(name, dependencies)]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn downward_dependencies_are_permitted() {
        assert_eq!(messages("session-core", &[]), [""; 0]);
        assert_eq!(
            messages("session-storage-sled", &[("session-core", false), ("session-testkit", true)]),
            [""; 0]
        );
        assert_eq!(
            messages("session-storage-sled", &[("session-core", false), ("session-storage-engine", false)]),
            [""; 0]
        );
        assert_eq!(
            messages("sessionkit", &[("session-runner", false), ("session-storage-file", false)]),
            [""; 0]
        );
        assert_eq!(messages("sessionctl", &[("sessionkit", false)]), [""; 0]);
    }

    #[test]
    fn upward_and_sideways_dependencies_are_found() {
        for (name, dependency, only_tests) in [
            ("session-core", "session-testkit", true),
            ("session-testkit", "session-storage-file", true),
            ("session-storage-file", "session-storage-sled", true),
            ("session-storage-file", "session-testkit", false),
            ("session-storage-engine", "session-storage-sqlite", false),
            ("session-core", "session-storage-engine", false),
            ("session-observers", "session-runner", false),
            ("session-runner", "session-storage-file", false),
            ("sessionkit", "sessionctl", false),
            ("sessionctl", "session-core", false),
            ("sessionkit", "xtask", true),
        ] {
            let found = messages(name, &[(dependency, only_tests)]);
            assert_eq!(found.len(), 1, "{name} {dependency}");
            assert!(found[0].contains(dependency) && found[0].contains("move the shared code"), "{found:?}");
        }
    }

    #[test]
    fn a_finding_has_the_line_of_the_dependency() {
        let found = messages("sessionctl", &[("session-core", false)]);
        assert!(found[0].starts_with("sessionctl/Cargo.toml:3: "), "{found:?}");
    }

    #[test]
    fn a_crate_without_a_layer_is_found() {
        assert!(messages("session-cloud", &[])[0].contains("LAYERS"));
    }

    #[test]
    fn a_crate_without_the_lints_is_found() {
        for manifest in ["[package]\n", "[lints]\nrust = {}\n", "[lints]\n"] {
            let package = Package { manifest: manifest.into(), ..package("session-core", &[]) };
            let found = check(&[package]);
            assert!(found[0].message.contains("`workspace = true`"), "{manifest}: {found:?}");
        }
    }
}
