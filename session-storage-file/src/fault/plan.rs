//! The fault plan: the calls that fail, and their errors.

use std::io;

use rustix::io::Errno;

/// A call of [`Disk`](crate::Disk) or [`DiskFile`](crate::DiskFile).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is the method with this name")]
pub enum Call {
    Open,
    CreateDir,
    RemoveDir,
    ReadDir,
    Rename,
    RenameNew,
    RemoveFile,
    SyncDir,
    Kind,
    FileSystem,
    Boot,
    Identity,
    Len,
    ReadAt,
    WriteAt,
    SetLen,
    Sync,
    TryLock,
    Unlock,
}

/// The effect of a fault on a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// The call fails with this error and has no effect. A failed sync of a file has one: see
    /// [`AfterFailedSync`].
    Error(Errno),
    /// A read or write transfers about half of the bytes. Other calls are not affected.
    Short,
    /// The process dies before the call: its files are closed, its locks released, and all its later calls
    /// fail.
    Death,
}

impl Effect {
    /// The usual errors of a disk, and a short transfer.
    pub const ALL: [Self; 6] = [
        Self::Error(Errno::IO),
        Self::Error(Errno::NOSPC),
        Self::Error(Errno::ACCESS),
        Self::Error(Errno::MFILE),
        Self::Error(Errno::INTR),
        Self::Short,
    ];
}

/// A planned failure of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The number of matching calls that succeed first.
    pub after: u64,
    /// The kind of call that matches; any kind if `None`.
    pub call: Option<Call>,
    /// The process whose calls match, see [`FaultDisk::process`](super::FaultDisk::process); any process if
    /// `None`.
    pub process: Option<u32>,
    /// The effect on the call.
    pub effect: Effect,
    /// `true` if the fault affects every matching call from then on, not only one.
    pub persistent: bool,
}

impl Fault {
    /// Creates a fault that affects one call of any kind and process, after this many that succeed.
    #[must_use]
    pub const fn nth(after: u64, effect: Effect) -> Self {
        Self { after, call: None, process: None, effect, persistent: false }
    }

    /// Limits the fault to calls of this kind.
    #[must_use]
    pub const fn on(mut self, call: Call) -> Self {
        self.call = Some(call);
        self
    }

    /// Limits the fault to calls of this process.
    #[must_use]
    pub const fn in_process(mut self, process: u32) -> Self {
        self.process = Some(process);
        self
    }

    /// Extends the fault to every matching call from then on.
    #[must_use]
    pub const fn persistent(mut self) -> Self {
        self.persistent = true;
        self
    }

    const fn matches(&self, call: Call, process: u32) -> bool {
        let kind = match self.call {
            Some(wanted) => wanted as u8 == call as u8,
            None => true,
        };
        let process = match self.process {
            Some(wanted) => wanted == process,
            None => true,
        };
        let moves_bytes = matches!(call, Call::ReadAt | Call::WriteAt);
        kind && process && (moves_bytes || !matches!(self.effect, Effect::Short))
    }
}

/// The content of a file after a failed sync. Linux keeps the pages and marks them clean; other systems, and
/// Linux once the pages were evicted, return what is on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AfterFailedSync {
    /// Reads still return what was written.
    #[default]
    Kept,
    /// Reads return what was last synced.
    Dropped,
}

/// The faults to come, and the number of those that were triggered.
#[derive(Debug, Default)]
pub(super) struct Plan {
    faults: Vec<Fault>,
    pub(super) triggered_faults: u64,
}

impl Plan {
    pub(super) fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.faults.clear();
    }

    /// Returns the effect on this call, if a fault matches.
    pub(super) fn trigger(&mut self, call: Call, process: u32) -> Option<Effect> {
        let mut hit = None;
        self.faults.retain_mut(|fault| {
            if hit.is_some() || !fault.matches(call, process) {
                return true;
            }
            if fault.after > 0 {
                fault.after -= 1;
                return true;
            }
            hit = Some(fault.effect);
            fault.persistent
        });
        self.triggered_faults += u64::from(hit.is_some());
        hit
    }
}

pub(super) fn error(errno: Errno) -> io::Error {
    errno.into()
}
