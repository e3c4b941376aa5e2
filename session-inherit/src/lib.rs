//! The signals that were ignored or blocked when this process was started, and a way to ignore some in a program.
//!
//! Under a shell, `trap '' PIPE` reaches each program that is started, through all programs in between. A Rust program
//! breaks that chain in two places: before `main`, the standard library ignores SIGPIPE, and [`Command`] starts its
//! programs with SIGPIPE at its default. What was there before can be read only before `main`, and set only between
//! `fork` and `exec`: both need `unsafe`. So does the foreground of a terminal, which a program has to have before its
//! first instruction. This crate is the only one of the workspace that has any. It does nothing else,
//! and stays below 50 lines of code.
//!
//! On other systems than Linux, no signal is ignored or blocked for this crate.

#[cfg(target_os = "linux")]
mod linux;

use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::process::Command;

/// Returns `true` if this signal was ignored when the process was started.
#[must_use]
pub fn is_ignored(signal: i32) -> bool {
    is_in(started_with().0, signal)
}

/// Returns `true` if this signal was blocked when the process was started.
#[must_use]
pub fn is_blocked(signal: i32) -> bool {
    is_in(started_with().1, signal)
}

/// Lets the command start its program with these signals ignored. Without any, the command is not changed: it then need
/// not copy this process.
///
/// The program is started by `execvp`, which runs a file of no known format under `sh`.
pub fn ignore(command: &mut Command, signals: &[i32]) {
    prepare(command, signals, None);
}

/// Lets the command start its program in the foreground of a terminal, which is the controlling one of this process's
/// session, and with these signals ignored. The program has to lead a process group of its own. SIGTTOU is at its
/// default in it.
pub fn ignore_in_foreground(command: &mut Command, signals: &[i32], terminal: BorrowedFd<'_>) {
    prepare(command, signals, Some(terminal));
}

fn prepare(command: &mut Command, signals: &[i32], terminal: Option<BorrowedFd<'_>>) {
    #[cfg(target_os = "linux")]
    if !signals.is_empty() || terminal.is_some() {
        linux::prepare(command, signals.to_vec(), terminal.map(|terminal| terminal.as_raw_fd()));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (command, signals, terminal);
}

fn started_with() -> (u64, u64) {
    #[cfg(target_os = "linux")]
    return linux::started_with();
    #[cfg(not(target_os = "linux"))]
    (0, 0)
}

fn is_in(signals: u64, signal: i32) -> bool {
    matches!(signal, 1..=64) && signals >> (signal - 1) & 1 == 1
}
