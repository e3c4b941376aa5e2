//! Whether a program runs, for whoever looks after its terminal, and what that one wants of it.

/// Whether a program runs. Only the latest of several changes is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChildState {
    /// It runs, or is on its way to its end.
    #[default]
    Running,
    /// It was stopped by this signal, and not from here: by a key on its terminal, for reading from a terminal that is
    /// not its own, or by somebody who may. Its session is running still, and says nothing of it.
    Stopped {
        /// The signal's number.
        signal: i32,
    },
    /// Its whole tree stands still, its session is paused, and what it has printed so far is where it belongs.
    Paused,
}

/// What the process that owns a session wants of its program, without a request in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LocalRequest {
    /// It is to stand still, for this reason.
    Pause(String),
    /// It is to go on.
    Resume,
}
