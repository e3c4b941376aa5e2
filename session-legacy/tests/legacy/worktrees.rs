//! worktrees.
