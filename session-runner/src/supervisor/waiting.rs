//! A supervisor that waits for its program.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};

use rustix::process::Signal;
use tokio::process::{Child, Command};

use super::entry::supervisor_arguments;

/// A supervisor that waits for its program. Dropping it closes the socket, and the supervisor exits.
#[derive(Debug)]
pub(crate) struct WaitingSupervisor {
    pub(super) socket: UnixStream,
    pub(super) process: Child,
}

impl WaitingSupervisor {
    /// Starts one; `None` if this binary cannot act as one. Its own process group protects it from the signals of this
    /// process's terminal, except if it will call `setsid`, which fails for the leader of a group.
    pub(crate) fn start(calls_setsid: bool) -> Option<io::Result<Self>> {
        supervisor_arguments().map(|arguments| {
            let (socket, other_end) = UnixStream::pair()?;
            // Not the path that it was started from: that file may have been replaced.
            let mut command = Command::new("/proc/self/exe");
            if let Some(name) = std::env::args_os().next() {
                command.arg0(name);
            }
            command
                .args(arguments)
                .stdin(Stdio::from(OwnedFd::from(other_end)))
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            if !calls_setsid {
                command.process_group(0);
            }
            keep_children()?;
            Ok(Self { socket, process: command.spawn()? })
        })
    }

    /// Returns it if it has not ended meanwhile.
    pub(super) fn if_alive(mut self) -> Option<Self> {
        matches!(self.process.try_wait(), Ok(None)).then_some(self)
    }
}

/// Catches SIGCHLD if this process was started with it ignored: children would leave no exit status.
fn keep_children() -> io::Result<()> {
    static CAUGHT: OnceLock<()> = OnceLock::new();
    let child = Signal::CHILD.as_raw();
    if session_inherit::is_ignored(child) && CAUGHT.set(()).is_ok() {
        signal_hook::flag::register(child, Arc::default())?;
    }
    Ok(())
}
