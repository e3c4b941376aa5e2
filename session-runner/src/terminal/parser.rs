//! A parser of the control sequences in a program's output, which arrives in pieces.
//!
//! Text is skipped, not decoded. Only the seven-bit forms are recognised: the eight-bit ones are parts of characters in
//! UTF-8. Memory is bounded: longer control sequences than [`MAX_CONTROL`] are ignored, operating system commands are cut
//! after [`MAX_STRING`] bytes, and data of device control strings is not kept at all.

use memchr::{memchr2, memchr3};

/// Bytes of parameters of a control sequence that is recognised.
pub(crate) const MAX_CONTROL: usize = 512;
/// Bytes that are kept of an operating system command, such as a window title.
pub(crate) const MAX_STRING: usize = 1024;

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
    Control(Function<'a>),
    /// `OSC`, which is `ESC ]`.
    SystemCommand(SystemCommand<'a>),
    /// `DCS`, which is `ESC P`: its function, without parameters and data.
    DeviceControl(FunctionName),
}

/// A prefix (one of `<=>?`), an intermediate byte, and the final byte of a function. A missing one is 0.
pub(crate) type FunctionName = (u8, u8, u8);

/// The function of a control sequence, with its parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Function<'a> {
    pub(crate) name: FunctionName,
    params: &'a [u8],
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

impl<'a> Function<'a> {
    /// Parses what comes before the final byte; `None` if it is too long, breaks the grammar, or has what no function has
    /// that matters here: several intermediate bytes, or parts of parameters outside of attributes.
    fn parse(text: &'a [u8], last: u8) -> Option<Self> {
        let (prefix, rest) = match text {
            [prefix @ b'<'..=b'?', rest @ ..] => (*prefix, rest),
            _ => (0, text),
        };
        let (intermediate, params) = match rest {
            [params @ .., intermediate @ b' '..=b'/'] => (*intermediate, params),
            _ => (0, rest),
        };
        let is_param = |byte: &u8| matches!(byte, b'0'..=b'9' | b';') || (*byte == b':' && last == b'm');
        let is_valid = text.len() <= MAX_CONTROL && params.iter().all(is_param);
        is_valid.then_some(Self { name: (prefix, intermediate, last), params })
    }

    /// Returns the parameters. An empty one is 0, and a number that is too large is the largest one.
    pub(crate) fn params(&self) -> impl Iterator<Item = u16> + use<'a> {
        let number = |digits: &[u8]| {
            digits.iter().fold(0_u16, |number, digit| {
                number.saturating_mul(10).saturating_add(u16::from(digit.wrapping_sub(b'0')))
            })
        };
        self.params.split(|byte| matches!(byte, b';' | b':')).map(number)
    }

    /// Returns a parameter; one that is empty or missing is 0.
    pub(crate) fn param(&self, index: usize) -> u16 {
        self.params().nth(index).unwrap_or(0)
    }

    /// Returns `true` if there is no parameter.
    pub(crate) fn has_no_params(&self) -> bool {
        self.params.is_empty()
    }

    /// Returns `true` if there is no parameter but a 0.
    pub(crate) fn is_default(&self) -> bool {
        matches!(self.params, [] | [b'0'])
    }
}

/// A parser, with the sequence that is half received.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    state: State,
    /// Received bytes after ESC, CSI or DCS, or the text of a command.
    held: Vec<u8>,
    text_is_cut: bool,
    /// The function of the device control string that is being received.
    device_control: Option<FunctionName>,
    /// Bytes that the last character of the text lacks.
    missing: u8,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    Control,
    DeviceControl,
    String(StringKind),
    /// After an ESC in a string, which a `\` ends.
    StringEscape(StringKind),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StringKind {
    SystemCommand,
    /// A device control string, or a string without a meaning here.
    Other,
}

