//! The rule about the way in: what a newcomer is told to read first gives the whole idea in about 700 lines.

use super::Finding;
use super::code::only_code;
use crate::workspace::File;

const PAGE: &str = "ARCHITECTURE.md";
/// The section of the page that names the files, each in backticks or as a link.
const SECTION: &str = "## Where to begin reading";
/// Lines that say something, all files together.
const LINE_LIMIT: usize = 750;

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let Some(page) = files.iter().find(|file| file.path == PAGE) else { return Vec::new() };
    let Some(at) = page.text.lines().position(|line| line == SECTION) else {
        return vec![Finding::new(
            PAGE,
            1,
            format!("a newcomer is not told where to begin: write `{SECTION}`"),
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
            "the section names no file that there is: write paths from the root",
        )];
    }
    if all <= LINE_LIMIT {
        return Vec::new();
    }
    let each: Vec<_> = read.iter().map(|(path, lines)| format!("{path} {lines}")).collect();
    let message = format!(
        "{all} lines to read ({}), {LINE_LIMIT} are the limit: name files that say the same with less",
        each.join(", ")
    );
    vec![Finding::new(PAGE, at + 1, message)]
}

/// Lines that say something: neither imports nor tests, and not those that only close what others opened.
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
    fn what_is_named_counts_and_only_that() {
        let (long, short) = ("said\n".repeat(LINE_LIMIT), "said\n".repeat(LINE_LIMIT - 3));
        let text = format!("{SECTION}\n[A](A.md), `b.rs`\n");
        assert_eq!(found(&text, &[file("A.md", &short), file("c.md", &long)]), [""; 0]);
        for path in ["A.md", "b.rs"] {
            let found = found(&text, &[file(path, &long)]);
            assert!(
                found.len() == 1 && found[0].contains(&format!("753 lines to read ({path} 750, {PAGE} 3)")),
                "{found:?}"
            );
        }
        let elsewhere = format!("{SECTION}\n`b.rs`\n## Next\n`c.md`\n");
        assert_eq!(found(&elsewhere, &[file("b.rs", "said"), file("c.md", &long)]), [""; 0]);
    }

    #[test]
    fn only_lines_that_say_something_count() {
        let text = "//! A.\n\nuse b::{\n    c,\n    d,\n};\npub use e::f;\n\n/// What it is.\n///\nfn a() {\n    b(\"use x\");\n}\n\n\
                    #[cfg(test)]\nmod tests {\n    fn c() {}\n}\n";
        assert_eq!(lines(&file("a.rs", text)), 4);
        assert_eq!(lines(&file("a.md", "# A\n\nuse it:\n```\nb\n```\n| - |\n")), 3);
    }

    #[test]
    fn a_way_in_that_is_missing_or_leads_nowhere_is_found() {
        assert!(found("", &[])[0].contains("not told where to begin"));
        assert!(found(&format!("{SECTION}\n`gone.rs`\n"), &[])[0].contains("names no file"));
    }
}
