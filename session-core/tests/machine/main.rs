//! Tests of the state machine and the fold: both follow the design, and a log replays to the state its writer had.

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
mod regressions;
mod replay;
mod steps;
mod table;
mod waits;
