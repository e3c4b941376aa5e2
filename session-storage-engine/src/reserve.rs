//! Room on the disk that is allocated ahead, and given up on a full disk, so that sessions can still be listed and
//! deleted: reading and deleting need a little room first.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::file_stat::identity_and_length_at;
use crate::folders::{Folders, open_file};

/// The smallest growth that is worth a call.
const BLOCK: u64 = 4096;

/// The reserve of a store: a file of blocks without content. Nothing here fails what the caller does: without a reserve
/// everything works until the disk is full.
#[derive(Debug, Clone)]
pub struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    /// Bytes that [`release_part`](Self::release_part) gives up.
    pub const PART: u64 = 64 * 1024;

    /// Describes a reserve of this size next to a database. Touches nothing.
    #[must_use]
    pub fn new(folders: &Folders, bytes: u64) -> Self {
        Self { path: folders.root().join("reserve"), bytes }
    }

    /// Allocates the reserve, unless it is there, or the disk has little more room than that.
    pub fn fill(&self) {
        let missing = self.bytes.saturating_sub(self.length());
        if missing > 0 && self.available().is_some_and(|available| available / 2 > missing) {
            self.allocate(self.bytes);
        }
    }

    /// Allocates the reserve again, for a caller that gave it up and has made room: a quarter of it first, and beyond that
    /// at most three quarters of the room there is.
    pub fn refill(&self) {
        let room = self.available().unwrap_or(0).saturating_add(self.length());
        self.grow((room / 4 * 3).max(self.bytes / 4));
    }

    /// Allocates again what [`release_part`](Self::release_part) gave up, or as much of it as there is room for.
    pub fn reclaim(&self, bytes: u64) {
        if bytes > 0 {
            self.grow(self.length().saturating_add(bytes));
        }
    }

    /// Allocates up to this many bytes, as many as there is room for.
    fn grow(&self, bytes: u64) {
        let mut length = self.length();
        let target = bytes.min(self.bytes);
        let mut more = target.saturating_sub(length);
        while more >= BLOCK {
            if self.allocate(length + more) {
                length += more;
                more = more.min(target - length);
            } else {
                more = more / 2 / BLOCK * BLOCK;
            }
        }
    }

    /// Gives up the whole reserve; `false` if there is none.
    #[must_use]
    pub fn release(&self) -> bool {
        self.shrink(0)
    }

    /// Gives up the whole reserve if the disk has less room than that; `true` if it was given up.
    #[must_use]
    pub fn release_if_full(&self) -> bool {
        self.available().is_some_and(|available| available < self.bytes) && self.release()
    }

    /// Gives up 64 KiB of the reserve, unless it is as small as `keep`. `false` if nothing was given up.
    #[must_use]
    pub fn release_part(&self, keep: u64) -> bool {
        let left = self.length().saturating_sub(Self::PART).max(keep);
        self.shrink(left)
    }

    fn shrink(&self, bytes: u64) -> bool {
        if self.length() <= bytes {
            return false;
        }
        let shrunk = open_file(&self.path, OFlags::RDWR).and_then(|file| file.set_len(bytes));
        if let Err(error) = &shrunk {
            tracing::warn!(path = %self.path.display(), %error, "could not give up reserved room");
        }
        shrunk.is_ok()
    }

    /// Allocates this many bytes, all or none of them.
    fn allocate(&self, bytes: u64) -> bool {
        let length = self.length();
        let allocated = open_file(&self.path, OFlags::RDWR | OFlags::CREATE).and_then(|file| {
            let allocated = allocate(&file, length, bytes - length);
            if allocated.is_err() {
                file.set_len(length)?;
            }
            allocated
        });
        if let Err(error) = &allocated {
            tracing::debug!(path = %self.path.display(), %error, "could not reserve room");
        }
        allocated.is_ok()
    }

    /// Returns the length of the file; 0 if it cannot be used.
    fn length(&self) -> u64 {
        match Folders::is_file(&self.path) {
            Ok(true) => identity_and_length_at(&self.path).ok().flatten().map_or(0, |(_, length)| length),
            Ok(false) | Err(_) => 0,
        }
    }

    /// Returns the bytes that this user may still write; `None` if the system does not say.
    fn available(&self) -> Option<u64> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let stat = retry_on_intr(|| rustix::fs::statvfs(folder)).ok()?;
        stat.f_bavail.checked_mul(stat.f_frsize)
    }
}

/// Allocates blocks at the end of a file.
fn allocate(file: &File, from: u64, bytes: u64) -> io::Result<()> {
    match retry_on_intr(|| rustix::fs::fallocate(file, FallocateFlags::empty(), from, bytes)) {
        // A file system without the call, where writing is the only way.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(file, from, bytes),
        result => Ok(result?),
    }
}

fn write_zeros(file: &File, from: u64, bytes: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;

    let zeros = [0; 4096];
    let mut at = from;
    while at < from + bytes {
        let part = usize::try_from(from + bytes - at).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all_at(zeros.get(..part).unwrap_or(&zeros), at)?;
        at += part as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_reserve_is_allocated_and_given_up_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(&Folders::new(folder.path()), 1 << 20);
        assert!(!reserve.release() && !reserve.release_part(0));
        assert!(!reserve.path.exists());
        reserve.fill();
        assert!(std::fs::metadata(&reserve.path).unwrap().blocks() * 512 >= 1 << 20, "blocks are allocated");
        assert!(!reserve.release_if_full());
        let mut parts = 0;
        while reserve.release_part(1 << 18) {
            parts += 1;
        }
        assert_eq!((parts, reserve.length()), (12, 1 << 18), "a quarter of it is kept");
        reserve.reclaim(3 * Reserve::PART);
        assert_eq!(reserve.length(), (1 << 18) + 3 * Reserve::PART);
        reserve.refill();
        assert_eq!(reserve.length(), 1 << 20);
        assert!(reserve.release() && !reserve.release());
        assert_eq!(std::fs::metadata(&reserve.path).unwrap().blocks(), 0);
    }

    #[test]
    fn zeros_are_written_where_blocks_cannot_be_allocated() {
        let file = tempfile::tempfile().unwrap();
        write_zeros(&file, 10, 200_000).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 200_010);
    }

    #[test]
    fn anything_else_at_the_path_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("reserve"), folder.path().join("target"));
        std::fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let reserve = Reserve::new(&Folders::new(folder.path()), 1 << 20);
        reserve.fill();
        reserve.refill();
        assert!(!reserve.release());
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
    }
}
