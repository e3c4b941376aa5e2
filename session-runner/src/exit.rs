//! The end of a program as an exit code, as a text, and as the failure of its session.

use session_core::{Failure, FailureCause, Head, SessionState};

use crate::supervisor::client::LaunchError;
use crate::supervisor::messages::Ended;

/// The exit code after the deadline has passed.
pub const TIMED_OUT: i32 = 124;
/// The exit code for trouble with the session itself, not with its program.
pub const TROUBLE: i32 = 125;
/// The offset that is added to the number of a signal that ended a program.
pub(crate) const BY_SIGNAL: i32 = 128;
const TERM: i32 = 15;
const INT: i32 = 2;

/// Returns the exit code for a session with this head: the program's own, 128 plus the number of a signal, 124 after
/// the deadline, 125 to 127 if it did not run. If none of these applies, it is 1 for a failure and 130 for a cancel. A
/// program that was cancelled but exited with 0 yields 143. `None` while the session has not ended.
#[must_use]
pub fn exit_code(head: &Head) -> Option<i32> {
    let program = head.exit_code.or(head.signal.map(|signal| BY_SIGNAL + signal));
    match head.state() {
        SessionState::Created | SessionState::Running { .. } | SessionState::Paused { .. } => None,
        SessionState::Completed { .. } => Some(program.unwrap_or(0)),
        SessionState::Failed { error } if error.cause == FailureCause::Timeout => Some(TIMED_OUT),
        SessionState::Failed { error } => {
            let own = error.exit_code.or(error.signal.map(|signal| BY_SIGNAL + signal));
            Some(own.or(program).filter(|code| *code != 0).unwrap_or(1))
        }
        SessionState::Cancelled { .. } => Some(match program {
            Some(0) => BY_SIGNAL + TERM,
            Some(code) => code,
            None => BY_SIGNAL + INT,
        }),
    }
}

impl Ended {
    /// Returns the exit code, if it exited by itself.
    #[must_use]
    pub const fn exit_code(self) -> Option<i32> {
        match self {
            Self::Exited(code) => Some(code),
            Self::Signalled(_) => None,
        }
    }

    /// Returns the number of the signal that ended it, if one did.
    #[must_use]
    pub const fn signal(self) -> Option<i32> {
        match self {
            Self::Exited(_) => None,
            Self::Signalled(signal) => Some(signal),
        }
    }

    /// Returns `true` if it exited by itself with 0.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Exited(0))
    }

    /// Returns the exit code as a shell gives it.
    pub(crate) const fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signalled(signal) => BY_SIGNAL + signal,
        }
    }

    /// Converts it to the failure of its session.
    pub(crate) fn failure(self) -> Failure {
        match self {
            Self::Exited(code) => {
                Failure::new(FailureCause::Work, format!("exited with code {code}")).exit_code(code)
            }
            Self::Signalled(signal) => {
                Failure::new(FailureCause::Work, format!("ended by signal {}", signal_name(signal)))
                    .signal(signal)
            }
        }
    }
}

/// Returns the failure of a session whose program could not be started.
pub(crate) fn launch_failure(program: &str, error: &LaunchError) -> Failure {
    let message = format!("`{program}` could not be started: {}", crate::chain(error));
    Failure::new(FailureCause::Spawn, message).exit_code(error.exit_code())
}

/// Formats a signal as `15 (TERM)`, or only its number if it has no common name.
#[must_use]
pub fn signal_name(signal: i32) -> String {
    // signal(7), the numbers of x86 and ARM.
    let name = match signal {
        1 => "HUP",
        2 => "INT",
        3 => "QUIT",
        4 => "ILL",
        5 => "TRAP",
        6 => "ABRT",
        7 => "BUS",
        8 => "FPE",
        9 => "KILL",
        10 => "USR1",
        11 => "SEGV",
        12 => "USR2",
        13 => "PIPE",
        14 => "ALRM",
        15 => "TERM",
        17 => "CHLD",
        18 => "CONT",
        19 => "STOP",
        20 => "TSTP",
        21 => "TTIN",
        22 => "TTOU",
        24 => "XCPU",
        25 => "XFSZ",
        31 => "SYS",
        _ => return signal.to_string(),
    };
    format!("{signal} ({name})")
}
