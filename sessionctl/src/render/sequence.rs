//! The few escape sequences of programs that mean something when their output is shown later: colours, links, and the
//! erasing of a line. All others are shown as text.

/// Length up to which a sequence is collected, in bytes. Links carry addresses.
const LIMIT: usize = 4096;

/// A complete sequence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sequence {
    /// Select graphic rendition: colours and emphasis.
    Style,
    /// The beginning of a link, or the end of one (OSC 8).
    Link {
        /// `true` for the beginning.
        opens: bool,
    },
    /// Erase to the end of the line.
    EraseRest,
    /// Erase the whole line.
    EraseLine,
}

/// The result of reading a sequence that may be incomplete.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Incomplete,
    Complete(Sequence),
    /// None of the sequences above.
    Other,
}

/// Reads a text that begins with ESC and has no character after the end of its sequence.
pub(crate) fn parse(text: &str) -> Parsed {
    let rest = text.strip_prefix('\u{1b}').unwrap_or(text);
    if text.len() > LIMIT {
        return Parsed::Other;
    }
    match rest.chars().next() {
        None => Parsed::Incomplete,
        Some('[') => parse_control(rest.get(1..).unwrap_or_default()),
        Some(']') => parse_link(rest.get(1..).unwrap_or_default()),
        Some(_) => Parsed::Other,
    }
}

/// Reads the parameters and the final character of a control sequence.
fn parse_control(rest: &str) -> Parsed {
    let end = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';' || c == ':');
    let parameters = rest.strip_suffix(end).unwrap_or_default();
    match (end, parameters) {
        ("", _) => Parsed::Incomplete,
        ("m", _) => Parsed::Complete(Sequence::Style),
        ("K", "" | "0") => Parsed::Complete(Sequence::EraseRest),
        ("K", "2") => Parsed::Complete(Sequence::EraseLine),
        _ => Parsed::Other,
    }
}

/// Reads `8 ; parameters ; address` with a terminator: ESC and a backslash, or BEL.
fn parse_link(rest: &str) -> Parsed {
    let Some(rest) = rest.strip_prefix("8;") else {
        return if "8;".starts_with(rest) { Parsed::Incomplete } else { Parsed::Other };
    };
    let address = rest.trim_start_matches(|c: char| matches!(c, ' '..='~'));
    match address {
        "" | "\u{1b}" => return Parsed::Incomplete,
        "\u{1b}\\" | "\u{7}" => {}
        _ => return Parsed::Other,
    }
    // Without the second semicolon it is no link, and terminals ignore it.
    match rest.strip_suffix(address).and_then(|link| link.split_once(';')) {
        Some((_, address)) => Parsed::Complete(Sequence::Link { opens: !address.is_empty() }),
        None => Parsed::Other,
    }
}

/// Returns `true` if a sequence of [`Sequence::Style`] leaves no style from before it.
pub(crate) fn is_reset(style: &str) -> bool {
    let parameters = style.trim_start_matches("\u{1b}[").trim_end_matches('m');
    parameters.split(';').next().is_some_and(|first| first.trim_start_matches('0').is_empty())
}

/// Returns `true` if a sequence of [`Sequence::Style`] leaves no style at all.
pub(crate) fn is_plain(style: &str) -> bool {
    let parameters = style.trim_start_matches("\u{1b}[").trim_end_matches('m');
    parameters.split(';').all(|parameter| parameter.trim_start_matches('0').is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_styles_links_and_erasures_are_recognised() {
        use Sequence::{EraseLine, EraseRest, Link, Style};
        for (text, sequence) in [
            ("\u{1b}[m", Style),
            ("\u{1b}[0m", Style),
            ("\u{1b}[1;38;5;196m", Style),
            ("\u{1b}[4:3m", Style),
            ("\u{1b}[K", EraseRest),
            ("\u{1b}[2K", EraseLine),
            ("\u{1b}]8;;https://example.org/\u{1b}\\", Link { opens: true }),
            ("\u{1b}]8;id=1;https://example.org/\u{7}", Link { opens: true }),
            ("\u{1b}]8;;\u{7}", Link { opens: false }),
        ] {
            for end in (1..text.len()).filter(|end| text.is_char_boundary(*end)) {
                assert_eq!(parse(&text[..end]), Parsed::Incomplete, "{:?}", &text[..end]);
            }
            assert_eq!(parse(text), Parsed::Complete(sequence), "{text:?}");
        }
        for text in [
            "\u{1b}c",
            "\u{1b}[2J",
            "\u{1b}[H",
            "\u{1b}[?25l",
            "\u{1b}[>4m",
            "\u{1b}[1 m",
            "\u{1b}[6n",
            "\u{1b}[1K",
            "\u{1b}]0;",
            "\u{1b}]52;",
            "\u{1b}]80",
            "\u{1b}]8;no second semicolon\u{7}",
            "\u{1b}]8;;a\u{1b}[",
            "\u{1b}]8;;a\n",
            "\u{1b}]8;;ä",
            "\u{1b}P",
        ] {
            assert_eq!(parse(text), Parsed::Other, "{text:?}");
        }
        let endless = format!("\u{1b}]8;;{}", "a".repeat(LIMIT));
        assert_eq!(parse(&endless), Parsed::Other);
    }

    #[test]
    fn resets_and_other_styles_are_distinguished() {
        for (style, reset, plain) in [
            ("\u{1b}[m", true, true),
            ("\u{1b}[0m", true, true),
            ("\u{1b}[00m", true, true),
            ("\u{1b}[0;31m", true, false),
            ("\u{1b}[;1m", true, false),
            ("\u{1b}[31m", false, false),
            ("\u{1b}[10m", false, false),
        ] {
            assert_eq!((is_reset(style), is_plain(style)), (reset, plain), "{style:?}");
        }
    }
}
