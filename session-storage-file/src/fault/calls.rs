//! The seam's calls on paths.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use session_core::FileSystem;

use super::file::FaultFile;
use super::fs::{DirNode, FileNode, Ino, Node};
use super::plan::{Call, error};
use super::world::{FaultDisk, World};
use crate::disk::{Disk, DiskFile, Identity, Kind, Open};

/// The one device that there is.
pub(super) const DEVICE: u64 = 0xfa;

impl Disk for FaultDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let (mut world, _) = self.begin(Call::Open, |_| format!("{} {how:?}", path.display()))?;
        let found = match world.fs.lookup(path) {
            Ok(ino) => Some(ino),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let ino = match (found, how) {
            (Some(_), Open::Create) => return Err(error(Errno::EXIST)),
            (Some(ino), Open::Read | Open::Write | Open::CreateIfAbsent) => {
                world.fs.file(ino)?;
                ino
            }
            (None, Open::Read | Open::Write) => return Err(error(Errno::NOENT)),
            (None, Open::Create | Open::CreateIfAbsent) => {
                make(&mut world, path, Node::File(FileNode::default()), "create")?
            }
        };
        let handle = world.opened(ino, self.process_number(), how != Open::Read, path);
        drop(world);
        Ok(Box::new(FaultFile { disk: self.clone(), handle }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let (mut world, _) = self.begin(Call::CreateDir, |_| path.display().to_string())?;
        if world.fs.lookup(path).is_ok() {
            return Err(error(Errno::EXIST));
        }
        make(&mut world, path, Node::Dir(DirNode::default()), "create_dir").map(drop)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let (mut world, _) = self.begin(Call::RemoveDir, |_| path.display().to_string())?;
        let ino = world.fs.lookup(path)?;
        if !world.fs.dir(ino)?.live.is_empty() {
            return Err(error(Errno::NOTEMPTY));
        }
        let (parent, name) = world.fs.place(path)?;
        world.fs.set_name(parent, name.into(), None, None)?;
        world.changed(|| format!("remove_dir {}", path.display()));
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let (world, _) = self.begin(Call::ReadDir, |_| path.display().to_string())?;
        let dir = world.fs.dir(world.fs.lookup(path)?)?;
        // Backwards, so that nobody counts on an order.
        Ok(dir.live.keys().rev().map(|name| String::from(&**name)).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let what = || format!("rename {} {}", from.display(), to.display());
        let (mut world, _) = self.begin(Call::Rename, |_| what())?;
        world.fs.rename(from, to, true)?;
        world.changed(what);
        Ok(())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let what = || format!("rename_new {} {}", from.display(), to.display());
        let (mut world, _) = self.begin(Call::RenameNew, |_| what())?;
        world.fs.rename(from, to, false)?;
        world.changed(what);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let (mut world, _) = self.begin(Call::RemoveFile, |_| path.display().to_string())?;
        let ino = world.fs.lookup(path)?;
        world.fs.file(ino)?;
        let (parent, name) = world.fs.place(path)?;
        world.fs.set_name(parent, name.into(), None, None)?;
        world.changed(|| format!("remove_file {}", path.display()));
        Ok(())
    }

    /// A failed sync of a folder forgets nothing: the journal still holds the names, and a later sync takes them along.
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let (mut world, _) = self.begin(Call::SyncDir, |_| path.display().to_string())?;
        let ino = world.fs.lookup(path)?;
        world.fs.sync_dir(ino)?;
        world.changed(|| format!("sync_dir {}", path.display()));
        Ok(())
    }

    fn kind(&self, path: &Path) -> io::Result<Option<(Kind, Identity)>> {
        let (world, _) = self.begin(Call::Kind, |_| path.display().to_string())?;
        let ino = match world.fs.lookup(path) {
            Ok(ino) => ino,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let inode = world.fs.inode(ino);
        let kind = match inode.node {
            Node::File(_) => Kind::File,
            Node::Dir(_) => Kind::Dir,
        };
        Ok(Some((kind, Identity { device: DEVICE, inode: inode.number })))
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        let (world, _) = self.begin(Call::FileSystem, |_| path.display().to_string())?;
        world.fs.lookup(path)?;
        Ok(FileSystem::Local)
    }

    fn boot(&self) -> io::Result<String> {
        let (world, _) = self.begin(Call::Boot, |_| String::new())?;
        Ok(format!("boot-{}", world.fs.boot))
    }
}

fn make(world: &mut World, path: &Path, node: Node, what: &str) -> io::Result<Ino> {
    let (parent, name) = world.fs.place(path)?;
    world.room_for_inode()?;
    let ino = world.fs.make(parent, &Arc::<str>::from(name), node)?;
    world.changed(|| format!("{what} {}", path.display()));
    Ok(ino)
}
