//! The disk as tests hold it: processes, the faults to come, what was recorded, and a look past the seam.

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

/// A disk in memory, as one process sees it. Clones are the same process.
#[derive(Clone)]
pub struct FaultDisk {
    pub(super) sim: Arc<Mutex<Simulation>>,
    process: u32,
}

/// What stands at a path.
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

/// How a call goes on after the plan was asked.
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
    /// An empty disk: `/` and nothing else.
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

    /// The same disk, as another process sees it.
    #[must_use]
    pub fn process(&self) -> Self {
        let mut sim = self.lock();
        sim.next_process += 1;
        Self { sim: Arc::clone(&self.sim), process: sim.next_process }
    }

    /// The number by which a [`Fault`] names this process.
    #[must_use]
    pub const fn process_number(&self) -> u32 {
        self.process
    }

    /// Ends this process as `kill -9` would: its files are closed, its locks released, all its later calls fail.
    pub fn kill(&self) {
        self.lock().kill(self.process);
    }

    /// Whether this process was killed, by [`kill`](Self::kill) or by a fault.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.lock().dead.contains(&self.process)
    }

    /// Plans a fault.
    pub fn inject(&self, fault: Fault) {
        self.lock().plan.add(fault);
    }

    /// Forgets all faults that are still to come.
    pub fn clear_faults(&self) {
        self.lock().plan.clear();
    }

    /// How many faults have struck.
    #[must_use]
    pub fn triggered_faults(&self) -> u64 {
        self.lock().plan.triggered_faults
    }

    /// What a file holds after its sync failed.
    pub fn after_failed_sync(&self, what: AfterFailedSync) {
        self.lock().after_failed_sync = what;
    }

    /// The most that the disk can hold: bytes in files, and 256 for each file or folder.
    pub fn set_capacity(&self, bytes: usize) {
        self.lock().capacity = bytes;
    }

    /// What the disk holds, counted as [`set_capacity`](Self::set_capacity) does.
    #[must_use]
    pub fn used(&self) -> usize {
        self.lock().fs.used
    }

    /// How many calls were made, failed ones included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Starts to write down every call, for a person who reads a failure.
    pub fn start_trace(&self) {
        self.lock().trace = Some(Vec::new());
    }

    /// What was written down since [`start_trace`](Self::start_trace).
    #[must_use]
    pub fn trace_lines(&self) -> Vec<String> {
        self.lock().trace.clone().unwrap_or_default()
    }

    /// Starts to keep the state after every call that changes it, the present one first.
    pub fn start_recording(&self) {
        let mut sim = self.lock();
        sim.moments = Some(Vec::new());
        sim.record_moment(|| "the beginning".to_owned());
    }

    /// The states that were kept.
    #[must_use]
    pub fn moments(&self) -> Vec<Moment> {
        self.lock().moments.clone().unwrap_or_default()
    }

    /// The index of the present state in [`moments`](Self::moments).
    #[must_use]
    pub fn moment_index(&self) -> usize {
        self.lock().moments.as_ref().map_or(0, |moments| moments.len().saturating_sub(1))
    }

    /// The present state.
    #[must_use]
    pub fn now(&self) -> Moment {
        let sim = self.lock();
        Moment::new(&sim.fs, "now".to_owned())
    }

    /// How many files are open, in all processes.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.lock().handles.len()
    }

    /// The paths of the files that are open, in all processes.
    #[must_use]
    pub fn open_paths(&self) -> Vec<PathBuf> {
        self.lock().handles.values().map(|handle| handle.path.to_path_buf()).collect()
    }

    /// What no program may do: a file whose sync failed was synced again, or written on.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// All that is there now, by path, `/` left out.
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

    /// Changes a file's bytes behind everyone's back, as a bad disk or a person would, and for good.
    ///
    /// # Errors
    /// Where there is no such file.
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
    /// Where each call begins: counts it, asks the plan, and hands out the world.
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

    /// Keeps the state, if states are kept.
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

    pub(super) fn violation(&mut self, process: u32, what: &str, number: u64) {
        let name = self.name(number);
        self.violations.push(format!("process {process} {what} {name} after a sync of it had failed"));
    }

    /// How many of `wanted` more bytes there is room for.
    pub(super) fn room(&self, wanted: usize) -> usize {
        wanted.min(self.capacity.saturating_sub(self.fs.used))
    }

    pub(super) fn room_for_inode(&self) -> io::Result<()> {
        if self.room(INODE_BYTES) < INODE_BYTES { Err(error(Errno::NOSPC)) } else { Ok(()) }
    }
}
