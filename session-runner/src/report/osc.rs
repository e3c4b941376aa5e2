//! Terminal progress sequences in a program's output: `ESC ] 9 ; 4 ; state ; percent`, ended by BEL or `ESC \`.
//!
//! Programs write them for terminals that show a bar (`ConEmu` introduced them; Windows Terminal, Ghostty and others follow).
//! Only the seven-bit form is recognised: the eight-bit one is part of ordinary characters in UTF-8.

/// The maximum length of a progress sequence.
const LONGEST: usize = 32;

/// The progress in a terminal sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TerminalProgress {
    /// Percent done, 0 to 100.
    Percent(u8),
    /// The program works without a known percentage, or has removed its progress display.
    Unknown,
}

/// A parser of progress sequences in output that arrives in pieces.
#[derive(Debug, Default)]
pub(crate) struct OscParser {
    state: State,
    payload: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After `ESC ]`.
    Payload,
    /// After an ESC in the payload, which a `\` ends.
    PayloadEscape,
}

impl OscParser {
    /// Returns the last progress sequence that a piece of output completes, if any. Earlier ones are outdated.
    pub(crate) fn last(&mut self, bytes: &[u8]) -> Option<TerminalProgress> {
        let mut last = None;
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.state == State::Text {
                // Fast path: nearly all output has no ESC.
                let Some(escape) = memchr::memchr(0x1b, rest) else { break };
                rest = rest.get(escape..).unwrap_or_default();
            }
            let Some((byte, after)) = rest.split_first() else { break };
            rest = after;
            if self.step(*byte) {
                last = parse(&self.payload).or(last);
                self.payload.clear();
            }
        }
        last
    }

    /// Returns `true` if the byte completes a sequence.
    fn step(&mut self, byte: u8) -> bool {
        let (state, complete) = match (self.state, byte) {
            (State::Payload, 0x07) | (State::PayloadEscape, b'\\') => (State::Text, true),
            (State::Payload, 0x1b) => (State::PayloadEscape, false),
            (State::Payload, _) if self.payload.len() < LONGEST => {
                self.payload.push(byte);
                (State::Payload, false)
            }
            // An ESC that does not end a payload begins another sequence.
            (State::Text | State::Escape | State::PayloadEscape, 0x1b) => (State::Escape, false),
            (State::Escape | State::PayloadEscape, b']') => {
                self.payload.clear();
                (State::Payload, false)
            }
            (State::Text | State::Escape | State::Payload | State::PayloadEscape, _) => (State::Text, false),
        };
        self.state = state;
        complete
    }
}

/// Parses a payload. State 0 removes the bar, 1 shows it, 2 shows an error, 3 has no number, 4 is a warning or a pause.
fn parse(payload: &[u8]) -> Option<TerminalProgress> {
    let text = std::str::from_utf8(payload).ok()?.strip_prefix("9;4")?;
    let mut fields = text.strip_prefix(';').unwrap_or(text).split(';');
    let state = fields.next().unwrap_or_default();
    let percent =
        fields.next().and_then(|percent| percent.parse::<u8>().ok()).filter(|percent| *percent <= 100);
    match (state, percent) {
        ("1" | "2" | "4", Some(percent)) => Some(TerminalProgress::Percent(percent)),
        ("0" | "" | "2" | "3" | "4", _) => Some(TerminalProgress::Unknown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::TerminalProgress::{Percent, Unknown};
    use super::*;

    fn all(bytes: &[u8]) -> Vec<TerminalProgress> {
        let mut parser = OscParser::default();
        bytes.iter().filter_map(|byte| parser.last(&[*byte])).collect()
    }

    #[test]
    fn sequences_end_with_bel_or_with_the_string_terminator() {
        assert_eq!(all(b"\x1b]9;4;1;42\x07"), [Percent(42)]);
        assert_eq!(all(b"\x1b]9;4;1;0\x1b\\"), [Percent(0)]);
        assert_eq!(all(b"a\x1b]9;4;1;100\x07b\x1b]9;4;4;7\x1b\\c"), [Percent(100), Percent(7)]);
        assert_eq!(
            all(b"\x1b]9;4;3\x07\x1b]9;4;3;0\x07\x1b]9;4;0;0\x07\x1b]9;4;0\x07\x1b]9;4\x07"),
            [Unknown; 5]
        );
        assert_eq!(all(b"\x1b]9;4;2;55\x07"), [Percent(55)]);
    }

    #[test]
    fn similar_sequences_are_ignored() {
        for other in [
            &b"\x1b]9;4;1;101\x07"[..],
            b"\x1b]9;4;1;-1\x07",
            b"\x1b]9;4;1;\x07",
            b"\x1b]9;4;9;5\x07",
            b"\x1b]9;hello\x07",
            b"\x1b]0;title 9;4;1;5\x07",
            b"]9;4;1;5\x07",
            b"\x1b]9;4;1;5\n\n\x1b[31m",
            b"\x1b[9;4;1;5\x07",
            b"\x1b]9;4;1;5",
        ] {
            assert_eq!(all(other), [], "{}", other.escape_ascii());
        }
        // A title that never ends takes no memory, and the sequence after it is parsed.
        let endless = [&b"\x1b]0;"[..], &vec![b'x'; 100_000][..], b"\x1b]9;4;1;5\x07"].concat();
        let mut parser = OscParser::default();
        assert_eq!(parser.last(&endless), Some(Percent(5)));
        assert!(parser.payload.capacity() < 100);
    }

    #[test]
    fn a_sequence_split_anywhere_is_recognised() {
        let text = b"text\x1b\x1b]9;4;1;42\x1b\\text\x1b]9;4;1;43\x07";
        for cut in 0..=text.len() {
            let mut parser = OscParser::default();
            let found: Vec<_> =
                [parser.last(&text[..cut]), parser.last(&text[cut..])].into_iter().flatten().collect();
            assert_eq!(found.last(), Some(&Percent(43)), "{cut}");
        }
    }
}
