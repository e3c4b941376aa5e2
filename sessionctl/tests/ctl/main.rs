//! The command as its users call it: every test runs the real binary.

mod answer;
mod look;
mod refuse;
mod support;
mod verify;
