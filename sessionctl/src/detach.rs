//! `--detach`: a session whose owner is a process of its own, in no terminal, with nothing of its caller's open.
//!
//! The caller starts this binary once more, under a hidden verb, and waits for a word: until then the new process
//! speaks for it, on its stdout and stderr, so that every failure before the start is told as it is in the foreground.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Stdio};

use sessionkit::ErrorCode;
use tokio::io::Interest;

use crate::error::{Failure, Result};

/// The hidden verb, which stands before the others.
pub(crate) const VERB: &str = "__detached";

/// Starts a process that does what this one was asked to do, and returns its exit code, or the one that it says once
/// its program runs.
pub(crate) fn start() -> Result<u8> {
    let failed = |error: io::Error| Failure::chain(ErrorCode::SpawnFailed, &error).with_exit_code(125);
    let (mut ours, theirs) = UnixStream::pair().map_err(failed)?;
    // Not the path it was started from: that file may have been replaced since.
    let mut command = Command::new("/proc/self/exe");
    let mut args = std::env::args_os();
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    command.arg(VERB).args(args).stdin(Stdio::from(OwnedFd::from(theirs)));
    let mut owner = command.spawn().map_err(failed)?;
    // With it goes the last copy of the owner's end: its death is the end.
    drop(command);
    let mut code = [0];
    if ours.read_exact(&mut code).is_ok() {
        return Ok(code[0]);
    }
    let status = owner.wait().map_err(failed)?;
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(125))
}

/// Whoever waits until the program runs.
#[derive(Debug)]
pub(crate) struct Caller {
    socket: UnixStream,
}

impl Caller {
    /// If the hidden verb is there, takes it away, and leaves the caller's terminal and all that it has open, the
    /// outputs aside. Call it before anything is opened.
    pub(crate) fn find(args: &mut Vec<OsString>) -> io::Result<Option<Self>> {
        if args.get(1).is_none_or(|arg| arg != VERB) {
            return Ok(None);
        }
        args.remove(1);
        let socket = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?);
        // Another descriptor would not have a peer.
        socket.peer_addr()?;
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        close_others(&socket)?;
        rustix::process::setsid()?;
        Ok(Some(Self { socket }))
    }

    /// Says the exit code to whoever waits, and stays behind alone.
    pub(crate) fn detach(&self, code: u8) {
        if let Ok(null) = File::options().write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdout(&null);
            let _ = rustix::stdio::dup2_stderr(&null);
        }
        // Who went away knows how it ended there.
        let _ = (&self.socket).write_all(&[code]);
    }

    /// Returns once nobody waits any more.
    pub(crate) async fn disconnected(&self) {
        let gone = async || -> io::Result<()> {
            let socket = self.socket.try_clone()?;
            socket.set_nonblocking(true)?;
            let socket = tokio::net::UnixStream::from_std(socket)?;
            // It has nothing to say.
            socket.ready(Interest::READABLE).await?;
            Ok(())
        };
        if gone().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Closes what the caller had open and did not close for its programs.
fn close_others(socket: &UnixStream) -> io::Result<()> {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let kept = std::os::fd::AsRawFd::as_raw_fd(&socket.as_fd());
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2 && *descriptor != kept) {
        // One is that of the list itself, and closed by now.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}
