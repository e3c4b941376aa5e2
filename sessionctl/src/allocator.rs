//! The memory of verbs that move whole logs. The allocator of glibc keeps what was freed, by thread and by size, unless
//! settings that it reads at the start of a process say otherwise.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// One heap for all threads, from which values of 64 KiB and more are kept out: they are returned when they are freed.
const SETTINGS: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "65536")];

/// Starts this process again with these settings. Returns if it has them, or if that is impossible: then only more memory is
/// used.
pub(crate) fn bound_memory() {
    let is_set = |(name, _): &(&str, &str)| std::env::var_os(name).is_some();
    if cfg!(not(all(target_os = "linux", target_env = "gnu"))) || SETTINGS.iter().any(is_set) {
        return;
    }
    let mut args = std::env::args_os();
    let Some(program) = args.next() else { return };
    let mut command = Command::new("/proc/self/exe");
    command.arg0(program).args(args).envs(SETTINGS);
    let ignored: Vec<i32> = (1..=64).filter(|signal| session_inherit::is_ignored(*signal)).collect();
    session_inherit::ignore(&mut command, &ignored);
    let error = command.exec();
    tracing::debug!(%error, "could not bound the memory of the allocator");
}
