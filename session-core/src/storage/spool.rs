//! The lines of a complete log on its way into a storage: in memory while they are few, else in a temporary file, so
//! that the memory does not grow with the log.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use super::StorageError;
use super::types::PAGE_BYTES;
use crate::record::StoredRecord;

/// Bytes that are read and written at a time.
const CHUNK: usize = 64 * 1024;

/// Lines that are collected, from record 1 on.
#[derive(Debug)]
pub(crate) enum Spool {
    Memory { records: Vec<StoredRecord>, bytes: usize },
    File { file: BufWriter<File>, bytes: u64 },
}

/// All lines of a log.
#[derive(Debug)]
pub(crate) enum CompleteLog {
    Memory(Vec<StoredRecord>),
    File(SpooledLines),
}

/// The lines of a complete log in a file without a name, each with its line end: nothing is left when it is closed.
#[derive(Debug)]
pub(crate) struct SpooledLines {
    file: File,
    bytes: u64,
}

/// Reads the records of spooled lines.
#[derive(Debug)]
pub(crate) struct SpooledRecords<'a> {
    lines: BufReader<FromStart<'a>>,
    revision: u64,
}

/// A position in a file that other readers read as well.
#[derive(Debug)]
struct FromStart<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}

impl Default for Spool {
    fn default() -> Self {
        Self::Memory { records: Vec::new(), bytes: 0 }
    }
}

impl Spool {
    /// Adds the next record. Blocks while a file is written.
    pub(crate) fn add(&mut self, record: StoredRecord) -> Result<(), StorageError> {
        match self {
            Self::Memory { records, bytes } => {
                *bytes += record.line().len() + 1;
                records.push(record);
                if *bytes <= PAGE_BYTES {
                    return Ok(());
                }
                let mut file = BufWriter::with_capacity(
                    CHUNK,
                    create_unnamed().map_err(|error| failed("create", error))?,
                );
                for record in &*records {
                    write_line(&mut file, record.line()).map_err(|error| failed("write", error))?;
                }
                *self = Self::File { file, bytes: *bytes as u64 };
                Ok(())
            }
            Self::File { file, bytes } => {
                *bytes += record.line().len() as u64 + 1;
                write_line(file, record.line()).map_err(|error| failed("write", error))
            }
        }
    }

    /// Returns the complete log.
    pub(crate) fn finish(self) -> Result<CompleteLog, StorageError> {
        match self {
            Self::Memory { records, .. } => Ok(CompleteLog::Memory(records)),
            Self::File { file, bytes } => {
                let file = file.into_inner().map_err(|error| failed("write", error.into_error()))?;
                Ok(CompleteLog::File(SpooledLines { file, bytes }))
            }
        }
    }
}

impl SpooledLines {
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn records(&self) -> SpooledRecords<'_> {
        let lines = BufReader::with_capacity(CHUNK, FromStart { file: &self.file, offset: 0 });
        SpooledRecords { lines, revision: 0 }
    }
}

impl Iterator for SpooledRecords<'_> {
    type Item = Result<StoredRecord, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return Some(Err(failed("read", error))),
        }
        self.revision += 1;
        let record = StoredRecord::from_storage(self.revision, line.strip_suffix('\n').unwrap_or(&line));
        Some(record.map_err(|error| failed("read", io::Error::new(io::ErrorKind::InvalidData, error))))
    }
}

fn write_line(file: &mut BufWriter<File>, line: &str) -> io::Result<()> {
    file.write_all(line.as_bytes())?;
    file.write_all(b"\n")
}

/// Folders for temporary files, the preferred one first: `/var/tmp` before `/tmp`, which is often in memory.
fn folders() -> Vec<PathBuf> {
    match std::env::var_os("TMPDIR") {
        Some(folder) if !folder.is_empty() => vec![folder.into()],
        _ => vec!["/var/tmp".into(), std::env::temp_dir()],
    }
}

/// Creates a file for this user alone, whose name is removed immediately.
fn create_unnamed() -> io::Result<File> {
    let mut result = Err(io::ErrorKind::NotFound.into());
    for folder in folders() {
        let path = folder.join(format!(".sessionkit-import-{}", uuid::Uuid::new_v4()));
        result = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        if let Ok(file) = result {
            std::fs::remove_file(&path)?;
            return Ok(file);
        }
    }
    result
}

/// Returns the error of a file that is read or written.
fn failed(doing: &str, error: io::Error) -> StorageError {
    let folders: Vec<String> = folders().iter().map(|folder| folder.display().to_string()).collect();
    let file = format!("a temporary file in {} (TMPDIR names another folder)", folders.join(" or "));
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge];
    if full.contains(&error.kind()) {
        return StorageError::Full { what: file, source: Arc::new(error) };
    }
    StorageError::Io { what: format!("cannot {doing} {file}"), source: Arc::new(error) }
}

#[cfg(test)]
mod tests;
