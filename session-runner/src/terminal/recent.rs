//! The last lines of a terminal's output, for viewers that attach.

use std::collections::VecDeque;

/// Bytes that are remembered: about a screen of 200 columns and 100 rows, with colours.
const CAPACITY: usize = 64 * 1024;

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
        start.map_or_else(Vec::new, |start| self.bytes.range(start..).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
