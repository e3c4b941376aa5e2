//! What a program printed, as a terminal may see it: line ends and tabs stay, all other control bytes become text.

use std::fmt::Write as _;

use sessionkit::text::is_unsafe_char;

/// The bytes of one stream, which come in pieces that know nothing of characters.
#[derive(Debug, Default)]
pub(crate) struct Visible {
    /// The beginning of a character, or of a line end, whose rest has not come yet.
    rest: Vec<u8>,
}

impl Visible {
    /// The next piece.
    pub(crate) fn show(&mut self, bytes: &[u8]) -> String {
        let mut piece = std::mem::take(&mut self.rest);
        piece.extend_from_slice(bytes);
        if piece.last() == Some(&b'\r') {
            self.rest = piece.split_off(piece.len() - 1);
        } else if let Some(last) = piece.utf8_chunks().last().map(|chunk| chunk.invalid().to_vec())
            && !last.is_empty()
            && begins_a_character(&last)
        {
            self.rest = piece.split_off(piece.len() - last.len());
        }
        escape(&piece)
    }

    /// What is left when nothing more comes.
    pub(crate) fn finish(self) -> String {
        escape(&self.rest)
    }
}

/// Whether more bytes could make these a character.
fn begins_a_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut chars = chunk.valid().chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\n' | '\t' => out.push(c),
                '\r' if chars.peek() == Some(&'\n') => {}
                c if is_unsafe_char(c) => out.extend(c.escape_unicode()),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
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
    fn no_control_byte_comes_out_wherever_the_pieces_are_cut() {
        let whole = shown(&[]);
        assert!(whole.starts_with("ok\ttab\nred\\u{1b}[31m bell\\u{7}"), "{whole}");
        assert!(whole.ends_with("bad\\xff\\xfe \\u{202e} bidi 日\\xe6"), "{whole}");
        assert!(!whole.contains(|c| is_unsafe_char(c) && c != '\n' && c != '\t'));
        for first in 0..=HOSTILE.len() {
            for second in first..=HOSTILE.len() {
                assert_eq!(shown(&[first, second]), whole, "cut at {first} and {second}");
            }
        }
    }
}
