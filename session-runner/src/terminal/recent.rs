//! The last lines of a terminal's output, for viewers that attach.
//!
//! Only text with its attributes is shown again. A query would be answered once more, to a program that waits for no
//! answer, and other sequences mean something else on another screen.

use std::collections::VecDeque;

/// Bytes that are remembered: about a screen of 200 columns and 100 rows, with colours.
const CAPACITY: usize = 64 * 1024;

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;

/// The end of a terminal's output.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    bytes: VecDeque<u8>,
    /// `true` once the beginning was forgotten.
    is_cut: bool,
}

impl Recent {
    /// Appends output, and forgets the oldest.
    pub(crate) fn extend(&mut self, output: &[u8]) {
        let kept = output.get(output.len().saturating_sub(CAPACITY)..).unwrap_or_default();
        let too_many = (self.bytes.len() + output.len()).saturating_sub(CAPACITY);
        self.is_cut |= too_many > 0;
        self.bytes.drain(..too_many.min(self.bytes.len()));
        self.bytes.extend(kept);
    }

    /// Returns the last lines, the incomplete one after the last end of a line included.
    pub(crate) fn lines(&self, rows: u16) -> Vec<u8> {
        let rows = usize::from(rows).max(1);
        let ends = self.bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        let start = ends.map(|(at, _)| at + 1).nth(rows - 1);
        // The first line may have lost its beginning, in the middle of a sequence or character.
        let first_end = || self.bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let start = start.or_else(|| if self.is_cut { first_end() } else { Some(0) });
        let end = self.bytes.len() - self.incomplete_length();
        let bytes: Vec<u8> = start
            .filter(|start| *start <= end)
            .map_or_else(Vec::new, |start| self.bytes.range(start..end).copied().collect());
        shown_again(&bytes)
    }

    /// Returns the begin of a sequence whose rest is not printed yet: what comes next completes it.
    pub(crate) fn incomplete(&self) -> Vec<u8> {
        self.bytes.range(self.bytes.len() - self.incomplete_length()..).copied().collect()
    }

    fn incomplete_length(&self) -> usize {
        let escapes = self.bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == ESC);
        let mut length = 0;
        // The end of a string is a sequence, too: then the string before it is incomplete.
        for (at, _) in escapes.take(2) {
            let bytes: Vec<u8> = self.bytes.range(at..).copied().collect();
            if sequence_length(&bytes).is_some() {
                break;
            }
            length = bytes.len();
            if length > 1 {
                break;
            }
        }
        length
    }
}

/// Removes all but text, tabs, backspaces, line ends, attributes (`CSI … m`) and erased lines (`CSI … K`).
fn shown_again(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        if *byte != ESC {
            if !byte.is_ascii_control() || matches!(byte, b'\t' | 0x08 | b'\r' | b'\n') {
                kept.push(*byte);
            }
            rest = after;
            continue;
        }
        let length = sequence_length(rest).unwrap_or(rest.len());
        let (sequence, after) = rest.split_at(length);
        let is_plain = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b';' | b':');
        if let [_, b'[', params @ .., b'm' | b'K'] = sequence
            && params.iter().all(is_plain)
        {
            kept.extend(sequence);
        }
        rest = after;
    }
    kept
}

/// Returns the length of the escape sequence that the bytes begin with; `None` if its end is missing.
fn sequence_length(bytes: &[u8]) -> Option<usize> {
    let after = |length: usize| bytes.get(length..).unwrap_or_default();
    let found = match bytes.get(1) {
        Some(b'[') => after(2).iter().position(|byte| matches!(byte, 0x40..=0x7e)).map(|at| at + 3),
        // Strings, which end with BEL or `ESC \`.
        Some(b']' | b'P' | b'_' | b'^' | b'X') => after(2)
            .iter()
            .position(|byte| matches!(*byte, BEL | ESC))
            .map(|at| at + 2 + if bytes.get(at + 2) == Some(&ESC) { 2 } else { 1 }),
        Some(0x20..=0x2f) => after(1).iter().position(|byte| !matches!(byte, 0x20..=0x2f)).map(|at| at + 2),
        Some(_) => Some(2),
        None => None,
    };
    found.filter(|length| *length <= bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_sequence_comes_after_the_last_lines() {
        for incomplete in
            ["\x1b", "\x1b[", "\x1b[3", "\x1b[?104", "\x1b]0;title", "\x1b]0;title\x1b", "\x1b(", "\x1bPq#"]
        {
            let mut recent = Recent::default();
            recent.extend(b"\x1b[1mone\x1b]0;t\x1b\\\r\ntwo");
            recent.extend(incomplete.as_bytes());
            assert_eq!(recent.lines(5), b"\x1b[1mone\r\ntwo", "{incomplete:?}");
            assert_eq!(recent.incomplete(), incomplete.as_bytes(), "{incomplete:?}");
        }
        for complete in ["", "a", "\x1b[31m", "\x1b]0;title\x07", "\x1b]0;title\x1b\\", "\x1b(B", "\x1bc"] {
            let mut recent = Recent::default();
            recent.extend(complete.as_bytes());
            assert_eq!(recent.incomplete(), b"", "{complete:?}");
        }
    }

    #[test]
    fn the_last_lines_are_returned_whole() {
        let mut recent = Recent::default();
        assert_eq!(recent.lines(5), b"");
        recent.extend(b"one\r\ntwo\r\nthree\r\n$ ");
        assert_eq!(recent.lines(1), b"$ ");
        assert_eq!(recent.lines(2), b"three\r\n$ ");
        assert_eq!(recent.lines(3), b"two\r\nthree\r\n$ ");
        assert_eq!(recent.lines(9), b"one\r\ntwo\r\nthree\r\n$ ");
    }

    #[test]
    fn a_line_whose_beginning_is_forgotten_is_left_out() {
        let mut recent = Recent::default();
        recent.extend(&vec![b'x'; CAPACITY - 1]);
        recent.extend(b"yy\nend");
        assert_eq!(recent.lines(2), b"end");
        recent.extend(&vec![b'z'; 3 * CAPACITY]);
        assert_eq!((recent.lines(1), recent.bytes.len()), (Vec::new(), CAPACITY));
    }

    #[test]
    fn only_text_and_its_attributes_are_shown_again() {
        for (printed, shown) in [
            ("\x1b[1;31mred\x1b[0m\r\n", "\x1b[1;31mred\x1b[0m\r\n"),
            ("10 %\r20 %\x1b[K", "10 %\r20 %\x1b[K"),
            ("a\x1b[6nb\x1b[cc\x1b[?1;2md\x05e", "abcde"),
            ("\x1b]10;?\x07a\x1b]0;title\x1b\\b\x1bP+q544e\x1b\\c", "abc"),
            ("\x1b(0x\x1b=y\x1b[2J\x1b[Hz", "xyz"),
            ("a\x1b[", "a"),
            ("a\x1b", "a"),
            ("a\x1b]0;half", "a"),
            ("\x1b[>4;2ma\x1b[4:3mb", "a\x1b[4:3mb"),
            ("ünï\tx\x08y", "ünï\tx\x08y"),
        ] {
            assert_eq!(String::from_utf8(shown_again(printed.as_bytes())).unwrap(), shown, "{printed:?}");
        }
    }
}
