//! The sequences that bring a terminal from its defaults into modes, or from modes back to its defaults.

use std::io::Write as _;

use super::modes::{ASCII, KEYPAD, Mode, Modes, ORIGIN, SIDE_MARGINS};

/// Returns the sequences that bring a terminal with default modes into these.
///
/// They come after all text that is not the program's: a character set or the alternate screen would apply to it.
/// Attributes of text, links and the position of the cursor are not restored, nor a progress display: programs write
/// these again.
pub(crate) fn restore(modes: &Modes) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(title) = &modes.title {
        let _ = write!(out, "\x1b]2;{title}\x1b\\");
    }
    let [main, alternate] = &modes.keyboard;
    main.restore(&mut out);
    if let Some(number) = modes.alternate {
        push_mode(&mut out, Mode::Private(number), true);
        alternate.restore(&mut out);
    }
    if modes.region.is_some() || modes.mode(SIDE_MARGINS) == Some(true) {
        // Margins move the cursor.
        out.extend(b"\x1b7");
        if let Some((top, bottom)) = modes.region {
            let _ = match bottom {
                0 => write!(out, "\x1b[{top}r"),
                _ => write!(out, "\x1b[{top};{bottom}r"),
            };
        }
        if modes.mode(SIDE_MARGINS) == Some(true) {
            push_mode(&mut out, SIDE_MARGINS, true);
        }
        out.extend(b"\x1b8");
    }
    for mode in modes.changed.iter().filter(|mode| **mode != SIDE_MARGINS) {
        push_mode(&mut out, *mode, modes.mode(*mode) == Some(true));
    }
    if modes.modify_other_keys != 0 {
        let _ = write!(out, "\x1b[>4;{}m", modes.modify_other_keys);
    }
    if modes.cursor_shape != 0 {
        let _ = write!(out, "\x1b[{} q", modes.cursor_shape);
    }
    for (intermediate, charset) in [b'(', b')'].into_iter().zip(modes.cursor.charsets) {
        if charset != ASCII {
            out.extend([0x1b, intermediate, charset]);
        }
    }
    if modes.cursor.shifted {
        out.push(0x0e);
    }
    out
}

/// Returns the sequences that bring a terminal in these modes back to its defaults; nothing if it has them. The title
/// stays: which one was there before is not known.
///
/// The cursor stays on its line, and after the alternate screen returns to the one it was on; only in origin mode, whose
/// end moves it, does it go to the last line. Keyboard flags that were left on the alternate screen stay there.
pub(crate) fn reset(modes: &Modes) -> Vec<u8> {
    let mut out = Vec::new();
    let mut modes = modes.clone();
    let [main, alternate] = &modes.keyboard;
    if let Some(number) = modes.alternate {
        alternate.reset(&mut out);
        push_mode(&mut out, Mode::Private(number), false);
    }
    main.reset(&mut out);
    // Restores the attributes and character sets that were saved there.
    modes.leave_alternate_screen();
    for mode in modes.changed.iter().filter(|mode| ![ORIGIN, SIDE_MARGINS].contains(mode)) {
        push_mode(&mut out, *mode, modes.mode(*mode) == Some(false));
    }
    if modes.modify_other_keys != 0 {
        out.extend(b"\x1b[>4m");
    }
    if modes.cursor_shape != 0 {
        out.extend(b"\x1b[0 q");
    }
    if modes.is_link {
        out.extend(b"\x1b]8;;\x1b\\");
    }
    if modes.shows_progress {
        out.extend(b"\x1b]9;4;0\x1b\\");
    }
    if modes.cursor.shifted {
        out.push(0x0f);
    }
    for (intermediate, charset) in [b'(', b')'].into_iter().zip(modes.cursor.charsets) {
        if charset != ASCII {
            out.extend([0x1b, intermediate, ASCII]);
        }
    }
    if modes.cursor.is_styled {
        out.extend(b"\x1b[0m");
    }
    let side_margins = modes.mode(SIDE_MARGINS) == Some(true);
    if modes.region.is_some() || side_margins {
        // Margins move the cursor. What else is saved with it has its default by now, except for the origin mode.
        out.extend(b"\x1b7");
        if modes.region.is_some() {
            out.extend(b"\x1b[r");
        }
        if side_margins {
            push_mode(&mut out, SIDE_MARGINS, false);
        }
        out.extend(b"\x1b8");
    }
    if modes.mode(ORIGIN) == Some(true) {
        push_mode(&mut out, ORIGIN, false);
        out.extend(b"\x1b[9999;1H");
    }
    out
}

fn push_mode(out: &mut Vec<u8>, mode: Mode, on: bool) {
    let last = if on { 'h' } else { 'l' };
    let _ = match mode {
        // More terminals know this form.
        KEYPAD => write!(out, "\x1b{}", if on { '=' } else { '>' }),
        Mode::Ansi(number) => write!(out, "\x1b[{number}{last}"),
        Mode::Private(number) => write!(out, "\x1b[?{number}{last}"),
    };
}
