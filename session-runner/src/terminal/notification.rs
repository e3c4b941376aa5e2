//! The sequences with which a terminal notifies the person in front of it: OSC 9 (iTerm2, Windows Terminal, kitty, `WezTerm`)
//! and OSC 777 (rxvt, VTE, foot, Ghostty). A terminal that knows neither shows nothing.

use session_core::text::is_unsafe_char;

/// Characters of a title, and of a text. A notification is a hint, and what it is about can be listed.
const TITLE_CHARS: usize = 60;
const TEXT_CHARS: usize = 200;

/// Returns the sequences of a notification. No character of its texts controls the terminal.
pub(crate) fn notification(title: &str, text: &str) -> Vec<u8> {
    let title = clean(title, TITLE_CHARS).replace(';', ",");
    let text = clean(text, TEXT_CHARS);
    // Its first word keeps OSC 9 from being one of those with a number, such as progress.
    format!("\x1b]9;Session {title} {text}\x07\x1b]777;notify;Session {title};{text}\x07").into_bytes()
}

/// Returns the beginning of a text, on one line, without characters that control a terminal.
fn clean(text: &str, most: usize) -> String {
    let words = text.split(|c: char| c.is_whitespace() || is_unsafe_char(c)).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    if line.chars().count() <= most {
        return line;
    }
    line.chars().take(most).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_has_two_sequences() {
        let bytes = String::from_utf8(notification("release", "asks `deploy`: Deploy?")).unwrap();
        assert_eq!(
            bytes,
            "\x1b]9;Session release asks `deploy`: Deploy?\x07\x1b]777;notify;Session release;asks `deploy`: Deploy?\x07"
        );
    }

    #[test]
    fn texts_of_a_notification_control_nothing() {
        let evil = "a\x1b\\b\x07c\u{9c}d\u{202e}e\nf\x1b]0;g";
        let bytes = String::from_utf8(notification(&format!("{evil};h"), evil)).unwrap();
        let (osc9, osc777) = bytes.split_once('\x07').unwrap();
        assert_eq!(osc9, "\x1b]9;Session a \\b c d e f ]0,g,h a \\b c d e f ]0;g");
        assert_eq!(osc777, "\x1b]777;notify;Session a \\b c d e f ]0,g,h;a \\b c d e f ]0;g\x07");
    }

    #[test]
    fn a_long_text_is_cut() {
        let bytes = String::from_utf8(notification("x", &"ä".repeat(5000))).unwrap();
        assert!(bytes.len() < 1000 && bytes.contains('…'));
    }
}
