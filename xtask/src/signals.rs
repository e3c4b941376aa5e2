//! What a shell that runs us in the background does to signals, and how the programs below us are spared it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGQUIT};

/// A shell without job control ignores these for what it starts with `&`. An ignored signal stays ignored in all programs
/// below, and tests of what signals do would see nothing happen. Caught here instead, they are what they usually are below.
pub(crate) fn reset_signal_mask() {
    for signal in [SIGINT, SIGQUIT].into_iter().filter(|signal| is_ignored(*signal)) {
        // Where it cannot be caught, the tests say what they miss.
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
}

fn is_ignored(signal: i32) -> bool {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return false };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}
