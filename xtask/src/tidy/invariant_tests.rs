//! The rule about invariants: a sentence that states one names the tests that fail if it is violated, and they exist.
//!
//! The notation, after the sentence and in the same paragraph: (guard: `file.rs::function`, `file.rs::function`).
//! A test that a page names in this notation anywhere else must exist too.

use super::finding::Finding;
use crate::workspace::File;

/// Prefix of such a sentence. (Concatenated so that this file is not a match.)
const PREFIX: &str = concat!("Invar", "iant:");

/// Prefix of the list of tests.
const GUARD: &str = "(guard:";

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    files.iter().filter(|file| file.is("rs") || file.is("md")).flat_map(|file| in_file(file, files)).collect()
}

fn in_file(file: &File, files: &[File]) -> Vec<Finding> {
    let lines: Vec<_> = file.text.lines().map(|line| prose(file, line)).collect();
    let mut findings = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|_| file.is("md")) {
        let quoted = line.unwrap_or_default().split('`').skip(1).step_by(2);
        let stale = quoted.filter(|text| text.contains(".rs::")).find_map(|guard| missing(guard, files));
        findings.extend(stale.map(|message| Finding::new(&file.path, at + 1, message)));
    }
    for (at, line) in lines.iter().enumerate() {
        let Some(begin) = line.and_then(|line| line.find(PREFIX).and_then(|begin| line.get(begin..))) else {
            continue;
        };
        let mut sentence = begin.to_owned();
        let more = lines.iter().skip(at + 1).map_while(|line| *line);
        for line in more.take_while(|line| !ends_before(line)) {
            sentence.push(' ');
            sentence.push_str(line);
        }
        findings.extend(
            problem(&sentence, file.is("md"), files).map(|message| Finding::new(&file.path, at + 1, message)),
        );
    }
    findings
}

/// Returns the text of a line; `None` for a line of a source file that is not a comment.
fn prose<'a>(file: &File, line: &'a str) -> Option<&'a str> {
    let line = line.trim();
    if file.is("md") {
        return Some(line);
    }
    ["//!", "///", "//"].iter().find_map(|begin| line.strip_prefix(begin)).map(str::trim)
}

/// Returns `true` if the paragraph ends before this line.
fn ends_before(line: &str) -> bool {
    line.is_empty() || line.starts_with("- ") || line.starts_with('#') || line.contains(PREFIX)
}

fn problem(sentence: &str, is_page: bool, files: &[File]) -> Option<String> {
    let guards = sentence
        .split_once(GUARD)
        .and_then(|(_, rest)| rest.split_once(')'))
        .map(|(guards, _)| guards.split('`').skip(1).step_by(2).collect::<Vec<_>>())
        .unwrap_or_default();
    if guards.is_empty() {
        return Some(format!(
            "no test guards this invariant: name the tests that fail if it is violated, {GUARD} `file.rs::function`)"
        ));
    }
    // The caller checks the tests of a page, together with all others that it names.
    guards
        .into_iter()
        .filter(|guard| !is_page || !guard.contains(".rs::"))
        .find_map(|guard| missing(guard, files))
}

fn missing(guard: &str, files: &[File]) -> Option<String> {
    let Some((path, function)) = guard.split_once("::") else {
        return Some(format!("`{guard}` names no test: write `file.rs::function`"));
    };
    let Some(file) = files.iter().find(|file| file.path == path) else {
        return Some(format!("the guard's file `{path}` does not exist: paths are relative to the root"));
    };
    let signature = format!("fn {function}(");
    (!file.text.lines().any(|line| line.contains(&signature)))
        .then(|| format!("`{path}` has no function `{function}`: name the test that guards this"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<(usize, String)> {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        let text = text.replace("INVARIANT:", PREFIX);
        let files = [file(path, &text), file("a/tests/b.rs", "#[test]\nfn it_holds() {}\n")];
        check(&files).into_iter().map(|finding| (finding.line, finding.message)).collect()
    }

    #[test]
    fn an_existing_guard_is_accepted() {
        for text in [
            "//! A.\n//!\n//! Said before. INVARIANT: it holds\n//! (guard: `a/tests/b.rs::it_holds`).\n",
            "//! A.\nfn a() {\n    // INVARIANT: it\n    // holds (guard: `a/tests/b.rs::it_holds`).\n}\n",
            "//! A.\nconst A: &str = \"INVARIANT: code says nothing\";\n",
        ] {
            assert_eq!(found("a/src/lib.rs", text), [], "{text}");
        }
        let list = "- INVARIANT: it holds\n  (guard: `a/tests/b.rs::it_holds`, `a/tests/b.rs::it_holds`).\n- More.\n";
        assert_eq!(found("A.md", list), []);
    }

    #[test]
    fn an_invariant_without_a_guard_is_found() {
        for text in [
            "- INVARIANT: it holds.\n- Another (guard: `a/tests/b.rs::it_holds`).\n",
            "INVARIANT: it holds.\n\n(guard: `a/tests/b.rs::it_holds`)\n",
            "INVARIANT: it holds.\nINVARIANT: so does this (guard: `a/tests/b.rs::it_holds`).\n",
            "INVARIANT: it holds (guard: a test).\n",
        ] {
            let found = found("A.md", text);
            assert_eq!(found.len(), 1, "{text}");
            assert!(found[0].0 == 1 && found[0].1.contains("no test guards"), "{found:?}");
        }
    }

    #[test]
    fn a_stale_guard_is_found() {
        for (guard, expected) in [
            ("a/tests/b.rs", "names no test"),
            ("a/tests/c.rs::it_holds", "file `a/tests/c.rs` does not exist"),
            ("a/tests/b.rs::it_hold", "no function `it_hold`"),
        ] {
            let text = format!("//! A.\n// INVARIANT: it holds (guard: `{guard}`).\n");
            let found = found("a/src/lib.rs", &text);
            assert!(found.len() == 1 && found[0].0 == 2 && found[0].1.contains(expected), "{found:?}");
        }
        let page = "# A\n\nShown by `a/tests/b.rs::it_holds`, `a/tests/b.rs::it_hold`, and `c.rs`.\n";
        assert_eq!(found("A.md", page).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3]);
        let twice = "INVARIANT: it holds (guard: `a/tests/b.rs::it_hold`).\n";
        assert_eq!(found("A.md", twice).len(), 1);
    }
}
