//! The seam's calls on open files.

use std::io;

use rustix::io::Errno;

use super::calls::DEVICE;
use super::fs::{FileChange, Ino};
use super::plan::{AfterFailedSync, Call, error};
use super::world::{FaultDisk, Go, World};
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
    fn what(&self) -> impl FnOnce(&World) -> String {
        let handle = self.handle;
        move |world| world.name(handle)
    }

    fn moves(&self, offset: u64, len: usize) -> impl FnOnce(&World) -> String {
        let handle = self.handle;
        move |world| format!("{} {len} at {offset}", world.name(handle))
    }

    /// The inode, for a call that changes it.
    fn to_write(&self, world: &mut World, what: &str) -> io::Result<Ino> {
        let handle = world.handle(self.handle)?;
        if !handle.writable {
            return Err(error(Errno::BADF));
        }
        let ino = handle.ino;
        if world.fs.file(ino)?.sync_failed {
            world.violation(self.disk.process_number(), what, self.handle);
        }
        Ok(ino)
    }
}

fn index(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(|_| error(Errno::FBIG))
}

impl DiskFile for FaultFile {
    fn identity(&self) -> io::Result<Identity> {
        let (world, _) = self.disk.begin(Call::Identity, self.what())?;
        let ino = world.handle(self.handle)?.ino;
        Ok(Identity { device: DEVICE, inode: world.fs.inode(ino).number })
    }

    fn len(&self) -> io::Result<u64> {
        let (world, _) = self.disk.begin(Call::Len, self.what())?;
        let ino = world.handle(self.handle)?.ino;
        Ok(world.fs.file(ino)?.live.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (world, go) = self.disk.begin(Call::ReadAt, self.moves(offset, buffer.len()))?;
        let ino = world.handle(self.handle)?.ino;
        let live = &world.fs.file(ino)?.live;
        let rest = live.get(index(offset)?..).unwrap_or_default();
        let mut len = rest.len().min(buffer.len());
        if go == Go::Short && len > 1 {
            len /= 2;
        }
        for (to, from) in buffer.iter_mut().zip(rest.iter().take(len)) {
            *to = *from;
        }
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let (mut world, go) = self.disk.begin(Call::WriteAt, self.moves(offset, bytes.len()))?;
        let ino = self.to_write(&mut world, "wrote to")?;
        let offset = index(offset)?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let mut len = bytes.len();
        if go == Go::Short && len > 1 {
            len /= 2;
        }
        let old = world.fs.file(ino)?.live.len();
        let grows = (offset + len).saturating_sub(old);
        let missing = grows - world.room(grows);
        if missing >= len {
            return Err(error(Errno::NOSPC));
        }
        len -= missing;
        world.fs.write(ino, bytes.get(..len).unwrap_or_default(), offset)?;
        let name = world.name(self.handle);
        world.changed(|| format!("write {name} {len} at {offset}"));
        Ok(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut world, _) = self.disk.begin(Call::SetLen, self.moves(len, 0))?;
        let ino = self.to_write(&mut world, "changed the length of")?;
        let len = index(len)?;
        let grows = len.saturating_sub(world.fs.file(ino)?.live.len());
        if world.room(grows) < grows {
            return Err(error(Errno::NOSPC));
        }
        world.fs.change(ino, FileChange::SetLen(len))?;
        let name = world.name(self.handle);
        world.changed(|| format!("set_len {name} {len}"));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        match self.disk.begin(Call::Sync, self.what()) {
            Ok((mut world, _)) => {
                let ino = world.handle(self.handle)?.ino;
                if world.fs.file(ino)?.sync_failed {
                    world.violation(self.disk.process_number(), "synced", self.handle);
                }
                world.fs.sync_file(ino)?;
                let name = world.name(self.handle);
                world.changed(|| format!("sync {name}"));
                Ok(())
            }
            Err(error) => {
                let mut world = self.disk.lock();
                let drop = world.after_failed_sync == AfterFailedSync::Dropped;
                // A process that died before the call has no handle any more, and synced nothing.
                if let Ok(ino) = world.handle(self.handle).map(|handle| handle.ino) {
                    if world.fs.file(ino)?.sync_failed {
                        world.violation(self.disk.process_number(), "synced", self.handle);
                    }
                    world.fs.fail_sync(ino, drop)?;
                    let name = world.name(self.handle);
                    world.changed(|| format!("failed sync {name}"));
                }
                Err(error)
            }
        }
    }

    /// As flock(2): one lock for each open file, whoever holds it; taking it again changes its mode.
    fn try_lock(&self, mode: LockMode) -> io::Result<bool> {
        let (mut world, _) = self.disk.begin(Call::TryLock, self.what())?;
        let ino = world.handle(self.handle)?.ino;
        let in_the_way = world.handles.iter().any(|(number, other)| {
            *number != self.handle
                && other.ino == ino
                && other.lock.is_some_and(|held| held == LockMode::Exclusive || mode == LockMode::Exclusive)
        });
        if let Some(handle) = world.handles.get_mut(&self.handle)
            && !in_the_way
        {
            handle.lock = Some(mode);
        }
        Ok(!in_the_way)
    }

    fn unlock(&self) -> io::Result<()> {
        let (mut world, _) = self.disk.begin(Call::Unlock, self.what())?;
        if let Some(handle) = world.handles.get_mut(&self.handle) {
            handle.lock = None;
        }
        Ok(())
    }
}
