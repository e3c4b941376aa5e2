//! Rules about crates: which may know which, and what each inherits.

use super::Finding;
use crate::workspace::Package;

/// Who may know whom: a crate, the crates that it may use, and those that only its tests may use besides. A name that
/// ends with `*` stands for all that begin like it. The first line that fits a crate counts.
const LAYERS: &[(&str, &[&str], &[&str])] = &[
    ("session-core", &[], &[]),
    ("session-testkit", &["session-core"], &[]),
    // What storages over an embedded database share; nobody but those knows it.
    ("session-storage-engine", &["session-core"], &["session-testkit"]),
    ("session-storage-*", &["session-core", "session-storage-engine"], &["session-testkit"]),
    ("session-observers", &["session-core"], &["session-testkit"]),
    ("session-legacy", &["session-core"], &[]),
    ("session-runner", &["session-core"], &["session-testkit"]),
    (
        "sessionkit",
        &["session-core", "session-storage-*", "session-observers", "session-runner", "session-legacy"],
        &["session-testkit"],
    ),
    ("sessionctl", &["sessionkit"], &["session-testkit"]),
    ("session-bench", &["session-core", "session-storage-*"], &[]),
    ("session-fuzz", &["session*"], &[]),
    ("xtask", &["session*"], &[]),
];

pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    packages.iter().flat_map(|package| dependencies(package).into_iter().chain(lints(package))).collect()
}

fn dependencies(package: &Package) -> Vec<Finding> {
    let name = &package.name;
    let Some((_, always, tests)) = LAYERS.iter().find(|(pattern, ..)| fits(pattern, name)) else {
        return vec![finding(
            package,
            name,
            format!(
                "nobody knows where `{name}` belongs: give it a line in LAYERS in xtask/src/tidy/layers.rs"
            ),
        )];
    };
    let allowed = |need: &str, only_tests: bool| {
        always.iter().chain(tests.iter().filter(|_| only_tests)).any(|pattern| fits(pattern, need))
    };
    package
        .needs
        .iter()
        .filter(|(need, only_tests)| !allowed(need, *only_tests))
        .map(|(need, only_tests)| {
            let who = if *only_tests { format!("the tests of `{name}`") } else { format!("`{name}`") };
            let may = if always.is_empty() { "no crate of ours".to_owned() } else { always.join(", ") };
            finding(
                package,
                need,
                format!(
                    "{who} may not know `{need}`: arrows point one way, and `{name}` may know {may}; move what is \
                     needed down, or what needs it up"
                ),
            )
        })
        .collect()
}

fn lints(package: &Package) -> Option<Finding> {
    let mut lines = package.manifest.lines().map(str::trim).filter(|line| !line.is_empty());
    let inherits = lines.any(|line| line == "[lints]") && lines.next() == Some("workspace = true");
    (!inherits).then(|| {
        Finding::new(
            &package.manifest_path,
            1,
            "the crate has not the lints of the workspace: add `[lints]` with `workspace = true`",
        )
    })
}

fn fits(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

/// At the manifest's first line that begins with the word.
fn finding(package: &Package, word: &str, message: String) -> Finding {
    let line = package.manifest.lines().position(|line| line.starts_with(word)).map_or(1, |at| at + 1);
    Finding::new(&package.manifest_path, line, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, needs: &[(&str, bool)]) -> Package {
        Package {
            name: name.to_owned(),
            manifest: "[package]\n[dependencies]\nsession-core.workspace = true\n[lints]\nworkspace = true\n"
                .into(),
            manifest_path: format!("{name}/Cargo.toml"),
            features: Vec::new(),
            needs: needs.iter().map(|(name, tests)| ((*name).to_owned(), *tests)).collect(),
        }
    }

    fn messages(name: &str, needs: &[(&str, bool)]) -> Vec<String> {
        check(&[package(name, needs)]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn arrows_that_point_down_are_fine() {
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
    fn arrows_that_point_up_or_sideways_are_found() {
        for (name, need, only_tests) in [
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
            let found = messages(name, &[(need, only_tests)]);
            assert_eq!(found.len(), 1, "{name} {need}");
            assert!(found[0].contains(need) && found[0].contains("move what is"), "{found:?}");
        }
    }

    #[test]
    fn a_finding_points_at_the_line() {
        let found = messages("sessionctl", &[("session-core", false)]);
        assert!(found[0].starts_with("sessionctl/Cargo.toml:3: "), "{found:?}");
    }

    #[test]
    fn a_crate_that_nobody_placed_is_found() {
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
