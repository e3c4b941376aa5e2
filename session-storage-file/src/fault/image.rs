//! Disk images after a power cut.
//!
//! A disk may write changes in another order than they were made, so a cut leaves some subset of them. Choosing
//! subsets therefore covers every order. Changes of the same bytes or the same name keep their order, as in a
//! page cache and in a journal.

#![expect(
    clippy::indexing_slicing,
    reason = "an `Ino` is an index that `fs` issued, and the table never shrinks"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::fs::{DirNode, FileChange, FileNode, Fs, Ino, Inode, NameChange, Names, Node, PendingChange};
use super::fs::{INODE_BYTES, ROOT, Uses, apply};
use super::rng::Rng;
use super::simulation::FaultDisk;

/// The unsynced changes that survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Keep {
    /// None. A rename across folders of which one was synced is then half done, unless it moved a folder.
    Synced,
    /// All.
    All,
    /// All names, no bytes and no lengths.
    Names,
    /// All bytes and lengths, no names.
    Contents,
    /// All names and lengths; bytes are zeros where they are beyond what was synced.
    Lengths,
    /// All names, and bytes within the synced lengths.
    Bytes,
    /// All, but of each file's last unsynced write only this many bytes (modulo its length plus one), and the
    /// length that goes with them.
    Torn(usize),
    /// Like [`Torn`](Self::Torn), but the file has the length after the complete write, and the rest of it is
    /// zeros.
    ZeroFilled(usize),
    /// A random subset for this seed: each name, each length and each chunk of each write independently, in
    /// chunks of 512 bytes, of one byte, or of the complete write; renames across folders atomically or in
    /// halves.
    Random(u64),
}

impl Keep {
    /// The variants without a parameter.
    pub const FIXED: [Self; 6] =
        [Self::Synced, Self::All, Self::Names, Self::Contents, Self::Lengths, Self::Bytes];

    const fn keeps_names(self) -> bool {
        !matches!(self, Self::Synced | Self::Contents)
    }
}

/// The state of a disk after one call.
#[derive(Debug, Clone)]
pub struct Moment {
    fs: Arc<Fs>,
    what: Arc<str>,
}

impl Moment {
    pub(super) fn new(fs: &Fs, what: String) -> Self {
        Self { fs: Arc::new(fs.clone()), what: what.into() }
    }

    /// Describes the call, for failure messages.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Returns `true` if a cut now loses nothing. All cuts are then equal.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.fs.inodes.iter().all(|inode| match &inode.node {
            Node::File(file) => file.pending.is_empty(),
            Node::Dir(dir) => dir.pending.is_empty(),
        })
    }

    /// Returns the length of the longest unsynced last write of any file, in bytes: the number of useful values
    /// for [`Keep::Torn`].
    #[must_use]
    pub fn last_write(&self) -> usize {
        let files = self.fs.inodes.iter().filter_map(|inode| match &inode.node {
            Node::File(file) => file.pending.iter().rev().find_map(|pending| match &pending.change {
                FileChange::Write { bytes, .. } => Some(bytes.len()),
                FileChange::SetLen(_) => None,
            }),
            Node::Dir(_) => None,
        });
        files.max().unwrap_or(0)
    }

    /// Returns the disk after all processes were killed, with the machine still running: nothing is lost,
    /// unsynced changes stay unsynced, and no file is open or locked.
    #[must_use]
    pub fn kill(&self) -> FaultDisk {
        let mut fs = Fs::clone(&self.fs);
        fs.close_all_handles();
        FaultDisk::of(fs)
    }

    /// Returns the disk after a power cut, in the next boot. Everything on it is durable; no file is open or
    /// locked.
    #[must_use]
    pub fn cut(&self, keep: Keep) -> FaultDisk {
        let mut rng = Rng::new(if let Keep::Random(seed) = keep { seed } else { 0 });
        FaultDisk::of(PowerCut::new(&self.fs, keep, &mut rng).run())
    }
}

struct PowerCut<'a> {
    before: &'a Fs,
    keep: Keep,
    rng: &'a mut Rng,
    /// The decision for each rename across folders, if this cut treats them as atomic.
    renames: Option<BTreeMap<u64, bool>>,
}

impl<'a> PowerCut<'a> {
    fn new(before: &'a Fs, keep: Keep, rng: &'a mut Rng) -> Self {
        let one_step = matches!(keep, Keep::Random(_)) && rng.coin();
        Self { before, keep, rng, renames: one_step.then(BTreeMap::new) }
    }

