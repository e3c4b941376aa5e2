//! Output of programs, made safe for a terminal: line ends, colours and links stay, tabs become blanks, a line that was
//! overwritten is shown as it was last, and other control bytes become text.

use std::fmt::Write as _;

use sessionkit::text::is_unsafe_char;
use unicode_width::UnicodeWidthChar as _;

use super::sequence::{self, Parsed, Sequence};

/// Columns from one tab stop to the next.
const TAB: usize = 8;
/// Bytes of a line that are held back; of a longer line, the beginning cannot be overwritten any more.
const LINE: usize = 64 * 1024;
/// Bytes of styles without a reset that are repeated where a line continues.
const STYLE: usize = 512;
const RESET: &str = "\u{1b}[0m";
const LINK_END: &str = "\u{1b}]8;;\u{1b}\\";
/// Returns to the beginning of a line of which a part is on the terminal, and erases that.
const REWRITE: &str = "\r\u{1b}[K";

/// The treatment of colours and links in the output of programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Styles {
    /// Colours and links are passed on, and end with each line.
    Keep,
    /// Colours and links are left out.
    Strip,
}

/// Converter for one stream, whose chunks may end within a character or a sequence. Lines are returned when they are
/// complete, since a carriage return overwrites them until then.
#[derive(Debug)]
pub(crate) struct Visible {
    styles: Styles,
    /// The first bytes of an incomplete character.
    rest: Vec<u8>,
    /// The beginning of a sequence.
    sequence: String,
    line: Line,
    /// The sequences of the current style and link.
    style: String,
    link: String,
    /// `true` after a carriage return: the next character overwrites the line.
    returned: bool,
    /// `true` if lines that show control characters are overwritten, too.
    overwrites_controls: bool,
}

/// The current line, as far as it was not returned yet.
#[derive(Debug, Default)]
struct Line {
    text: String,
    /// Current column, for tabs.
    column: usize,
    /// `true` if the text contains the current style and link.
    current: bool,
    /// The sequences that end the style and the link in which the text ends.
    closing: String,
    shown: Shown,
    /// `true` if the text shows control characters that overwriting must not hide. It is never erased.
    hostile: bool,
}

/// The part of the current line that was returned already.
#[derive(Debug, Default, PartialEq, Eq)]
enum Shown {
    #[default]
    Nothing,
    /// Its beginning.
    Beginning,
    /// A beginning that was overwritten since, and has to be erased first.
    Stale,
}

impl Visible {
    pub(crate) fn new(styles: Styles) -> Self {
        Self {
            styles,
            rest: Vec::new(),
            sequence: String::new(),
            line: Line::default(),
            style: String::new(),
            link: String::new(),
            returned: false,
            overwrites_controls: false,
        }
    }

    /// Overwrites lines that show control characters, too: in the output of a terminal they are usual.
    #[must_use]
    pub(crate) const fn overwriting_controls(mut self) -> Self {
        self.overwrites_controls = true;
        self
    }

    /// Converts the next chunk, and returns the lines that are complete.
    pub(crate) fn show(&mut self, bytes: &[u8]) -> String {
        let mut chunk = std::mem::take(&mut self.rest);
        chunk.extend_from_slice(bytes);
        if let Some(last) = chunk.utf8_chunks().last().map(|part| part.invalid().to_vec())
            && !last.is_empty()
            && is_incomplete_character(&last)
        {
            self.rest = chunk.split_off(chunk.len() - last.len());
        }
        let mut out = String::with_capacity(chunk.len());
        self.add(&chunk, &mut out);
        out
    }

    /// Returns the part of the current line that was not returned yet, such as a question to the user.
    pub(crate) fn pause(&mut self) -> String {
        let mut out = String::new();
        self.line.take(&mut out);
        out
    }

    /// Converts the incomplete rest at the end of the stream.
    pub(crate) fn finish(mut self) -> String {
        let mut out = String::new();
        let rest = std::mem::take(&mut self.rest);
        self.add(&rest, &mut out);
        self.reject_sequence();
        self.line.take(&mut out);
        out
    }

