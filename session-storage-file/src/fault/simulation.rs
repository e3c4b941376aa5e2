//! The fault disk: processes, planned faults, recorded states, and direct access to the contents.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::fs::{Fs, INODE_BYTES, Ino, Node, ROOT};
use super::image::Moment;
use super::plan::{AfterFailedSync, Call, Effect, Fault, Plan, error};
use crate::disk::LockMode;

/// An in-memory disk, as one process sees it. Clones are the same process.
#[derive(Clone)]
pub struct FaultDisk {
    pub(super) sim: Arc<Mutex<Simulation>>,
    process: u32,
}

/// The content at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A folder.
    Dir,
    /// A file with these bytes.
    File(Arc<Vec<u8>>),
}

#[derive(Debug)]
pub(super) struct Handle {
    pub(super) ino: Ino,
    pub(super) process: u32,
    pub(super) lock: Option<LockMode>,
    pub(super) writable: bool,
    path: Arc<Path>,
}

#[derive(Debug)]
pub(super) struct Simulation {
    pub(super) fs: Fs,
    pub(super) handles: BTreeMap<u64, Handle>,
    next_handle: u64,
    next_process: u32,
    dead: BTreeSet<u32>,
    plan: Plan,
    calls: u64,
    trace: Option<Vec<String>>,
    moments: Option<Vec<Moment>>,
    pub(super) after_failed_sync: AfterFailedSync,
    capacity: usize,
    violations: Vec<String>,
}

/// The number of bytes that a call may transfer, as planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transfer {
    Full,
    Short,
}

impl fmt::Debug for FaultDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultDisk").field("process", &self.process).finish_non_exhaustive()
    }
}

impl Default for FaultDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl FaultDisk {
    /// Creates an empty disk that has only `/`.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Fs::new())
    }

    pub(super) fn of(fs: Fs) -> Self {
        let sim = Simulation {
            fs,
            handles: BTreeMap::new(),
            next_handle: 0,
            next_process: 0,
            dead: BTreeSet::new(),
            plan: Plan::default(),
            calls: 0,
            trace: None,
            moments: None,
            after_failed_sync: AfterFailedSync::Kept,
            capacity: usize::MAX,
            violations: Vec::new(),
        };
        Self { sim: Arc::new(Mutex::new(sim)), process: 0 }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Simulation> {
        self.sim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts another process on the same disk.
    #[must_use]
    pub fn process(&self) -> Self {
        let mut sim = self.lock();
        sim.next_process += 1;
        Self { sim: Arc::clone(&self.sim), process: sim.next_process }
    }

    /// Returns the number that a [`Fault`] uses for this process.
    #[must_use]
    pub const fn process_number(&self) -> u32 {
        self.process
    }

    /// Kills this process like `kill -9`: its files are closed, its locks released, and all its later calls
    /// fail.
    pub fn kill(&self) {
        self.lock().kill(self.process);
    }

    /// Returns `true` if this process was killed, by [`kill`](Self::kill) or by a fault.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.lock().dead.contains(&self.process)
    }

    /// Adds a fault to the plan.
    pub fn inject(&self, fault: Fault) {
        self.lock().plan.add(fault);
    }

    /// Removes all faults that are still to come.
    pub fn clear_faults(&self) {
        self.lock().plan.clear();
    }

    /// Returns the number of faults that were triggered.
    #[must_use]
    pub fn triggered_faults(&self) -> u64 {
        self.lock().plan.triggered_faults
    }

    /// Sets the content of a file after a failed sync.
    pub fn after_failed_sync(&self, content: AfterFailedSync) {
        self.lock().after_failed_sync = content;
    }

    /// Makes all folders that exist now those of a lower layer, as on overlayfs: they can be changed, but not renamed.
    pub fn make_lower_layer(&self) {
        let mut sim = self.lock();
        sim.fs.lower_layer = sim.fs.inodes.len();
    }

    /// Sets the capacity of the disk: bytes in files, and 256 for each file or folder.
    pub fn set_capacity(&self, bytes: usize) {
        self.lock().capacity = bytes;
    }

    /// Returns the used capacity, in the unit of [`set_capacity`](Self::set_capacity).
    #[must_use]
    pub fn used(&self) -> usize {
        self.lock().fs.used
    }

    /// Returns the number of calls, including failed ones.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Starts to trace every call, for failure messages.
    pub fn start_trace(&self) {
        self.lock().trace = Some(Vec::new());
    }

    /// Returns the calls traced since [`start_trace`](Self::start_trace).
    #[must_use]
    pub fn trace_lines(&self) -> Vec<String> {
        self.lock().trace.clone().unwrap_or_default()
    }

    /// Starts to record the state after every call that changes it, beginning with the current one.
    pub fn start_recording(&self) {
        let mut sim = self.lock();
        sim.moments = Some(Vec::new());
        sim.record_moment(|| "the beginning".to_owned());
    }

    /// Returns the recorded states.
    #[must_use]
    pub fn moments(&self) -> Vec<Moment> {
        self.lock().moments.clone().unwrap_or_default()
    }

    /// Returns the index of the current state in [`moments`](Self::moments).
    #[must_use]
    pub fn moment_index(&self) -> usize {
        self.lock().moments.as_ref().map_or(0, |moments| moments.len().saturating_sub(1))
    }

    /// Returns the current state.
    #[must_use]
    pub fn now(&self) -> Moment {
        let sim = self.lock();
        Moment::new(&sim.fs, "now".to_owned())
    }

    /// Returns the number of open files in all processes.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.lock().handles.len()
    }

    /// Returns the paths of the open files in all processes.
    #[must_use]
    pub fn open_paths(&self) -> Vec<PathBuf> {
        self.lock().handles.values().map(|handle| handle.path.to_path_buf()).collect()
    }

    /// Returns the forbidden calls that were made: a file whose sync failed was synced again, or written.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// Returns all current contents by path, without `/`.
    #[must_use]
    pub fn tree(&self) -> BTreeMap<PathBuf, Content> {
        let sim = self.lock();
        let mut found = BTreeMap::new();
        let mut todo = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, ino)) = todo.pop() {
            match &sim.fs.inode(ino).node {
                Node::File(file) => {
                    found.insert(path, Content::File(Arc::clone(&file.live)));
                }
                Node::Dir(dir) => {
                    todo.extend(dir.live.iter().map(|(name, ino)| (path.join(&**name), *ino)));
                    if ino != ROOT {
                        found.insert(path, Content::Dir);
                    }
                }
            }
        }
        found
    }

    /// Changes a file's bytes directly and durably, like a failing disk or a person would.
    ///
    /// # Errors
    /// Fails if the file does not exist.
    pub fn edit(&self, path: &Path, edit: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut sim = self.lock();
        let ino = sim.fs.lookup(path)?;
        let before = sim.fs.file(ino)?.live.len();
        let file = sim.fs.file_mut(ino)?;
        let mut bytes = Vec::clone(&file.live);
        edit(&mut bytes);
        let after = bytes.len();
        file.live = Arc::new(bytes);
        file.durable = Arc::clone(&file.live);
        file.pending.clear();
        sim.fs.used = sim.fs.used + after - before;
        Ok(())
    }
}

