//! Worktrees of real repositories, with the git of this machine.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

mod create;
mod fixture;
mod remove;
