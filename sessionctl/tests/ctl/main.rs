//! The command as its users call it: every test runs the real binary.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, what is not there is a failure"
)]

mod answer;
mod look;
mod refuse;
mod run;
mod support;
mod terminal;
mod verify;
