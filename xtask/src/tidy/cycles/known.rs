//! Cycles that exist. Each falls with a later issue; no file may join one, and a cycle that is gone leaves this list.

/// A crate, and the files of the cycle in order, relative to its `src`. `cargo xtask tidy --cycles` prints such lines.
pub(super) const KNOWN: &[(&str, &[&str])] = &[];
