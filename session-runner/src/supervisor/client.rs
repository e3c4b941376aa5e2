//! The owner's side of a supervised program: starts it, sends orders, and receives reports.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::sync::Mutex;

use super::entry::FAILED;
use super::messages::{ORPHAN_GRACE, Order, Report, Spare, Start, Step, encode, send_start};
use super::waiting::WaitingSupervisor;
use crate::limit_error::{is_limit, limit_text};

/// Signals that do not stay ignored through a supervisor: the standard library resets SIGPIPE, and owner and supervisor
/// need SIGCHLD. All others are inherited, because no process in between catches an ignored signal.
const LOST_SIGNALS: [i32; 2] = [Signal::PIPE.as_raw(), Signal::CHILD.as_raw()];

/// A program to run under a supervisor.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) argv: Vec<OsString>,
    pub(crate) cwd: PathBuf,
    /// Variables that are set, or removed where there is no value.
    pub(crate) env: Vec<(OsString, Option<OsString>)>,
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// The read ends of the outputs with the places of their streams, for the supervisor of an owner that is gone.
    pub(crate) outputs: Vec<(usize, OwnedFd)>,
    /// The slave of the program's terminal.
    pub(crate) terminal: Option<OwnedFd>,
    /// A lock that is held until the tree has ended.
    pub(crate) lock: Option<OwnedFd>,
    /// `true` to start the tree in a session of its own, without this process's terminal.
    pub(crate) own_session: bool,
    /// The program's umask, unless it is that of this process.
    pub(crate) umask: Option<u32>,
    /// The owner's socket, whose file is removed when the tree has ended.
    pub(crate) socket: Option<PathBuf>,
}

/// The reason why a program does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// This binary was not enabled to supervise, see [`supervise_main`](crate::supervise_main) and
    /// [`supervise_test`](crate::supervise_test). Nothing was started.
    #[error(
        "this program cannot act as a supervisor: write `#[sessionkit::main]` instead of `#[tokio::main]`, or call \
         `sessionkit::runner::supervise_main()` first in `main`; in a test, write `#[sessionkit::test]` instead of \
         `#[tokio::test]`"
    )]
    NoSupervisor,
    /// The process that was started as the supervisor ended before it supervised. Usually `main` does something before
    /// it calls [`supervise_main`](crate::supervise_main), such as parsing the arguments, and ends there.
    #[error(
        "the supervisor ended before it started the program ({status}): `sessionkit::runner::supervise_main()` has to \
         be the first call in `main`, before arguments are parsed; a test needs `#[sessionkit::test]`"
    )]
    Unanswered {
        /// Its exit status.
        status: std::process::ExitStatus,
    },
    /// The supervisor could not be started, or died.
    #[error("the supervisor could not be started or has died: {0}")]
    Supervisor(io::Error),
    /// A limit of the system is reached.
    #[error("{text}: {0}", text = limit_text(.0))]
    Limit(io::Error),
    /// There is no terminal to be had for the program.
    #[error("cannot create a terminal: {0}")]
    Terminal(io::Error),
    /// The working directory cannot be entered.
    #[error("cannot enter the working directory: {0}")]
    Directory(io::Error),
    /// There is no such program.
    #[error("no such program: {0}")]
    NotFound(io::Error),
    /// The program exists but cannot be executed.
    #[error("not executable: {0}")]
    NotExecutable(io::Error),
}

impl LaunchError {
    /// Returns the exit code for it: 127 for no such program, 126 for not executable, 125 otherwise.
    #[must_use]
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound(_) => 127,
            Self::NotExecutable(_) => 126,
            Self::NoSupervisor
            | Self::Unanswered { .. }
            | Self::Supervisor(_)
            | Self::Limit(_)
            | Self::Terminal(_)
            | Self::Directory(_) => 125,
        }
    }

    /// Creates the error of a call of this process.
    pub(crate) fn own(error: io::Error) -> Self {
        if is_limit(&error) { Self::Limit(error) } else { Self::Supervisor(error) }
    }

    fn from_report(step: Step, errno: i32) -> Self {
        let error = io::Error::from_raw_os_error(errno);
        match (step, error.kind()) {
            (Step::Prepare, _) => Self::own(error),
            (Step::Directory, _) => Self::Directory(error),
            (Step::Terminal, _) => Self::Terminal(error),
            (Step::Execute, io::ErrorKind::NotFound) => Self::NotFound(error),
            (Step::Execute, io::ErrorKind::OutOfMemory) => Self::Supervisor(error),
            (Step::Execute, _) if is_limit(&error) => Self::Limit(error),
            (Step::Execute, _) => Self::NotExecutable(error),
        }
    }
}

/// The sender of orders to a supervisor. They are not acknowledged: the reports show their effect.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    socket: Arc<Mutex<Outgoing>>,
}

#[derive(Debug)]
struct Outgoing {
    socket: OwnedWriteHalf,
    /// Bytes that are not sent yet: an order whose sender was dropped halfway is completed before the next one.
    bytes: Vec<u8>,
}

impl Orders {
    /// Sends a signal to the program's process group.
    pub(crate) async fn signal(&self, signal: i32) {
        self.send(&Order::Signal { signal }).await;
    }

    /// Stops the tree; [`Report::Halted`] follows.
    pub(crate) async fn halt(&self) {
        self.send(&Order::Halt).await;
    }

    /// Continues the tree.
    pub(crate) async fn resume(&self) {
        self.send(&Order::Continue).await;
    }

    /// Continues processes of the program's group that a signal from elsewhere stopped.
    pub(crate) async fn wake(&self) {
        self.send(&Order::Wake).await;
    }

