//! [`DiskFile`] for the fault disk: the calls on open files.

use std::io;

use rustix::io::Errno;

use super::fs::{FileChange, Ino};
use super::paths::DEVICE;
use super::plan::{AfterFailedSync, Call, error};
use super::simulation::{FaultDisk, Simulation, Transfer};
use crate::disk::{DiskFile, Identity, LockMode};

#[derive(Debug)]
pub(super) struct FaultFile {
    pub(super) disk: FaultDisk,
    pub(super) handle: u64,
}

impl Drop for FaultFile {
    fn drop(&mut self) {
        self.disk.lock().close(self.handle);
    }
}

impl FaultFile {
    fn description(&self) -> impl FnOnce(&Simulation) -> String {
        let handle = self.handle;
        move |sim| sim.name(handle)
    }

    fn transfer_description(&self, offset: u64, len: usize) -> impl FnOnce(&Simulation) -> String {
        let handle = self.handle;
        move |sim| format!("{} {len} at {offset}", sim.name(handle))
    }

    /// Returns the inode for a call that changes it.
    fn writable_inode(&self, sim: &mut Simulation, change: &str) -> io::Result<Ino> {
        let handle = sim.handle(self.handle)?;
        if !handle.writable {
            return Err(error(Errno::BADF));
        }
        let ino = handle.ino;
        if sim.fs.file(ino)?.sync_failed {
            sim.violation(self.disk.process_number(), change, self.handle);
        }
        Ok(ino)
    }
}

fn index(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(|_| error(Errno::FBIG))
}

impl DiskFile for FaultFile {
    fn identity(&self) -> io::Result<Identity> {
        let (sim, _) = self.disk.begin(Call::Identity, self.description())?;
        let ino = sim.handle(self.handle)?.ino;
        Ok(Identity { device: DEVICE, inode: sim.fs.inode(ino).number })
    }

    fn len(&self) -> io::Result<u64> {
        let (sim, _) = self.disk.begin(Call::Len, self.description())?;
        let ino = sim.handle(self.handle)?.ino;
        Ok(sim.fs.file(ino)?.live.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (sim, transfer) =
            self.disk.begin(Call::ReadAt, self.transfer_description(offset, buffer.len()))?;
        let ino = sim.handle(self.handle)?.ino;
        let live = &sim.fs.file(ino)?.live;
        let rest = live.get(index(offset)?..).unwrap_or_default();
        let mut len = rest.len().min(buffer.len());
        if transfer == Transfer::Short && len > 1 {
            len /= 2;
        }
        for (to, from) in buffer.iter_mut().zip(rest.iter().take(len)) {
            *to = *from;
        }
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let (mut sim, transfer) =
            self.disk.begin(Call::WriteAt, self.transfer_description(offset, bytes.len()))?;
        let ino = self.writable_inode(&mut sim, "wrote to")?;
        let offset = index(offset)?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let mut len = bytes.len();
        if transfer == Transfer::Short && len > 1 {
            len /= 2;
        }
        let old = sim.fs.file(ino)?.live.len();
        let grows = (offset + len).saturating_sub(old);
        let missing = grows - sim.room(grows);
        if missing >= len {
            return Err(error(Errno::NOSPC));
        }
        len -= missing;
        sim.fs.write(ino, bytes.get(..len).unwrap_or_default(), offset)?;
        let name = sim.name(self.handle);
        sim.record_moment(|| format!("write {name} {len} at {offset}"));
        Ok(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut sim, _) = self.disk.begin(Call::SetLen, self.transfer_description(len, 0))?;
        let ino = self.writable_inode(&mut sim, "changed the length of")?;
        let len = index(len)?;
        let grows = len.saturating_sub(sim.fs.file(ino)?.live.len());
        if sim.room(grows) < grows {
            return Err(error(Errno::NOSPC));
        }
        sim.fs.change(ino, FileChange::SetLen(len))?;
        let name = sim.name(self.handle);
        sim.record_moment(|| format!("set_len {name} {len}"));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        match self.disk.begin(Call::Sync, self.description()) {
            Ok((mut sim, _)) => {
                let ino = sim.handle(self.handle)?.ino;
                if sim.fs.file(ino)?.sync_failed {
                    sim.violation(self.disk.process_number(), "synced", self.handle);
                }
                sim.fs.sync_file(ino)?;
                let name = sim.name(self.handle);
                sim.record_moment(|| format!("sync {name}"));
                Ok(())
            }
            Err(error) => {
                let mut sim = self.disk.lock();
                let drop = sim.after_failed_sync == AfterFailedSync::Dropped;
                // A process that died before the call has no handle any more and synced nothing.
                if let Ok(ino) = sim.handle(self.handle).map(|handle| handle.ino) {
                    if sim.fs.file(ino)?.sync_failed {
                        sim.violation(self.disk.process_number(), "synced", self.handle);
                    }
                    sim.fs.fail_sync(ino, drop)?;
                    let name = sim.name(self.handle);
                    sim.record_moment(|| format!("failed sync {name}"));
                }
                Err(error)
            }
        }
    }

    /// Takes the lock like flock(2): one lock for each open file, independent of the process; taking it again
    /// changes its mode.
    fn try_lock(&self, mode: LockMode) -> io::Result<bool> {
        let (mut sim, _) = self.disk.begin(Call::TryLock, self.description())?;
        let ino = sim.handle(self.handle)?.ino;
        let blocked = sim.handles.iter().any(|(number, other)| {
            *number != self.handle
                && other.ino == ino
                && other.lock.is_some_and(|held| held == LockMode::Exclusive || mode == LockMode::Exclusive)
        });
        if let Some(handle) = sim.handles.get_mut(&self.handle)
            && !blocked
        {
            handle.lock = Some(mode);
        }
        Ok(!blocked)
    }

    fn unlock(&self) -> io::Result<()> {
        let (mut sim, _) = self.disk.begin(Call::Unlock, self.description())?;
        if let Some(handle) = sim.handles.get_mut(&self.handle) {
            handle.lock = None;
        }
        Ok(())
    }
}
