//! Worktrees of real repositories, with the git of this machine.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

mod create;
#[path = "../support/fixture.rs"]
mod fixture;
mod hostile;
mod meanwhile;
mod merge;
mod merged;
mod remove;
mod see;
