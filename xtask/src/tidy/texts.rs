//! Rules about all text files: no paths or registries of one machine, and no dead links.

use std::path::Path;

use super::finding::Finding;
use crate::workspace::{self, File};

pub(super) fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        let finding = |message: String| Finding::new(&file.path, at + 1, message);
        findings.extend(machine_path(line).map(|path| {
            finding(format!(
                "`{path}` is a path of one machine: make it relative, or read it from the environment"
            ))
        }));
        findings.extend(registry(file, line).map(|host| {
            finding(format!(
                "`{host}` names a registry: registries belong in the Cargo configuration of each user"
            ))
        }));
    }
    if file.is("md") {
        findings.extend(dead_links(file, workspace::exists));
    }
    findings
}

/// Folders that are specific to one machine. `true` for those that are so only if a name follows.
/// (Concatenated so that this file is not a match.)
const FOLDERS: &[(&str, bool)] = &[
    (concat!("/wo", "rk"), false),
    (concat!("/ro", "ot"), false),
    (concat!("/ho", "me/"), true),
    (concat!("/Us", "ers/"), true),
    (concat!("/tm", "p/"), true),
];

fn machine_path(line: &str) -> Option<&str> {
    let name = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    FOLDERS.iter().find_map(|(folder, named)| {
        line.match_indices(folder).find_map(|(at, _)| {
            let before = line.get(..at)?.chars().next_back();
            let after = line.get(at + folder.len()..)?;
            let starts = !before.is_some_and(|c| name(c) || "/})]>".contains(c));
            let fits = *named == after.starts_with(name);
            let end = after.find(|c| !name(c)).unwrap_or(after.len());
            (starts && fits).then(|| line.get(at..at + folder.len() + end)).flatten()
        })
    })
}

/// The only source that a lock file may name.
const OFFICIAL: &str = concat!("regis", "try+https://github.com/rust-lang/crates", ".io-index");

fn registry<'a>(file: &File, line: &'a str) -> Option<&'a str> {
    if file.path.ends_with("Cargo.lock") && line.contains(OFFICIAL) {
        return None;
    }
    let hosts = [concat!("crates", ".io"), concat!("spar", "se+http"), concat!("regis", "try+http")];
    let config = [concat!("[sou", "rce."), concat!("[regis", "tries"), concat!("replace", "-with")];
    let settings = if file.is("toml") { &config[..] } else { &[] };
    hosts.iter().chain(settings).find_map(|host| {
        let at = line.find(host)?;
        line.get(at..at + host.len())
    })
}

fn dead_links(file: &File, exists: impl Fn(&Path) -> bool) -> Vec<Finding> {
    let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
    let mut fenced = false;
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for target in links(line) {
            let is_valid = workspace::normal(&folder.join(target)).is_some_and(|path| exists(&path));
            if !is_valid {
                findings.push(Finding::new(
                    &file.path,
                    at + 1,
                    format!(
                        "the link to `{target}` is dead: links are relative to the file that contains them"
                    ),
                ));
            }
        }
    }
    findings
}

/// Returns the files that a line of Markdown links to: `[text](file#part)` and `[name]: file`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    // Code begins and ends with a backtick: every other part is code.
    let inline = line
        .split('`')
        .step_by(2)
        .flat_map(|text| text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()));
    let defined =
        line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target.trim());
    inline.chain(defined).filter_map(|target| {
        let target = target.split('#').next().unwrap_or_default().trim_matches(['<', '>']);
        (!target.is_empty() && !target.contains(':')).then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let file = File { path: path.into(), text: text.into() };
        check(&file).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        for (folder, named) in FOLDERS {
            let path = if *named { format!("{folder}ann/x") } else { format!("{folder}/x") };
            for line in [path.clone(), format!("see \"{path}\""), format!("A={path} b"), format!("({path})")]
            {
                assert_eq!(found("a.txt", &line).len(), 1, "{line}");
            }
            for line in [format!("src{path}"), (*folder).to_owned(), format!("https://x.org{path}")] {
                assert!(found("a.txt", &line).is_empty() || !*named && line == *folder, "{line}");
            }
        }
        assert!(
            found("a.txt", "a workspace, tests/rooted, /workers, $HOME/x, the temporary folder").is_empty()
        );
    }

    #[test]
    fn registries_are_found() {
        let official = format!("source = \"{OFFICIAL}\"");
        let hosts = [concat!("https://index.crates", ".io/"), concat!("spar", "se+https://x.org/")];
        for line in hosts {
            assert_eq!(found("a.rs", line).len(), 1, "{line}");
            assert_eq!(found("Cargo.lock", line).len(), 1, "{line}");
        }
        assert!(found("Cargo.lock", &official).is_empty());
        assert_eq!(found("Cargo.toml", &official).len(), 1);
        let setting = concat!("[sou", "rce.mirror]");
        assert_eq!(found(".cargo/config.toml", setting).len(), 1);
        assert!(found("a.md", setting).is_empty());
    }

    #[test]
    fn dead_links_are_found() {
        let text = "[a](b.md) [c](../README.md#part) ![d](<e.png> \"title\") `[no](code.md)`\n\
                    [f](https://x.org) [g](#here) [h](mailto:a@b)\n```\n[no](code.md)\n```\n[i]: gone.md\n[j](../../up.md)\n";
        let file = File { path: "docs/a.md".into(), text: text.into() };
        let there = |path: &Path| path == Path::new("README.md") || path == Path::new("docs/b.md");
        let found: Vec<_> =
            dead_links(&file, there).into_iter().map(|finding| (finding.line, finding.message)).collect();
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 6, 7]);
        assert!(found[0].1.contains("`e.png`"), "{found:?}");
    }
}
