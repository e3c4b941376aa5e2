//! Escaping of dangerous characters, and cutting of texts.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

use unicode_width::UnicodeWidthStr as _;

/// Returns `true` for a character that can move the cursor, change the terminal or reorder the text around it:
/// control characters (Unicode `Cc`) and bidirectional controls.
#[must_use]
pub const fn is_unsafe_char(c: char) -> bool {
    matches!(c,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns `true` if a text contains a dangerous character. Searches for the first bytes of such characters first,
/// since nearly every text has none of them.
pub(crate) fn has_unsafe_char(text: &str) -> bool {
    let suspicious = |byte: &u8| matches!(byte, 0..=0x1f | 0x7f | 0xc2 | 0xd8 | 0xe2);
    // Without an early exit, the compiler vectorises the inner loop.
    let any = |bytes: &[u8]| bytes.iter().fold(false, |found, byte| found | suspicious(byte));
    text.as_bytes().chunks(64).any(any) && text.chars().any(is_unsafe_char)
}

/// Escapes every dangerous character (see [`is_unsafe_char`]) as `\u{…}`, so that the text can be printed on a
/// terminal. Returns the text itself if there is none.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    if !has_unsafe_char(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unsafe_char(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Returns a text of the operating system with each byte that is not UTF-8 as `\xff`. Nothing else is escaped.
#[must_use]
pub fn escape_bytes(text: &OsStr) -> Cow<'_, str> {
    if let Some(text) = text.to_str() {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for chunk in text.as_bytes().utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    Cow::Owned(out)
}

/// Returns the number of columns that a text without control characters occupies on a terminal. Ideographs and most
/// emoji take two, combining characters none.
#[must_use]
pub fn columns(text: &str) -> usize {
    text.width()
}

/// Cuts a text without control characters to at most this many [`columns`]. A cut text ends with `…`.
#[must_use]
pub fn cut_columns(text: &str, most: usize) -> Cow<'_, str> {
    if columns(text) <= most {
        return Cow::Borrowed(text);
    }
    let mut cut = String::new();
    for c in text.chars() {
        cut.push(c);
        // The width of the whole and not a sum: a character may change the width of the one before it.
        if columns(&cut) >= most {
            cut.pop();
            break;
        }
    }
    // No blank before the ellipsis.
    cut.truncate(cut.trim_end().len());
    if most > 0 {
        cut.push('…');
    }
    Cow::Owned(cut)
}

/// Returns the longest prefix of at most `limit` bytes.
pub(crate) fn prefix(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// Cuts a text to the longest prefix that takes at most `limit` bytes inside a JSON string, and replaces dangerous
/// characters by spaces. Heads store texts in this form. Cutting twice changes nothing.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    let mut size = 0;
    text.chars()
        .map(|c| if is_unsafe_char(c) { ' ' } else { c })
        .take_while(|c| {
            size += if matches!(c, '"' | '\\') { 2 } else { c.len_utf8() };
            size <= limit
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_text_has_no_dangerous_character() {
        let hostile = "a\u{1b}[31mb\u{9b}c\u{202e}d\r\n\u{7}";
        let shown = visible(hostile);
        assert!(!shown.chars().any(is_unsafe_char), "{shown:?}");
        assert!(shown.starts_with('a') && shown.contains("\\u{1b}[31mb"));
        assert!(matches!(visible("plain ünïcode"), Cow::Borrowed(_)));
    }

    #[test]
    fn only_bytes_that_are_not_utf8_are_escaped() {
        let escaped = |bytes: &[u8]| escape_bytes(OsStr::from_bytes(bytes)).into_owned();
        assert_eq!(escaped("plain ünïcode\\".as_bytes()), "plain ünïcode\\");
        assert_eq!(escaped(b"a\xff\xc3b\x1b"), "a\\xff\\xc3b\u{1b}");
    }

    #[test]
    fn texts_are_cut_to_columns() {
        for (text, most, cut) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("ab cd", 4, "ab…"),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}…"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
            ("", 0, ""),
        ] {
            assert_eq!(cut_columns(text, most), cut, "{text} in {most}");
        }
    }

    #[test]
    fn every_dangerous_character_is_found() {
        for c in (0..=0x1_0ffff).filter_map(char::from_u32) {
            assert_eq!(has_unsafe_char(&format!("ok{c}")), is_unsafe_char(c), "{c:?}");
        }
    }

    #[test]
    fn a_cut_text_fits_as_json_and_cutting_is_idempotent() {
        for text in ["\"\"\"\"\"\"", "\\\\\\\\", "ääääää", "日本語テキスト", "\u{0}\u{1}\u{2}abcdef", "short"]
        {
            for limit in 0..12 {
                let once = cut(text, limit);
                let json = serde_json::to_string(&once).unwrap();
                assert!(json.len() - 2 <= limit, "{text:?} at {limit}: {json}");
                assert_eq!(cut(&once, limit), once);
            }
        }
    }
}
