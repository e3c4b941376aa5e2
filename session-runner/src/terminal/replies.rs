//! A filter of the bytes that a viewer's terminal sends: answers to queries, and what a person typed.
//!
//! Every viewer's terminal answers the queries in the output that it shows. Only the answers of the active viewer may
//! reach the program, and an answer does not make a viewer the active one. Focus reports are answers in this sense, too.
//!
//! | sequence | is |
//! |---|---|
//! | `CSI ? …`, `CSI > …` | an answer: no key has such a sequence |
//! | `CSI … n`, `CSI … t`, `CSI … x` with parameters, `CSI …;… $ y` | an answer |
//! | `CSI I`, `CSI O` | an answer (focus) |
//! | `CSI line ; column R` | an answer, except `CSI 1 ; 2 R` to `CSI 1 ; 8 R`, which are F3 with modifiers |
//! | `OSC` with a number, `l` or `L`; `DCS` with a number, `>` or `!`; `APC G` | an answer |
//! | all else: text, keys, mouse, and everything inside a bracketed paste | typed |
//!
//! F3 with modifiers and a cursor in columns 2 to 8 of the first line look the same. A wrong choice costs little either
//! way: an answer that is taken for a key reaches the program also from other viewers.
//!
//! # Incomplete sequences
//! Input may be split anywhere, and a key must not wait for the next one. At the end of a piece, the incomplete sequence
//! is passed on, except one that is likely to become an answer: after `CSI` with `?`, `>` or a digit, and after `OSC`,
//! `DCS` and `APC`. The owner calls [`ReplyFilter::flush`] 50 ms later if [`ReplyFilter::is_pending`]: then it was typed
//! (Alt and `]`, for example). A lone ESC, the Escape key, is always passed on immediately; an answer that is split right
//! after its ESC or `CSI` is typed, all of it, so that its order is kept.

use super::parser::ESC;

/// Bytes of a control sequence. A longer one is text.
const MAX_CONTROL: usize = 256;
/// Bytes of an answer that are held until it is complete. A longer one, such as the contents of a clipboard, is passed on
/// in pieces of this size.
const MAX_HELD: usize = 64 * 1024;
/// Bytes of a string after which nothing but an answer is expected, however long the rest takes to come.
const MAX_DOUBT: usize = 64;
const PASTE_END: &[u8] = b"\x1b[201~";

/// The filter of one viewer's input.
#[derive(Debug, Default)]
pub(crate) struct ReplyFilter {
    state: State,
    /// The sequence that is half received.
    sequence: Vec<u8>,
    /// The length of its part that has been passed on, as an answer or as typed.
    passed: usize,
    passed_as_reply: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    Control,
    /// In a string that ends with `ESC \`, or also with BEL.
    String {
        bel: bool,
    },
    /// After an ESC in a string.
    StringEscape {
        bel: bool,
    },
    /// In a bracketed paste, after this many bytes of its end.
    Paste {
        matched: usize,
    },
}

/// The meaning of a complete sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Typed,
    Reply,
    PasteStart,
}

/// A piece of input in two parts, each in its order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct SplitInput {
    pub(crate) typed: Vec<u8>,
    pub(crate) replies: Vec<u8>,
}

impl ReplyFilter {
    /// Splits a piece of input, which may begin and end anywhere.
    pub(crate) fn split(&mut self, input: &[u8]) -> SplitInput {
        let mut out = SplitInput::default();
        for byte in input {
            self.receive(*byte, &mut out);
        }
        let typed_so_far = self.passed > 0 && !self.passed_as_reply;
        if typed_so_far || !self.may_become_reply() {
            self.pass(&mut out);
        }
        out
    }

    /// Returns `true` if a sequence has begun whose end should come soon.
    pub(crate) fn is_pending(&self) -> bool {
        match self.state {
            State::Escape | State::Control => true,
            State::String { .. } | State::StringEscape { .. } => self.sequence.len() <= MAX_DOUBT,
            State::Text | State::Paste { .. } => false,
        }
    }

    /// Ends the wait for the rest of a sequence, and returns what was held of it as typed.
    pub(crate) fn flush(&mut self) -> Vec<u8> {
        let mut out = SplitInput::default();
        if self.is_pending() {
            self.end(Meaning::Typed, &mut out);
        }
        out.typed
    }

    fn receive(&mut self, byte: u8, out: &mut SplitInput) {
        match (self.state, byte) {
            (State::Text, ESC) => self.begin(),
            (State::Text, _) => out.typed.push(byte),
            (State::Paste { matched }, _) => {
                out.typed.push(byte);
                self.state = continue_paste(matched, byte);
            }
            (State::String { bel }, ESC) => {
                self.sequence.push(byte);
                self.state = State::StringEscape { bel };
            }
            (State::StringEscape { .. }, b'\\') | (State::String { bel: true }, 0x07) => {
                self.sequence.push(byte);
                let meaning = if begins_reply(&self.sequence) { Meaning::Reply } else { Meaning::Typed };
                self.end(meaning, out);
            }
            (State::StringEscape { .. }, _) => {
                // The string has no end: its ESC begins something else.
                let escape_is_passed = self.passed == self.sequence.len();
                self.sequence.pop();
                self.end(Meaning::Typed, out);
                self.begin();
                self.passed = usize::from(escape_is_passed);
                self.receive(byte, out);
            }
            (State::Escape | State::Control, ESC) => {
                self.end(Meaning::Typed, out);
                self.begin();
            }
            (State::Escape, _) => self.receive_kind(byte, out),
            (State::Control, _) => self.receive_control(byte, out),
            (State::String { .. }, _) => self.receive_string(byte, out),
        }
    }

