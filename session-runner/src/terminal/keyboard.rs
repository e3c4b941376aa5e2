//! The flags of the kitty keyboard protocol on one screen: a current value, and a stack of earlier ones.
//!
//! See <https://sw.kovidgoyal.net/kitty/keyboard-protocol/>. The main and the alternate screen have flags of their own.

use std::io::Write as _;

/// Values that are kept of a stack. The oldest one is dropped, as in terminals, which keep 8 or more.
const MAX_DEPTH: usize = 32;
/// The flags that the protocol defines.
const KNOWN_FLAGS: u16 = 0b1_1111;

/// The keyboard flags of one screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyboardFlags {
    /// Never empty: the last value is the current one.
    levels: Vec<u16>,
}

impl Default for KeyboardFlags {
    fn default() -> Self {
        Self { levels: vec![0] }
    }
}

impl KeyboardFlags {
    pub(crate) fn current(&self) -> u16 {
        self.levels.last().copied().unwrap_or(0)
    }

    /// Applies `CSI = flags ; mode u`.
    pub(crate) fn set(&mut self, flags: u16, mode: u16) {
        let Some(current) = self.levels.last_mut() else { return };
        let flags = flags & KNOWN_FLAGS;
        match mode {
            0 | 1 => *current = flags,
            2 => *current |= flags,
            3 => *current &= !flags,
            _ => {}
        }
    }

    /// Applies `CSI > flags u`.
    pub(crate) fn push(&mut self, flags: u16) {
        if self.levels.len() > MAX_DEPTH {
            self.levels.remove(0);
        }
        self.levels.push(flags & KNOWN_FLAGS);
    }

    /// Applies `CSI < count u`.
    pub(crate) fn pop(&mut self, count: u16) {
        let kept = self.levels.len().saturating_sub(usize::from(count.max(1)));
        self.levels.truncate(kept);
        if self.levels.is_empty() {
            self.levels.push(0);
        }
    }

    /// Writes the sequences that lead from the default to these flags.
    pub(crate) fn restore(&self, out: &mut Vec<u8>) {
        for (depth, flags) in self.levels.iter().enumerate() {
            let _ = match (depth, flags) {
                (0, 0) => Ok(()),
                (0, flags) => write!(out, "\x1b[={flags};1u"),
                (_, flags) => write!(out, "\x1b[>{flags}u"),
            };
        }
    }

    /// Writes the sequences that lead from these flags to the default.
    pub(crate) fn reset(&self, out: &mut Vec<u8>) {
        if *self == Self::default() {
            return;
        }
        // One value more than was pushed also clears the current flags where a terminal kept fewer of them. Some only
        // clear the stack: the second sequence is for those.
        let _ = write!(out, "\x1b[<{}u\x1b[=0;1u", self.levels.len());
    }
}