    /// Ends the tree without the spared processes: continues it, sends TERM, and kills what is left after the grace
    /// period.
    pub(crate) async fn end(&self, grace: Duration, spare: Spare) {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.send(&Order::End { grace_ms, spare }).await;
    }

    /// Closes the supervisor's copy of an output, whose reader is gone.
    pub(crate) async fn close_output(&self, place: usize) {
        self.send(&Order::CloseOutput { place }).await;
    }

    /// Leaves a process and its descendants alone from now on.
    pub(crate) async fn exclude(&self, pid: u32, start_time: u64) {
        self.send(&Order::Exclude { pid, start_time }).await;
    }

    /// Sends an order. Errors are dropped: the end of a supervisor is received through the reports.
    async fn send(&self, order: &Order) {
        let mut outgoing = self.socket.lock().await;
        let Outgoing { socket, bytes } = &mut *outgoing;
        bytes.extend(encode(order).unwrap_or_default());
        while !bytes.is_empty() {
            match socket.write(bytes).await {
                Ok(sent @ 1..) => drop(bytes.drain(..sent)),
                Ok(0) | Err(_) => bytes.clear(),
            }
        }
    }
}

/// The reports of a supervisor. Dropping it and all [`Orders`] closes the connection, after which the supervisor ends
/// the tree.
#[derive(Debug)]
pub(crate) struct Reports {
    socket: BufReader<OwnedReadHalf>,
    line: Vec<u8>,
    process: Child,
    /// `true` once it has reported that processes stay: it may outlive the connection, to read what they print.
    stays: bool,
}

impl Reports {
    /// Returns the next report; `None` once the supervisor is gone. The future can be dropped without loss.
    pub(crate) async fn next(&mut self) -> Option<Report> {
        loop {
            match self.socket.read_until(b'\n', &mut self.line).await {
                Ok(1..) if self.line.ends_with(b"\n") => {}
                // The end, or an incomplete last line.
                Ok(_) | Err(_) => {
                    if !self.stays {
                        let _ = self.process.wait().await;
                    }
                    return None;
                }
            }
            let report = serde_json::from_slice(&self.line);
            self.line.clear();
            match report {
                Ok(report) => {
                    self.stays |= matches!(report, Report::Left { .. });
                    return Some(report);
                }
                Err(error) => tracing::error!(%error, "received an invalid report from the supervisor"),
            }
        }
    }
}

/// A running program.
#[derive(Debug)]
pub(crate) struct Supervised {
    /// The program's process, and its process group.
    pub(crate) pid: u32,
    pub(crate) orders: Orders,
    pub(crate) reports: Reports,
}

/// Starts a program under a supervisor: the one that waits for it, or a new one.
pub(crate) async fn launch(
    launch: Launch,
    waiting: Option<WaitingSupervisor>,
) -> Result<Supervised, LaunchError> {
    let alive = waiting.and_then(WaitingSupervisor::if_alive);
    let waiting = match alive {
        Some(waiting) => waiting,
        None => WaitingSupervisor::start(launch.own_session || launch.terminal.is_some())
            .ok_or(LaunchError::NoSupervisor)?
            .map_err(LaunchError::own)?,
    };
    let WaitingSupervisor { socket, process } = waiting;
    let socket = order_start(launch, socket).map_err(LaunchError::own)?;
    let (read, write) = socket.into_split();
    let mut reports = Reports { socket: BufReader::new(read), line: Vec::new(), process, stays: false };
    let orders = Orders { socket: Arc::new(Mutex::new(Outgoing { socket: write, bytes: Vec::new() })) };
    match reports.next().await {
        Some(Report::Started { pid, .. }) => Ok(Supervised { pid, orders, reports }),
        Some(Report::NotStarted { step, errno }) => {
            // Waits for the supervisor to exit, which releases the lock.
            let _ = reports.next().await;
            Err(LaunchError::from_report(step, errno))
        }
        // A supervisor exits without a report only with this code: any other is that of a program that is none.
        None => match reports.process.wait().await {
            Ok(status) if status.code().is_some_and(|code| code != FAILED) => {
                Err(LaunchError::Unanswered { status })
            }
            _ => Err(LaunchError::Supervisor(io::ErrorKind::UnexpectedEof.into())),
        },
        Some(_) => Err(LaunchError::Supervisor(io::ErrorKind::InvalidData.into())),
    }
}

/// Sends the first order.
fn order_start(launch: Launch, supervisor: StdStream) -> io::Result<UnixStream> {
    let Launch { argv, cwd, env, stdin, stdout, stderr, outputs, terminal, lock, own_session, umask, socket } =
        launch;
    let start = Start {
        argv,
        cwd: cwd.into_os_string(),
        env,
        own_session,
        outputs: outputs.iter().map(|(place, _)| *place).collect(),
        terminal: terminal.is_some(),
        umask,
        ignored: LOST_SIGNALS.into_iter().filter(|signal| session_inherit::is_ignored(*signal)).collect(),
        blocked: (1..=64).filter(|signal| session_inherit::is_blocked(*signal)).collect(),
        orphan_grace_ms: u64::try_from(ORPHAN_GRACE.as_millis()).unwrap_or(u64::MAX),
        socket: socket.map(PathBuf::into_os_string),
    };
    let mut descriptors = vec![stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    descriptors.extend(outputs.iter().map(|(_, output)| output.as_fd()));
    descriptors.extend(terminal.as_ref().map(AsFd::as_fd));
    descriptors.extend(lock.as_ref().map(AsFd::as_fd));
    match send_start(&supervisor, start, &descriptors) {
        // The process has ended already. Its reports end, too, and its status says why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        sent => sent?,
    }
    supervisor.set_nonblocking(true)?;
    UnixStream::from_std(supervisor)
}

#[cfg(test)]
mod tests;
