//! Rules about Rust files.

use super::code::{Kind, only_code, segments};
use super::finding::Finding;
use crate::workspace::File;

/// Limit of the lines of a file, without tests and without comments that fill a line.
const LINE_LIMIT: usize = 400;

/// The only file that may contain `unsafe` code, with a lower limit of its lines.
const UNSAFE: (&str, usize) = ("session-inherit/src/linux.rs", 50);

/// Limit of the length of a name.
const NAME_LIMIT: usize = 60;

/// Words with which the first line of a doc comment may not open.
const OPENERS: &[&str] = &["What", "Whether", "Who", concat!("Who", "ever"), "How", "Where", "As"];

/// Files without a limit: the table of the machine spells out every pair.
const EXEMPT: &[&str] = &["session-core/src/machine/table.rs"];

pub(super) fn check(file: &File) -> Vec<Finding> {
    let code = only_code(&file.text);
    let mut findings = Vec::new();
    findings.extend(begins_with_docs(file));
    findings.extend(is_short(file, &code));
    findings.extend(doc_openers(file));
    for (at, line) in code.lines().enumerate() {
        let spaceless: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        findings.extend(LINE_RULES.iter().filter_map(|rule| {
            let message = rule(&spaceless)?;
            Some(Finding::new(&file.path, at + 1, message))
        }));
        findings.extend(long_names(line).map(|name| {
            let message = format!(
                "`{name}` has {} characters, the limit is {NAME_LIMIT}: state condition and result, drop the rest",
                name.chars().count()
            );
            Finding::new(&file.path, at + 1, message)
        }));
    }
    findings
}

