//! Signal dispositions inherited from a shell, and their reset for the programs that `xtask` starts.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGQUIT};

/// Resets ignored signals for child processes. A shell without job control ignores SIGINT and SIGQUIT in what it starts
/// with `&`, and an ignored signal stays ignored in all children, where tests of signals would then fail. A signal with a
/// handler has its default disposition in a child.
pub(crate) fn reset_signal_mask() {
    for signal in [SIGINT, SIGQUIT].into_iter().filter(|signal| is_ignored(*signal)) {
        // If it cannot be caught, the tests that need it report that.
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
}

fn is_ignored(signal: i32) -> bool {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return false };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}
