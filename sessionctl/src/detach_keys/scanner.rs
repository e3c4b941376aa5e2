//! The search for the detach keys in the input of a terminal.
//!
//! What is no detach key is passed on unchanged. Withheld is only:
//! - the keys of the specification that were pressed so far, until the next key shows whether they are meant. Neither
//!   releases of keys, mouse reports, reports of focus nor answers of the terminal are keys: they are passed on and
//!   change nothing. The first key twice sends it once; any other key sends all of them;
//! - at the end of a piece of input, the incomplete sequence that may become one of the keys, from `CSI` and a digit.
//!   [`DetachScanner::flush`] passes it on, if it is not completed soon.
//!
//! A lone ESC, the Escape key, is never withheld. Should a terminal send the ESC of a sequence alone, then a first key is
//! still recognised, but its ESC has gone to the program; before a second key it is Escape, and both are sent.
//!
//! In a bracketed paste nothing is a key.

use super::DetachKeys;
use super::key::Press;

const ESC: u8 = 0x1b;
/// Bytes of a control sequence. A longer one is text.
const MAX_CONTROL: usize = 256;
const PASTE_END: &[u8] = b"\x1b[201~";

/// The search in the input of one terminal.
#[derive(Debug, Clone)]
pub(crate) struct DetachScanner {
    keys: DetachKeys,
    /// The number of keys that have been pressed, and the bytes in which they came.
    pressed: usize,
    withheld: Vec<u8>,
    state: State,
    /// The sequence that is half received.
    sequence: Vec<u8>,
    /// The length of its part that has been passed on.
    passed: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    Escape,
    /// After `ESC O`, with which function keys begin.
    Shift,
    Control,
    /// After `ESC ]`, `ESC P` or `ESC _`: the Alt key with a letter, or a string.
    StringStart,
    /// In a string, which a terminal sends as an answer.
    String,
    StringEscape,
    /// After `CSI M`, with this many bytes to come, which may be any.
    Mouse(u8),
    /// In a bracketed paste, after this many bytes of its end.
    Paste(usize),
    Detached,
}

/// The result for a piece of input.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// Bytes to pass on.
    pub(crate) pass: Vec<u8>,
    /// `true` if the detach keys were pressed. What came after them is dropped.
    pub(crate) detach: bool,
}

impl DetachScanner {
    /// Creates a search for these keys.
    pub(crate) fn new(keys: DetachKeys) -> Self {
        Self { keys, pressed: 0, withheld: Vec::new(), state: State::Text, sequence: Vec::new(), passed: 0 }
    }

    /// Scans a piece of input, which may begin and end anywhere.
    pub(crate) fn scan(&mut self, input: &[u8]) -> Scanned {
        let mut pass = Vec::new();
        if self.keys.is_disabled() {
            pass.extend(input);
            return Scanned { pass, detach: false };
        }
        for byte in input {
            self.receive(*byte, &mut pass);
        }
        self.finish_piece(&mut pass);
        Scanned { pass, detach: self.state == State::Detached }
    }

    /// Returns `true` if a sequence has begun whose end should come soon.
    pub(crate) fn is_pending(&self) -> bool {
        match self.state {
            State::Escape
            | State::Shift
            | State::Control
            | State::StringStart
            | State::String
            | State::StringEscape => true,
            State::Text | State::Mouse(_) | State::Paste(_) | State::Detached => false,
        }
    }

    /// Ends the wait for the rest of a sequence, and returns what was withheld of it, after the keys before it.
    pub(crate) fn flush(&mut self) -> Vec<u8> {
        let mut pass = Vec::new();
        if self.is_pending() {
            if self.passed < self.sequence.len() {
                self.press(Press::Other, &mut pass);
            }
            self.end(State::Text);
        }
        pass
    }

    fn receive(&mut self, byte: u8, pass: &mut Vec<u8>) {
        match (self.state, byte) {
            (State::Detached, _) => {}
            (State::Mouse(rest), _) => {
                pass.push(byte);
                self.state = if rest > 1 { State::Mouse(rest - 1) } else { State::Text };
            }
            (State::Paste(matched), _) => {
                pass.push(byte);
                self.state = continue_paste(matched, byte);
            }
            (State::Text, ESC) => self.begin(byte, State::Escape),
            (State::Text, _) => {
                self.begin(byte, State::Text);
                self.key(Press::Byte(byte), pass);
            }
            (State::StringEscape, b'\\') => {
                self.sequence.push(byte);
                self.ignore(State::Text, pass);
            }
            (State::Escape | State::StringEscape, _) => self.receive_kind(byte, pass),
            (State::Shift, b'!'..=b'~') => {
                self.sequence.push(byte);
                self.key(Press::Other, pass);
            }
            (State::Control, b' '..=b'?') if self.sequence.len() < MAX_CONTROL => self.sequence.push(byte),
            (State::Control, b'@'..=b'~') => {
                self.sequence.push(byte);
                self.end_control(byte, pass);
            }
            (State::StringStart, b'0'..=b'9' | b'>' | b'!' | b'G' | b'l' | b'L') => {
                self.sequence.push(byte);
                self.ignore(State::String, pass);
            }
            (State::Shift | State::Control | State::StringStart, _) => {
                self.key(Press::Other, pass);
                self.receive(byte, pass);
            }
            (State::String, ESC) => self.begin(byte, State::StringEscape),
            (State::String, 0x07 | b' '..) => {
                pass.push(byte);
                self.state = if byte == 0x07 { State::Text } else { State::String };
            }
            (State::String, _) => {
                // No string has other control characters: it was none, or has no end.
                self.state = State::Text;
                self.receive(byte, pass);
            }
        }
    }

