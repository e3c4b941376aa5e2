//! A pseudoterminal: the pair of a master, which the owner reads, and a slave, which is the terminal of the program.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::Mode;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, Winsize, tcgetattr, tcgetwinsize,
    tcsetattr, tcsetwinsize,
};

/// The flags of each descriptor: it controls no session by being opened, and programs do not inherit it.
const FLAGS: OpenptFlags = OpenptFlags::RDWR.union(OpenptFlags::NOCTTY).union(OpenptFlags::CLOEXEC);

/// The number of rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TerminalSize {
    /// The rows.
    pub rows: u16,
    /// The columns.
    pub columns: u16,
}

impl Default for TerminalSize {
    /// Returns 24 rows of 80 columns, the size of a terminal that nobody has given one.
    fn default() -> Self {
        Self { rows: 24, columns: 80 }
    }
}

impl TerminalSize {
    /// Returns the size of a terminal; the default if it has none.
    #[must_use]
    pub fn of(terminal: impl AsFd) -> Self {
        let size = tcgetwinsize(terminal).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
        size.map_or_else(Self::default, |size| Self { rows: size.ws_row, columns: size.ws_col })
    }
}

/// Keys that a shell leaves alone while it edits a line.
const KEYS: [SpecialCodeIndex; 10] = [
    SpecialCodeIndex::VINTR,
    SpecialCodeIndex::VQUIT,
    SpecialCodeIndex::VERASE,
    SpecialCodeIndex::VKILL,
    SpecialCodeIndex::VEOF,
    SpecialCodeIndex::VSUSP,
    SpecialCodeIndex::VSTART,
    SpecialCodeIndex::VSTOP,
    SpecialCodeIndex::VWERASE,
    SpecialCodeIndex::VREPRINT,
];

/// The modes of a terminal.
#[derive(Debug, Clone)]
pub(crate) struct TerminalModes {
    modes: Termios,
    /// `true` if only its keys are meant.
    only_keys: bool,
}

impl TerminalModes {
    /// Reads those of a terminal; `None` if it is none.
    pub(crate) fn of(terminal: impl AsFd) -> Option<Self> {
        Some(Self { modes: tcgetattr(terminal).ok()?, only_keys: false })
    }

    /// Reads the keys of a terminal; `None` if it is none.
    pub(crate) fn keys_of(terminal: impl AsFd) -> Option<Self> {
        Some(Self { modes: tcgetattr(terminal).ok()?, only_keys: true })
    }

    /// Returns the modes for a new terminal that has these.
    fn for_new(&self, new: Termios) -> Termios {
        if !self.only_keys {
            return self.modes.clone();
        }
        let mut modes = new;
        for key in KEYS {
            modes.special_codes[key] = self.modes.special_codes[key];
        }
        modes.input_modes.set(InputModes::IUTF8, self.modes.input_modes.contains(InputModes::IUTF8));
        modes
    }
}

impl PartialEq for TerminalModes {
    fn eq(&self, other: &Self) -> bool {
        let flags = |Self { modes, only_keys }: &Self| {
            (modes.input_modes, modes.output_modes, modes.control_modes, modes.local_modes, *only_keys)
        };
        flags(self) == flags(other)
    }
}

impl Eq for TerminalModes {}

/// A new terminal.
#[derive(Debug)]
pub(crate) struct Pty {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

impl Pty {
    /// Creates a terminal that only this user can open.
    pub(crate) fn open() -> io::Result<Self> {
        let master = openpt(FLAGS)?;
        unlockpt(&master)?;
        // Not by its name: that may lead to another file system, as in a container.
        let slave = ioctl_tiocgptpeer(&master, FLAGS)?;
        // The system's default lets others write to it, as `write` and `wall` do.
        rustix::fs::fchmod(&slave, Mode::RUSR | Mode::WUSR)?;
        Ok(Self { master, slave })
    }

    /// Sets size and modes. Without modes, it keeps the sane ones of a new terminal.
    pub(crate) fn set_up(&self, size: TerminalSize, modes: Option<&TerminalModes>) -> io::Result<()> {
        set_size(&self.master, size)?;
        if let Some(modes) = modes {
            let new = tcgetattr(&self.slave)?;
            tcsetattr(&self.slave, OptionalActions::Now, &modes.for_new(new))?;
        }
        Ok(())
    }
}

/// Checks that a terminal can be created.
///
/// # Errors
/// That of the system, for example without `/dev/ptmx` or beyond the limit of terminals.
pub fn check_terminal() -> io::Result<()> {
    Pty::open().map(drop)
}

/// Sets the size. The processes in the foreground get SIGWINCH if it changes.
pub(crate) fn set_size(master: impl AsFd, size: TerminalSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(master, size)?)
}

/// Returns the id of the process group in the foreground, if it is known.
pub(crate) fn foreground(master: impl AsFd) -> Option<u32> {
    let group = rustix::termios::tcgetpgrp(master).ok()?;
    u32::try_from(group.as_raw_nonzero().get()).ok()
}

