//! The standard streams of a program: what it gets, and what its owner reads.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat};

use crate::command::{Command, Stdin};
use crate::output::OutputStream;
use crate::supervisor::client::LaunchError;
use crate::terminal::pty::{Pty, TerminalSize};

/// The standard streams of a program.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// The read ends of the pipes.
    pub(crate) captured: Vec<(OutputStream, OwnedFd)>,
    /// The terminal, if one of the streams is one.
    pub(crate) terminal: Option<Pty>,
}

impl Streams {
    /// Opens the input, and a pipe for each output or one for both.
    pub(crate) fn open(command: &Command) -> io::Result<Self> {
        let (read, stdout) = pipe()?;
        let mut captured = vec![(OutputStream::Stdout, read)];
        let stderr = if command.merge {
            stdout.try_clone()?
        } else {
            let (read, stderr) = pipe()?;
            captured.push((OutputStream::Stderr, read));
            stderr
        };
        Ok(Self { stdin: stdin(&command.stdin)?, stdout, stderr, captured, terminal: None })
    }

    /// Replaces streams by the terminal that the command has.
    pub(crate) fn with_terminal(mut self, command: &Command) -> Result<Self, LaunchError> {
        let Some(terminal) = &command.terminal else { return Ok(self) };
        let pty = Pty::open().map_err(LaunchError::Terminal)?;
        let size = TerminalSize { rows: terminal.rows.max(1), columns: terminal.columns.max(1) };
        pty.set_up(size, command.terminal_modes.as_ref()).map_err(LaunchError::Terminal)?;
        // What is merged goes where standard output goes.
        let stderr = if command.merge { terminal.stdout } else { terminal.stderr };
        let streams = [
            (terminal.stdin, &mut self.stdin, None),
            (terminal.stdout, &mut self.stdout, Some(OutputStream::Stdout)),
            (stderr, &mut self.stderr, Some(OutputStream::Stderr)),
        ];
        for (replaced, stream, captured) in streams {
            if replaced {
                *stream = pty.slave.try_clone().map_err(LaunchError::own)?;
                self.captured.retain(|(stream, _)| Some(*stream) != captured);
            }
        }
        self.terminal = Some(pty);
        Ok(self)
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = io::pipe()?;
    Ok((read.into(), write.into()))
}

fn stdin(stdin: &Stdin) -> io::Result<OwnedFd> {
    match stdin {
        Stdin::Inherit => match io::stdin().as_fd().try_clone_to_owned() {
            Ok(stdin) => Ok(stdin),
            // This process was started without a standard input.
            Err(_) => null(),
        },
        Stdin::Null => null(),
        Stdin::File(path) => open_input(path),
    }
}

/// Opens a file as input. A pipe without a writer would block this process.
fn open_input(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags | OFlags::NONBLOCK, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::Fifo {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a named pipe is not read as input"));
    }
    rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
    Ok(file)
}

fn null() -> io::Result<OwnedFd> {
    File::open("/dev/null").map(OwnedFd::from)
}
