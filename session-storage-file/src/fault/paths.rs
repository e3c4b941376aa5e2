//! [`Disk`] for the fault disk: the calls on paths.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use session_core::backend::FileSystem;

use super::file::FaultFile;
use super::fs::{DirNode, FileNode, Ino, Node};
use super::plan::{Call, error};
use super::simulation::{FaultDisk, Simulation};
use crate::disk::{Disk, DiskFile, Identity, Kind, Open};

/// The only device.
pub(super) const DEVICE: u64 = 0xfa;

impl Disk for FaultDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let (mut sim, _) = self.begin(Call::Open, |_| format!("{} {how:?}", path.display()))?;
        let found = match sim.fs.lookup(path) {
            Ok(ino) => Some(ino),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let ino = match (found, how) {
            (Some(_), Open::Create) => return Err(error(Errno::EXIST)),
            (Some(ino), Open::Read | Open::Write | Open::CreateIfAbsent) => {
                sim.fs.file(ino)?;
                ino
            }
            (None, Open::Read | Open::Write) => return Err(error(Errno::NOENT)),
            (None, Open::Create | Open::CreateIfAbsent) => {
                create(&mut sim, path, Node::File(FileNode::default()), "create")?
            }
        };
        let handle = sim.open_handle(ino, self.process_number(), how != Open::Read, path);
        drop(sim);
        Ok(Box::new(FaultFile { disk: self.clone(), handle }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let (mut sim, _) = self.begin(Call::CreateDir, |_| path.display().to_string())?;
        if sim.fs.lookup(path).is_ok() {
            return Err(error(Errno::EXIST));
        }
        create(&mut sim, path, Node::Dir(DirNode::default()), "create_dir").map(drop)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let (mut sim, _) = self.begin(Call::RemoveDir, |_| path.display().to_string())?;
        let ino = sim.fs.lookup(path)?;
        if !sim.fs.dir(ino)?.live.is_empty() {
            return Err(error(Errno::NOTEMPTY));
        }
        let (parent, name) = sim.fs.parent_and_name(path)?;
        sim.fs.set_name(parent, name.into(), None, None)?;
        sim.record_moment(|| format!("remove_dir {}", path.display()));
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let (sim, _) = self.begin(Call::ReadDir, |_| path.display().to_string())?;
        let dir = sim.fs.dir(sim.fs.lookup(path)?)?;
        // In reverse, so that no caller relies on an order.
        Ok(dir.live.keys().rev().map(|name| String::from(&**name)).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let what = || format!("rename {} {}", from.display(), to.display());
        let (mut sim, _) = self.begin(Call::Rename, |_| what())?;
        sim.fs.rename(from, to, true)?;
        sim.record_moment(what);
        Ok(())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let what = || format!("rename_new {} {}", from.display(), to.display());
        let (mut sim, _) = self.begin(Call::RenameNew, |_| what())?;
        sim.fs.rename(from, to, false)?;
        sim.record_moment(what);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let (mut sim, _) = self.begin(Call::RemoveFile, |_| path.display().to_string())?;
        let ino = sim.fs.lookup(path)?;
        sim.fs.file(ino)?;
        let (parent, name) = sim.fs.parent_and_name(path)?;
        sim.fs.set_name(parent, name.into(), None, None)?;
        sim.record_moment(|| format!("remove_file {}", path.display()));
        Ok(())
    }

    /// Flushes a folder. A failed sync of a folder drops nothing: the journal still has the names, and a later
    /// sync includes them.
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let (mut sim, _) = self.begin(Call::SyncDir, |_| path.display().to_string())?;
        let ino = sim.fs.lookup(path)?;
        sim.fs.sync_dir(ino)?;
        sim.record_moment(|| format!("sync_dir {}", path.display()));
        Ok(())
    }

    fn kind(&self, path: &Path) -> io::Result<Option<(Kind, Identity)>> {
        let (sim, _) = self.begin(Call::Kind, |_| path.display().to_string())?;
        let ino = match sim.fs.lookup(path) {
            Ok(ino) => ino,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let inode = sim.fs.inode(ino);
        let kind = match inode.node {
            Node::File(_) => Kind::File,
            Node::Dir(_) => Kind::Dir,
        };
        Ok(Some((kind, Identity { device: DEVICE, inode: inode.number })))
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        let (sim, _) = self.begin(Call::FileSystem, |_| path.display().to_string())?;
        sim.fs.lookup(path)?;
        Ok(FileSystem::Local)
    }

    fn boot(&self) -> io::Result<String> {
        let (sim, _) = self.begin(Call::Boot, |_| String::new())?;
        Ok(format!("boot-{}", sim.fs.boot))
    }
}

fn create(sim: &mut Simulation, path: &Path, node: Node, what: &str) -> io::Result<Ino> {
    let (parent, name) = sim.fs.parent_and_name(path)?;
    sim.room_for_inode()?;
    let ino = sim.fs.create(parent, &Arc::<str>::from(name), node)?;
    sim.record_moment(|| format!("{what} {}", path.display()));
    Ok(ino)
}
