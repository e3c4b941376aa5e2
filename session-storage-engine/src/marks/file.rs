//! The file of marks as many processes share it: whoever appends holds it shared, whoever rewrites it exclusively, and both
//! look whether it still is the file at its path.

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
use crate::folders::{Folders, open};
use crate::look::{Identity, identity, length_at};

/// Whoever holds the file holds it for one write, or for rewriting it.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(1);

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// How a file is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Among others, to append.
    Shared,
    /// Alone, to put another in its place.
    Alone,
}

/// The open file, and how far it was read.
#[derive(Debug)]
pub(super) struct Open {
    file: File,
    identity: Identity,
    /// How long it was at the last look, and up to where its lines were read: what has no end yet is read again.
    length: u64,
    read: u64,
    /// How many bytes were appended here since, all of them known as well.
    own: u64,
}

impl Open {
    /// Opens the file; `None` if there is none.
    pub(super) fn find(path: &Path) -> Result<Option<Self>, StorageError> {
        match open(path, OFlags::RDWR | OFlags::APPEND) {
            Ok(file) => Self::of(file).context("look at", path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if is_read_only(&error) => {
                // Whoever may only look looks.
                let file = open(path, OFlags::RDONLY).context("open", path)?;
                Self::of(file).context("look at", path).map(Some)
            }
            Err(error) => {
                Folders::is_file(path)?;
                Err(error).context("open", path)
            }
        }
    }

    fn of(file: File) -> io::Result<Self> {
        let (identity, length) = identity(&file)?;
        Ok(Self { file, identity, length, read: 0, own: 0 })
    }

    /// Which file it is, whatever its name.
    pub(super) const fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether it is the file at its path. One look tells that and how long it is.
    pub(super) fn is_at(&mut self, path: &Path) -> Result<bool, StorageError> {
        let there = length_at(path).context("look at", path)?;
        let length = there.filter(|(identity, _)| *identity == self.identity).map(|(_, length)| length);
        self.length = length.unwrap_or(self.length);
        Ok(length.is_some())
    }

    /// Tells of each whole line that was there at the last look and not read yet, `None` for one that is none. What has no end
    /// yet is read next time.
    pub(super) fn read(
        &mut self,
        path: &Path,
        mut tell: impl FnMut(Option<Line>),
    ) -> Result<(), StorageError> {
        let length = self.length;
        let own = std::mem::take(&mut self.own);
        // Nobody else has added anything; or it was cut from outside, and whatever is appended next stands there.
        if length == self.read + own || length <= self.read {
            self.read = length;
            return Ok(());
        }
        let mut rest = Vec::with_capacity(CHUNK);
        self.file.seek(SeekFrom::Start(self.read)).context("read", path)?;
        let mut file = (&self.file).take(length - self.read);
        loop {
            let room = CHUNK.saturating_sub(rest.len()).max(LINE) as u64;
            if file.by_ref().take(room).read_to_end(&mut rest).context("read", path)? == 0 {
                return Ok(());
            }
            let mut done = 0;
            while let Some((line, next)) = first_line(rest.get(done..).unwrap_or_default()) {
                tell(Line::parse(line));
                done += next;
            }
            self.read += done as u64;
            rest.drain(..done);
        }
    }

    /// Waits for a bounded time until it may be held so.
    pub(super) fn hold(&self, path: &Path, hold: Hold) -> Result<(), StorageError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.try_hold(path, hold)? {
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
            thread::sleep(PAUSE);
        }
    }

    /// Whether it is held so now.
    pub(super) fn try_hold(&self, path: &Path, hold: Hold) -> Result<bool, StorageError> {
        let locked = match hold {
            Hold::Shared => self.file.try_lock_shared(),
            Hold::Alone => self.file.try_lock(),
        };
        match locked {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error).context("lock", path),
        }
    }

    /// Lets go of it.
    pub(super) fn let_go(&self) {
        // Closing it would do the same; whatever keeps this from succeeding shows itself at the next lock.
        drop(self.file.unlock());
    }

    /// Appends lines in one write, behind a filler where the last write was cut short. It is held shared, and was read.
    pub(super) fn append(&mut self, path: &Path, lines: &[u8]) -> Result<(), StorageError> {
        let torn = usize::try_from(self.length % LINE as u64).unwrap_or(0);
        if torn == 0 {
            self.file.write_all(lines).context("write", path)?;
            self.own += lines.len() as u64;
            return Ok(());
        }
        // Only for people, who see lines below each other: a line is found by its end, wherever it begins.
        let mut bytes = vec![b'-'; LINE - torn - 1];
        bytes.push(b'\n');
        bytes.extend_from_slice(lines);
        self.file.write_all(&bytes).context("write", path)
    }

    /// Makes what was appended survive power loss.
    pub(super) fn sync(&mut self, path: &Path) -> Result<(), StorageError> {
        let synced = self.file.sync_data().context("flush", path);
        if synced.is_err() {
            // Whoever appended is told that it failed, and reads like everybody else what is there.
            self.own = 0;
        }
        synced
    }
}

/// The first line without its end, and where the next one begins. Almost always it is as long as a line should be.
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
