//! The rule about the reading list of ARCHITECTURE.md: the files for newcomers have about 700 lines in total.

use super::code::only_code;
use super::finding::Finding;
use crate::workspace::File;

const PAGE: &str = "ARCHITECTURE.md";
/// The word in the heading of the section that names the files, each in backticks or as a link.
const TOPIC: &str = "reading";
/// Limit of the lines with content, all files together.
const LINE_LIMIT: usize = 800;

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let Some(page) = files.iter().find(|file| file.path == PAGE) else { return Vec::new() };
    let heading = |line: &str| line.starts_with("## ") && line.to_lowercase().contains(TOPIC);
    let Some(at) = page.text.lines().position(heading) else {
        return vec![Finding::new(
            PAGE,
            1,
            format!("there is no reading list for newcomers: add a section with `{TOPIC}` in its heading"),
        )];
    };
    let section = page.text.lines().skip(at + 1).take_while(|line| !line.starts_with("## "));
    let named: Vec<_> = section.flat_map(|line| line.split(['`', '(', ')'])).collect();
    let read: Vec<_> = files
        .iter()
        .filter(|file| file.path == PAGE || named.contains(&&*file.path))
        .map(|file| (&*file.path, lines(file)))
        .collect();
    let all: usize = read.iter().map(|(_, lines)| lines).sum();
    if read.len() < 2 {
        return vec![Finding::new(
            PAGE,
            at + 1,
            "the section names no existing file: write paths relative to the root",
        )];
    }
    if all <= LINE_LIMIT {
        return Vec::new();
    }
    let each: Vec<_> = read.iter().map(|(path, lines)| format!("{path} {lines}")).collect();
    let message =
        format!("{all} lines to read ({}), the limit is {LINE_LIMIT}: name shorter files", each.join(", "));
    vec![Finding::new(PAGE, at + 1, message)]
}

/// Counts lines with content: no imports, no tests, no lines of punctuation only.
fn lines(file: &File) -> usize {
    let code = if file.is("rs") { only_code(&file.text) } else { String::new() };
    let mut code = code.lines().map(str::trim);
    let (mut count, mut import) = (0, false);
    for line in file.text.lines() {
        let code = code.next().unwrap_or_default();
        if code == "#[cfg(test)]" {
            break;
        }
        import |= ["use ", "pub use ", "pub(crate) use ", "pub(super) use "]
            .iter()
            .any(|use_| code.starts_with(use_));
        count += usize::from(!import && line.contains(char::is_alphanumeric));
        import &= !code.ends_with(';');
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }

    fn found(section: &str, more: &[File]) -> Vec<String> {
        let page = file(PAGE, &format!("# A\n\n{section}"));
        let files: Vec<_> = more.iter().cloned().chain([page]).collect();
        check(&files).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_the_named_files_are_counted() {
        let (long, short) = ("said\n".repeat(LINE_LIMIT), "said\n".repeat(LINE_LIMIT - 3));
        let text = "## Reading order\n[A](A.md), `b.rs`\n";
        assert_eq!(found(text, &[file("A.md", &short), file("c.md", &long)]), [""; 0]);
        for path in ["A.md", "b.rs"] {
            let found = found(text, &[file(path, &long)]);
            assert!(
                found.len() == 1 && found[0].contains(&format!("803 lines to read ({path} 800, {PAGE} 3)")),
                "{found:?}"
            );
        }
        let elsewhere = "## Reading order\n`b.rs`\n## Next\n`c.md`\n";
        assert_eq!(found(elsewhere, &[file("b.rs", "said"), file("c.md", &long)]), [""; 0]);
    }

    #[test]
    fn only_lines_with_content_are_counted() {
        let text = "//! A.\n\nuse b::{\n    c,\n    d,\n};\npub use e::f;\n\n/// A doc.\n///\nfn a() {\n    b(\"use x\");\n}\n\n\
                    #[cfg(test)]\nmod tests {\n    fn c() {}\n}\n";
        assert_eq!(lines(&file("a.rs", text)), 4);
        assert_eq!(lines(&file("a.md", "# A\n\nuse it:\n```\nb\n```\n| - |\n")), 3);
    }

    #[test]
    fn a_missing_or_empty_reading_list_is_found() {
        assert!(found("", &[])[0].contains("no reading list"));
        assert!(found("## Reading order\n`gone.rs`\n", &[])[0].contains("names no existing file"));
    }
}