impl Parser {
    /// Parses a piece of output, and calls the function with each sequence that it completes.
    pub(crate) fn advance(&mut self, bytes: &[u8], mut found: impl FnMut(Sequence<'_>)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.state {
                State::Text => self.text(rest, &mut found),
                State::Escape => self.escape(rest, &mut found),
                State::Control | State::DeviceControl => self.control(rest, &mut found),
                State::String(kind) => self.string(kind, rest, &mut found),
                State::StringEscape(kind) => self.string_escape(kind, rest, &mut found),
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
        match rest {
            [] => {
                self.missing = missing_after(self.missing, text);
                rest
            }
            [ESC, b'[', rest @ ..] => {
                self.missing = 0;
                self.begin(State::Control);
                rest
            }
            [control, rest @ ..] => {
                self.missing = 0;
                self.execute(*control, found);
                rest
            }
        }
    }

    /// Receives what follows ESC: intermediate bytes, which are held, and a final byte.
    fn escape<'a>(&mut self, bytes: &'a [u8], found: &mut impl FnMut(Sequence<'_>)) -> &'a [u8] {
        let [byte, rest @ ..] = bytes else { return bytes };
        match (*byte, self.held.as_slice()) {
            (b' '..=b'/', _) => self.hold(&[*byte]),
            (b'[', []) => self.begin(State::Control),
            (b']', []) => self.begin(State::String(StringKind::SystemCommand)),
            (b'P', []) => self.begin(State::DeviceControl),
            (b'X' | b'^' | b'_', []) => {
                self.device_control = None;
                self.begin(State::String(StringKind::Other));
            }
            (b'0'..=b'~', held) => {
                self.state = State::Text;
                match held {
                    [] => found(Sequence::Escape(0, *byte)),
                    [intermediate] => found(Sequence::Escape(*intermediate, *byte)),
                    _ => {}
                }
            }
            _ => return self.interrupt(bytes, found),
        }
        rest
    }

    /// Receives a control sequence, or the function of a device control string, up to its final byte.
    fn control<'a>(&mut self, bytes: &'a [u8], found: &mut impl FnMut(Sequence<'_>)) -> &'a [u8] {
        let end = bytes.iter().position(|byte| !matches!(byte, b' '..=b'?')).unwrap_or(bytes.len());
        let (text, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        let [last @ b'@'..=b'~', after @ ..] = rest else {
            self.hold(text);
            return self.interrupt(rest, found);
        };
        let text = if self.held.is_empty() {
            text
        } else {
            self.hold(text);
            &self.held
        };
        let function = Function::parse(text, *last);
        if self.state == State::DeviceControl {
            self.device_control = function.map(|function| function.name);
            self.state = State::String(StringKind::Other);
        } else {
            self.state = State::Text;
            if let Some(function) = function {
                found(Sequence::Control(function));
            }
        }
        after
    }

    /// Receives a byte that the grammar of a sequence does not have: a control character is executed and does not end
    /// the sequence, a character does.
    fn interrupt<'a>(&mut self, bytes: &'a [u8], found: &mut impl FnMut(Sequence<'_>)) -> &'a [u8] {
        let [byte, rest @ ..] = bytes else { return bytes };
        if *byte >= 0x80 {
            self.state = State::Text;
            return bytes;
        }
        self.execute(*byte, found);
        rest
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
            self.hold_text(text);
        }
        let Some((byte, rest)) = rest.split_first() else { return rest };
        match *byte {
            ESC => self.state = State::StringEscape(kind),
            CAN | SUB => self.state = State::Text,
            _ => self.end_string(kind, true, found),
        }
        rest
    }

    /// Receives the byte after an ESC in a string.
    fn string_escape<'a>(
        &mut self,
        kind: StringKind,
        bytes: &'a [u8],
        found: &mut impl FnMut(Sequence<'_>),
    ) -> &'a [u8] {
        if let [b'\\', rest @ ..] = bytes {
            self.end_string(kind, false, found);
            return rest;
        }
        // Another sequence begins: the string has been abandoned.
        self.begin(State::Escape);
        bytes
    }

    fn end_string(&mut self, kind: StringKind, ended_by_bel: bool, found: &mut impl FnMut(Sequence<'_>)) {
        self.state = State::Text;
        match (kind, self.device_control) {
            (StringKind::SystemCommand, _) => found(Sequence::SystemCommand(SystemCommand {
                text: &self.held,
                is_cut: self.text_is_cut,
                ended_by_bel,
            })),
            (StringKind::Other, Some(name)) => found(Sequence::DeviceControl(name)),
            (StringKind::Other, None) => {}
        }
    }

    fn begin(&mut self, state: State) {
        self.state = state;
        self.held.clear();
        self.text_is_cut = false;
    }

    /// Holds a part of a control sequence, at most one byte more than is recognised.
    fn hold(&mut self, part: &[u8]) {
        let free = (MAX_CONTROL + 1).saturating_sub(self.held.len());
        self.held.extend(part.iter().take(free));
    }

    /// Holds a part of a command.
    fn hold_text(&mut self, part: &[u8]) {
        let free = MAX_STRING.saturating_sub(self.held.len());
        let mut text = part.iter().filter(|byte| !byte.is_ascii_control());
        self.held.extend(text.by_ref().take(free));
        self.text_is_cut |= text.next().is_some();
    }

    /// Executes a control character.
    fn execute(&mut self, byte: u8, found: &mut impl FnMut(Sequence<'_>)) {
        match byte {
            ESC => self.begin(State::Escape),
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
mod tests;
