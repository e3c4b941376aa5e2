//! Starts a separate process as the owner: for `--detach`, without a terminal and without its caller's descriptors, and
//! for a program with a terminal of its own, which its owner outlives.
//!
//! The caller starts this binary again with an internal verb. Until the program runs, the new process writes to the
//! caller's stdout and stderr, so a failure before the start is reported as it is in the foreground. With `--detach`, the
//! caller waits for one byte, the exit code. Otherwise it is the first viewer of the terminal.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use sessionkit::ErrorCode;
use sessionkit::runner::{SOCKET_VARIABLE, report_detached};
use sessionkit::workflow::protocol::{KEY_VARIABLE, RUN_VARIABLE};
use tokio::io::Interest;

use crate::context::Context;
use crate::display::is_in_foreground;
use crate::error::{Failure, Result};
use crate::signal_mask;

/// Internal verb, typed before the actual one.
pub(crate) const VERB: &str = "__detached";
/// Internal verb of an owner whose caller is the first viewer of its program's terminal.
const VIEWED: &str = "__viewed";

/// Interval of looking whether a viewer is gone before the program has started.
const VIEWER_INTERVAL: Duration = Duration::from_millis(20);

/// Starts a process with the arguments of this one. Returns the exit code that it sends once its program runs, or the
/// one with which it ended before that.
pub(crate) fn start(context: &Context) -> Result<u8> {
    let (mut ours, mut owner) = spawn(context, VERB).map_err(|error| failed(&error))?;
    leave_outer_session(owner.id());
    // An owner that is gone sends no code.
    let _ = ours.write_all(&[0]);
    let mut code = [0];
    if ours.read_exact(&mut code).is_ok() {
        return Ok(code[0]);
    }
    let status = owner.wait().map_err(|error| failed(&error))?;
    Ok(exit_code(status))
}

/// Starts a process with the arguments of this one, whose program gets a terminal. Returns the socket of its first viewer.
pub(crate) fn start_viewed(context: &Context) -> Result<(UnixStream, Child)> {
    let (ours, owner) = spawn(context, VIEWED).map_err(|error| failed(&error))?;
    let stdin = io::stdin();
    // The owner's own standard input is the socket.
    let passed_on = [stdin.as_fd()];
    let passed_on = if rustix::termios::isatty(&stdin) { &[][..] } else { &passed_on };
    // An owner that is gone shows when it is waited for.
    let _ = send_with(&ours, passed_on);
    Ok((ours, owner))
}

/// Returns the exit code of an owner that has ended.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(125)
}

fn failed(error: &io::Error) -> Failure {
    let limit = error.kind() == io::ErrorKind::WouldBlock;
    let code = if limit { ErrorCode::SystemLimit } else { ErrorCode::SpawnFailed };
    Failure::chain(code, error).with_exit_code(125)
}

/// Starts this binary with an internal verb and one end of a socket as its standard input.
fn spawn(context: &Context, verb: &str) -> io::Result<(UnixStream, Child)> {
    let (ours, theirs) = UnixStream::pair()?;
    // Not the path of this binary: that file may have been replaced since.
    let mut command = Command::new("/proc/self/exe");
    let mut args = std::env::args_os();
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    command.arg(verb).args(args).stdin(Stdio::from(OwnedFd::from(theirs)));
    if verb == VERB {
        // A process with the socket in its environment belongs to the session that this command runs in.
        command.env_remove(SOCKET_VARIABLE);
        // One with these variables belongs to the step.
        command.env_remove(KEY_VARIABLE).env_remove(RUN_VARIABLE);
    }
    let lost = [Signal::SIGPIPE as i32, Signal::SIGCHLD as i32];
    let ignored: Vec<i32> = lost.into_iter().filter(|signal| session_inherit::is_ignored(*signal)).collect();
    // The standard library resets them; the new process inherits all others.
    session_inherit::ignore(&mut command, &ignored);
    // The new process is to find the umask of its caller, and no signal blocked that its caller handles.
    rustix::process::umask(context.umask);
    let blocks = verb == VIEWED;
    if blocks {
        signal_mask::unblock();
    }
    let owner = command.spawn();
    if blocks {
        signal_mask::block();
    }
    // Dropping the command closes our copy of the owner's socket, so that the death of the owner shows.
    Ok((ours, owner?))
}

