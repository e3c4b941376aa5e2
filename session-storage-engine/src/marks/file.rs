//! The marks file as processes share it: an append holds its lock shared, a rewrite exclusively, and both check that it
//! is still the file at its path.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;
use session_core::StorageError;

use super::line::{LINE, Line};
use crate::error::IoContext;
use crate::file_stat::{FileIdentity, identity_and_length, identity_and_length_at};
use crate::folders::{Folders, open_file};

/// The longest wait for the lock, which is held for one write or one rewrite of the file.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// Bytes per read.
const CHUNK: usize = 64 * 1024;
/// Bytes kept of a line without an end: a line, and the part of another one that a crash left before it.
const CARRY: usize = 2 * LINE - 2;
/// Bytes of a line that a crash cut short, and of the filler or of the end of another one behind it.
const MAX_TORN: u64 = 2 * LINE as u64 - 1;
/// Bytes of a gap in which a power cut has left zeros: some pages whose content did not reach the disk.
const MAX_LOST: u64 = 16 * 1024;
/// Damaged bytes after which all but this many at the end of the file are skipped: a damaged file must not cost more
/// time than an intact one.
const MAX_DAMAGED: u64 = 4 * 1024 * 1024;

/// The mode of the lock on the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockMode {
    /// Shared with other processes, to append.
    Shared,
    /// Exclusive, to replace the file.
    Exclusive,
}

/// The open file and the position up to which it was read.
#[derive(Debug)]
pub(super) struct MarksFile {
    file: File,
    identity: FileIdentity,
    /// The length at the last check, and the end of the complete lines that were read: a line without an end is read
    /// again.
    length: u64,
    read: u64,
    /// The number of bytes appended through this handle since, whose content is known.
    own_bytes: u64,
    gap: Gap,
}

/// The bytes since the last line that are none.
#[derive(Debug, Default)]
struct Gap {
    bytes: u64,
    zeros: u64,
    /// `true` once their number was returned.
    is_damage: bool,
}

impl Gap {
    /// Adds bytes. Returns the number of those that are known to be damage since.
    fn add(&mut self, bytes: &[u8]) -> u64 {
        self.bytes += bytes.len() as u64;
        self.zeros += bytes.iter().map(|byte| u64::from(*byte == 0)).sum::<u64>();
        if self.is_damage {
            return bytes.len() as u64;
        }
        let may_be_lost = |byte: &u8| matches!(byte, 0 | b' '..=b'~');
        self.is_damage =
            self.bytes > MAX_LOST || self.bytes - self.zeros > MAX_TORN || !bytes.iter().all(may_be_lost);
        if self.is_damage { self.bytes } else { 0 }
    }

    /// Ends with a line, valid or not. Returns the number of bytes that are known to be damage since: what no process of
    /// ours wrote. The start of a line that a crash cut short, the filler after it, and zeros in place of what did not
    /// reach the disk before a power cut are no damage.
    fn end(&mut self, line: &[u8], is_valid: bool) -> u64 {
        let foreign = if is_valid { line.len().saturating_sub(LINE - 1) } else { line.len() };
        let damaged = self.add(line.get(..foreign).unwrap_or_default());
        let Self { bytes, zeros, is_damage } = std::mem::take(self);
        let end = u64::from(!is_valid);
        let is_torn =
            bytes == 0 || zeros > 0 || if is_valid { bytes < LINE as u64 } else { line.ends_with(b"-") };
        match (is_damage, is_torn) {
            (true, _) => damaged + end,
            (false, true) => 0,
            (false, false) => bytes + end,
        }
    }
}

impl MarksFile {
    /// Opens the file; `None` if it does not exist.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, StorageError> {
        match open_file(path, OFlags::RDWR | OFlags::APPEND) {
            Ok(file) => Self::new(file).context("stat", path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if is_read_only(&error) => {
                // Without permission to write, the marks can still be read.
                let file = open_file(path, OFlags::RDONLY).context("open", path)?;
                Self::new(file).context("stat", path).map(Some)
            }
            Err(error) => {
                Folders::is_file(path)?;
                Err(error).context("open", path)
            }
        }
    }

    fn new(file: File) -> io::Result<Self> {
        let (identity, length) = identity_and_length(&file)?;
        Ok(Self { file, identity, length, read: 0, own_bytes: 0, gap: Gap::default() })
    }

    /// Returns the identity of the file, which does not depend on its name.
    pub(super) const fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// Returns `true` if this is the file at the path, and updates its length with the same call.
    pub(super) fn is_at(&mut self, path: &Path) -> Result<bool, StorageError> {
        let current = identity_and_length_at(path).context("stat", path)?;
        let length = current.filter(|(identity, _)| *identity == self.identity).map(|(_, length)| length);
        self.length = length.unwrap_or(self.length);
        Ok(length.is_some())
    }

