//! The start of a supervisor: from the first order to the running program.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::net::SocketType;
use rustix::process::Pid;

use crate::procfs::Process;
use crate::supervisor::messages::{Start, Step};

/// Takes the socket to the owner from stdin, and replaces stdin by `/dev/null`.
pub(crate) fn take_socket() -> io::Result<OwnedFd> {
    let stdin = io::stdin();
    if rustix::net::sockopt::socket_type(stdin.as_fd())? != SocketType::STREAM {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // A copy above the standard descriptors, which programs do not inherit.
    let socket = rustix::io::fcntl_dupfd_cloexec(stdin.as_fd(), 3)?;
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(socket)
}

/// A program that was started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: Pid,
    pub(crate) start_time: u64,
    /// The read ends of its stdout and stderr.
    pub(crate) outputs: [OwnedFd; 2],
    /// The lock to hold.
    pub(crate) lock: Option<OwnedFd>,
}

/// Starts the program, in a process group of its own.
pub(crate) fn start(start: &Start, descriptors: Vec<OwnedFd>) -> Result<Started, (Step, io::Error)> {
    let prepare = |error: io::Error| (Step::Prepare, error);
    let mut descriptors = descriptors.into_iter();
    let (Some(stdin), Some(stdout), Some(stderr), Some(read_stdout), Some(read_stderr)) =
        (descriptors.next(), descriptors.next(), descriptors.next(), descriptors.next(), descriptors.next())
    else {
        return Err(prepare(io::ErrorKind::InvalidData.into()));
    };
    let lock = descriptors.next();
    let Some((program, arguments)) = start.argv.split_first() else {
        return Err(prepare(io::ErrorKind::InvalidData.into()));
    };
    if start.own_session {
        rustix::process::setsid().map_err(|error| prepare(error.into()))?;
    }
    // In this process and not in the child, so that a missing directory is not reported as a missing program.
    std::env::set_current_dir(&start.cwd).map_err(|error| (Step::Directory, error))?;
    let mut command = Command::new(program);
    command.args(arguments).process_group(0);
    command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
    for (name, value) in &start.env {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let child = command.spawn().map_err(|error| (Step::Execute, error))?;
    // Closes this process's copies of the program's descriptors: only the tree holds them now.
    drop(command);
    // The supervisor must not keep the directory's file system from being unmounted.
    let _ = std::env::set_current_dir("/");
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| {
        // Linux assigns no such ids.
        prepare(io::ErrorKind::InvalidData.into())
    })?;
    // Not reaped yet, so its entry exists even if it has ended already.
    let process = Process::read(pid).ok().flatten();
    let start_time = process.map_or(0, |process| process.start_time);
    Ok(Started { pid, start_time, outputs: [read_stdout, read_stderr], lock })
}

/// Removes the owner's socket, if it still exists.
pub(crate) fn clean_up(start: &Start) {
    if let Some(path) = &start.socket {
        let _ = std::fs::remove_file(path);
    }
}
