//! What protects the machine and the fold: that both do what the design says, and that a log says what happened.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "what a helper of a test cannot do is a failed test"
)]

mod head;
mod hostile;
mod log;
mod model;
mod oracle;
mod replay;
mod stories;
mod table;
