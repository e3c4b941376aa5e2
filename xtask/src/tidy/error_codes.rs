//! Rule about sections `# Errors` in docs: the codes that they name exist.

use session_core::ErrorCode;

use super::finding::Finding;
use crate::workspace::File;

pub(super) fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_errors = false;
    for (index, line) in file.text.lines().enumerate() {
        let line = line.trim_start();
        let Some(doc) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            in_errors = false;
            continue;
        };
        if let Some(heading) = doc.trim_start().strip_prefix("# ") {
            in_errors = heading.trim() == "Errors";
        }
        if in_errors {
            let unknown = doc.split('`').skip(1).step_by(2).filter(|span| is_code(span) && !exists(span));
            findings.extend(unknown.map(|span| {
                Finding::new(
                    &file.path,
                    index + 1,
                    format!("there is no error code `{span}`: see docs/errors.md"),
                )
            }));
        }
    }
    findings
}

/// Returns `true` for the form of a code of several words. A single word may be a file or a signal.
fn is_code(span: &str) -> bool {
    span.contains('_') && span.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

fn exists(span: &str) -> bool {
    ErrorCode::ALL.iter().any(|code| code.as_str() == span)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        let file = File { path: "a.rs".into(), text: text.to_owned() };
        check(&file).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn unknown_codes_in_error_sections_are_found() {
        let text = "/// A. `DISK_FULL`\n///\n/// # Errors\n/// `NOT_FOUND`, `DISK_FULL`; the file `FORMAT`.\n\
                    ///\n/// # Panics\n/// `DISK_FULL`\nfn a() {}\n//! # Errors\n//! `STORAGE_FULL` or `FULL_DISK`\n\
                    fn b() {}\n// `DISK_FULL`\n";
        assert_eq!(lines(text), [4, 10]);
    }
}
