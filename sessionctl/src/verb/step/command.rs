//! The command of a step: its input, its output, and its end.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{SigSet, Signal};
use rustix::fs::FileType;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use sessionkit::limits::VALUE_BYTES;
use sessionkit::workflow::protocol::{KEY_VARIABLE, PART_BYTES, RUN_VARIABLE, Run};

use crate::args::Step;
use crate::error::{Failure, Result};
use crate::verb::client::{Named, TROUBLE, shown};

/// Signals that do not end a step before its command: the command gets them too, and the end of it is what counts.
const WAITED_FOR: [i32; 4] =
    [Signal::SIGINT as i32, Signal::SIGQUIT as i32, Signal::SIGTERM as i32, Signal::SIGHUP as i32];
/// Those that are passed on: they may have reached this process alone.
const PASSED_ON: [i32; 2] = [Signal::SIGTERM as i32, Signal::SIGHUP as i32];

/// Executes a command in place of this process. Returns the reason why that failed.
pub(super) fn execute(words: &[OsString]) -> Failure {
    let Some((program, arguments)) = words.split_first() else { return Failure::invalid("no command given") };
    let mut command = Command::new(program);
    keep_signals(&mut command);
    let error = command.args(arguments).exec();
    Failure::invalid(format!("cannot run `{}`: {error}", shown(words))).with_exit_code(launch_code(&error))
}

/// The input of a command.
pub(super) enum Input {
    /// That of this process: a terminal.
    Inherited,
    Empty,
    /// The whole input, read to its end.
    Kept(File),
}

impl Input {
    /// Takes the standard input, if the command is to read it. Names one that is not read.
    pub(super) fn of(args: &Step) -> Result<Self> {
        let stdin = io::stdin();
        if args.stdin {
            let kept = || {
                let mut file = tempfile::tempfile()?;
                io::copy(&mut stdin.lock(), &mut file)?;
                Ok(file)
            };
            return kept().map(Self::Kept).map_err(|error: io::Error| {
                Failure::new(
                    sessionkit::ErrorCode::StorageIo,
                    format!("cannot keep the standard input: {error}"),
                )
            });
        }
        if stdin.is_terminal() {
            return Ok(Self::Inherited);
        }
        let has_content = rustix::fs::fstat(stdin.as_fd()).is_ok_and(|file| {
            let kind = FileType::from_raw_mode(file.st_mode);
            kind == FileType::Fifo
                || kind == FileType::Socket
                || (kind == FileType::RegularFile && file.st_size > 0)
        });
        if has_content {
            Named::from(args).note("does not read its standard input: use --stdin to pass it on");
        }
        Ok(Self::Empty)
    }

    /// Calls `each` with the parts of what was kept, until it returns `false`.
    pub(super) fn read_parts(&mut self, mut each: impl FnMut(&[u8]) -> bool) -> Result<()> {
        let Self::Kept(file) = self else { return Ok(()) };
        let mut read = || {
            file.rewind()?;
            let mut part = vec![0; PART_BYTES];
            loop {
                match file.read(&mut part)? {
                    0 => return file.rewind(),
                    bytes if each(part.get(..bytes).unwrap_or_default()) => {}
                    _ => return Ok(()),
                }
            }
        };
        read().map_err(|error: io::Error| {
            Failure::new(
                sessionkit::ErrorCode::StorageIo,
                format!("cannot read the kept standard input: {error}"),
            )
        })
    }

    fn stdio(&self) -> io::Result<Stdio> {
        Ok(match self {
            Self::Inherited => Stdio::inherit(),
            Self::Empty => Stdio::null(),
            Self::Kept(file) => {
                let mut file = file.try_clone()?;
                file.rewind()?;
                file.into()
            }
        })
    }
}

/// The output of a command that is its value.
#[derive(Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    is_too_long: bool,
}

impl Output {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) const fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    fn add(&mut self, bytes: &[u8]) {
        if self.bytes.len() + bytes.len() > VALUE_BYTES {
            self.is_too_long = true;
            self.bytes = Vec::new();
        }
        if !self.is_too_long {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

/// The end of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::verb) enum Ended {
    Exited(i32),
    Signalled(i32),
    /// It could not be started.
    NotStarted {
        code: u8,
        error: String,
    },
}

impl Ended {
    pub(in crate::verb) fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Exited(code) => Some(*code),
            Self::Signalled(_) => None,
            Self::NotStarted { code, .. } => Some(i32::from(*code)),
        }
    }

    pub(in crate::verb) const fn signal(&self) -> Option<i32> {
        match self {
            Self::Signalled(signal) => Some(*signal),
            Self::Exited(_) | Self::NotStarted { .. } => None,
        }
    }

    pub(in crate::verb) fn code(&self) -> u8 {
        let code = match self {
            Self::Exited(code) => *code,
            Self::Signalled(signal) => 128 + signal,
            Self::NotStarted { code, .. } => return *code,
        };
        u8::try_from(code & 0xff).unwrap_or(TROUBLE)
    }

    /// Ends this process by the signal of a stop that ended the command. Returns for every other end.
    pub(in crate::verb) fn raise(&self) {
        let Self::Signalled(signal) = self else { return };
        if WAITED_FOR.contains(signal) || *signal == Signal::SIGPIPE as i32 {
            let _ = signal_hook::low_level::emulate_default_handler(*signal);
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signalled(signal) => {
                write!(f, "ended by signal {}", sessionkit::runner::signal_name(*signal))
            }
            Self::NotStarted { error, .. } => f.write_str(error),
        }
    }
}

