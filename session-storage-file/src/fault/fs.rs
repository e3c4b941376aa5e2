//! The simulated file system: inodes separate from names, and live contents next to those that would survive a
//! power cut. Cheap to copy, so that the state after every call can be kept. Faults, processes and locks are
//! not here.

#![expect(
    clippy::indexing_slicing,
    reason = "an `Ino` is an index that this module issued, and the table never shrinks"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use rustix::io::Errno;

use super::plan::error;

/// The index of an inode in the table.
pub(super) type Ino = usize;
pub(super) type Names = BTreeMap<Arc<str>, Ino>;

pub(super) const ROOT: Ino = 0;

/// An unsynced change of a file.
#[derive(Debug, Clone)]
pub(super) enum FileChange {
    Write { offset: usize, bytes: Arc<[u8]> },
    SetLen(usize),
}

#[derive(Debug, Clone)]
pub(super) struct PendingChange {
    pub(super) change: FileChange,
    /// `true` if a sync of it failed: it may have reached the disk, and no later sync will write it.
    pub(super) lost: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct FileNode {
    pub(super) live: Arc<Vec<u8>>,
    pub(super) durable: Arc<Vec<u8>>,
    pub(super) pending: Vec<PendingChange>,
    pub(super) sync_failed: bool,
}

/// An unsynced change of a folder. `None` removes the name.
#[derive(Debug, Clone)]
pub(super) struct NameChange {
    pub(super) name: Arc<str>,
    pub(super) to: Option<Ino>,
    /// The number of the rename, the same for both of its halves.
    pub(super) rename: Option<u64>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct DirNode {
    pub(super) live: Arc<Names>,
    pub(super) durable: Arc<Names>,
    pub(super) pending: Vec<NameChange>,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Debug, Clone)]
pub(super) struct Inode {
    /// The inode number that callers see. It is reused once the inode has neither names nor handles, as in real
    /// file systems.
    pub(super) number: u64,
    pub(super) node: Node,
}

/// The reference counts of an inode.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Uses {
    pub(super) names: u32,
    pub(super) handles: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Fs {
    pub(super) inodes: Vec<Arc<Inode>>,
    pub(super) uses: Vec<Uses>,
    pub(super) free_numbers: BTreeSet<u64>,
    pub(super) next_number: u64,
    pub(super) next_rename: u64,
    /// Renames of which only one half was synced.
    pub(super) half_synced: BTreeSet<u64>,
    /// The used capacity: bytes in files, and a fixed amount for each inode.
    pub(super) used: usize,
    /// The number of the current boot.
    pub(super) boot: u64,
    /// Folders before this place are of a lower layer: they cannot be renamed.
    pub(super) lower_layer: Ino,
}

/// The capacity that each inode uses, in bytes.
pub(super) const INODE_BYTES: usize = 256;

impl Fs {
    pub(super) fn new() -> Self {
        let root = Inode { number: 2, node: Node::Dir(DirNode::default()) };
        Self {
            inodes: vec![Arc::new(root)],
            uses: vec![Uses { names: 1, handles: 0 }],
            free_numbers: BTreeSet::new(),
            next_number: 11,
            next_rename: 0,
            half_synced: BTreeSet::new(),
            used: 0,
            boot: 1,
            lower_layer: 0,
        }
    }

    pub(super) fn inode(&self, ino: Ino) -> &Inode {
        &self.inodes[ino]
    }

    pub(super) fn dir(&self, ino: Ino) -> io::Result<&DirNode> {
        match &self.inodes[ino].node {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(error(Errno::NOTDIR)),
        }
    }

    pub(super) fn file(&self, ino: Ino) -> io::Result<&FileNode> {
        match &self.inodes[ino].node {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(error(Errno::ISDIR)),
        }
    }

    pub(super) fn dir_mut(&mut self, ino: Ino) -> io::Result<&mut DirNode> {
        match &mut Arc::make_mut(&mut self.inodes[ino]).node {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(error(Errno::NOTDIR)),
        }
    }

    pub(super) fn file_mut(&mut self, ino: Ino) -> io::Result<&mut FileNode> {
        match &mut Arc::make_mut(&mut self.inodes[ino]).node {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(error(Errno::ISDIR)),
        }
    }

