//! A parser of the control sequences in a program's output, which arrives in pieces.
//!
//! Text is skipped, not decoded. Only the seven-bit forms are recognised: the eight-bit ones are parts of characters in
//! UTF-8. Memory is bounded: parameters beyond [`MAX_PARAMS`] and strings beyond [`MAX_STRING`] bytes are cut, and data
//! of device control strings is not kept at all.

use memchr::{memchr2, memchr3};

/// Parameters that are kept of one sequence.
pub(crate) const MAX_PARAMS: usize = 32;
/// Bytes that are kept of an operating system command, such as a window title.
pub(crate) const MAX_STRING: usize = 1024;
/// More than one intermediate byte, which no sequence has that matters here.
const SEVERAL: u8 = 0xff;

const BEL: u8 = 0x07;
const SHIFT_OUT: u8 = 0x0e;
const SHIFT_IN: u8 = 0x0f;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;
pub(crate) const ESC: u8 = 0x1b;

/// A complete control sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sequence<'a> {
    /// SO, which selects the character set G1.
    ShiftOut,
    /// SI, which selects the character set G0.
    ShiftIn,
    /// `ESC`, an intermediate byte or 0, and the final byte.
    Escape(u8, u8),
    /// `CSI`, which is `ESC [`.
    Control(&'a Function),
    /// `OSC`, which is `ESC ]`.
    SystemCommand(SystemCommand<'a>),
    /// `DCS`, which is `ESC P`, without the data that follows its function.
    DeviceControl(&'a Function),
}

/// The text of an operating system command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemCommand<'a> {
    /// At most [`MAX_STRING`] bytes, without control characters.
    pub(crate) text: &'a [u8],
    /// `true` if the text was longer.
    pub(crate) is_cut: bool,
    /// `true` if BEL ended it, not `ESC \`.
    pub(crate) ended_by_bel: bool,
}

/// The function of a control sequence, with its parameters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Function {
    /// One of `<=>?`, or 0.
    prefix: u8,
    /// An intermediate byte, or 0.
    intermediate: u8,
    last: u8,
    params: [u16; MAX_PARAMS],
    count: usize,
    /// The parameter that is being received.
    current: Option<u16>,
    has_subparams: bool,
}

/// The effect of one byte on a function.
enum Received {
    Part,
    Complete,
    Invalid,
}

impl Function {
    /// Returns prefix, intermediate byte and final byte; a missing one is 0.
    pub(crate) fn name(&self) -> (u8, u8, u8) {
        (self.prefix, self.intermediate, self.last)
    }

    /// Returns the parameters. An empty one is 0.
    pub(crate) fn params(&self) -> &[u16] {
        self.params.get(..self.count).unwrap_or_default()
    }

    /// Returns a parameter; one that is empty or missing is 0.
    pub(crate) fn param(&self, index: usize) -> u16 {
        self.params().get(index).copied().unwrap_or(0)
    }

    /// Returns `true` if parameters have parts that are separated by colons, as only colours and underlines do.
    pub(crate) fn has_subparams(&self) -> bool {
        self.has_subparams
    }

    fn clear(&mut self) {
        (self.prefix, self.intermediate, self.last) = (0, 0, 0);
        (self.count, self.current, self.has_subparams) = (0, None, false);
    }

    fn receive(&mut self, byte: u8) -> Received {
        match byte {
            b'0'..=b'9' if self.intermediate == 0 => {
                let digits = self.current.unwrap_or(0).saturating_mul(10);
                self.current = Some(digits.saturating_add(u16::from(byte - b'0')));
            }
            b';' | b':' if self.intermediate == 0 => {
                self.has_subparams |= byte == b':';
                self.push(self.current.unwrap_or(0));
                self.current = Some(0);
            }
            b'<'..=b'?' if self.name() == (0, 0, 0) && self.current.is_none() => self.prefix = byte,
            b' '..=b'/' => self.collect(byte),
            b'@'..=b'~' => {
                if let Some(param) = self.current.take() {
                    self.push(param);
                }
                self.last = byte;
                return Received::Complete;
            }
            0x7f => {}
            _ => return Received::Invalid,
        }
        Received::Part
    }

