//! The exit codes that say something about a session and not about its program.

/// The exit code after the deadline has passed.
pub const TIMED_OUT: i32 = 124;
/// The exit code for trouble with the session itself, not with its program.
pub const TROUBLE: i32 = 125;
