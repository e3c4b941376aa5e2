//! The start of a supervisor: from the first order to the running program.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{SigSet, Signal};
use rustix::fs::{Access, Mode};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::process::Pid;

use crate::inherited_descriptors::close_inherited_descriptors;
use crate::procfs::Process;
use crate::supervisor::messages::{Start, Step};

/// Bytes of a file that decide if it is a script.
const SCRIPT_BEGIN: u64 = 256;

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
    /// The read ends of its outputs, with the places of their streams.
    pub(crate) outputs: Vec<(usize, OwnedFd)>,
    /// The slave of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
    /// The lock to hold.
    pub(crate) lock: Option<OwnedFd>,
}

/// Starts the program, in a process group of its own.
pub(crate) fn start(start: &Start, descriptors: Vec<OwnedFd>) -> Result<Started, (Step, io::Error)> {
    let prepare = |error: io::Error| (Step::Prepare, error);
    let missing = || prepare(io::ErrorKind::InvalidData.into());
    let mut descriptors = descriptors.into_iter();
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (descriptors.next(), descriptors.next(), descriptors.next())
    else {
        return Err(missing());
    };
    let outputs: Vec<_> = start.outputs.iter().copied().zip(descriptors.by_ref()).collect();
    let terminal = if start.terminal { Some(descriptors.next().ok_or_else(missing)?) } else { None };
    let lock = descriptors.next();
    let (program, arguments) = start.argv.split_first().ok_or_else(missing)?;
    if start.own_session || start.terminal {
        rustix::process::setsid().map_err(|error| prepare(error.into()))?;
    }
    if let Some(terminal) = &terminal {
        rustix::process::ioctl_tiocsctty(terminal).map_err(|error| (Step::Terminal, error.into()))?;
    }
    // In this process and not in the child, so that a missing directory is not reported as a missing program.
    std::env::set_current_dir(&start.cwd).map_err(|error| (Step::Directory, error))?;
    if let Some(umask) = start.umask {
        rustix::process::umask(Mode::from_raw_mode(umask));
    }
    let streams = [stdin, stdout, stderr];
    let mut command = Command::new(program);
    command.args(arguments);
    let terminal_fd = terminal.as_ref().map(AsFd::as_fd);
    let child = match spawn(command, start, &streams, terminal_fd) {
        Err(error) if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) => {
            let script = script(program, start).ok_or((Step::Execute, error))?;
            let mut command = Command::new("/bin/sh");
            command.arg(script).args(arguments);
            spawn(command, start, &streams, terminal_fd)
        }
        spawned => spawned,
    };
    let child = child.map_err(|error| (Step::Execute, error))?;
    // Only the tree holds the program's descriptors now.
    drop(streams);
    close_inherited_descriptors();
    // The supervisor must not keep the directory's file system from being unmounted.
    let _ = std::env::set_current_dir("/");
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| {
        // Linux assigns no such ids.
        prepare(io::ErrorKind::InvalidData.into())
    })?;
    // Not reaped yet, so its entry exists even if it has ended already.
    let process = Process::read(pid).ok().flatten();
    let start_time = process.map_or(0, |process| process.start_time);
    Ok(Started { pid, start_time, outputs, terminal, lock })
}

fn spawn(
    mut command: Command,
    start: &Start,
    streams: &[OwnedFd; 3],
    terminal: Option<BorrowedFd<'_>>,
) -> io::Result<Child> {
    let [stdin, stdout, stderr] = streams;
    command.process_group(0);
    command.stdin(Stdio::from(stdin.try_clone()?));
    command.stdout(Stdio::from(stdout.try_clone()?)).stderr(Stdio::from(stderr.try_clone()?));
    for (name, value) in &start.env {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    match terminal {
        Some(terminal) => session_inherit::ignore_in_foreground(&mut command, &start.ignored, terminal),
        None => session_inherit::ignore(&mut command, &start.ignored),
    }
    // The program inherits this mask.
    let blocked = start.blocked.iter().filter_map(|signal| Signal::try_from(*signal).ok());
    blocked.collect::<SigSet>().thread_set_mask()?;
    let spawned = command.spawn();
    SigSet::empty().thread_set_mask()?;
    spawned
}

/// Returns the path of an executable file of no known format, if it is a script: then it runs under `sh`, as in a shell.
/// An ELF file, or a file with a zero byte in its first line, is none: bash decides so, too.
fn script(program: &OsStr, start: &Start) -> Option<PathBuf> {
    let path = if program.as_bytes().contains(&b'/') {
        PathBuf::from(program)
    } else {
        let set = start.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
        let folders = set.unwrap_or_else(|| std::env::var_os("PATH"))?;
        let is_executable =
            |path: &PathBuf| rustix::fs::access(path, Access::EXEC_OK).is_ok() && path.is_file();
        std::env::split_paths(&folders).map(|folder| folder.join(program)).find(is_executable)?
    };
    let mut begin = Vec::new();
    File::open(&path).ok()?.take(SCRIPT_BEGIN).read_to_end(&mut begin).ok()?;
    let first_line = begin.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let is_binary = begin.starts_with(b"\x7fELF") || first_line.contains(&0);
    // A name without a folder would be searched in `PATH` by `sh`, and one with a dash be taken for an option.
    (!is_binary).then(|| Path::new(".").join(path))
}

/// Removes the owner's socket, if it still exists.
pub(crate) fn clean_up(start: &Start) {
    if let Some(path) = &start.socket {
        let _ = std::fs::remove_file(path);
    }
}
