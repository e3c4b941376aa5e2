//! Which call fails, and how.

use std::io;

use rustix::io::Errno;

/// A call of the seam.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is the call of the seam with this name")]
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

/// What happens instead of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// It fails with this error, and does nothing else. A failed sync of a file does more: see [`AfterFailedSync`].
    Error(Errno),
    /// A read or write moves about half of the bytes. Other calls are not touched by it.
    Short,
    /// The process dies before the call: its files are closed, its locks released, all its later calls fail.
    Death,
}

impl Effect {
    /// The errors that a disk gives, and a short transfer.
    pub const ALL: [Self; 6] = [
        Self::Error(Errno::IO),
        Self::Error(Errno::NOSPC),
        Self::Error(Errno::ACCESS),
        Self::Error(Errno::MFILE),
        Self::Error(Errno::INTR),
        Self::Short,
    ];
}

/// A call that will not go as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// How many calls that the fault could strike go well first.
    pub after: u64,
    /// Only calls of this kind, if one is named.
    pub call: Option<Call>,
    /// Only calls of this process, if one is named; see [`FaultDisk::process`](super::FaultDisk::process).
    pub process: Option<u32>,
    /// What happens.
    pub effect: Effect,
    /// Whether it happens to every call from then on, not to one alone.
    pub persistent: bool,
}

impl Fault {
    /// Strikes one call of any kind and process, after this many that go well.
    #[must_use]
    pub const fn nth(after: u64, effect: Effect) -> Self {
        Self { after, call: None, process: None, effect, persistent: false }
    }

    /// Strikes only calls of this kind.
    #[must_use]
    pub const fn on(mut self, call: Call) -> Self {
        self.call = Some(call);
        self
    }

    /// Strikes only calls of this process.
    #[must_use]
    pub const fn in_process(mut self, process: u32) -> Self {
        self.process = Some(process);
        self
    }

    /// Strikes every such call from then on.
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

/// What a file holds after its sync failed. Linux keeps the pages and calls them clean; other systems, and Linux once
/// the pages were evicted, show what the disk has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AfterFailedSync {
    /// Reads still see what was written.
    #[default]
    Kept,
    /// Reads see what was last synced.
    Dropped,
}

/// The faults to come, and how many have struck.
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

    /// What happens to this call, if anything.
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
