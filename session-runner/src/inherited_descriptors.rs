//! Descriptors above the standard three that this process inherited for a program: a job server of make, `<(…)`, a lock.

use std::fs;
use std::os::fd::RawFd;
use std::sync::OnceLock;

use rustix::fs::OFlags;

/// The descriptors above 2 at the start of this process. Usually there are none, and nothing has to be looked up later.
static AT_START: OnceLock<Vec<RawFd>> = OnceLock::new();

/// Remembers the descriptors that this process was started with.
pub(crate) fn remember() {
    AT_START.get_or_init(open_descriptors);
}

/// Closes all descriptors above 2 that programs started by this process inherit. Call it in a process that exists for
/// one program, once that has them: a copy here would keep pipes open and locks held. What this process opened itself
/// is not affected: Rust opens nothing that programs inherit.
pub fn close_inherited_descriptors() {
    close_inherited(AT_START.get().cloned().unwrap_or_else(open_descriptors));
}

fn close_inherited(candidates: Vec<RawFd>) {
    // A number may be in use again, by a file of this process.
    for number in candidates.into_iter().filter(|number| is_inherited(*number)) {
        let _ = nix::unistd::close(number);
    }
}

/// Returns the open descriptors above 2, and that of the list itself, which is closed on return.
fn open_descriptors() -> Vec<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|number| *number > 2).collect()
}

/// Returns `true` if a program would inherit this descriptor.
fn is_inherited(number: RawFd) -> bool {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & OFlags::CLOEXEC.bits() == 0)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd as _, IntoRawFd as _};

    use super::*;

    #[test]
    fn only_descriptors_that_programs_inherit_are_closed() {
        let kept = fs::File::open("/dev/null").unwrap();
        let inherited = fs::File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
        // Closed below, not by a destructor.
        let inherited = inherited.into_raw_fd();
        assert!(is_inherited(inherited) && !is_inherited(kept.as_raw_fd()));
        close_inherited(open_descriptors());
        assert!(!fs::exists(format!("/proc/self/fd/{inherited}")).unwrap());
        assert!(fs::exists(format!("/proc/self/fd/{}", kept.as_raw_fd())).unwrap());
    }
}
