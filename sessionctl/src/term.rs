//! The two outputs: data on stdout, everything else on stderr, colours only where somebody wants them.

use std::io::{self, IsTerminal as _, Write as _};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::tcgetwinsize;

use crate::args::ColorWhen;
use crate::fail::{Failure, Result};

/// Whether an output gets colours.
#[derive(Debug, Clone, Copy)]
enum Paint {
    Plain,
    Colours,
}

impl Paint {
    fn paint(self, sgr: &str, text: &str) -> String {
        match self {
            Self::Colours if !sgr.is_empty() => format!("\u{1b}[{sgr}m{text}\u{1b}[0m"),
            Self::Colours | Self::Plain => text.to_owned(),
        }
    }
}

/// What is known of the outputs.
#[derive(Debug)]
pub(crate) struct Term {
    /// Whether programs read.
    pub(crate) json: bool,
    /// Whether stdout is a terminal.
    pub(crate) is_terminal: bool,
    out: Paint,
    err: Paint,
}

impl Term {
    pub(crate) fn new(json: bool, color: ColorWhen) -> Self {
        let wanted = |terminal: bool| {
            let colours = match color {
                ColorWhen::Always => true,
                ColorWhen::Never => false,
                // no-color.org: any value but the empty one.
                ColorWhen::Auto => {
                    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                }
            };
            if colours && !json { Paint::Colours } else { Paint::Plain }
        };
        let is_terminal = io::stdout().is_terminal();
        Self { json, is_terminal, out: wanted(is_terminal), err: wanted(io::stderr().is_terminal()) }
    }

    /// Writes data.
    pub(crate) fn print(&self, text: &str) -> Result<()> {
        self.print_bytes(text.as_bytes())
    }

    /// Writes data as it is.
    #[expect(clippy::unused_self, reason = "whoever has no terminal has nothing to print on")]
    pub(crate) fn print_bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
    }

    /// Writes a line for whoever looks on. If nobody does, there is nobody to tell that either.
    #[expect(clippy::unused_self, reason = "as above")]
    pub(crate) fn complain(&self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// Whether whoever read stdout has gone away: without a write nobody would notice, and none may come for days.
    #[expect(clippy::unused_self, reason = "as above")]
    pub(crate) fn reader_is_gone(&self) -> bool {
        let out = io::stdout();
        let mut look = [PollFd::new(&out, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let gone = PollFlags::ERR | PollFlags::HUP;
        poll(&mut look, Some(&at_once)).is_ok() && look.iter().any(|stdout| stdout.revents().intersects(gone))
    }

    /// How many columns stdout has, if it is a terminal.
    pub(crate) fn columns(&self) -> Option<usize> {
        let size = self.is_terminal.then(|| tcgetwinsize(io::stdout()).ok()).flatten()?;
        Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
    }

    /// Something bad, on stderr.
    pub(crate) fn bad(&self, text: &str) -> String {
        self.err.paint("1;31", text)
    }

    /// Something beside the point, on stderr.
    pub(crate) fn faint(&self, text: &str) -> String {
        self.err.paint("2", text)
    }

    /// A heading, on stdout.
    pub(crate) fn heading(&self, text: &str) -> String {
        self.out.paint("1", text)
    }

    /// In the colour of an SGR code, on stdout.
    pub(crate) fn tint(&self, sgr: &str, text: &str) -> String {
        self.out.paint(sgr, text)
    }
}
