//! The folder of a session's output: which segments there are, and how they are opened without following a link.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, mkdirat, open, openat, unlinkat};
use rustix::io::Errno;
use session_core::SessionId;

use super::index::Form;
use super::output_error::OutputError;
use super::segment::{Segment, SegmentName};

/// The file that the writer locks.
const LOCK: &str = "lock";
/// The two files in which an older version stored all output.
const SINGLE: [&str; 2] = ["bytes", "index"];

/// The way in which a folder is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// The open folder of one session's output.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) id: SessionId,
    fd: OwnedFd,
    path: PathBuf,
}

/// The segments in a folder.
#[derive(Debug)]
pub(crate) struct Listing {
    /// Ascending in offsets.
    pub(crate) segments: Vec<SegmentName>,
    /// `true` if there are the files of an older version.
    pub(crate) has_single: bool,
    /// Names of files without the other file of their segment: a crash came between.
    pub(crate) halves: Vec<String>,
}

impl Folder {
    /// Opens the folder step by step from the root, so that no symbolic link leads out of it. `creates_session` allows
    /// the creation of the root and of the session's folder, too.
    pub(crate) fn open(
        root: &Path,
        id: SessionId,
        access: Access,
        creates_session: bool,
    ) -> Result<Self, io::Error> {
        let (flags, private) = (OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::RWXU);
        let creates_session = creates_session && access == Access::Write;
        if creates_session {
            std::fs::create_dir_all(root)?;
        }
        let root_fd = open(root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let name = id.to_string();
        if creates_session {
            may_exist(mkdirat(&root_fd, &name, private))?;
        }
        let session = openat(&root_fd, &name, flags, Mode::empty())?;
        if access == Access::Write {
            may_exist(mkdirat(&session, "output", private))?;
        }
        let fd = openat(&session, "output", flags, Mode::empty())?;
        Ok(Self { id, fd, path: root.join(name).join("output") })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lists the segments.
    pub(crate) fn list(&self) -> Result<Listing, OutputError> {
        let failed = |error: Errno| OutputError::io("list", &self.path)(error.into());
        let (mut bytes, mut indexes, mut has_single) = (BTreeSet::new(), BTreeSet::new(), false);
        for entry in Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            indexes.extend(SegmentName::of_index(name));
            bytes.extend(SegmentName::of_bytes(name));
            has_single |= name == "index";
        }
        let halves = bytes.difference(&indexes).map(SegmentName::bytes);
        let halves = halves.chain(indexes.difference(&bytes).map(SegmentName::index)).collect();
        Ok(Listing { segments: indexes.intersection(&bytes).copied().collect(), has_single, halves })
    }

    /// Opens a segment; `None` if it was removed.
    pub(crate) fn segment(&self, name: &SegmentName, access: Access) -> Result<Option<Segment>, OutputError> {
        self.files([&name.bytes(), &name.index()], Form::Segment, access)
    }

    /// Opens what an older version stored, for reading.
    pub(crate) fn single(&self) -> Result<Option<Segment>, OutputError> {
        self.files(SINGLE, Form::Single, Access::Read)
    }

    /// Creates a segment. The index is created last: a segment exists once both files do.
    pub(crate) fn create(&self, name: &SegmentName) -> Result<Segment, OutputError> {
        let create = |file: &str| {
            self.file(file, OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)
                .map_err(|error| OutputError::io("create", self.path.join(file))(error))
        };
        let bytes = create(&name.bytes())?;
        let index = create(&name.index()).inspect_err(|_| drop(self.remove_file(&name.bytes())))?;
        Ok(Segment { id: self.id, form: Form::Segment, bytes, index, path: self.path.join(name.index()) })
    }

    /// Removes a segment, its index first: a reader does not expect bytes without one.
    pub(crate) fn remove(&self, name: &SegmentName) -> Result<(), OutputError> {
        self.remove_file(&name.index())?;
        self.remove_file(&name.bytes())
    }

    pub(crate) fn remove_file(&self, name: &str) -> Result<(), OutputError> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(OutputError::io("remove", self.path.join(name))(error.into())),
        }
    }

    /// Becomes the only writer, for as long as the file is open.
    pub(crate) fn lock(&self) -> Result<File, OutputError> {
        let failed = |error| OutputError::io("lock", self.path.join(LOCK))(error);
        let file = self.file(LOCK, OFlags::RDWR | OFlags::CREATE).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(OutputError::Busy { id: self.id }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    fn files(&self, names: [&str; 2], form: Form, access: Access) -> Result<Option<Segment>, OutputError> {
        let flags = if access == Access::Read { OFlags::RDONLY } else { OFlags::RDWR };
        let open = |name: &str| match self.file(name, flags) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some).map_err(OutputError::io("open", self.path.join(name))),
        };
        let [bytes, index] = names;
        let (Some(bytes), Some(opened)) = (open(bytes)?, open(index)?) else { return Ok(None) };
        Ok(Some(Segment { id: self.id, form, bytes, index: opened, path: self.path.join(index) }))
    }

    /// Opens a regular file: anything else, such as a pipe, could block.
    fn file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
        }
        Ok(file.into())
    }
}

fn may_exist(made: Result<(), Errno>) -> Result<(), Errno> {
    if made == Err(Errno::EXIST) { Ok(()) } else { made }
}
