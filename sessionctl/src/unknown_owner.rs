//! The words for a session whose owner may be alive or dead, and the command that declares such an owner dead.

/// The state of such a session.
pub(crate) const UNKNOWN_OWNER: &str =
    "nothing here can prove its owner alive or dead; if you are sure that it is dead, declare it dead";
/// The arguments of the command.
pub(crate) const DECLARE_DEAD: [&str; 2] = ["recover", "--force"];
