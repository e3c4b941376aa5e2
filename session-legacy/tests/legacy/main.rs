//! What becomes of the stores of older tools: the tables of the documentation, the fixtures, and what is hostile.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, what is not there is a failure"
)]

mod fixtures;
mod hostile;
mod support;
mod tables;
mod worktrees;
