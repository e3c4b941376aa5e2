//! The modes of a terminal that the output of a program has set.
//!
//! Followed are the modes in [`KNOWN`], the alternate screen, the keyboard protocols, the shape of the cursor, the scroll
//! region, the character sets G0 and G1, the window title, and whether attributes of text, a link or a progress display
//! are in use. Other private modes are not followed: resetting a mode of unknown meaning and default may break what works
//! (1007, the wheel on the alternate screen, is on by default in some terminals and off in others). Not followed either:
//! margins at the sides and tab stops, which programs set again when they draw, and changed colours.
//!
//! Where terminals differ, a mode is taken to be set if it is set in any of them, so that a reset clears it: mouse modes
//! are independent of each other (in xterm, one replaces the other), and a soft reset clears no more than the DEC manual
//! says.

use super::keyboard::KeyboardFlags;
use super::parser::{Function, Sequence, SystemCommand};

/// A mode that is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Ansi(u16),
    /// DEC private; also those of xterm and its successors.
    Private(u16),
}

pub(crate) const INSERT: Mode = Mode::Ansi(4);
pub(crate) const NEWLINE: Mode = Mode::Ansi(20);
pub(crate) const CURSOR_KEYS: Mode = Mode::Private(1);
pub(crate) const ORIGIN: Mode = Mode::Private(6);
pub(crate) const AUTOWRAP: Mode = Mode::Private(7);
pub(crate) const CURSOR_VISIBLE: Mode = Mode::Private(25);
/// The application keypad, which `ESC =` and `ESC >` switch, too.
pub(crate) const KEYPAD: Mode = Mode::Private(66);
pub(crate) const SIDE_MARGINS: Mode = Mode::Private(69);

/// The modes that are followed, and their defaults.
const KNOWN: [(Mode, bool); 26] = [
    (INSERT, false),
    (NEWLINE, false),
    (CURSOR_KEYS, false),
    // Reverse video.
    (Mode::Private(5), false),
    (ORIGIN, false),
    (AUTOWRAP, true),
    // Mouse: clicks, in the oldest form.
    (Mode::Private(9), false),
    // Blinking cursor.
    (Mode::Private(12), false),
    (CURSOR_VISIBLE, true),
    // Reverse wraparound.
    (Mode::Private(45), false),
    (KEYPAD, false),
    (SIDE_MARGINS, false),
    // Mouse: clicks, clicks with highlighting, drags, all motion.
    (Mode::Private(1000), false),
    (Mode::Private(1001), false),
    (Mode::Private(1002), false),
    (Mode::Private(1003), false),
    // Focus.
    (Mode::Private(1004), false),
    // Encodings of the mouse.
    (Mode::Private(1005), false),
    (Mode::Private(1006), false),
    (Mode::Private(1015), false),
    (Mode::Private(1016), false),
    // Bracketed paste.
    (Mode::Private(2004), false),
    // Synchronized output.
    (Mode::Private(2026), false),
    // Grapheme clusters, colour scheme reports, size reports.
    (Mode::Private(2027), false),
    (Mode::Private(2031), false),
    (Mode::Private(2048), false),
];

/// A character set: the final byte of its designation.
pub(crate) const ASCII: u8 = b'B';

/// The part of the state that `ESC 7` saves and `ESC 8` restores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CursorState {
    /// `true` unless the attributes of text are known to be the default.
    pub(crate) is_styled: bool,
    /// G0 and G1.
    pub(crate) charsets: [u8; 2],
    /// `true` if G1 is in use.
    pub(crate) shifted: bool,
    origin: bool,
}

const DEFAULT_CURSOR: CursorState =
    CursorState { is_styled: false, charsets: [ASCII; 2], shifted: false, origin: false };