/// A command that runs, or could not be started.
pub(super) struct RunningCommand {
    started: std::result::Result<Child, Ended>,
}

impl RunningCommand {
    pub(super) fn start(args: &Step, input: &Input, run: &Run) -> Result<Self> {
        let (program, arguments) =
            args.command.split_first().ok_or_else(|| Failure::invalid("no command given"))?;
        wait_for_command();
        let mut command = Command::new(program);
        command.args(arguments).env(KEY_VARIABLE, &run.key).env(RUN_VARIABLE, &run.run);
        if run.value {
            command.stdout(Stdio::piped());
        }
        keep_signals(&mut command);
        let started = input.stdio().and_then(|stdin| command.stdin(stdin).spawn());
        let started = started.map_err(|error| Ended::NotStarted {
            code: launch_code(&error),
            error: format!("cannot run `{}`: {error}", shown(&args.command)),
        });
        if let Ok(child) = &started {
            pass_signals_on(child);
        }
        Ok(Self { started })
    }

    /// Reads the output to its end: until no process holds it, as a shell does.
    pub(super) fn read_output(&mut self, stream: bool) -> Output {
        let mut output = Output::default();
        let Ok(child) = &mut self.started else { return output };
        let Some(mut pipe) = child.stdout.take() else { return output };
        let mut buffer = vec![0; 64 * 1024];
        let mut reader_is_gone = false;
        loop {
            match pipe.read(&mut buffer) {
                Ok(0) => return output,
                Ok(bytes) => {
                    let bytes = buffer.get(..bytes).unwrap_or_default();
                    output.add(bytes);
                    if stream && !reader_is_gone {
                        let mut stdout = io::stdout().lock();
                        reader_is_gone = stdout.write_all(bytes).and_then(|()| stdout.flush()).is_err();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return output,
            }
        }
    }

    pub(super) fn wait(self) -> Ended {
        match self.started {
            Ok(mut child) => child.wait().map_or(Ended::Signalled(Signal::SIGKILL as i32), ended),
            Err(ended) => ended,
        }
    }
}

pub(in crate::verb) fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, signal) => Ended::Signalled(signal.unwrap_or_default()),
    }
}

/// Returns the exit code of a shell for a command that cannot be started.
pub(in crate::verb) fn launch_code(error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
}

/// Lets this process outlive its command. Signals that it ignores stay ignored.
fn wait_for_command() {
    for signal in WAITED_FOR.into_iter().filter(|signal| !session_inherit::is_ignored(*signal)) {
        // A handler, unlike an ignored signal, is not inherited by the command.
        let _ = signal_hook::flag::register(signal, std::sync::Arc::default());
    }
}

/// Passes on signals that may have reached this process alone.
fn pass_signals_on(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let Some(handle) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return };
    let signals = PASSED_ON.into_iter().filter(|signal| !session_inherit::is_ignored(*signal));
    let Ok(mut received) = signal_hook::iterator::Signals::new(signals) else { return };
    let pass_on = move || {
        for signal in received.forever() {
            if let Some(signal) = rustix::process::Signal::from_named_raw(signal) {
                let _ = pidfd_send_signal(&handle, signal);
            }
        }
    };
    // Without a thread, signals to this process alone are not passed on.
    let _ = std::thread::Builder::new().spawn(pass_on);
}

/// Starts the command with the signals ignored and blocked as they were when this process was started.
pub(in crate::verb) fn keep_signals(command: &mut Command) {
    let pipe = Signal::SIGPIPE as i32;
    if session_inherit::is_ignored(pipe) {
        session_inherit::ignore(command, &[pipe]);
    }
    let blocked = (1..=64).filter(|signal| session_inherit::is_blocked(*signal));
    let blocked: SigSet = blocked.filter_map(|signal| Signal::try_from(signal).ok()).collect();
    let _ = blocked.thread_set_mask();
}
