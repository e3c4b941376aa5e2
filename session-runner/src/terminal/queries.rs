//! The answers to the queries that a program sends to its terminal, for the time in which there is none.
//!
//! A program that gets no answer waits for one, or takes the terminal for a poor one. Each answer is the most modest that
//! lets the program continue: a viewer with any terminal may come later.
//!
//! | query | answer |
//! |---|---|
//! | DA1 `CSI c` | a VT220 with colours |
//! | DA2 `CSI > c`, DA3 `CSI = c` | a VT220 without a serial number |
//! | DSR `CSI 5 n` | no malfunction |
//! | CPR `CSI 6 n`, DECXCPR `CSI ? 6 n` | first line, first column: there is no screen |
//! | XTVERSION `CSI > q` | name and version of this crate |
//! | `CSI ? u` | the flags of the kitty keyboard protocol |
//! | DECRQM `CSI ? n $ p`, `CSI n $ p` | set or reset, if the mode is followed |
//! | `CSI 18 t` | the size in characters |
//! | `OSC 10 ; ?` to `OSC 12 ; ?` | a light foreground and cursor on a dark background |
//! | XTGETTCAP `DCS + q`, DECRQSS `DCS $ q` | not valid |
//!
//! Not answered: ENQ, sizes in pixels (`CSI 14 t`, `CSI 16 t`), titles, the palette (`OSC 4`), graphics. Programs send
//! these together with DA1, or do without.

use std::io::Write as _;

use super::modes::{Mode, Modes};
use super::parser::{Function, Sequence, SystemCommand};
use super::pty::TerminalSize;

/// Bytes of answers to one piece of output. A program that asks for more does not read them.
pub(crate) const MAX_REPLIES: usize = 4096;

/// Colours of foreground, background and cursor.
const COLOURS: [&str; 3] = ["d0d0/d0d0/d0d0", "0000/0000/0000", "d0d0/d0d0/d0d0"];

/// Writes the answer to a sequence, if it is a query that is answered.
pub(crate) fn answer(sequence: Sequence<'_>, modes: &Modes, size: TerminalSize, out: &mut Vec<u8>) {
    match sequence {
        Sequence::Control(function) => answer_control(function, modes, size, out),
        Sequence::SystemCommand(command) => answer_colours(command, out),
        Sequence::DeviceControl(name) => match name {
            (0, b'+', b'q') => out.extend(b"\x1bP0+r\x1b\\"),
            (0, b'$', b'q') => out.extend(b"\x1bP0$r\x1b\\"),
            _ => {}
        },
        Sequence::ShiftOut | Sequence::ShiftIn | Sequence::Escape(..) => {}
    }
}

fn answer_control(function: Function<'_>, modes: &Modes, size: TerminalSize, out: &mut Vec<u8>) {
    let mut params = function.params();
    let (Some(param), None) = (params.next(), params.next()) else { return };
    let _ = match (function.name, param) {
        ((0, 0, b'c'), 0) => write!(out, "\x1b[?62;22c"),
        ((b'>', 0, b'c'), 0) => write!(out, "\x1b[>1;10;0c"),
        ((b'=', 0, b'c'), 0) => write!(out, "\x1bP!|00000000\x1b\\"),
        ((0, 0, b'n'), 5) => write!(out, "\x1b[0n"),
        ((0, 0, b'n'), 6) => write!(out, "\x1b[1;1R"),
        ((b'?', 0, b'n'), 6) => write!(out, "\x1b[?1;1R"),
        ((b'>', 0, b'q'), 0) => {
            write!(out, "\x1bP>|{}({})\x1b\\", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
        }
        ((b'?', 0, b'u'), 0) => write!(out, "\x1b[?{}u", modes.keyboard().current()),
        ((b'?', b'$', b'p'), number) => {
            write!(out, "\x1b[?{number};{}$y", setting(modes, Mode::Private(number)))
        }
        ((0, b'$', b'p'), number) => {
            write!(out, "\x1b[{number};{}$y", setting(modes, Mode::Ansi(number)))
        }
        ((0, 0, b't'), 18) => write!(out, "\x1b[8;{};{}t", size.rows, size.columns),
        _ => Ok(()),
    };
}

/// Returns the setting of a mode as DECRQM reports it.
fn setting(modes: &Modes, mode: Mode) -> u8 {
    match (mode, modes.mode(mode)) {
        (_, Some(true)) => 1,
        // A program that finds these uses them instead of what works everywhere, and a later viewer may lack them.
        (Mode::Private(2027 | 2031 | 2048), Some(false)) | (_, None) => 0,
        (_, Some(false)) => 2,
    }
}

/// Answers queries of colours. Each further parameter is about the next colour.
fn answer_colours(command: SystemCommand<'_>, out: &mut Vec<u8>) {
    let Some((number, params)) = std::str::from_utf8(command.text).ok().and_then(|text| text.split_once(';'))
    else {
        return;
    };
    let first = match number {
        "10" => 0,
        "11" => 1,
        "12" => 2,
        _ => return,
    };
    if command.is_cut {
        return;
    }
    let end = if command.ended_by_bel { "\x07" } else { "\x1b\\" };
    for ((number, colour), param) in (10..).zip(COLOURS).skip(first).zip(params.split(';')) {
        if param == "?" {
            let _ = write!(out, "\x1b]{number};rgb:{colour}{end}");
        }
    }
}

#[cfg(test)]
mod tests;