/// The modes of a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Modes {
    /// Modes that differ from their defaults, in the order in which they were changed: where a terminal keeps one of
    /// several mouse modes, it is the last one.
    pub(crate) changed: Vec<Mode>,
    /// The private mode that switched to the alternate screen.
    pub(crate) alternate: Option<u16>,
    /// Of the main and of the alternate screen.
    pub(crate) keyboard: [KeyboardFlags; 2],
    /// The level of xterm's `modifyOtherKeys`.
    pub(crate) modify_other_keys: u16,
    /// The parameter of DECSCUSR.
    pub(crate) cursor_shape: u16,
    /// First and last line of the scroll region; 0 is the last line of the screen.
    pub(crate) region: Option<(u16, u16)>,
    pub(crate) cursor: CursorState,
    /// Of the main and of the alternate screen.
    saved: [CursorState; 2],
    pub(crate) title: Option<String>,
    /// `true` if text is part of a link (OSC 8).
    pub(crate) is_link: bool,
    /// `true` if the program shows its progress in the terminal's frame (OSC 9;4).
    pub(crate) shows_progress: bool,
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            changed: Vec::new(),
            alternate: None,
            keyboard: <[KeyboardFlags; 2]>::default(),
            modify_other_keys: 0,
            cursor_shape: 0,
            region: None,
            cursor: DEFAULT_CURSOR,
            saved: [DEFAULT_CURSOR; 2],
            title: None,
            is_link: false,
            shows_progress: false,
        }
    }
}

impl Modes {
    /// Applies a sequence of the output, on a screen of this many lines.
    pub(crate) fn apply(&mut self, sequence: Sequence<'_>, lines: u16) {
        match sequence {
            Sequence::ShiftOut => self.cursor.shifted = true,
            Sequence::ShiftIn => self.cursor.shifted = false,
            Sequence::Escape(intermediate, last) => self.escape(intermediate, last),
            Sequence::Control(function) => self.control(function, lines),
            Sequence::SystemCommand(command) => self.system_command(command),
            Sequence::DeviceControl(_) => {}
        }
    }

    /// Returns `true` if a mode is on, and `None` if it is not followed.
    pub(crate) fn mode(&self, mode: Mode) -> Option<bool> {
        if let Mode::Private(47 | 1047 | 1049) = mode {
            return Some(self.alternate.is_some());
        }
        let (_, default) = KNOWN.iter().find(|(known, _)| *known == mode)?;
        Some(*default != self.changed.contains(&mode))
    }

    /// Returns the keyboard flags of the current screen.
    pub(crate) fn keyboard(&self) -> &KeyboardFlags {
        let [main, alternate] = &self.keyboard;
        if self.alternate.is_some() { alternate } else { main }
    }

    /// Switches to the main screen, as the private mode that left it requires.
    pub(crate) fn leave_alternate_screen(&mut self) {
        if let Some(number) = self.alternate {
            self.set_private(number, false);
        }
    }

    fn escape(&mut self, intermediate: u8, last: u8) {
        let [g0, g1] = &mut self.cursor.charsets;
        match (intermediate, last) {
            (b'(', charset) => *g0 = charset,
            (b')', charset) => *g1 = charset,
            (0, b'7') => self.save_cursor(),
            (0, b'8') => self.restore_cursor(),
            (0, b'=') => self.set(KEYPAD, true),
            (0, b'>') => self.set(KEYPAD, false),
            (0, b'c') => {
                let title = self.title.take();
                *self = Self { title, shows_progress: self.shows_progress, ..Self::default() };
            }
            _ => {}
        }
    }

    fn control(&mut self, function: Function<'_>, lines: u16) {
        let (first, second) = (|| function.param(0), || function.param(1));
        match function.name {
            (0, 0, b'm') => self.cursor.is_styled = !function.is_default(),
            (b'?', 0, last @ (b'h' | b'l')) => {
                for number in function.params() {
                    self.set_private(number, last == b'h');
                }
            }
            (0, 0, last @ (b'h' | b'l')) => {
                for number in function.params() {
                    self.set(Mode::Ansi(number), last == b'h');
                }
            }
            (b'=', 0, b'u') => self.keyboard_mut().set(first(), second()),
            (b'>', 0, b'u') => self.keyboard_mut().push(first()),
            (b'<', 0, b'u') => self.keyboard_mut().pop(first()),
            (b'>', 0, b'm') if function.has_no_params() || first() == 4 => {
                self.modify_other_keys = second().min(3);
            }
            (b'>', 0, b'n') if first() == 4 => self.modify_other_keys = 0,
            (0, b' ', b'q') if first() <= 6 => self.cursor_shape = first(),
            (0, 0, b'r') => self.set_region(first().max(1), second(), lines),
            (0, 0, b's') if function.has_no_params() && self.mode(SIDE_MARGINS) == Some(false) => {
                self.save_cursor();
            }
            (0, 0, b'u') if function.has_no_params() => self.restore_cursor(),
            (0, b'!', b'p') => self.reset_softly(),
            _ => {}
        }
    }

