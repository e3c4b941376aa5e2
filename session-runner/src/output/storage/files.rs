//! Reads the two files of a session's output, and checks each chunk against its entry.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use session_core::SessionId;

use super::index::{ENTRY, Entry, ReadEntry};
use super::output_error::OutputError;

/// Attempts to read an entry that may be changing concurrently.
pub(crate) const READ_ATTEMPTS: usize = 5;

/// The two files of one session.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) id: SessionId,
    pub(crate) bytes: File,
    pub(crate) index: File,
    pub(crate) folder: PathBuf,
}

impl Files {
    /// Returns the number of complete entries.
    pub(crate) fn entries(&self) -> Result<u64, OutputError> {
        let length = self.index.metadata().map_err(OutputError::io("stat", self.path("index")))?.len();
        Ok(length / ENTRY as u64)
    }

    /// Returns the last valid entry and its position. Anything after it was torn by a crash.
    pub(crate) fn last(&self) -> Result<Option<(u64, Entry)>, OutputError> {
        for position in (0..self.entries()?).rev() {
            if let Some((entry, _)) = self.read_verified(position)? {
                return Ok(Some((position, entry)));
            }
        }
        Ok(None)
    }

    /// Returns an entry with its bytes; `None` at the end.
    pub(crate) fn checked(&self, position: u64) -> Result<Option<(Entry, Vec<u8>)>, OutputError> {
        // A writer may be changing the last entry concurrently.
        for _ in 0..READ_ATTEMPTS {
            if let Some(found) = self.read_verified(position)? {
                return Ok(Some(found));
            }
            if position >= self.entries()? {
                return Ok(None);
            }
            std::thread::yield_now();
        }
        // Torn by a crash, unless a later entry is valid.
        for later in position + 1..self.entries()? {
            if self.read_verified(later)?.is_some() {
                let offset = match position.checked_sub(1) {
                    Some(before) => self.entry(before)?.map_or(0, |read| read.entry.end()),
                    None => 0,
                };
                return Err(OutputError::Damaged { id: self.id, offset });
            }
        }
        Ok(None)
    }

    /// Reads an entry and its bytes; `None` if it is missing or they do not match.
    fn read_verified(&self, position: u64) -> Result<Option<(Entry, Vec<u8>)>, OutputError> {
        let Some(read) = self.entry(position)? else { return Ok(None) };
        let mut bytes = vec![0; usize::try_from(read.entry.length).unwrap_or(0)];
        match self.bytes.read_exact_at(&mut bytes, read.entry.offset) {
            Ok(()) => Ok(read.matches_bytes(&bytes).then_some((read.entry, bytes))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(OutputError::io("read", self.path("bytes"))(error)),
        }
    }

    fn entry(&self, position: u64) -> Result<Option<ReadEntry>, OutputError> {
        let mut line = [0; ENTRY];
        match self.index.read_exact_at(&mut line, position * ENTRY as u64) {
            Ok(()) => Ok(Entry::parse(&line)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(OutputError::io("read", self.path("index"))(error)),
        }
    }

    /// Returns the position of the entry that contains an offset, or of an earlier one. The binary search trusts
    /// offsets that may be damaged. If its result is wrong, reading starts at 0, so that the damage is reported at its
    /// offset.
    pub(crate) fn entry_at(&self, offset: u64) -> Result<u64, OutputError> {
        let (mut low, mut high) = (0, self.entries()?);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            match self.entry(middle)? {
                Some(read) if read.entry.offset <= offset => low = middle,
                Some(_) | None => high = middle,
            }
        }
        let found = self.read_verified(low)?.is_some_and(|(entry, _)| entry.offset <= offset);
        Ok(if found { low } else { 0 })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        Path::join(&self.folder, name)
    }
}