fn begins_with_docs(file: &File) -> Option<Finding> {
    (!file.text.starts_with("//!")).then(|| {
        Finding::new(
            &file.path,
            1,
            "the file does not begin with its docs: write `//!` and one sentence, attributes after that",
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
    let is_comment = |(code, line): &(&&str, &str)| code.is_empty() && line.trim_start().starts_with("//");
    let without_tests = lines.iter().zip(file.text.lines()).take(inline_tests.unwrap_or(lines.len()));
    let length = without_tests.filter(|line| !is_comment(line)).count();
    let limit = if file.path == UNSAFE.0 { UNSAFE.1 } else { LINE_LIMIT };
    (length > limit).then(|| {
        Finding::new(
            &file.path,
            1,
            format!(
                "{length} lines without tests and comments, the limit is {limit}: split the file by topic"
            ),
        )
    })
}

/// Finds doc comments that open with a question word or with `As`.
fn doc_openers(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    // The line after the last doc comment, and its marker: a comment there continues the block.
    let mut block = (0, "");
    for segment in segments(&file.text).iter().filter(|segment| segment.kind == Kind::Comment) {
        let marker = ["///", "//!"].into_iter().find(|marker| segment.text.starts_with(marker));
        let Some(marker) = marker.filter(|_| !segment.text.starts_with("////")) else { continue };
        let continues = block == (segment.line, marker);
        block = (segment.line + 1, marker);
        let text = segment.text.get(marker.len()..).unwrap_or_default();
        let first = text.split_whitespace().next().unwrap_or_default();
        let first = first.trim_end_matches(|c: char| !c.is_alphanumeric());
        if !continues && OPENERS.contains(&first) {
            let message = format!(
                "a doc comment opens with `{first}`: begin with a verb in the third person (Creates, Returns), or with \
                 a noun phrase for a type, field or module"
            );
            findings.push(Finding::new(&file.path, segment.line, message));
        }
    }
    findings
}

/// Finds names of functions, tests, laws and everything else that are too long.
fn long_names(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|name| name.chars().count() > NAME_LIMIT)
}

/// Rules about one line of code without its spaces.
const LINE_RULES: &[fn(&str) -> Option<&'static str>] = &[no_stub, no_allow, ignored_for_a_reason];

fn no_stub(line: &str) -> Option<&'static str> {
    let found = ["todo!", "unimplemented!"].iter().any(|stub| has_word(line, stub));
    found.then_some("stubs are not permitted: write the code, or remove its callers")
}

fn no_allow(line: &str) -> Option<&'static str> {
    let found = line.contains("[allow(") || (line.contains("cfg_attr(") && line.contains(",allow("));
    found.then_some(
        "fix the lint, or write `#[expect(lint, reason = \"…\")]`, which fails once it is no longer needed",
    )
}

fn ignored_for_a_reason(line: &str) -> Option<&'static str> {
    line.contains("#[ignore]").then_some("give the reason, and when it does run: `#[ignore = \"…\"]`")
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
    fn a_file_without_docs_is_found() {
        assert_eq!(lines("fn a() {}\n"), [1]);
        assert_eq!(lines("// The purpose.\n"), [1]);
        assert_eq!(lines("#![cfg(test)]\n//! The purpose.\n"), [1]);
        assert_eq!(lines("//! The purpose.\n#![cfg(test)]\n"), [0; 0]);
    }

    #[test]
    fn a_long_file_is_found() {
        let long = |lines: usize| format!("//! The purpose.\n{}", "x();\n".repeat(lines - 1));
        assert_eq!(lines(&long(401)), [0; 0]);
        assert_eq!(lines(&long(402)), [1]);
        assert_eq!(
            lines(&format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", long(401), "y();\n".repeat(99))),
            [0; 0]
        );
        for exempt in ["a/tests/laws.rs", "a/src/b/tests.rs", "session-core/src/machine/table.rs"] {
            assert_eq!(found(exempt, &long(402)), []);
        }
        assert!(found("a/src/a.rs", &long(501))[0].1.starts_with("500 lines"));
    }

    #[test]
    fn comments_are_exempt_from_the_line_limit() {
        let file = |comment: &str| {
            format!("//! A.\n{}{}", "x(); // b\n".repeat(400), format!("{comment}\n").repeat(300))
        };
        for comment in ["/// Creates it.", "    //! A.", "// Because of b."] {
            assert_eq!(lines(&file(comment)), [0; 0], "{comment}");
        }
        assert_eq!(lines(&file("")), [1], "blank lines are lines");
    }

    #[test]
    fn doc_comments_that_open_with_a_question_are_found() {
        for opener in OPENERS {
            let text = format!("//! A.\n\n/// {opener} it is.\nfn a() {{}}\n");
            assert_eq!(lines(&text), [3], "{opener}");
            assert_eq!(lines(&format!("//! {opener}, then.\n")), [1], "{opener}");
        }
        for fine in [
            "/// Creates it.\n/// What follows is a second line.\nfn a() {}",
            "/// Creates it.\n///\n/// Where it exists, nothing happens.\nfn a() {}",
            "/// Whatever\nfn a() {}",
            "// What it is.\nfn a() {}",
            "const A: &str = \"\n/// What it is.\n\";",
        ] {
            assert_eq!(lines(&format!("//! A.\n\n{fine}\n")), [0; 0], "{fine}");
        }
        assert_eq!(lines("//! A.\n/// What it is.\n/// B.\nfn a() {}\n\n/// How.\nfn b() {}\n"), [2, 6]);
    }

    #[test]
    fn names_of_more_than_60_characters_are_found() {
        let (fits, long) = ("a".repeat(60), "a".repeat(61));
        for template in ["#[test]\nfn NAME() {}", "laws! {\n    create NAME\n}", "mod NAME {}"] {
            let at = 1 + template.lines().position(|line| line.contains("NAME")).unwrap();
            let text = |name: &str| format!("//! A.\n{}\n", template.replace("NAME", name));
            assert_eq!(lines(&text(&fits)), [0; 0], "{template}");
            assert_eq!(lines(&text(&long)), [at + 1], "{template}");
        }
        assert_eq!(lines(&format!("//! A.\nconst A: &str = \"{long}\"; // {long}\n")), [0; 0]);
    }

    #[test]
    fn stubs_in_code_are_found() {
        assert_eq!(lines("//! A.\nfn a() { todo!() }\nfn b() { core::unimplemented !(\"x\") }\n"), [2, 3]);
        assert_eq!(
            lines("//! Not todo!().\nfn a() { f(\"todo!()\"); mytodo!(); } // unimplemented!()\n"),
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