    fn set_private(&mut self, number: u16, on: bool) {
        match (number, on) {
            (47 | 1047, true) => self.alternate = self.alternate.or(Some(number)),
            (47 | 1047, false) => self.alternate = None,
            (1048, true) => self.save_cursor(),
            (1048, false) => self.restore_cursor(),
            (1049, true) => {
                self.save_cursor();
                self.alternate = self.alternate.or(Some(number));
            }
            (1049, false) => {
                self.alternate = None;
                self.restore_cursor();
            }
            _ => self.set(Mode::Private(number), on),
        }
    }

    fn set(&mut self, mode: Mode, on: bool) {
        let Some((_, default)) = KNOWN.iter().find(|(known, _)| *known == mode) else { return };
        self.changed.retain(|changed| *changed != mode);
        if on != *default {
            self.changed.push(mode);
        }
    }

    fn set_region(&mut self, top: u16, bottom: u16, lines: u16) {
        // A terminal without a size has no last line to compare with.
        let last = if lines == 0 { u16::MAX } else { lines };
        let bottom = if bottom == 0 { last } else { bottom.min(last) };
        if top < bottom {
            let bottom = if bottom == last { 0 } else { bottom };
            self.region = ((top, bottom) != (1, 0)).then_some((top, bottom));
        }
    }

    fn reset_softly(&mut self) {
        for mode in [INSERT, CURSOR_KEYS, ORIGIN, KEYPAD, SIDE_MARGINS] {
            self.set(mode, false);
        }
        for mode in [AUTOWRAP, CURSOR_VISIBLE] {
            self.set(mode, true);
        }
        self.region = None;
        self.cursor = DEFAULT_CURSOR;
        *self.saved_mut() = DEFAULT_CURSOR;
    }

    fn system_command(&mut self, command: SystemCommand<'_>) {
        let Some((number, text)) =
            std::str::from_utf8(complete_characters(command.text)).ok().and_then(|text| text.split_once(';'))
        else {
            return;
        };
        match number {
            // What is a control character only after decoding could end the title where it is restored.
            "0" | "2" if !text.chars().any(char::is_control) => self.title = Some(text.to_owned()),
            // Parameters, and the address.
            "8" => self.is_link = text.split_once(';').is_some_and(|(_, address)| !address.is_empty()),
            "9" => {
                if let Some(progress) = text.strip_prefix("4;") {
                    self.shows_progress = !matches!(progress.split(';').next(), Some("" | "0"));
                }
            }
            _ => {}
        }
    }

    fn save_cursor(&mut self) {
        let origin = self.mode(ORIGIN) == Some(true);
        *self.saved_mut() = CursorState { origin, ..self.cursor };
    }

    fn restore_cursor(&mut self) {
        let saved = *self.saved_mut();
        self.set(ORIGIN, saved.origin);
        self.cursor = CursorState { origin: false, ..saved };
    }

    #[cfg(test)]
    pub(crate) fn forget_saved_cursors(&mut self) {
        self.saved = [DEFAULT_CURSOR; 2];
    }

    fn keyboard_mut(&mut self) -> &mut KeyboardFlags {
        let [main, alternate] = &mut self.keyboard;
        if self.alternate.is_some() { alternate } else { main }
    }

    fn saved_mut(&mut self) -> &mut CursorState {
        let [main, alternate] = &mut self.saved;
        if self.alternate.is_some() { alternate } else { main }
    }
}

/// Returns a text without the part of a character at its end, where it may have been cut.
fn complete_characters(text: &[u8]) -> &[u8] {
    match std::str::from_utf8(text) {
        Err(error) if error.error_len().is_none() => text.get(..error.valid_up_to()).unwrap_or_default(),
        Ok(_) | Err(_) => text,
    }
}

#[cfg(test)]
mod tests;
