//! Output in two files: `bytes` holds only what was printed, `index` the stream, attempt and time of each chunk.
//! `files` reads them, `writer` writes them, and `index` holds the lines of the index.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
use rustix::io::Errno;
use session_core::SessionId;

use super::files::{Files, READ_ATTEMPTS};
use super::index::Tag;
use super::writer::FileWriter;
use super::{Chunk, OutputError, OutputLength, OutputPage, OutputStorage, OutputWriter};

/// Default limit of one session's output, in bytes.
pub(crate) const DEFAULT_LIMIT: u64 = 64 * 1024 * 1024;

/// A storage of captured output in files on this machine: `output/bytes` and `output/index` in a folder for each
/// session.
#[derive(Debug, Clone)]
pub struct FileOutput {
    root: PathBuf,
    /// `true` to use only existing folders of sessions, which the session storage creates and removes.
    existing_folders_only: bool,
    limit: u64,
}

impl FileOutput {
    /// Stores output in a folder of its own, which is created when it is needed.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { root: folder.into(), existing_folders_only: false, limit: DEFAULT_LIMIT }
    }

    /// Stores output in the folders that a storage keeps for its sessions, each named after its session. Only existing
    /// folders are used, and the output is removed with its session.
    #[must_use]
    pub fn in_session_folders(sessions: impl Into<PathBuf>) -> Self {
        Self { existing_folders_only: true, ..Self::new(sessions) }
    }

    /// Sets the limit of one session's output in bytes; by default 64 MiB.
    #[must_use]
    pub fn limit(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }

    /// Returns the folder of a session's output.
    #[must_use]
    pub fn folder(&self, id: SessionId) -> PathBuf {
        self.root.join(id.to_string()).join("output")
    }

    fn files(&self, id: SessionId, access: Access) -> Result<Option<Files>, OutputError> {
        let folder = self.folder(id);
        match self.open_files(id, access) {
            Ok((bytes, index)) => Ok(Some(Files { id, bytes, index, folder })),
            Err(Errno::NOENT) if access == Access::Read => Ok(None),
            Err(error) => Err(OutputError::io("open", folder)(error.into())),
        }
    }

    /// Opens the files step by step from the root, so that no symbolic link leads out of it.
    fn open_files(&self, id: SessionId, access: Access) -> Result<(File, File), Errno> {
        let (folder, private) = (OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::RWXU);
        if access == Access::Write && !self.existing_folders_only {
            match std::fs::create_dir_all(&self.root) {
                Ok(()) => {}
                Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            }
        }
        let root = open(&self.root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let name = id.to_string();
        if access == Access::Write && !self.existing_folders_only {
            may_exist(mkdirat(&root, &name, private))?;
        }
        let session = openat(&root, &name, folder, Mode::empty())?;
        if access == Access::Write {
            may_exist(mkdirat(&session, "output", private))?;
        }
        let output = openat(&session, "output", folder, Mode::empty())?;
        let flags = OFlags::NOFOLLOW
            | OFlags::CLOEXEC
            | match access {
                Access::Read => OFlags::RDONLY,
                Access::Write => OFlags::RDWR | OFlags::CREATE,
            };
        let file = |name| openat(&output, name, flags, Mode::RUSR | Mode::WUSR).map(File::from);
        Ok((file("bytes")?, file("index")?))
    }
}

fn may_exist(made: Result<(), Errno>) -> Result<(), Errno> {
    if made == Err(Errno::EXIST) { Ok(()) } else { made }
}

impl OutputStorage for FileOutput {
    fn writer(&self, id: SessionId) -> Result<Box<dyn OutputWriter>, OutputError> {
        let files = self.files(id, Access::Write)?.ok_or_else(|| {
            // Opening for writing creates missing files.
            OutputError::io("open", self.folder(id))(io::ErrorKind::NotFound.into())
        })?;
        Ok(Box::new(FileWriter::open(files, self.limit)?))
    }

    fn read(&self, id: SessionId, from: u64, limit: usize) -> Result<OutputPage, OutputError> {
        let Some(files) = self.files(id, Access::Read)? else { return Ok(OutputPage::default()) };
        let mut chunks: Vec<Chunk> = Vec::new();
        let (mut taken, mut next, mut position, mut retries) = (0, from, files.entry_at(from)?, 0);
        while taken < limit.max(1) {
            let Some((entry, mut bytes)) = files.checked(position)? else { break };
            if entry.offset > next {
                // The chunk before it has grown since it was read.
                retries += 1;
                if retries > READ_ATTEMPTS || position == 0 {
                    return Err(OutputError::Damaged { id, offset: next });
                }
                position -= 1;
                continue;
            }
            position += 1;
            let Tag::Chunk { stream, after_gap } = entry.tag else { break };
            if entry.end() <= next {
                continue;
            }
            let skip = usize::try_from(next - entry.offset).unwrap_or(usize::MAX);
            bytes.drain(..skip.min(bytes.len()));
            let after_gap = after_gap && skip == 0;
            taken += bytes.len();
            chunks.push(Chunk {
                offset: next,
                stream,
                attempt: entry.attempt,
                at: entry.at,
                after_gap,
                bytes,
            });
            (next, retries) = (entry.end(), 0);
        }
        Ok(OutputPage { chunks })
    }

    fn length(&self, id: SessionId) -> Result<OutputLength, OutputError> {
        let Some(files) = self.files(id, Access::Read)? else { return Ok(OutputLength::default()) };
        Ok(files.last()?.map_or(OutputLength::default(), |(_, entry)| OutputLength {
            bytes: entry.end(),
            cut: entry.cut(),
        }))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}
