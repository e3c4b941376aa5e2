//! Tests of converting the stores of older tools: documented tables, fixtures, hostile input and git worktrees.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a missing value fails the test")]

mod fixtures;
mod hostile;
mod support;
mod tables;
mod worktrees;
