//! `--detach`: starts a separate process as the owner, without a terminal and without its caller's descriptors.
//!
//! The caller starts this binary again with an internal verb and waits for one byte, the exit code. Until that byte is
//! sent, the new process writes to the caller's stdout and stderr, so a failure before the start is reported as it is
//! in the foreground.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use sessionkit::ErrorCode;
use sessionkit::runner::{SOCKET_VARIABLE, report_detached};
use tokio::io::Interest;

use crate::context::Context;
use crate::error::{Failure, Result};

/// Internal verb, typed before the actual one.
pub(crate) const VERB: &str = "__detached";

/// Starts a process with the arguments of this one. Returns the exit code that it sends once its program runs, or the
/// one with which it ended before that.
pub(crate) fn start(context: &Context) -> Result<u8> {
    let failed = |error: io::Error| Failure::chain(ErrorCode::SpawnFailed, &error).with_exit_code(125);
    let (mut ours, theirs) = UnixStream::pair().map_err(failed)?;
    // Not the path of this binary: that file may have been replaced since.
    let mut command = Command::new("/proc/self/exe");
    let mut args = std::env::args_os();
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    command.arg(VERB).args(args).stdin(Stdio::from(OwnedFd::from(theirs)));
    // A process with the socket in its environment belongs to the session that this command runs in.
    command.env_remove(SOCKET_VARIABLE);
    let lost = [Signal::SIGPIPE as i32, Signal::SIGCHLD as i32];
    let ignored: Vec<i32> = lost.into_iter().filter(|signal| session_inherit::is_ignored(*signal)).collect();
    // The standard library resets them; the new process inherits all others.
    session_inherit::ignore(&mut command, &ignored);
    // The new process is to find the umask of its caller.
    rustix::process::umask(context.umask);
    let mut owner = command.spawn().map_err(failed)?;
    // Closes our copy of the owner's socket, so that the death of the owner ends the read below.
    drop(command);
    leave_outer_session(owner.id());
    // An owner that is gone sends no code.
    let _ = ours.write_all(&[0]);
    let mut code = [0];
    if ours.read_exact(&mut code).is_ok() {
        return Ok(code[0]);
    }
    let status = owner.wait().map_err(failed)?;
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(125))
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
}

impl Caller {
    /// Removes the internal verb from the arguments, if present, and detaches from the caller's terminal and from all
    /// its descriptors except stdout and stderr. Call it before anything is opened.
    pub(crate) fn find(args: &mut Vec<OsString>) -> io::Result<Option<Self>> {
        if args.get(1).is_none_or(|arg| arg != VERB) {
            return Ok(None);
        }
        args.remove(1);
        let socket = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?);
        // Fails if stdin is not the socket of a caller.
        socket.peer_addr()?;
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        close_others(&socket)?;
        rustix::process::setsid()?;
        // The caller first notifies the owner of the outer session, if there is one, that this process is not part of it.
        (&socket).read_exact(&mut [0])?;
        Ok(Some(Self { socket }))
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
            // The caller sends nothing more: readable means closed.
            socket.ready(Interest::READABLE).await?;
            Ok(())
        };
        if gone().await.is_err() {
            std::future::pending::<()>().await;
        }
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
