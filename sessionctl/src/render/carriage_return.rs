//! Output of a terminal for a pipe or a file. The terminal driver puts a carriage return before each line feed, which no
//! program printed: it is left out. Any other one rewrites its line.

/// Bytes of a line that are held back; of a longer line, the beginning cannot be left out any more.
const LINE: usize = 64 * 1024;
/// Sequences that erase a line. At its beginning they belong to the rewriting.
const ERASURES: [&[u8]; 3] = [b"\x1b[K", b"\x1b[0K", b"\x1b[2K"];

/// The treatment of lines that were rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rewrites {
    /// All states are passed on.
    Keep,
    /// Only the last state of each line is passed on, until the first pause.
    LastState,
}

/// Converter of a terminal's output, whose chunks may end anywhere.
#[derive(Debug)]
pub(crate) struct CarriageReturns {
    rewrites: Rewrites,
    /// The bytes of the current line that were not returned yet.
    line: Vec<u8>,
    /// `true` if the beginning of the current line was returned.
    begun: bool,
    /// `true` after a carriage return that was not returned: what follows decides.
    held: bool,
}

impl CarriageReturns {
    pub(crate) const fn new(rewrites: Rewrites) -> Self {
        Self { rewrites, line: Vec::new(), begun: false, held: false }
    }

    /// Converts the next chunk.
    pub(crate) fn convert(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len().min(LINE));
        for byte in bytes {
            let held = std::mem::replace(&mut self.held, *byte == b'\r');
            match byte {
                b'\n' => {
                    self.take(&mut out);
                    out.push(b'\n');
                    self.begun = false;
                }
                b'\r' if held && self.rewrites == Rewrites::Keep => self.line.push(b'\r'),
                b'\r' => {}
                byte => {
                    if held {
                        self.rewrite();
                    }
                    self.line.push(*byte);
                }
            }
            if self.line.len() >= LINE {
                self.take(&mut out);
            }
        }
        if self.rewrites == Rewrites::Keep {
            self.take(&mut out);
        }
        out
    }

    /// Returns what is held back of the current line, such as a question to the user. What follows is passed on as it is
    /// printed, except for the carriage returns of line ends.
    pub(crate) fn pause(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.take(&mut out);
        self.rewrites = Rewrites::Keep;
        out
    }

    /// Returns all that is held back, where output ends or some of it is missing.
    pub(crate) fn flush(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if std::mem::take(&mut self.held) && self.rewrites == Rewrites::Keep {
            self.line.push(b'\r');
        }
        self.take(&mut out);
        out
    }

    /// Begins the current line again.
    fn rewrite(&mut self) {
        if self.rewrites == Rewrites::LastState {
            self.line.clear();
        }
        if self.rewrites == Rewrites::Keep || self.begun {
            self.line.push(b'\r');
        }
    }

    /// Moves the bytes of the current line to `out`.
    fn take(&mut self, out: &mut Vec<u8>) {
        let mut line = self.line.as_slice();
        if self.rewrites == Rewrites::LastState && !self.begun {
            while let Some(rest) = ERASURES.iter().find_map(|erasure| line.strip_prefix(*erasure)) {
                line = rest;
            }
        }
        self.begun |= !line.is_empty();
        out.extend_from_slice(line);
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(rewrites: Rewrites, bytes: &[u8], cuts: &[usize]) -> String {
        let mut returns = CarriageReturns::new(rewrites);
        let (mut out, mut from) = (Vec::new(), 0);
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            out.extend(returns.convert(&bytes[from..cut]));
            from = cut;
        }
        out.extend(returns.flush());
        String::from_utf8_lossy(&out).into_owned()
    }

    fn check(rewrites: Rewrites, text: &str, expected: &str) {
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let found = converted(rewrites, text.as_bytes(), &[first, second]);
                assert_eq!(found, expected, "{text:?} cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn one_return_before_each_line_feed_is_dropped() {
        for (text, expected) in [
            ("one\r\ntwo\r\n", "one\ntwo\n"),
            ("one\ntwo", "one\ntwo"),
            // The program printed CR LF itself.
            ("own\r\r\n", "own\r\n"),
            (" 1%\r 2%\r\r100%\r\n", " 1%\r 2%\r\r100%\n"),
            ("\r\n\r\n\n", "\n\n\n"),
            ("open\r", "open\r"),
            ("\r\r", "\r\r"),
            ("\x1b[K\r\x1b[Kx\r\n", "\x1b[K\r\x1b[Kx\n"),
            ("", ""),
        ] {
            check(Rewrites::Keep, text, expected);
        }
    }

    #[test]
    fn a_rewritten_line_has_its_last_state_only() {
        for (text, expected) in [
            ("one\r\ntwo\r\n", "one\ntwo\n"),
            (" 1%\r 2%\r100%\r\ndone\r\n", "100%\ndone\n"),
            (" 1%\r 2%\r", " 2%"),
            (" 1%\r 2%\r\r\r\n", " 2%\n"),
            ("\r\x1b[K 1%\r\x1b[2K\x1b[32m 2%\x1b[0m\r\n", "\x1b[32m 2%\x1b[0m\n"),
            ("gone\r\x1b[K\r\nnext", "\nnext"),
            ("gone\r\x1b[K", ""),
            ("\x1b[2J\x07 1%\r 2%\n", " 2%\n"),
        ] {
            check(Rewrites::LastState, text, expected);
        }
    }

    #[test]
    fn a_line_is_rewritten_openly_after_a_pause() {
        let mut returns = CarriageReturns::new(Rewrites::LastState);
        assert_eq!(returns.convert(b" 1%\r 2%\r"), b"");
        assert_eq!(returns.pause(), b" 2%");
        assert_eq!(returns.convert(b" 3%\r"), b"\r 3%");
        assert_eq!(returns.pause(), b"");
        assert_eq!(returns.convert(b"\nname? "), b"\nname? ");
    }

    #[test]
    fn endless_lines_are_not_collected() {
        let mut returns = CarriageReturns::new(Rewrites::LastState);
        let mut length = 0;
        for _ in 0..1000 {
            length += returns.convert(&[b'x'; 1000]).len();
            assert!(returns.line.len() <= LINE);
        }
        assert!(length > 900_000);
        // What was returned cannot be left out any more.
        assert_eq!(returns.convert(b"\r1\r2\r\n"), b"\r2\n");
    }
}
