//! Rule about log calls: each has a message, not only fields, because the default formatters show the message first.

use super::code::{Kind, Segment, segments};
use super::finding::Finding;
use crate::workspace::File;

const MACROS: &[&str] = &["trace!(", "debug!(", "info!(", "warn!(", "error!(", "$level!("];
/// The replacement of a literal in the code that is searched.
const LITERAL: char = '\u{1}';

pub(super) fn check(file: &File) -> Vec<Finding> {
    // Other macros have the same names.
    if !file.text.contains("tracing") {
        return Vec::new();
    }
    let code = with_literals_marked(&file.text);
    let calls = MACROS.iter().flat_map(|name| code.match_indices(name));
    let mut findings: Vec<Finding> = calls
        .filter(|(at, _)| !ends_in_name(code.get(..*at).unwrap_or_default()))
        .filter(|(at, name)| !has_message(code.get(at + name.len()..).unwrap_or_default()))
        .map(|(at, name)| {
            let line = 1 + code.get(..at).unwrap_or_default().matches('\n').count();
            let name = name.trim_end_matches('(');
            Finding::new(&file.path, line, format!("`{name}` has no message: add a text after the fields"))
        })
        .collect();
    findings.sort_by_key(|finding| finding.line);
    findings
}

/// Replaces each literal by a mark, and removes comments. The lines stay the same.
fn with_literals_marked(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    for Segment { kind, text, .. } in segments(source) {
        match kind {
            Kind::Code => code.push_str(text),
            Kind::Literal => code.push(LITERAL),
            Kind::Comment => {}
        }
        if kind != Kind::Code {
            code.extend(text.chars().filter(|c| *c == '\n'));
        }
    }
    code
}

fn ends_in_name(before: &str) -> bool {
    before.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// Returns `true` if one of the arguments is a literal by itself.
fn has_message(arguments: &str) -> bool {
    let (mut depth, mut before) = (1, '(');
    for c in arguments.chars().filter(|c| !c.is_whitespace()) {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            LITERAL if depth == 1 && (before == '(' || before == ',') => return true,
            _ => {}
        }
        if depth == 0 {
            return false;
        }
        before = c;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_calls_without_a_message_are_found() {
        for (call, is_found) in [
            ("tracing::warn!(%error, \"could not flush\");", false),
            ("warn!(\"could not flush: {error}\");", false),
            ("info!(target: \"session\", id, \"recovery\");", false),
            ("info!(\n    a = f(\"x\"),\n    \"done\",\n);", false),
            ("info!(target: \"session\", id);", true),
            ("tracing::error!(a = \"b\", c = f(\"d\", \"e\"));", true),
            ("error!(\n    kind,\n    // \"no message\"\n);", true),
            ("compile_error!(x);", false),
        ] {
            let text = format!("//! A file.\nuse tracing::info;\n{call}\n");
            let findings = check(&File { path: "a.rs".into(), text });
            let lines: Vec<_> = findings.iter().map(|finding| finding.line).collect();
            assert_eq!(lines, if is_found { vec![3] } else { vec![] }, "{call}");
        }
    }
}
