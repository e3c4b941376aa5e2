//! Rules about Rust files.

use super::Finding;
use super::code::only_code;
use crate::workspace::File;

/// More lines than this are more than one thing.
const LINE_LIMIT: usize = 400;

/// The machine's table spells out every pair, which is what it is for.
const EXEMPT: &[&str] = &["session-core/src/machine/table.rs"];

pub(super) fn check(file: &File) -> Vec<Finding> {
    let code = only_code(&file.text);
    let mut findings = Vec::new();
    findings.extend(begins_with_its_purpose(file));
    findings.extend(is_short(file, &code));
    for (at, line) in code.lines().enumerate() {
        let spaceless: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        findings.extend(LINE_RULES.iter().filter_map(|rule| {
            let message = rule(&spaceless)?;
            Some(Finding::new(&file.path, at + 1, message))
        }));
    }
    findings
}

fn begins_with_its_purpose(file: &File) -> Option<Finding> {
    (!file.text.starts_with("//!")).then(|| {
        Finding::new(
            &file.path,
            1,
            "the file does not say what it is for: begin it with `//!` and one sentence, attributes after that",
        )
    })
}

fn is_short(file: &File, code: &str) -> Option<Finding> {
    let is_test = file.path.contains("/tests/") || file.path.ends_with("/tests.rs");
    if is_test || EXEMPT.contains(&&*file.path) {
        return None;
    }
    let lines: Vec<_> = code.lines().map(str::trim).collect();
    let inline_tests = lines
        .windows(2)
        .position(|two| matches!(two, ["#[cfg(test)]", module] if module.starts_with("mod ")));
    let length = inline_tests.unwrap_or(lines.len());
    (length > LINE_LIMIT).then(|| {
        Finding::new(
            &file.path,
            LINE_LIMIT + 1,
            format!("{length} lines without tests, {LINE_LIMIT} are the limit: find the two things that it is, make two files"),
        )
    })
}

/// Each looks at one line of code without its spaces.
const LINE_RULES: &[fn(&str) -> Option<&'static str>] = &[no_stub, no_allow, ignored_for_a_reason];

fn no_stub(line: &str) -> Option<&'static str> {
    let found = ["todo!", "unimplemented!"].iter().any(|stub| has_word(line, stub));
    found.then_some("nothing is left as a stub: write it, or take the way that leads here out")
}

fn no_allow(line: &str) -> Option<&'static str> {
    let found = line.contains("[allow(") || (line.contains("cfg_attr(") && line.contains(",allow("));
    found.then_some("repair what the lint finds, or write `#[expect(lint, reason = \"…\")]`, which ends when the need does")
}

fn ignored_for_a_reason(line: &str) -> Option<&'static str> {
    line.contains("#[ignore]").then_some("say why and when it does run: `#[ignore = \"…\"]`")
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<(usize, String)> {
        let file = File { path: path.into(), text: text.into() };
        check(&file).into_iter().map(|finding| (finding.line, finding.message)).collect()
    }

    fn lines(text: &str) -> Vec<usize> {
        found("a/src/a.rs", text).into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn a_file_without_its_purpose_is_found() {
        assert_eq!(lines("fn a() {}\n"), [1]);
        assert_eq!(lines("// What it is for.\n"), [1]);
        assert_eq!(lines("#![cfg(test)]\n//! What it is for.\n"), [1]);
        assert_eq!(lines("//! What it is for.\n#![cfg(test)]\n"), [0; 0]);
    }

    #[test]
    fn a_long_file_is_found_and_tests_do_not_count() {
        let long = |lines: usize| format!("//! What it is for.\n{}", "x();\n".repeat(lines - 1));
        assert_eq!(lines(&long(400)), [0; 0]);
        assert_eq!(lines(&long(401)), [401]);
        assert_eq!(
            lines(&format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", long(400), "y();\n".repeat(99))),
            [0; 0]
        );
        for exempt in ["a/tests/laws.rs", "a/src/b/tests.rs", "session-core/src/machine/table.rs"] {
            assert_eq!(found(exempt, &long(401)), []);
        }
        assert!(found("a/src/a.rs", &long(500))[0].1.starts_with("500 lines"));
    }

    #[test]
    fn stubs_are_found_and_talk_about_them_is_not() {
        assert_eq!(lines("//! A.\nfn a() { todo!() }\nfn b() { core::unimplemented !(\"x\") }\n"), [2, 3]);
        assert_eq!(
            lines("//! No todo!().\nfn a() { f(\"todo!()\"); mytodo!(); } // unimplemented!()\n"),
            [0; 0]
        );
    }

    #[test]
    fn allowed_lints_are_found() {
        assert_eq!(
            lines("//! A.\n#[allow(dead_code)]\n#![ allow (x)]\n#[cfg_attr(test, allow(x))]\n#[expect(x)]\n"),
            [2, 3, 4]
        );
        assert_eq!(lines("//! A.\nfn a() { if may.allow(x) {} }\n"), [0; 0]);
    }

    #[test]
    fn tests_ignored_without_a_reason_are_found() {
        assert_eq!(lines("//! A.\n#[ignore]\n#[ignore = \"takes an hour; xtask soak runs it\"]\n"), [2]);
    }
}
