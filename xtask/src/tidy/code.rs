//! Rust source with its comments and literals blanked out, so that rules see code and not what is said about it.

/// The same lines, each comment and the inside of each string or character literal replaced by spaces.
pub(super) fn only_code(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut previous = ' ';
    while let Some(c) = rest.chars().next() {
        let length = literal(rest, previous).unwrap_or(0);
        let (blank, after) = rest.split_at(length);
        if length == 0 {
            out.push(c);
            previous = c;
            rest = rest.strip_prefix(c).unwrap_or_default();
        } else {
            out.extend(blank.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            previous = ' ';
            rest = after;
        }
    }
    out
}

/// How many bytes of comment or literal the text begins with.
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
    // A prefix, as in br"…", is one only where no name goes before it.
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

/// `'x'` and `'\n'` are characters, `'a` is a lifetime.
fn character(text: &str) -> Option<usize> {
    let mut chars = text.chars().skip(1);
    let first = chars.next()?;
    if first == '\\' || chars.next() == Some('\'') { Some(quoted(text, '\'')) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_code_stays() {
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