    fn run(mut self) -> Fs {
        let inodes = (0..self.before.inodes.len()).map(|ino| self.inode(ino)).collect();
        let mut fs = Fs {
            inodes,
            uses: vec![Uses::default(); self.before.inodes.len()],
            free_numbers: BTreeSet::new(),
            half_synced: BTreeSet::new(),
            used: 0,
            boot: self.before.boot + 1,
            ..*self.before
        };
        self.resolve_duplicate_folders(&mut fs);
        recount(&mut fs);
        fs
    }

    fn inode(&mut self, ino: Ino) -> Arc<Inode> {
        let inode = &self.before.inodes[ino];
        let node = match &inode.node {
            Node::File(file) if file.pending.is_empty() && !file.sync_failed => return Arc::clone(inode),
            Node::Dir(dir) if dir.pending.is_empty() => return Arc::clone(inode),
            Node::File(file) => {
                let content = Arc::new(self.content(file));
                Node::File(FileNode { live: Arc::clone(&content), durable: content, ..FileNode::default() })
            }
            Node::Dir(dir) => {
                let names = Arc::new(self.names(dir));
                Node::Dir(DirNode { live: Arc::clone(&names), durable: names, pending: Vec::new() })
            }
        };
        Arc::new(Inode { number: inode.number, node })
    }

    fn names(&mut self, dir: &DirNode) -> Names {
        let mut names = Names::clone(&dir.durable);
        // A rename within the folder is atomic in every cut: both halves share a decision.
        let mut within = BTreeMap::<u64, (usize, Option<bool>)>::new();
        for number in dir.pending.iter().filter_map(|change| change.rename) {
            within.entry(number).or_default().0 += 1;
        }
        for change in &dir.pending {
            let kept = match change.rename.and_then(|number| within.get(&number).copied()) {
                Some((2, Some(decided))) => decided,
                _ => self.keeps(change),
            };
            if let Some((_, decided)) = change.rename.and_then(|number| within.get_mut(&number)) {
                *decided = Some(kept);
            }
            if kept {
                match change.to {
                    Some(ino) => names.insert(Arc::clone(&change.name), ino),
                    None => names.remove(&change.name),
                };
            }
        }
        names
    }

    fn keeps(&mut self, change: &NameChange) -> bool {
        if !matches!(self.keep, Keep::Random(_)) {
            return self.keep.keeps_names();
        }
        let kept = self.rng.coin();
        match (&mut self.renames, change.rename) {
            (Some(_), Some(number)) if self.before.half_synced.contains(&number) => true,
            (Some(decided), Some(number)) => *decided.entry(number).or_insert(kept),
            _ => kept,
        }
    }

    fn content(&mut self, file: &FileNode) -> Vec<u8> {
        let mut content = Vec::clone(&file.durable);
        let last =
            file.pending.iter().rposition(|pending| matches!(pending.change, FileChange::Write { .. }));
        let chunk_size = if matches!(self.keep, Keep::Random(_)) { self.chunk_size() } else { 0 };
        for (index, PendingChange { change, .. }) in file.pending.iter().enumerate() {
            let FileChange::Write { offset, bytes } = change else {
                if self.keeps_length() {
                    apply(&mut content, change);
                }
                continue;
            };
            let (offset, end) = (*offset, *offset + bytes.len());
            match self.keep {
                Keep::Synced | Keep::Names => {}
                Keep::Lengths => extend(&mut content, end),
                Keep::Bytes => within(&mut content, offset, bytes),
                Keep::Torn(at) if Some(index) == last => {
                    write(&mut content, offset, &bytes[..at % (bytes.len() + 1)]);
                }
                Keep::ZeroFilled(at) if Some(index) == last => {
                    extend(&mut content, end);
                    write(&mut content, offset, &bytes[..at % (bytes.len() + 1)]);
                }
                Keep::All | Keep::Contents | Keep::Torn(_) | Keep::ZeroFilled(_) => {
                    apply(&mut content, change);
                }
                Keep::Random(_) => self.random_write(&mut content, offset, bytes, chunk_size),
            }
        }
        content
    }

    /// Returns `true` if a truncation or extension of a file survives.
    fn keeps_length(&mut self) -> bool {
        match self.keep {
            Keep::Synced | Keep::Names | Keep::Bytes => false,
            Keep::All | Keep::Contents | Keep::Lengths | Keep::Torn(_) | Keep::ZeroFilled(_) => true,
            Keep::Random(_) => self.rng.coin(),
        }
    }

