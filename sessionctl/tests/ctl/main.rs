//! The command as its users call it: every test runs the real binary.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "in a test, what is not there is a failure, and nobody counts copies"
)]

mod answer;
mod detach;
mod look;
mod readme;
mod refuse;
mod run;
mod screen;
mod support;
mod terminal;
mod tmux;
mod verify;