/// Starts output that was stopped by Ctrl-S, with the key that does that: `tcflow` starts only what it has stopped.
pub(crate) fn start_output(master: impl AsFd) {
    if let Ok(modes) = tcgetattr(&master)
        && modes.input_modes.contains(InputModes::IXON)
    {
        // The program does not get it, and output that was not stopped is not affected.
        let _ = rustix::io::write(master, &[modes.special_codes[SpecialCodeIndex::VSTART]]);
    }
}

/// The keys that send a signal to the processes in the foreground, as the terminal's modes are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignalKeys {
    interrupt: u8,
    quit: u8,
    suspend: u8,
}

impl SignalKeys {
    /// Returns the keys; `None` if no key sends a signal, as in an editor.
    pub(crate) fn of(master: impl AsFd) -> Option<Self> {
        let modes = tcgetattr(master).ok()?;
        let code = |index| modes.special_codes[index];
        modes.local_modes.contains(LocalModes::ISIG).then(|| Self {
            interrupt: code(SpecialCodeIndex::VINTR),
            quit: code(SpecialCodeIndex::VQUIT),
            suspend: code(SpecialCodeIndex::VSUSP),
        })
    }

    /// Returns the signals of the keys in what was typed, in their order.
    pub(crate) fn signals(self, typed: &[u8]) -> impl Iterator<Item = i32> {
        typed.iter().filter_map(move |byte| match *byte {
            // A key that is switched off has the code 0.
            0 => None,
            key if key == self.interrupt => Some(rustix::process::Signal::INT.as_raw()),
            key if key == self.quit => Some(rustix::process::Signal::QUIT.as_raw()),
            key if key == self.suspend => Some(rustix::process::Signal::TSTP.as_raw()),
            _ => None,
        })
    }
}

/// The longest line that a terminal holds for its reader, without its end: `N_TTY_BUF_SIZE` of Linux less one.
pub(crate) const LONGEST_LINE: usize = 4095;

/// Returns `true` if the terminal hands its input to the program in whole lines.
pub(crate) fn reads_lines(master: impl AsFd) -> bool {
    tcgetattr(master).is_ok_and(|modes| modes.local_modes.contains(LocalModes::ICANON))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_the_size_and_modes_that_were_set() {
        let pty = Pty::open().unwrap();
        let mut modes = tcgetattr(&pty.slave).unwrap();
        modes.local_modes.remove(LocalModes::ECHO);
        let size = TerminalSize { rows: 33, columns: 101 };
        pty.set_up(size, Some(&TerminalModes { modes, only_keys: false })).unwrap();
        assert_eq!(TerminalSize::of(&pty.slave), size);
        assert!(!tcgetattr(&pty.slave).unwrap().local_modes.contains(LocalModes::ECHO));
        assert!(reads_lines(&pty.master));
        let mode = rustix::fs::fstat(&pty.slave).unwrap().st_mode;
        assert_eq!(mode & 0o777, 0o600);
    }

    /// Regression: a shell that edits its next line has the terminal in raw modes.
    #[test]
    fn keys_alone_leave_the_modes_of_a_new_terminal() {
        let (other, pty) = (Pty::open().unwrap(), Pty::open().unwrap());
        let mut modes = tcgetattr(&other.slave).unwrap();
        modes.make_raw();
        modes.special_codes[SpecialCodeIndex::VINTR] = 7;
        modes.input_modes.insert(InputModes::IUTF8);
        tcsetattr(&other.slave, OptionalActions::Now, &modes).unwrap();
        let new = tcgetattr(&pty.slave).unwrap();
        pty.set_up(TerminalSize::default(), TerminalModes::keys_of(&other.slave).as_ref()).unwrap();
        let found = tcgetattr(&pty.slave).unwrap();
        assert_eq!((found.local_modes, found.output_modes), (new.local_modes, new.output_modes));
        assert_eq!(found.input_modes, new.input_modes | InputModes::IUTF8);
        assert_eq!(found.special_codes[SpecialCodeIndex::VINTR], 7);
        assert_eq!(found.special_codes[SpecialCodeIndex::VMIN], new.special_codes[SpecialCodeIndex::VMIN]);
    }

    #[test]
    fn keys_send_signals_unless_the_program_takes_them() {
        let pty = Pty::open().unwrap();
        let keys = SignalKeys::of(&pty.master).unwrap();
        assert_eq!(keys.signals(b"a\x03b\x1c\x1a\0").collect::<Vec<_>>(), [2, 3, 20]);
        let mut modes = tcgetattr(&pty.slave).unwrap();
        modes.make_raw();
        tcsetattr(&pty.slave, OptionalActions::Now, &modes).unwrap();
        assert_eq!(SignalKeys::of(&pty.master), None);
    }

    #[test]
    fn a_terminal_without_a_size_is_of_the_usual_one() {
        let pty = Pty::open().unwrap();
        assert_eq!(TerminalSize::of(&pty.slave), TerminalSize::default());
        assert_eq!(TerminalSize::of(std::fs::File::open("/dev/null").unwrap()), TerminalSize::default());
    }
}
