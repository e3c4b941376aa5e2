//! The state of a terminal that follows from the output of its program: modes, and the answers to queries.

use super::mode_sequences;
use super::modes::Modes;
use super::parser::Parser;
use super::pty::TerminalSize;
use super::queries::{self, MAX_REPLIES};

/// The state of a terminal, without its screen.
#[derive(Debug)]
pub(crate) struct TerminalState {
    parser: Parser,
    modes: Modes,
    size: TerminalSize,
}

impl TerminalState {
    /// Creates the state of a terminal with default modes.
    pub(crate) fn new(size: TerminalSize) -> Self {
        Self { parser: Parser::default(), modes: Modes::default(), size }
    }

    pub(crate) fn set_size(&mut self, size: TerminalSize) {
        self.size = size;
    }

    /// Follows a piece of the program's output, which may begin and end anywhere.
    ///
    /// With `replies`, appends the answers to the queries that this piece completes, for as long as no viewer's terminal
    /// gives them: at most 4 KiB, what is more is dropped.
    pub(crate) fn advance(&mut self, bytes: &[u8], mut replies: Option<&mut Vec<u8>>) {
        let Self { parser, modes, size } = self;
        let mut written = 0;
        parser.advance(bytes, |sequence| {
            modes.apply(sequence, size.rows);
            let Some(replies) = replies.as_deref_mut() else { return };
            let before = replies.len();
            queries::answer(sequence, modes, *size, replies);
            let reply = replies.len() - before;
            if written + reply > MAX_REPLIES {
                replies.truncate(before);
            } else {
                written += reply;
            }
        });
    }

    /// Returns the sequences that bring a terminal with default modes into those of the program, for a viewer that
    /// attaches. See [`mode_sequences::restore`].
    pub(crate) fn restore(&self) -> Vec<u8> {
        mode_sequences::restore(&self.modes)
    }

    /// Returns the sequences that bring a terminal with the program's modes back to its defaults, for a viewer that
    /// leaves. See [`mode_sequences::reset`]. A sequence that is half received is ended first: it would swallow them.
    pub(crate) fn reset(&self) -> Vec<u8> {
        let end: &[u8] = if self.is_ground() { b"" } else { b"\x1b\\" };
        [end, &mode_sequences::reset(&self.modes)].concat()
    }

    pub(crate) fn is_alternate_screen(&self) -> bool {
        self.modes.alternate.is_some()
    }

    /// Returns `true` if neither a sequence nor a character is half received, so that a message can be inserted.
    pub(crate) fn is_ground(&self) -> bool {
        self.parser.is_ground()
    }
}

#[cfg(test)]
mod tests;
