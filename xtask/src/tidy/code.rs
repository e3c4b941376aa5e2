//! A lexer that splits Rust source into code, comments and literals, so that each rule reads the parts it is about.

/// The kind of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Code,
    Comment,
    /// A string or character literal with its quotes.
    Literal,
}

/// A part of a source file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    /// The line on which it begins, from 1.
    pub(super) line: usize,
}

/// Splits source into segments, without gaps.
pub(super) fn segments(source: &str) -> Vec<Segment<'_>> {
    let mut found: Vec<Segment<'_>> = Vec::new();
    let (mut start, mut at, mut line, mut previous) = (0, 0, 1, ' ');
    let mut push = |kind: Kind, from: usize, to: usize| {
        let text = source.get(from..to).unwrap_or_default();
        if !text.is_empty() {
            found.push(Segment { kind, text, line });
            line += text.matches('\n').count();
        }
    };
    while let Some(c) = source.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = source.get(at..).unwrap_or_default();
        match literal(rest, previous) {
            Some(length) if length > 0 => {
                push(Kind::Code, start, at);
                let is_comment = rest.starts_with("//") || rest.starts_with("/*");
                push(if is_comment { Kind::Comment } else { Kind::Literal }, at, at + length);
                at += length;
                start = at;
                previous = ' ';
            }
            _ => {
                at += c.len_utf8();
                previous = c;
            }
        }
    }
    push(Kind::Code, start, at);
    found
}

/// Replaces each comment and each literal by spaces. The lines stay the same.
pub(super) fn only_code(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    for Segment { kind, text, .. } in segments(source) {
        match kind {
            Kind::Code => out.push_str(text),
            Kind::Comment | Kind::Literal => {
                out.extend(text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            }
        }
    }
    out
}

/// Returns the length in bytes of the comment or literal at the beginning of the text.
fn literal(text: &str, previous: char) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment(text));
    }
    if text.starts_with('"') {
        return Some(quoted(text, '"'));
    }
    if text.starts_with('\'') {
        return character(text);
    }
    // The `r` of r"…" is a prefix only if it is not the end of a name.
    let raw =
        text.strip_prefix("br").or_else(|| text.strip_prefix("cr")).or_else(|| text.strip_prefix('r'))?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let body = raw.trim_start_matches('#').strip_prefix('"')?;
    if previous.is_alphanumeric() || previous == '_' {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let start = text.len() - body.len();
    Some(body.find(&end).map_or(text.len(), |at| start + at + end.len()))
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(rest) = text.get(at..) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else if let Some(c) = rest.chars().next() {
            at += c.len_utf8();
        } else {
            break;
        }
    }
    text.len()
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Returns the length of a character, `'x'` or `'\n'`; `None` for a lifetime, `'a`.
fn character(text: &str) -> Option<usize> {
    let mut chars = text.chars().skip(1);
    let first = chars.next()?;
    if first == '\\' || chars.next() == Some('\'') { Some(quoted(text, '\'')) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_have_their_kind_and_line() {
        let source = "//! A.\nf(\"x\ny\"); // b\ng";
        let found: Vec<_> =
            segments(source).iter().map(|segment| (segment.kind, segment.text, segment.line)).collect();
        assert_eq!(
            found,
            [
                (Kind::Comment, "//! A.", 1),
                (Kind::Code, "\nf(", 1),
                (Kind::Literal, "\"x\ny\"", 2),
                (Kind::Code, "); ", 3),
                (Kind::Comment, "// b", 3),
                (Kind::Code, "\ng", 3),
            ]
        );
    }

    #[test]
    fn comments_and_literals_are_blanked() {
        for (source, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("x\"y") g"#, "f(      ) g"),
            ("f(r\"x\\\") g", "f(     ) g"),
            ("f(br#\"x\"y\"#) g", "f(         ) g"),
            (r"f('\'', 'x', '\u{1b}') g", "f(    ,    ,         ) g"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("for\"x\" bar", "for    bar"),
            ("\"open", "     "),
            ("\"a\nb\" c", "  \n   c"),
        ] {
            assert_eq!(only_code(source), code, "{source}");
        }
    }
}