impl FaultDisk {
    /// Starts a call: counts it, consults the plan, and locks the simulation.
    pub(super) fn begin(
        &self,
        call: Call,
        what: impl FnOnce(&Simulation) -> String,
    ) -> io::Result<(MutexGuard<'_, Simulation>, Transfer)> {
        let mut sim = self.lock();
        let transfer = sim.begin(self.process, call, what)?;
        Ok((sim, transfer))
    }
}

impl Simulation {
    pub(super) fn begin(
        &mut self,
        process: u32,
        call: Call,
        what: impl FnOnce(&Self) -> String,
    ) -> io::Result<Transfer> {
        if self.dead.contains(&process) {
            return Err(io::Error::other("this process is dead"));
        }
        self.calls += 1;
        let effect = self.plan.trigger(call, process);
        if self.trace.is_some() {
            let line = format!("{}: process {process}: {call:?} {} {effect:?}", self.calls, what(self));
            if let Some(trace) = &mut self.trace {
                trace.push(line);
            }
        }
        match effect {
            None => Ok(Transfer::Full),
            Some(Effect::Short) => Ok(Transfer::Short),
            Some(Effect::Error(errno)) => Err(error(errno)),
            Some(Effect::Death) => {
                self.kill(process);
                Err(io::Error::other("this process is dead"))
            }
        }
    }

    /// Records the state, if recording has started.
    pub(super) fn record_moment(&mut self, what: impl FnOnce() -> String) {
        if let Some(moments) = &mut self.moments {
            moments.push(Moment::new(&self.fs, what()));
        }
    }

    pub(super) fn open_handle(&mut self, ino: Ino, process: u32, writable: bool, path: &Path) -> u64 {
        self.fs.add_handle(ino);
        self.next_handle += 1;
        self.handles
            .insert(self.next_handle, Handle { ino, process, lock: None, writable, path: path.into() });
        self.next_handle
    }

    pub(super) fn handle(&self, number: u64) -> io::Result<&Handle> {
        self.handles.get(&number).ok_or(error(Errno::BADF))
    }

    pub(super) fn name(&self, number: u64) -> String {
        self.handles.get(&number).map_or_else(|| "?".to_owned(), |handle| handle.path.display().to_string())
    }

    pub(super) fn close(&mut self, number: u64) {
        if let Some(handle) = self.handles.remove(&number) {
            self.fs.release_handle(handle.ino);
        }
    }

    fn kill(&mut self, process: u32) {
        self.dead.insert(process);
        let open: Vec<u64> =
            self.handles.iter().filter(|(_, handle)| handle.process == process).map(|(n, _)| *n).collect();
        for number in open {
            self.close(number);
        }
    }

    pub(super) fn violation(&mut self, process: u32, change: &str, number: u64) {
        let name = self.name(number);
        self.violations.push(format!("process {process} {change} {name} after a sync of it had failed"));
    }

    /// Returns the part of `wanted` more bytes that fits the capacity.
    pub(super) fn room(&self, wanted: usize) -> usize {
        wanted.min(self.capacity.saturating_sub(self.fs.used))
    }

    pub(super) fn room_for_inode(&self) -> io::Result<()> {
        if self.room(INODE_BYTES) < INODE_BYTES { Err(error(Errno::NOSPC)) } else { Ok(()) }
    }
}