    /// Calls `on_line` for each complete line that was there at the last check and not read yet, with `None` for an
    /// invalid one. Returns the number of damaged bytes among them. A line without an end is read next time.
    pub(super) fn read(
        &mut self,
        path: &Path,
        mut on_line: impl FnMut(Option<Line>),
    ) -> Result<u64, StorageError> {
        let length = self.length;
        let own_bytes = std::mem::take(&mut self.own_bytes);
        // No other process has added anything; or the file was cut from outside, and the next append starts there.
        if length == self.read + own_bytes || length <= self.read {
            self.read = length;
            return Ok(0);
        }
        let (mut rest, mut damaged, mut may_skip) = (Vec::with_capacity(CHUNK + CARRY), 0, true);
        self.file.seek(SeekFrom::Start(self.read)).context("read", path)?;
        loop {
            let left = length.saturating_sub(self.read + rest.len() as u64);
            let room = left.min(CHUNK as u64);
            let is_end = (&self.file).take(room).read_to_end(&mut rest).context("read", path)? == 0;
            let mut done = 0;
            while let Some((line, next)) = first_line(rest.get(done..).unwrap_or_default()) {
                let parsed = Line::parse(line);
                damaged += self.gap.end(line, parsed.is_some());
                on_line(parsed);
                done += next;
            }
            // Only the last bytes before an end of line can be a line: the others need not be read again.
            let carry = if is_end { LINE - 1 } else { CARRY };
            let excess = (rest.len() - done).saturating_sub(carry);
            damaged += self.gap.add(rest.get(done..done + excess).unwrap_or_default());
            self.read += (done + excess) as u64;
            if is_end {
                return Ok(damaged);
            }
            rest.drain(..done + excess);
            let resume = length.saturating_sub(MAX_DAMAGED);
            if damaged > MAX_DAMAGED && may_skip && resume > self.read + rest.len() as u64 {
                damaged += resume - self.read;
                (self.read, may_skip) = (resume, false);
                rest.clear();
                self.file.seek(SeekFrom::Start(resume)).context("read", path)?;
            }
        }
    }

    /// Returns the number of bytes that the next read begins with.
    #[cfg(test)]
    pub(super) const fn unread(&self) -> u64 {
        self.length - self.read
    }

    /// Acquires the lock within [`LOCK_TIMEOUT`].
    pub(super) fn lock(&self, path: &Path, mode: LockMode) -> Result<(), StorageError> {
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            if self.try_lock(path, mode)? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(StorageError::Unavailable {
                    what: format!(
                        "{} is held by another process: let it finish, or stop it if it hangs, then try again",
                        path.display()
                    ),
                    source: None,
                });
            }
            thread::sleep(LOCK_PAUSE);
        }
    }

    /// Tries to acquire the lock; returns `true` on success.
    pub(super) fn try_lock(&self, path: &Path, mode: LockMode) -> Result<bool, StorageError> {
        let locked = match mode {
            LockMode::Shared => self.file.try_lock_shared(),
            LockMode::Exclusive => self.file.try_lock(),
        };
        match locked {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error).context("lock", path),
        }
    }

    /// Releases the lock.
    pub(super) fn unlock(&self) {
        // Closing the file would do the same; a failure shows at the next lock.
        drop(self.file.unlock());
    }

    /// Appends lines in one write, after a filler if the last write was cut short. The caller must hold the shared lock
    /// and have read the file.
    pub(super) fn append(&mut self, path: &Path, lines: &[u8]) -> Result<(), StorageError> {
        let torn = usize::try_from(self.length % LINE as u64).unwrap_or(0);
        if torn == 0 {
            self.file.write_all(lines).context("write", path)?;
            self.own_bytes += lines.len() as u64;
            return Ok(());
        }
        // Only for people, who see aligned lines: a line is found by its end, wherever it starts.
        let mut bytes = vec![b'-'; LINE - torn - 1];
        bytes.push(b'\n');
        bytes.extend_from_slice(lines);
        self.file.write_all(&bytes).context("write", path)
    }

    /// Flushes what was appended.
    pub(super) fn sync(&mut self, path: &Path) -> Result<(), StorageError> {
        let synced = self.file.sync_data().context("flush", path);
        if synced.is_err() {
            // The caller gets the error, and reads like other processes what the file has.
            self.own_bytes = 0;
        }
        synced
    }
}

/// Returns the first line without its end, and the start of the next one. Almost always it has the regular length.
fn first_line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = match bytes.get(LINE - 1) {
        Some(b'\n') => LINE - 1,
        _ => bytes.iter().position(|byte| *byte == b'\n')?,
    };
    Some((bytes.get(..end)?, end + 1))
}

fn is_read_only(error: &io::Error) -> bool {
    [Errno::ACCESS, Errno::ROFS, Errno::PERM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