/// Sends one byte with these descriptors.
fn send_with(socket: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one byte, and the descriptor that came with it, if one did.
fn receive_with(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        RecvAncillaryMessage::ScmCredentials(_) | _ => None,
    });
    Ok(descriptors.flatten().next())
}

/// Excludes the owner from the session in which this command runs, if it runs in one.
fn leave_outer_session(owner: u32) {
    let socket = std::env::var_os(SOCKET_VARIABLE).filter(|socket| !socket.is_empty());
    if let Some(socket) = socket
        && let Err(error) = report_detached(Path::new(&socket), owner)
    {
        // The outer owner is gone, or its program is ending: nothing of it is waiting for an order any more.
        tracing::debug!(%error, "could not leave the outer session");
    }
}

/// The process that waits until the program runs.
#[derive(Debug)]
pub(crate) struct Caller {
    socket: UnixStream,
    is_viewer: bool,
    /// `true` if the standard input of this process is that of its caller, which is no terminal.
    has_stdin: bool,
    was_in_foreground: bool,
}

impl Caller {
    /// Removes the internal verb from the arguments, if present, and detaches from the caller's terminal and, with
    /// `--detach`, from all its descriptors except stdout and stderr. Call it before anything is opened.
    pub(crate) fn find(args: &mut Vec<OsString>) -> io::Result<Option<Self>> {
        let is_viewer = match args.get(1) {
            Some(arg) if arg == VERB => false,
            Some(arg) if arg == VIEWED => true,
            _ => return Ok(None),
        };
        args.remove(1);
        let socket = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?);
        // Fails if stdin is not the socket of a caller.
        socket.peer_addr()?;
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        if !is_viewer {
            close_others(&socket)?;
        }
        // The last moment at which the system answers that.
        let was_in_foreground = is_in_foreground();
        rustix::process::setsid()?;
        // The caller first notifies the owner of the outer session, if there is one, that this process is not part of it.
        let stdin = receive_with(&socket)?;
        if let Some(stdin) = &stdin {
            rustix::stdio::dup2_stdin(stdin)?;
        }
        Ok(Some(Self { socket, is_viewer, has_stdin: stdin.is_some(), was_in_foreground }))
    }

    /// Returns the socket of the first viewer, if the caller is one.
    pub(crate) fn viewer(&self) -> io::Result<Option<UnixStream>> {
        self.is_viewer.then(|| self.socket.try_clone()).transpose()
    }

    /// Returns `true` if the standard input of this process is that of its caller, which is no terminal.
    pub(crate) const fn has_stdin(&self) -> bool {
        self.has_stdin
    }

    /// Returns `true` if the caller was in the foreground of its terminal when it started this process.
    pub(crate) const fn was_in_foreground(&self) -> bool {
        self.was_in_foreground
    }

    /// Returns `true` if the caller is a viewer of the program's terminal.
    pub(crate) const fn is_viewer(&self) -> bool {
        self.is_viewer
    }

    /// Sends the exit code to the caller, which then exits, and closes the caller's outputs here.
    pub(crate) fn detach(&self, code: u8) {
        if let Ok(null) = File::options().write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdout(&null);
            let _ = rustix::stdio::dup2_stderr(&null);
        }
        // A caller that is gone needs no exit code.
        let _ = (&self.socket).write_all(&[code]);
    }

    /// Returns once the caller is gone.
    pub(crate) async fn disconnected(&self) {
        let gone = async || -> io::Result<()> {
            let socket = self.socket.try_clone()?;
            socket.set_nonblocking(true)?;
            let socket = tokio::net::UnixStream::from_std(socket)?;
            // What a viewer sends is not read here.
            while !socket.ready(Interest::READABLE).await?.is_read_closed() {
                tokio::time::sleep(VIEWER_INTERVAL).await;
            }
            Ok(())
        };
        if gone().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Closes the caller's terminal here, which the viewer has. Other outputs of the caller are still written to.
pub(crate) fn release_terminal() {
    let Ok(null) = File::options().write(true).open("/dev/null") else { return };
    if rustix::termios::isatty(io::stdout()) {
        let _ = rustix::stdio::dup2_stdout(&null);
    }
    if rustix::termios::isatty(io::stderr()) {
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// Closes the descriptors inherited from the caller, except the outputs and this socket.
fn close_others(socket: &UnixStream) -> io::Result<()> {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let kept = std::os::fd::AsRawFd::as_raw_fd(&socket.as_fd());
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2 && *descriptor != kept) {
        // One of them belonged to the directory listing and is closed already.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}