    /// Chooses the size of the chunks in which a file's writes reach the disk.
    fn chunk_size(&mut self) -> usize {
        match self.rng.below(4) {
            0 => 1,
            1 | 2 => 512,
            _ => usize::MAX,
        }
    }

    fn random_write(&mut self, content: &mut Vec<u8>, offset: usize, bytes: &[u8], chunk_size: usize) {
        let end = offset + bytes.len();
        match self.rng.below(4) {
            0 => {}
            // The length ends anywhere within the write.
            1 => extend(content, offset + self.rng.below(bytes.len() + 1)),
            _ => extend(content, end),
        }
        // Mostly kept, mostly lost, or even: an even choice alone would almost never leave an almost complete
        // write.
        let lost_in_four = 1 + self.rng.below(3);
        let mut from = 0;
        while from < bytes.len() {
            // Chunks are aligned to the disk, not to the start of the write.
            let to = match chunk_size {
                usize::MAX => bytes.len(),
                _ => (((offset + from) / chunk_size + 1) * chunk_size - offset).min(bytes.len()),
            };
            if self.rng.below(4) >= lost_in_four {
                within(content, offset + from, &bytes[from..to]);
            }
            from = to;
        }
    }

    /// Keeps a folder that a half-done rename left under two names only where the rename moved it.
    fn resolve_duplicate_folders(&self, fs: &mut Fs) {
        let mut places = BTreeMap::<Ino, Vec<(Ino, Arc<str>)>>::new();
        let mut todo = vec![ROOT];
        let mut seen = BTreeSet::from([ROOT]);
        while let Some(parent) = todo.pop() {
            let Node::Dir(dir) = &fs.inodes[parent].node else { continue };
            for (name, ino) in dir.live.iter() {
                if matches!(fs.inodes[*ino].node, Node::Dir(_)) {
                    places.entry(*ino).or_default().push((parent, Arc::clone(name)));
                    if seen.insert(*ino) {
                        todo.push(*ino);
                    }
                }
            }
        }
        for (ino, places) in places.into_iter().filter(|(_, places)| places.len() > 1) {
            let is_live = |(parent, name): &(Ino, Arc<str>)| match &self.before.inodes[*parent].node {
                Node::Dir(dir) => dir.live.get(name) == Some(&ino),
                Node::File(_) => false,
            };
            let stays = places.iter().position(is_live).unwrap_or(0);
            for (_, (parent, name)) in places.iter().enumerate().filter(|(at, _)| *at != stays) {
                if let Node::Dir(dir) = &mut Arc::make_mut(&mut fs.inodes[*parent]).node {
                    Arc::make_mut(&mut dir.live).remove(name);
                    dir.durable = Arc::clone(&dir.live);
                }
            }
        }
    }
}

/// Counts names and bytes again, and frees the inodes that the cut left without a name. If an inode number that
/// was reused before the cut occurs twice, the second inode gets a new one.
fn recount(fs: &mut Fs) {
    fs.uses[ROOT].names = 1;
    let mut numbers = BTreeSet::new();
    let mut todo = vec![ROOT];
    while let Some(ino) = todo.pop() {
        if !numbers.insert(fs.inodes[ino].number) {
            fs.next_number += 1;
            let number = fs.next_number;
            Arc::make_mut(&mut fs.inodes[ino]).number = number;
            numbers.insert(number);
        }
        let children: Vec<Ino> = match &fs.inodes[ino].node {
            Node::File(file) => {
                fs.used += file.live.len() + INODE_BYTES;
                continue;
            }
            Node::Dir(dir) => dir.live.values().copied().collect(),
        };
        fs.used += if ino == ROOT { 0 } else { INODE_BYTES };
        for child in children {
            fs.uses[child].names += 1;
            if fs.uses[child].names == 1 {
                todo.push(child);
            }
        }
    }
}

fn extend(content: &mut Vec<u8>, len: usize) {
    if content.len() < len {
        content.resize(len, 0);
    }
}

fn write(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if !bytes.is_empty() {
        extend(content, offset + bytes.len());
        within(content, offset, bytes);
    }
}

/// Writes the part that lies within the current length.
fn within(content: &mut [u8], offset: usize, bytes: &[u8]) {
    if let Some(rest) = content.get_mut(offset..) {
        for (to, from) in rest.iter_mut().zip(bytes) {
            *to = *from;
        }
    }
}
