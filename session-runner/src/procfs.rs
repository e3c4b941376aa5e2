//! Processes as `/proc` shows them: the values that identify one, and its parent.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

/// A snapshot of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) pid: Pid,
    /// The name of its program, at most 15 bytes; the program can change it at will.
    pub(crate) name: String,
    /// The state letter of proc(5).
    pub(crate) state: char,
    /// The parent, which is notified of its end; `None` for a process without one.
    pub(crate) parent: Option<Pid>,
    /// Its process group.
    pub(crate) group: Option<Pid>,
    /// Its session.
    pub(crate) session: Option<Pid>,
    /// Start time, in clock ticks since boot.
    pub(crate) start_time: u64,
}

impl Process {
    /// Reads the process with this id; `None` if there is none (any more).
    pub(crate) fn read(pid: Pid) -> io::Result<Option<Self>> {
        match fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())) {
            Ok(stat) => Self::parse(&String::from_utf8_lossy(&stat))
                .map(Some)
                .ok_or(io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // It ended while its file was read.
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads all processes. This is not an atomic snapshot: each is read after the one before.
    pub(crate) fn all() -> io::Result<Vec<Self>> {
        let mut all = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let pid = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            // A process that cannot be read could not be signalled either.
            if let Some(Ok(Some(process))) = pid.map(Self::read) {
                all.push(process);
            }
        }
        Ok(all)
    }

    /// Returns `true` if it has ended and only its entry is left for the parent to reap.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Returns `true` if it waits inside the kernel. A signal takes effect only when it leaves the kernel.
    pub(crate) fn is_in_kernel(&self) -> bool {
        self.state == 'D'
    }

    /// Returns `true` if it is stopped, by a signal or by a debugger.
    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }

    /// Returns `true` if it ignores this signal; `false` if that is not known.
    pub(crate) fn ignores(&self, signal: Signal) -> bool {
        let ignored = fs::read_to_string(format!("/proc/{}/status", self.pid.as_raw_nonzero()))
            .ok()
            .and_then(|status| {
                let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
                u64::from_str_radix(mask.trim(), 16).ok()
            })
            .unwrap_or(0);
        ignored & bit(signal) != 0
    }

    /// Returns `true` if it holds one of these files or pipes open, or if that is not known.
    pub(crate) fn holds(&self, files: &[(u64, u64)]) -> bool {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fd", self.pid.as_raw_nonzero())) else {
            return true;
        };
        descriptors.flatten().filter_map(|descriptor| fs::metadata(descriptor.path()).ok()).any(|found| {
            use std::os::unix::fs::MetadataExt as _;
            files.contains(&(found.dev(), found.ino()))
        })
    }

    /// Parses a line of `stat`, see proc(5). The name is in parentheses and may hold any bytes, parentheses and blanks
    /// included: the fields after it start behind the last parenthesis.
    fn parse(stat: &str) -> Option<Self> {
        let (before, after) = stat.rsplit_once(')')?;
        let (pid, name) = before.split_once(" (")?;
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<i32>().ok();
        Some(Self {
            pid: Pid::from_raw(pid.parse().ok()?)?,
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: Pid::from_raw(number(1)?.max(0)),
            group: Pid::from_raw(number(2)?.max(0)),
            session: Pid::from_raw(number(3)?.max(0)),
            start_time: fields.get(19)?.parse().ok()?,
        })
    }
}

/// Returns the environment that a process was started with; empty if it cannot be read.
pub(crate) fn environ(pid: Pid) -> Vec<u8> {
    fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default()
}

/// Splits an environment into its variables.
pub(crate) fn variables(environ: &[u8]) -> impl Iterator<Item = &[u8]> {
    environ.split(|byte| *byte == 0)
}

/// Returns the bit of a signal in a mask, the lowest one for signal 1.
fn bit(signal: Signal) -> u64 {
    u32::try_from(signal.as_raw() - 1).ok().and_then(|shift| 1_u64.checked_shl(shift)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_bit_of_a_mask_is_signal_1() {
        assert_eq!(bit(Signal::HUP), 0b1);
        assert_eq!(bit(Signal::INT), 0b10);
        assert_eq!(bit(Signal::PIPE), 1 << 12);
    }

    #[test]
    fn open_files_are_found_in_a_process() {
        let me = Process::read(rustix::process::getpid()).unwrap().unwrap();
        let (read, write) = std::io::pipe().unwrap();
        let pipe = rustix::fs::fstat(&read).unwrap();
        assert!(me.holds(&[(pipe.st_dev, pipe.st_ino)]));
        drop((read, write));
        assert!(!me.holds(&[(pipe.st_dev, pipe.st_ino)]), "it was closed");
    }

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let rest = "S 7 8 9 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        for name in ["sh", "a) R 1 1", "((", "", "x y", ") Z 0 0 0"] {
            let process = Process::parse(&format!("12 ({name}) {rest}\n")).unwrap();
            assert_eq!(process.name, name);
            assert_eq!((process.state, process.start_time), ('S', 4242), "{name}");
            assert_eq!(process.parent, Pid::from_raw(7), "{name}");
            assert_eq!(process.group, Pid::from_raw(8), "{name}");
            assert_eq!(process.session, Pid::from_raw(9), "{name}");
        }
        for wrong in ["", "12", "12 (sh)", "12 (sh) S", "x (sh) S 1 1 1"] {
            assert_eq!(Process::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_list_and_a_single_read_agree_on_this_process() {
        let me = rustix::process::getpid();
        let found = Process::all().unwrap().into_iter().find(|process| process.pid == me).unwrap();
        let again = Process::read(me).unwrap().unwrap();
        assert_eq!((found.start_time, found.parent), (again.start_time, again.parent));
        assert!(!again.has_ended());
    }
}
