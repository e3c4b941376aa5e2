//! The rule about modules: no cycles between the files of a crate.
//!
//! An edge leads from a file to each file that defines a name that it uses, found by `use` declarations and by paths
//! that begin with `crate`, `self`, `super` or a child module. Tests, `mod` declarations and re-exports are no edges.

mod graph;
mod known;
mod module_tree;
mod syntax;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use self::graph::{Cycle, Edge, components};
use self::known::KNOWN;
use self::module_tree::edges;
use super::finding::Finding;
use crate::workspace::{File, Package};

/// Reports unknown cycles, and known ones that have changed or no longer exist.
pub(super) fn check(packages: &[Package], files: &[File]) -> Vec<Finding> {
    packages.iter().flat_map(|package| check_package(package, files, KNOWN)).collect()
}

fn check_package(package: &Package, files: &[File], known: &[(&str, &[&str])]) -> Vec<Finding> {
    let cycles = cycles(package, files);
    let mut known: Vec<BTreeSet<&str>> = known
        .iter()
        .filter(|(name, _)| *name == package.name)
        .map(|(_, files)| files.iter().copied().collect())
        .collect();
    let mut findings = Vec::new();
    for cycle in &cycles {
        let set: BTreeSet<&str> = cycle.files.iter().map(String::as_str).collect();
        if let Some(at) = known.iter().position(|known| *known == set) {
            known.remove(at);
            continue;
        }
        let place = cycle.edges.first();
        let path = place.map_or_else(String::new, |edge| format!("{}/{}", source_folder(package), edge.from));
        let joins = known.iter().any(|known| !known.is_disjoint(&set));
        let message = format!(
            "{} modules form a cycle{}: {}; move the parts that both sides use to a module below them",
            set.len(),
            if joins { " that differs from the known one" } else { "" },
            cycle.shortest_path()
        );
        findings.push(Finding::new(&path, place.map_or(1, |edge| edge.line), message));
    }
    for set in known {
        let files = set.into_iter().collect::<Vec<_>>().join(", ");
        let message =
            format!("the cycle of {files} in `{}` no longer exists as such: update the line", package.name);
        findings.push(Finding::new("xtask/src/tidy/cycles/known.rs", 1, message));
    }
    findings
}

/// Formats all cycles with one example for each edge, and as lines for the list of known ones.
pub(super) fn report(packages: &[Package], files: &[File]) -> String {
    let (mut text, mut lines, mut count) = (String::new(), String::new(), 0);
    for package in packages {
        for cycle in cycles(package, files) {
            count += 1;
            let set: Vec<&str> = cycle.files.iter().map(String::as_str).collect();
            let is_known = KNOWN.iter().any(|(name, known)| *name == package.name && *known == set);
            let kind = if is_known { "known" } else { "NEW" };
            let _ = writeln!(text, "{}: {} files, {kind}", package.name, set.len());
            for Edge { from, to, example, line } in &cycle.edges {
                let _ = writeln!(text, "    {from} -> {to}  `{example}` (line {line})");
            }
            let _ = writeln!(lines, "    ({:?}, &{set:?}),", package.name);
        }
    }
    format!("{text}{count} cycles\n\nAs lines of xtask/src/tidy/cycles/known.rs:\n{lines}")
}

fn source_folder(package: &Package) -> String {
    let folder = Path::new(&package.manifest_path).parent().unwrap_or(Path::new(""));
    folder.join("src").to_string_lossy().into_owned()
}

fn cycles(package: &Package, files: &[File]) -> Vec<Cycle> {
    let folder = format!("{}/", source_folder(package));
    let sources: BTreeMap<&str, &str> = files
        .iter()
        .filter(|file| file.is("rs"))
        .filter_map(|file| Some((file.path.strip_prefix(&folder)?, &*file.text)))
        .collect();
    components(&edges(&sources))
}

#[cfg(test)]
mod tests;