    /// Receives the byte after ESC.
    fn receive_kind(&mut self, byte: u8, out: &mut SplitInput) {
        self.sequence.push(byte);
        match byte {
            b'[' => self.state = State::Control,
            b']' => self.state = State::String { bel: true },
            b'P' | b'_' => self.state = State::String { bel: false },
            _ => self.end(Meaning::Typed, out),
        }
    }

    fn receive_control(&mut self, byte: u8, out: &mut SplitInput) {
        self.sequence.push(byte);
        let meaning = match byte {
            // In rxvt, this ends keys with Shift. In answers, it comes after `?` or a second parameter.
            b'$' if !self.sequence.iter().any(|byte| matches!(byte, b';' | b'?')) => Meaning::Typed,
            b' '..=b'?' if self.sequence.len() < MAX_CONTROL => return,
            b'@'..=b'~' => meaning_of_control(&self.sequence),
            _ => Meaning::Typed,
        };
        self.end(meaning, out);
    }

    fn receive_string(&mut self, byte: u8, out: &mut SplitInput) {
        if byte < b' ' {
            self.end(Meaning::Typed, out);
            out.typed.push(byte);
            return;
        }
        self.sequence.push(byte);
        if !begins_reply(&self.sequence) {
            self.end(Meaning::Typed, out);
        } else if self.sequence.len() > MAX_HELD {
            self.passed_as_reply |= self.passed == 0;
            self.pass(out);
            self.sequence.truncate(MAX_DOUBT + 1);
            self.passed = self.sequence.len();
        }
    }

    fn begin(&mut self) {
        self.state = State::Escape;
        self.sequence.push(ESC);
    }

    /// Ends the sequence. One that was partly passed on follows its first part, so that its order is kept.
    fn end(&mut self, meaning: Meaning, out: &mut SplitInput) {
        self.passed_as_reply |= self.passed == 0 && meaning == Meaning::Reply;
        self.pass(out);
        self.sequence.clear();
        (self.passed, self.passed_as_reply) = (0, false);
        self.state = if meaning == Meaning::PasteStart { State::Paste { matched: 0 } } else { State::Text };
    }

    fn pass(&mut self, out: &mut SplitInput) {
        let to = if self.passed_as_reply { &mut out.replies } else { &mut out.typed };
        to.extend(self.sequence.get(self.passed..).unwrap_or_default());
        self.passed = self.sequence.len();
    }

    /// Returns `true` if the incomplete sequence is more likely to become an answer than a key.
    fn may_become_reply(&self) -> bool {
        match self.state {
            State::Control => matches!(self.sequence.get(2), Some(b'?' | b'>' | b'0'..=b'9')),
            State::String { .. } | State::StringEscape { .. } => true,
            State::Text | State::Escape | State::Paste { .. } => false,
        }
    }
}

fn continue_paste(matched: usize, byte: u8) -> State {
    match PASTE_END.get(matched) {
        Some(expected) if *expected == byte && matched + 1 == PASTE_END.len() => State::Text,
        Some(expected) if *expected == byte => State::Paste { matched: matched + 1 },
        _ => State::Paste { matched: usize::from(byte == ESC) },
    }
}

/// Returns `true` if a string of a terminal begins so: not the Alt key with a letter, and text after it.
fn begins_reply(sequence: &[u8]) -> bool {
    match sequence {
        [_, b']', byte, ..] => matches!(byte, b'0'..=b'9' | b'l' | b'L'),
        [_, b'P', byte, ..] => matches!(byte, b'0'..=b'9' | b'>' | b'!'),
        [_, b'_', byte, ..] => *byte == b'G',
        _ => false,
    }
}

fn meaning_of_control(sequence: &[u8]) -> Meaning {
    let [_, _, params @ .., last] = sequence else { return Meaning::Typed };
    match (params, last) {
        (b"200", b'~') => Meaning::PasteStart,
        ([b'?' | b'>', ..], _)
        | ([], b'I' | b'O')
        | ([b'0'..=b'9', ..], b'n' | b't' | b'x')
        | ([.., b'$'], b'y') => Meaning::Reply,
        (_, b'R') if is_position(params) => Meaning::Reply,
        _ => Meaning::Typed,
    }
}

/// Returns `true` if these are the parameters of a cursor position, and not those of F3 with modifiers.
fn is_position(params: &[u8]) -> bool {
    let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let parts: Vec<&[u8]> = params.split(|byte| *byte == b';').collect();
    match *parts {
        [b"1", [b'2'..=b'8']] => false,
        [line, column] => is_number(line) && is_number(column),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
