//! A descriptor of a supervisor whose name shows the process id of its program to other processes of the user.

use std::os::fd::OwnedFd;

use rustix::fs::MemfdFlags;
use rustix::process::Pid;

/// The name of the file in memory before the process id. `/proc` shows more around it.
const NAME: &str = "session-program:";

/// Shows a program for as long as the descriptor is open. Without it, the program only gets no signals from other
/// processes.
pub(crate) fn show_program(program: Pid) -> Option<OwnedFd> {
    rustix::fs::memfd_create(format!("{NAME}{}", program.as_raw_nonzero()), MemfdFlags::CLOEXEC).ok()
}

/// Returns the program that a supervisor shows.
pub(crate) fn program_of(supervisor: Pid) -> Option<Pid> {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", supervisor.as_raw_nonzero())).ok()?;
    descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).find_map(|target| {
        let (_, pid) = target.to_str()?.split_once(NAME)?;
        pid.split(' ').next()?.parse().ok().and_then(Pid::from_raw)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_shown_as_long_as_its_descriptor_is_open() {
        let this = rustix::process::getpid();
        let shown = show_program(Pid::INIT).unwrap();
        assert_eq!(program_of(this), Some(Pid::INIT));
        drop(shown);
        assert_eq!(program_of(this), None);
    }
}
