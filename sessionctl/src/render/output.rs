//! Output of programs, made safe for a terminal: line ends stay, tabs become blanks, other control bytes become text.

use std::fmt::Write as _;

use sessionkit::text::is_unsafe_char;
use unicode_width::UnicodeWidthChar as _;

/// Columns from one tab stop to the next.
const TAB: usize = 8;

/// Converter for one stream, whose chunks may end within a character.
#[derive(Debug, Default)]
pub(crate) struct Visible {
    /// The first bytes of an incomplete character or line end.
    rest: Vec<u8>,
    /// Current column of the line, for tabs.
    column: usize,
}

impl Visible {
    /// Converts the next chunk.
    pub(crate) fn show(&mut self, bytes: &[u8]) -> String {
        let mut chunk = std::mem::take(&mut self.rest);
        chunk.extend_from_slice(bytes);
        if chunk.last() == Some(&b'\r') {
            self.rest = chunk.split_off(chunk.len() - 1);
        } else if let Some(last) = chunk.utf8_chunks().last().map(|part| part.invalid().to_vec())
            && !last.is_empty()
            && is_incomplete_character(&last)
        {
            self.rest = chunk.split_off(chunk.len() - last.len());
        }
        self.escape(&chunk)
    }

    /// Converts the incomplete rest at the end of the stream.
    pub(crate) fn finish(mut self) -> String {
        let rest = std::mem::take(&mut self.rest);
        self.escape(&rest)
    }

    fn escape(&mut self, bytes: &[u8]) -> String {
        let mut out = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            let mut chars = chunk.valid().chars().peekable();
            while let Some(c) = chars.next() {
                match c {
                    '\n' => {
                        self.column = 0;
                        out.push(c);
                    }
                    '\t' => {
                        let blanks = TAB - self.column % TAB;
                        self.column += blanks;
                        out.extend(std::iter::repeat_n(' ', blanks));
                    }
                    '\r' if chars.peek() == Some(&'\n') => {}
                    c if is_unsafe_char(c) => {
                        let text = c.escape_unicode();
                        self.column += text.len();
                        out.extend(text);
                    }
                    c => {
                        self.column += c.width().unwrap_or(0);
                        out.push(c);
                    }
                }
            }
            for byte in chunk.invalid() {
                self.column += 4;
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
        out
    }
}

/// Returns `true` if these bytes are the beginning of a character.
fn is_incomplete_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &[u8] = b"ok\ttab\r\nred\x1b[31m bell\x07 back\x08 cr\rover c1\xc2\x9b bad\xff\xfe \xe2\x80\xae bidi \xe6\x97\xa5\xe6";

    fn shown(cuts: &[usize]) -> String {
        let mut visible = Visible::default();
        let mut text = String::new();
        let mut from = 0;
        for cut in cuts.iter().copied().chain([HOSTILE.len()]) {
            text.push_str(&visible.show(&HOSTILE[from..cut]));
            from = cut;
        }
        text + &visible.finish()
    }

    #[test]
    fn tabs_expand_to_terminal_tab_stops() {
        for (text, shown) in [
            ("\ta", "        a"),
            ("1234567\ta", "1234567 a"),
            ("12345678\ta\n\tb", "12345678        a\n        b"),
            ("日本\ta", "日本    a"),
        ] {
            let mut visible = Visible::default();
            let chunks: String = text.bytes().map(|byte| visible.show(&[byte])).collect();
            assert_eq!(chunks + &visible.finish(), shown);
        }
    }

    #[test]
    fn control_bytes_are_escaped_at_every_chunk_boundary() {
        let whole = shown(&[]);
        assert!(whole.starts_with("ok      tab\nred\\u{1b}[31m bell\\u{7}"), "{whole}");
        assert!(whole.ends_with("bad\\xff\\xfe \\u{202e} bidi 日\\xe6"), "{whole}");
        assert!(!whole.contains(|c| is_unsafe_char(c) && c != '\n'));
        for first in 0..=HOSTILE.len() {
            for second in first..=HOSTILE.len() {
                assert_eq!(shown(&[first, second]), whole, "cut at {first} and {second}");
            }
        }
    }
}
