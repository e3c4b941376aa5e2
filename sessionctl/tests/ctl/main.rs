//! The command as its users call it: every test runs the real binary.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "in a test, what is not there is a failure, and nobody counts copies"
)]

mod backends;
mod detach;
mod docs;
mod exchange;
mod follow;
mod hostile;
mod inspect;
mod legacy;
mod manage;
mod memory;
mod migrate;
mod progress;
mod rejected_args;
mod requests;
mod run;
mod schema;
mod screen;
mod support;
mod terminal;
mod tmux;
mod verify;
