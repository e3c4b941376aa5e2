//! The environment variables that a program's session sets for it.

/// The environment variable that holds the session id in its program.
pub const SESSION_VARIABLE: &str = "SESSIONCTL_SESSION";
/// The environment variable that holds the number of the attempt.
pub const ATTEMPT_VARIABLE: &str = "SESSIONCTL_ATTEMPT";
/// The environment variable that holds the URL of the session's store.
pub const STORE_VARIABLE: &str = "SESSIONCTL_STORE";
/// The environment variable that holds the socket's path in every program that runs as a session.
pub const SOCKET_VARIABLE: &str = "SESSIONCTL_SOCKET";