    fn add(&mut self, bytes: &[u8], out: &mut String) {
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                self.add_char(c, out);
            }
            if !chunk.invalid().is_empty() {
                self.reject_sequence();
            }
            for byte in chunk.invalid() {
                let _ = write!(self.text(4), "\\x{byte:02x}");
            }
        }
    }

    fn add_char(&mut self, c: char, out: &mut String) {
        if !self.sequence.is_empty() || c == '\u{1b}' {
            self.sequence.push(c);
            match sequence::parse(&self.sequence) {
                Parsed::Incomplete => return,
                Parsed::Complete(sequence) => {
                    self.apply(&sequence);
                    self.sequence.clear();
                    return;
                }
                Parsed::Other => {
                    self.sequence.pop();
                    self.reject_sequence();
                    // The character may begin the next sequence, or end the line.
                    if c == '\u{1b}' && self.sequence.is_empty() {
                        self.sequence.push(c);
                        return;
                    }
                }
            }
        }
        match c {
            '\n' => self.end_line(out),
            '\r' => self.returned = true,
            c => self.add_text(c),
        }
        if self.line.text.len() >= LINE {
            self.line.take(out);
        }
    }

    fn add_text(&mut self, c: char) {
        if c == '\t' {
            let blanks = TAB - if self.returned { 0 } else { self.line.column % TAB };
            self.text(blanks).extend(std::iter::repeat_n(' ', blanks));
        } else if is_unsafe_char(c) {
            let escaped = c.escape_unicode();
            self.text(escaped.len()).extend(escaped);
            self.line.hostile = !self.overwrites_controls;
        } else {
            self.text(c.width().unwrap_or(0)).push(c);
        }
    }

    /// Shows the beginning of a sequence as text, since it is none of those that are known.
    fn reject_sequence(&mut self) {
        for c in std::mem::take(&mut self.sequence).chars() {
            self.add_text(c);
        }
    }

    /// Returns the text of the line, for an addition of so many columns.
    fn text(&mut self, columns: usize) -> &mut String {
        if std::mem::take(&mut self.returned) && !self.line.erase() {
            self.add_text('\r');
        }
        let line = &mut self.line;
        if !std::mem::replace(&mut line.current, true) {
            line.text.push_str(&self.style);
            line.text.push_str(&self.link);
            line.closing = closing(&self.style, &self.link);
        }
        line.column += columns;
        &mut line.text
    }

    fn apply(&mut self, sequence: &Sequence) {
        match sequence {
            Sequence::EraseRest if !self.returned => {}
            Sequence::EraseRest | Sequence::EraseLine => {
                if self.line.erase() {
                    self.returned = false;
                }
            }
            Sequence::Style | Sequence::Link { .. } if self.styles == Styles::Strip => {}
            Sequence::Style => {
                if sequence::is_reset(&self.sequence) || self.style.len() > STYLE {
                    self.style.clear();
                }
                if !sequence::is_plain(&self.sequence) {
                    self.style.push_str(&self.sequence);
                }
                self.continue_styled();
            }
            Sequence::Link { opens } => {
                self.link.clear();
                if *opens {
                    self.link.push_str(&self.sequence);
                }
                self.continue_styled();
            }
        }
    }

    /// Adds the current sequence to the line, unless the next text begins with all that is current.
    fn continue_styled(&mut self) {
        if self.line.current && !self.returned {
            self.line.text.push_str(&self.sequence);
            self.line.closing = closing(&self.style, &self.link);
        }
    }

    fn end_line(&mut self, out: &mut String) {
        self.line.take(out);
        out.push('\n');
        self.line = Line::default();
        self.style.clear();
        self.link.clear();
        self.returned = false;
    }
}

impl Line {
    /// Moves the text to `out`, with its style and link ended.
    fn take(&mut self, out: &mut String) {
        if self.shown == Shown::Stale {
            out.push_str(REWRITE);
            self.shown = Shown::Nothing;
        }
        if self.text.is_empty() {
            return;
        }
        out.push_str(&self.text);
        self.text.clear();
        out.push_str(&std::mem::take(&mut self.closing));
        self.current = false;
        self.shown = Shown::Beginning;
    }

    /// Erases the text, or returns `false` if it has to stay.
    fn erase(&mut self) -> bool {
        if !self.hostile {
            let shown = if self.shown == Shown::Nothing { Shown::Nothing } else { Shown::Stale };
            *self = Self { shown, ..Self::default() };
        }
        !self.hostile
    }
}

/// Returns the sequences that end a style and a link, where there are any.
fn closing(style: &str, link: &str) -> String {
    let end = |text: &str, end: &'static str| if text.is_empty() { "" } else { end };
    [end(link, LINK_END), end(style, RESET)].concat()
}

/// Returns `true` if these bytes are the beginning of a character.
fn is_incomplete_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

#[cfg(test)]
mod tests;
