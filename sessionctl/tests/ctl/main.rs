//! The command as its users call it: every test runs the real binary.

mod look;
mod support;
