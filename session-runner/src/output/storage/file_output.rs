//! Output in files: `folder` finds and opens them, `segment` reads one with its `index`, `merge` reads all of them in
//! order, and `writer` writes them.

use std::io;
use std::path::PathBuf;

use session_core::SessionId;

use super::folder::{Access, Folder};
use super::merge::Merge;
use super::segment::Segment;
use super::writer::FileWriter;
use super::{OutputError, OutputLength, OutputLimits, OutputPage, OutputStorage, OutputStream, OutputWriter};

/// A storage of captured output in files on this machine: in `output` in a folder for each session.
#[derive(Debug, Clone)]
pub struct FileOutput {
    root: PathBuf,
    /// `true` to use only existing folders of sessions, which the session storage creates and removes.
    existing_folders_only: bool,
}

impl FileOutput {
    /// Stores output in a folder of its own, which is created when it is needed.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { root: folder.into(), existing_folders_only: false }
    }

    /// Stores output in the folders that a storage keeps for its sessions, each named after its session. Only existing
    /// folders are used, and the output is removed with its session.
    #[must_use]
    pub fn in_session_folders(sessions: impl Into<PathBuf>) -> Self {
        Self { existing_folders_only: true, ..Self::new(sessions) }
    }

    /// Returns the folder of a session's output.
    #[must_use]
    pub fn folder(&self, id: SessionId) -> PathBuf {
        self.root.join(id.to_string()).join("output")
    }

    pub(super) fn open(&self, id: SessionId, access: Access) -> Result<Option<Folder>, OutputError> {
        match Folder::open(&self.root, id, access, !self.existing_folders_only) {
            Ok(folder) => Ok(Some(folder)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && access == Access::Read => Ok(None),
            Err(error) => Err(OutputError::io("open", self.folder(id))(error)),
        }
    }
}

impl OutputStorage for FileOutput {
    fn writer(&self, id: SessionId, limits: OutputLimits) -> Result<Box<dyn OutputWriter>, OutputError> {
        let folder = self.open(id, Access::Write)?.ok_or_else(|| {
            // Opening for writing creates what is missing.
            OutputError::io("open", self.folder(id))(io::ErrorKind::NotFound.into())
        })?;
        Ok(Box::new(FileWriter::open(folder, limits)?))
    }

    fn read(&self, id: SessionId, from: u64, limit: usize) -> Result<OutputPage, OutputError> {
        let Some(folder) = self.open(id, Access::Read)? else { return Ok(OutputPage::default()) };
        let mut merge = Merge::open(&folder, from)?;
        let (mut chunks, mut taken) = (Vec::new(), 0);
        while taken < limit.max(1)
            && let Some(chunk) = merge.next()?
        {
            taken += chunk.bytes.len();
            chunks.push(chunk);
        }
        Ok(OutputPage { chunks })
    }

    fn length(&self, id: SessionId) -> Result<OutputLength, OutputError> {
        let Some(folder) = self.open(id, Access::Read)? else { return Ok(OutputLength::default()) };
        let listing = folder.list()?;
        let mut length = OutputLength::default();
        let mut add = |segment: &Segment| -> Result<bool, OutputError> {
            let last = segment.last()?;
            if let Some((_, entry)) = &last {
                entry.extend(&mut length);
            }
            Ok(last.is_some())
        };
        if listing.has_single
            && let Some(single) = folder.single()?
        {
            add(&single)?;
        }
        for stream in OutputStream::ALL {
            for name in listing.segments.iter().rev().filter(|name| name.stream == stream) {
                // A segment without an entry has just been created, or was torn by a crash.
                if let Some(segment) = folder.segment(name, Access::Read)?
                    && add(&segment)?
                {
                    break;
                }
            }
        }
        Ok(length)
    }
}
