//! Tracks other output on a terminal, to know if the line of the cursor is free for a bar.

/// The state that other output left on the terminal.
#[derive(Debug, Default)]
pub(super) struct Screen {
    state: State,
    /// `true` if the cursor's line has text.
    line_used: bool,
    /// `true` once the output has moved the cursor itself.
    cursor_moved: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// In a control sequence: `ESC [`.
    Control,
    /// In an operating system command such as a title or progress: `ESC ]`.
    Command,
    /// After an ESC in a command, which a `\` ends.
    CommandEscape,
}

impl Screen {
    /// Records other output.
    pub(super) fn record(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            if self.state == State::Text {
                // Fast path: nearly all output has no ESC.
                let text = rest.iter().position(|byte| *byte == 0x1b).unwrap_or(rest.len());
                if let Some(last) = rest.get(..text).and_then(<[u8]>::last) {
                    self.line_used = *last != b'\n';
                    rest = rest.get(text..).unwrap_or_default();
                    continue;
                }
            }
            self.step(*byte);
            rest = after;
        }
    }

    fn step(&mut self, byte: u8) {
        use State::{Command, CommandEscape, Control, Escape, Text};
        self.state = match (self.state, byte) {
            (Text | CommandEscape, 0x1b) => Escape,
            (Escape, b'[') | (Control, 0x20..=0x3f) => Control,
            (Command, 0x1b) => CommandEscape,
            // Colours, and the erasing that compilers emit with them; the end of a command; plain text.
            (Control, b'm' | b'K') | (Command, 0x07) | (CommandEscape, b'\\') | (Text, _) => Text,
            (Escape | CommandEscape, b']') | (Command, _) => Command,
            (Escape | Control | CommandEscape, _) => {
                self.cursor_moved = true;
                Text
            }
        };
    }

    /// Returns `true` if the cursor's line has text.
    pub(super) const fn is_line_used(&self) -> bool {
        self.line_used
    }

    /// Returns `true` if the cursor's line is empty and the output has not moved the cursor.
    pub(super) fn is_line_free(&self) -> bool {
        !self.cursor_moved && !self.line_used && self.state == State::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_free_after_a_newline_without_cursor_moves() {
        for (free, output) in [
            (true, ""),
            (true, "line\n"),
            (true, "two\nlines\n"),
            (true, "\u{1b}[1;31mred\u{1b}[0m\u{1b}[K\n"),
            (true, "\u{1b}]9;4;1;40\u{7}"),
            (true, "line\n\u{1b}]0;title\u{1b}\\"),
            (true, "line\n\u{1b}[0m"),
            (false, "prompt: "),
            (false, "line\nprompt: "),
            (false, "prompt: \u{1b}[0m"),
            (false, "40%\r"),
            (false, "\u{1b}[2Jline\n"),
            (false, "\u{1b}[3A\n"),
            (false, "\u{1b}7line\u{1b}8\n"),
            (false, "\u{1b}[?1049hline\n"),
            (false, "line\n\u{1b}"),
            (false, "line\n\u{1b}[3"),
            (false, "line\n\u{1b}]0;tit"),
        ] {
            let mut whole = Screen::default();
            whole.record(output.as_bytes());
            assert_eq!(whole.is_line_free(), free, "{output:?}");
            let mut pieces = Screen::default();
            output.bytes().for_each(|byte| pieces.record(&[byte]));
            assert_eq!(pieces.is_line_free(), free, "{output:?} byte by byte");
        }
    }
}