    /// Receives the byte after ESC. After an ESC that was passed on, only the rest of a control sequence is expected.
    fn receive_kind(&mut self, byte: u8, pass: &mut Vec<u8>) {
        let state = match byte {
            b'[' => State::Control,
            b'O' if self.passed == 0 => State::Shift,
            b']' | b'P' | b'_' if self.passed == 0 => State::StringStart,
            0x20..=0x7e if self.passed == 0 => {
                // The Alt key and a character.
                self.sequence.push(byte);
                return self.key(Press::Other, pass);
            }
            _ => {
                self.key(Press::Other, pass);
                return self.receive(byte, pass);
            }
        };
        self.sequence.push(byte);
        self.state = state;
    }

    fn end_control(&mut self, last: u8, pass: &mut Vec<u8>) {
        let params = self.sequence.get(2..self.sequence.len() - 1).unwrap_or_default();
        match (params, last) {
            (b"200", b'~') => {
                self.press(Press::Other, pass);
                self.end(State::Paste(0));
            }
            ([], b'M') => self.ignore(State::Mouse(3), pass),
            // Mouse, focus and answers.
            ([b'?' | b'>' | b'<', ..], _)
            | ([], b'I' | b'O')
            | ([_, ..], b'M' | b'R' | b'n' | b't' | b'x' | b'y') => self.ignore(State::Text, pass),
            _ => match Press::parse(params, last) {
                Some(press) => self.key(press, pass),
                None => self.ignore(State::Text, pass),
            },
        }
    }

    /// Passes on what may not be withheld at the end of a piece.
    fn finish_piece(&mut self, pass: &mut Vec<u8>) {
        match (self.state, self.sequence.get(2)) {
            // The Escape key, or the Alt key and a letter.
            (State::Escape | State::Control, None) if self.passed < self.sequence.len() => {
                self.press(Press::Other, pass);
                self.passed = self.sequence.len();
            }
            (State::Shift | State::StringStart, _) => self.key(Press::Other, pass),
            (State::Control, Some(b'0'..=b'9')) => {}
            _ => {
                pass.extend(self.sequence.get(self.passed..).unwrap_or_default());
                self.passed = self.sequence.len();
            }
        }
    }

    fn begin(&mut self, byte: u8, state: State) {
        self.state = state;
        self.sequence.push(byte);
    }

    /// Ends the sequence as a key.
    fn key(&mut self, press: Press, pass: &mut Vec<u8>) {
        self.press(press, pass);
        let is_complete = self.pressed == self.keys.keys.len();
        self.end(if is_complete { State::Detached } else { State::Text });
    }

    /// Passes the sequence on as what is no key.
    fn ignore(&mut self, state: State, pass: &mut Vec<u8>) {
        pass.extend(self.sequence.get(self.passed..).unwrap_or_default());
        self.end(state);
    }

    fn end(&mut self, state: State) {
        self.sequence.clear();
        self.passed = 0;
        self.state = state;
    }

    /// Decides about a key, whose bytes are the rest of the sequence.
    fn press(&mut self, press: Press, pass: &mut Vec<u8>) {
        let bytes = self.sequence.get(self.passed..).unwrap_or_default();
        let is_key = |number: usize| self.keys.keys.get(number).is_some_and(|key| key.is(press));
        if is_key(self.pressed) {
            self.pressed += 1;
            self.withheld.extend(bytes);
            return;
        }
        let (is_first, was_first) = (is_key(0), self.pressed == 1);
        pass.append(&mut self.withheld);
        self.pressed = 0;
        match (is_first, was_first) {
            // Twice: it has been sent once.
            (true, true) => {}
            (true, false) => {
                self.pressed = 1;
                self.withheld.extend(bytes);
            }
            (false, _) => pass.extend(bytes),
        }
    }
}

fn continue_paste(matched: usize, byte: u8) -> State {
    match PASTE_END.get(matched) {
        Some(expected) if *expected == byte && matched + 1 == PASTE_END.len() => State::Text,
        Some(expected) if *expected == byte => State::Paste(matched + 1),
        _ => State::Paste(usize::from(byte == ESC)),
    }
}

#[cfg(test)]
mod tests;