    /// Receives an intermediate byte.
    fn collect(&mut self, byte: u8) {
        self.intermediate = if self.intermediate == 0 { byte } else { SEVERAL };
    }

    fn push(&mut self, param: u16) {
        if let Some(place) = self.params.get_mut(self.count) {
            *place = param;
            self.count += 1;
        }
    }
}

/// A parser, with the sequence that is half received.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    state: State,
    function: Function,
    string: Vec<u8>,
    string_is_cut: bool,
    /// Bytes that the last character of the text lacks.
    missing: u8,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC, and possibly intermediate bytes, which are kept in the function.
    Escape,
    Control,
    /// A control sequence that breaks the grammar, up to its final byte.
    InvalidControl,
    DeviceControl,
    String(StringKind),
    /// After an ESC in a string, which a `\` ends.
    StringEscape(StringKind),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StringKind {
    SystemCommand,
    DeviceControl,
    /// A string without a meaning here.
    Other,
}

impl Parser {
    /// Parses a piece of output, and calls the function with each sequence that it completes.
    pub(crate) fn advance(&mut self, bytes: &[u8], mut found: impl FnMut(Sequence<'_>)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.state {
                State::Text => self.text(rest, &mut found),
                State::Control => self.control(rest, &mut found),
                State::String(kind) => self.string(kind, rest, &mut found),
                State::Escape
                | State::InvalidControl
                | State::DeviceControl
                | State::StringEscape(_) => self.single(rest, &mut found),
            };
        }
    }

    /// Returns `true` if neither a sequence nor a character is half received.
    pub(crate) fn is_ground(&self) -> bool {
        self.state == State::Text && self.missing == 0
    }

    /// Skips text up to the next character that matters. Nearly all output is text.
    fn text<'a>(&mut self, bytes: &'a [u8], found: &mut impl FnMut(Sequence<'_>)) -> &'a [u8] {
        let end = memchr3(ESC, SHIFT_OUT, SHIFT_IN, bytes).unwrap_or(bytes.len());
        let (text, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        let Some((control, rest)) = rest.split_first() else {
            self.missing = missing_after(self.missing, text);
            return rest;
        };
        self.missing = 0;
        self.execute(*control, found);
        rest
    }

    fn control<'a>(&mut self, bytes: &'a [u8], found: &mut impl FnMut(Sequence<'_>)) -> &'a [u8] {
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            match self.function.receive(*byte) {
                Received::Part => rest = after,
                Received::Complete => {
                    self.state = State::Text;
                    found(Sequence::Control(&self.function));
                    return after;
                }
                Received::Invalid => return self.invalid(State::InvalidControl, rest, found),
            }
        }
        rest
    }

    /// Receives one byte in a state in which few bytes are received.
    fn single<'a>(&mut self, bytes: &'a [u8], found: &mut impl FnMut(Sequence<'_>)) -> &'a [u8] {
        let Some((byte, rest)) = bytes.split_first() else { return bytes };
        match (self.state, *byte) {
            (State::Escape, b' '..=b'/') => self.function.collect(*byte),
            (State::Escape, b'0'..=b'~') => self.escape(*byte, found),
            (State::InvalidControl, b' '..=b'?') | (State::Escape | State::InvalidControl, 0x7f) => {}
            (State::InvalidControl, b'@'..=b'~') => self.state = State::Text,
            (State::DeviceControl, _) => match self.function.receive(*byte) {
                Received::Part => {}
                Received::Complete => self.state = State::String(StringKind::DeviceControl),
                Received::Invalid => {
                    return self.invalid(State::String(StringKind::Other), bytes, found);
                }
            },
            (State::StringEscape(kind), b'\\') => self.end_string(kind, false, found),
            (State::StringEscape(_), _) => {
                // Another sequence begins: the string has been abandoned.
                self.begin_escape();
                return bytes;
            }
            (_, _) => return self.invalid(State::Text, bytes, found),
        }
        rest
    }

    /// Receives a byte that the grammar of a sequence does not have: a control character is executed and does not
    /// interrupt the sequence, the start of a character ends it, and the rest of another one is received in `state`.
    fn invalid<'a>(
        &mut self,
        state: State,
        bytes: &'a [u8],
        found: &mut impl FnMut(Sequence<'_>),
    ) -> &'a [u8] {
        let Some((byte, rest)) = bytes.split_first() else { return bytes };
        if *byte >= 0x80 {
            self.state = State::Text;
            return bytes;
        }
        if *byte < b' ' {
            self.execute(*byte, found);
        } else {
            self.state = state;
        }
        rest
    }

    /// Receives the byte after ESC and intermediate bytes.
    fn escape(&mut self, byte: u8, found: &mut impl FnMut(Sequence<'_>)) {
        let intermediate = self.function.intermediate;
        self.state = State::Text;
        if intermediate != 0 {
            found(Sequence::Escape(intermediate, byte));
            return;
        }
        match byte {
            b'[' => self.state = State::Control,
            b']' => self.begin_string(StringKind::SystemCommand),
            b'P' => self.state = State::DeviceControl,
            b'X' | b'^' | b'_' => self.begin_string(StringKind::Other),
            _ => found(Sequence::Escape(0, byte)),
        }
    }

    fn string<'a>(
        &mut self,
        kind: StringKind,
        bytes: &'a [u8],
        found: &mut impl FnMut(Sequence<'_>),
    ) -> &'a [u8] {
        let bel = if kind == StringKind::SystemCommand { BEL } else { ESC };
        let end = memchr2(ESC, bel, bytes).unwrap_or(bytes.len());
        let text = bytes.get(..end).unwrap_or(bytes);
        let end = memchr2(CAN, SUB, text).unwrap_or(end);
        let (text, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        if kind == StringKind::SystemCommand {
            self.keep(text);
        }
        let Some((byte, rest)) = rest.split_first() else { return rest };
        match *byte {
            ESC => self.state = State::StringEscape(kind),
            CAN | SUB => self.state = State::Text,
            _ => self.end_string(kind, true, found),
        }
        rest
    }

    fn keep(&mut self, text: &[u8]) {
        let is_text = |byte: &&u8| !byte.is_ascii_control();
        let free = MAX_STRING.saturating_sub(self.string.len());
        let mut text = text.iter().filter(is_text);
        self.string.extend(text.by_ref().take(free));
        self.string_is_cut |= text.next().is_some();
    }

    fn begin_escape(&mut self) {
        self.state = State::Escape;
        self.function.clear();
    }

    fn begin_string(&mut self, kind: StringKind) {
        self.state = State::String(kind);
        self.string.clear();
        self.string_is_cut = false;
    }

    fn end_string(&mut self, kind: StringKind, ended_by_bel: bool, found: &mut impl FnMut(Sequence<'_>)) {
        self.state = State::Text;
        match kind {
            StringKind::SystemCommand => found(Sequence::SystemCommand(SystemCommand {
                text: &self.string,
                is_cut: self.string_is_cut,
                ended_by_bel,
            })),
            StringKind::DeviceControl => found(Sequence::DeviceControl(&self.function)),
            StringKind::Other => {}
        }
    }

    /// Executes a control character.
    fn execute(&mut self, byte: u8, found: &mut impl FnMut(Sequence<'_>)) {
        match byte {
            ESC => self.begin_escape(),
            CAN | SUB => self.state = State::Text,
            SHIFT_OUT => found(Sequence::ShiftOut),
            SHIFT_IN => found(Sequence::ShiftIn),
            _ => {}
        }
    }
}

/// Returns how many bytes the last character of a text lacks, if the text before it lacked `before`.
fn missing_after(before: u8, text: &[u8]) -> u8 {
    let mut received = 0;
    for byte in text.iter().rev().take(3) {
        received += 1;
        let length: u8 = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 0,
        };
        return length.saturating_sub(received);
    }
    before.saturating_sub(received)
}

#[cfg(test)]
mod tests {}
