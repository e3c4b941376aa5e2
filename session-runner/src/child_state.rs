//! The run state of the child, and pause and resume requests from the process that owns the session.

/// The run state of a program. Only the latest of several changes is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChildState {
    /// It runs, or is being ended.
    #[default]
    Running,
    /// A signal that this process did not send stopped it: a key on its terminal, a read from a terminal whose
    /// foreground it is not in, or another process. The session stays running, and nothing is logged.
    Stopped {
        /// The signal's number.
        signal: i32,
    },
    /// Its whole tree is stopped, its session is paused, and all output so far is stored and forwarded.
    Paused,
    /// It has ended and has left background processes, which may be waited for.
    Ended,
}

/// A request of the process that owns the session, made without the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LocalRequest {
    /// Pause the session, for this reason.
    Pause(String),
    /// Resume the session.
    Resume,
}
