//! Signals to a program that another process runs as a session.
//!
//! No request in the log: a signal asks for nothing that the session would have to follow, and comes now or never. A
//! supervisor shows its program's process id to every process of the user.

use std::io;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use session_core::{ErrorCode, Owner, SessionId};

use crate::procfs::{Process, environ, variables};
use crate::supervisor::leftovers::is_supervisor;
use crate::supervisor::program_marker::program_of;
use crate::variables::SESSION_VARIABLE;

/// The processes of a program that get a signal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignalTarget {
    /// The process that was started.
    #[default]
    FirstProcess,
    /// The process group of that process.
    Group,
}

/// The reason why a program gets no signal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// The owner runs no such program here, or its first process has ended.
    #[error("session {id} has no running program on this machine")]
    NotRunning {
        /// The session.
        id: SessionId,
    },
    /// There is no such signal.
    #[error("{number} is not the number of a signal")]
    Unknown {
        /// The number.
        number: i32,
    },
    /// The system refused it.
    #[error("cannot send the signal to process {pid}: {error}")]
    Refused {
        /// The first process.
        pid: u32,
        /// The cause.
        error: io::Error,
    },
}

impl SignalError {
    /// Returns the stable error code.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NotRunning { .. } => ErrorCode::IllegalTransition,
            Self::Unknown { .. } => ErrorCode::InvalidArgument,
            Self::Refused { .. } => ErrorCode::StorageUnavailable,
        }
    }
}

/// Sends a signal to the program of a session with this owner. It is no request to stop: an end that follows is the
/// program's own.
///
/// # Errors
/// If there is no such program on this machine, or the system refuses the signal.
pub fn signal_program(
    id: SessionId,
    owner: &Owner,
    number: i32,
    target: SignalTarget,
) -> Result<(), SignalError> {
    let signal = Signal::from_named_raw(number).ok_or(SignalError::Unknown { number })?;
    let (supervisor, program) = find(id, owner).ok_or(SignalError::NotRunning { id })?;
    let refused =
        |error: rustix::io::Errno| SignalError::Refused { pid: program_number(program), error: error.into() };
    // Opened before the supervisor is asked again: if the id was reused meanwhile, its new holder gets no signal.
    let handle = pidfd_open(program, PidfdFlags::empty()).map_err(refused)?;
    if program_of(supervisor) != Some(program) {
        return Err(SignalError::NotRunning { id });
    }
    match target {
        SignalTarget::FirstProcess => pidfd_send_signal(&handle, signal),
        SignalTarget::Group => kill_process_group(program, signal),
    }
    .map_err(refused)
}

/// Returns the supervisor of a session's program, and the program's first process.
fn find(id: SessionId, owner: &Owner) -> Option<(Pid, Pid)> {
    let me = session_core::backend::this_process().ok()?;
    // In another container, the owner's process id is that of another process.
    if owner.pid_namespace.is_some() && owner.pid_namespace != me.pid_namespace {
        return None;
    }
    let pid = i32::try_from(owner.pid).ok().and_then(Pid::from_raw)?;
    let process = Process::read(pid).ok().flatten()?;
    if me.boot != owner.boot || process.start_time != owner.start_time {
        return None;
    }
    let children = Process::all().ok()?.into_iter().filter(|process| process.parent == Some(pid));
    let supervisors = children.filter(|process| is_supervisor(process.pid));
    let running: Vec<(Pid, Pid)> =
        supervisors.filter_map(|process| Some((process.pid, program_of(process.pid)?))).collect();
    // One of several names its session in its environment; a program that is alone may have cleared that.
    let mark = format!("{SESSION_VARIABLE}={id}");
    let is_marked = |program: Pid| variables(&environ(program)).any(|variable| variable == mark.as_bytes());
    let marked = running.iter().find(|(_, program)| is_marked(*program));
    marked.or(if let [only] = running.as_slice() { Some(only) } else { None }).copied()
}

fn program_number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}