    /// Returns the inode that a path names now.
    pub(super) fn lookup(&self, path: &Path) -> io::Result<Ino> {
        let mut ino = ROOT;
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    let name = name.to_str().ok_or(error(Errno::INVAL))?;
                    ino = *self.dir(ino)?.live.get(name).ok_or(error(Errno::NOENT))?;
                }
                Component::ParentDir | Component::Prefix(_) => return Err(error(Errno::INVAL)),
            }
        }
        Ok(ino)
    }

    /// Returns the parent folder of a path, and its last component.
    pub(super) fn parent_and_name<'p>(&self, path: &'p Path) -> io::Result<(Ino, &'p str)> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(error(Errno::INVAL))?;
        let parent = self.lookup(path.parent().unwrap_or(Path::new("/")))?;
        self.dir(parent)?;
        Ok((parent, name))
    }

    pub(super) fn create(&mut self, parent: Ino, name: &str, node: Node) -> io::Result<Ino> {
        let number = self.free_numbers.pop_first().unwrap_or_else(|| {
            self.next_number += 1;
            self.next_number
        });
        let ino = self.inodes.len();
        self.inodes.push(Arc::new(Inode { number, node }));
        self.uses.push(Uses::default());
        self.used += INODE_BYTES;
        self.set_name(parent, name.into(), Some(ino), None)?;
        Ok(ino)
    }

    /// Sets or removes a name in a folder.
    pub(super) fn set_name(
        &mut self,
        parent: Ino,
        name: Arc<str>,
        to: Option<Ino>,
        rename: Option<u64>,
    ) -> io::Result<()> {
        let dir = self.dir_mut(parent)?;
        let names = Arc::make_mut(&mut dir.live);
        let before = match to {
            Some(ino) => names.insert(Arc::clone(&name), ino),
            None => names.remove(&name),
        };
        dir.pending.push(NameChange { name, to, rename });
        if let Some(ino) = to {
            self.uses[ino].names += 1;
        }
        if let Some(ino) = before {
            self.uses[ino].names -= 1;
            self.release(ino);
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        let moved = self.lookup(from)?;
        if moved < self.lower_layer && matches!(self.inode(moved).node, Node::Dir(_)) {
            return Err(error(Errno::XDEV));
        }
        let (source, source_name) = self.parent_and_name(from)?;
        let (target, target_name) = self.parent_and_name(to)?;
        if let Some(&existing) = self.dir(target)?.live.get(target_name) {
            if !replace {
                return Err(error(Errno::EXIST));
            }
            if existing == moved {
                return Ok(());
            }
            match (&self.inode(moved).node, &self.inode(existing).node) {
                (Node::File(_), Node::File(_)) => {}
                (Node::Dir(_), Node::Dir(dir)) if dir.live.is_empty() => {}
                (Node::Dir(_), Node::Dir(_)) => return Err(error(Errno::NOTEMPTY)),
                (Node::File(_), Node::Dir(_)) => return Err(error(Errno::ISDIR)),
                (Node::Dir(_), Node::File(_)) => return Err(error(Errno::NOTDIR)),
            }
        }
        self.next_rename += 1;
        let number = Some(self.next_rename);
        self.set_name(target, target_name.into(), Some(moved), number)?;
        self.set_name(source, source_name.into(), None, number)
    }

    pub(super) fn sync_dir(&mut self, ino: Ino) -> io::Result<()> {
        let dir = self.dir_mut(ino)?;
        dir.durable = Arc::clone(&dir.live);
        let pending = std::mem::take(&mut dir.pending);
        let mut halves = BTreeMap::<u64, usize>::new();
        for number in pending.iter().filter_map(|change| change.rename) {
            *halves.entry(number).or_default() += 1;
        }
        self.half_synced.extend(halves.into_iter().filter(|(_, halves)| *halves == 1).map(|(n, _)| n));
        Ok(())
    }

    pub(super) fn write(&mut self, ino: Ino, bytes: &[u8], offset: usize) -> io::Result<()> {
        self.change(ino, FileChange::Write { offset, bytes: bytes.into() })
    }

    pub(super) fn change(&mut self, ino: Ino, change: FileChange) -> io::Result<()> {
        let file = self.file_mut(ino)?;
        let before = file.live.len();
        apply(Arc::make_mut(&mut file.live), &change);
        let after = file.live.len();
        file.pending.push(PendingChange { change, lost: false });
        self.used = self.used + after - before;
        Ok(())
    }

    /// Applies a sync that succeeds. Changes on which an earlier sync failed stay pending.
    pub(super) fn sync_file(&mut self, ino: Ino) -> io::Result<()> {
        let file = self.file_mut(ino)?;
        if file.pending.iter().any(|pending| pending.lost) {
            let (lost, kept): (Vec<_>, Vec<_>) =
                std::mem::take(&mut file.pending).into_iter().partition(|pending| pending.lost);
            file.pending = lost;
            let durable = Arc::make_mut(&mut file.durable);
            for pending in kept {
                apply(durable, &pending.change);
            }
        } else {
            file.pending.clear();
            file.durable = Arc::clone(&file.live);
        }
        Ok(())
    }

    /// Applies a sync that fails: no later sync writes what it should have covered.
    pub(super) fn fail_sync(&mut self, ino: Ino, drop: bool) -> io::Result<()> {
        let file = self.file_mut(ino)?;
        file.sync_failed = true;
        file.pending.iter_mut().for_each(|pending| pending.lost = true);
        if drop {
            let before = file.live.len();
            file.live = Arc::clone(&file.durable);
            let after = file.live.len();
            self.used = self.used + after - before;
        }
        Ok(())
    }

    pub(super) fn add_handle(&mut self, ino: Ino) {
        self.uses[ino].handles += 1;
    }

    pub(super) fn release_handle(&mut self, ino: Ino) {
        self.uses[ino].handles -= 1;
        self.release(ino);
    }

    /// Closes all handles.
    pub(super) fn close_all_handles(&mut self) {
        for ino in 0..self.uses.len() {
            if std::mem::take(&mut self.uses[ino].handles) > 0 {
                self.release(ino);
            }
        }
    }

    /// Frees an inode without names and handles.
    fn release(&mut self, ino: Ino) {
        let Uses { names, handles } = self.uses[ino];
        if names == 0 && handles == 0 {
            let inode = &self.inodes[ino];
            self.free_numbers.insert(inode.number);
            let bytes = match &inode.node {
                Node::File(file) => file.live.len(),
                Node::Dir(_) => 0,
            };
            self.used -= bytes + INODE_BYTES;
        }
    }
}

pub(super) fn apply(content: &mut Vec<u8>, change: &FileChange) {
    match change {
        FileChange::Write { offset, bytes } => {
            let end = offset + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[*offset..end].copy_from_slice(bytes);
        }
        FileChange::SetLen(len) => content.resize(*len, 0),
    }
}
