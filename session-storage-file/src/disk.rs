//! The seam: every call that the backend makes on a disk, and no other. Tests cut the power after each, fail each,
//! and tear each write.

mod real;

use std::fmt;
use std::io;
use std::path::Path;

use session_core::FileSystem;

pub use self::real::RealDisk;

/// How a file is opened. No symbolic link is ever followed at the last component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; it must not exist. Mode 0600.
    Create,
    /// For reading and writing; made with mode 0600 if it does not exist.
    CreateIfAbsent,
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link, or anything else that a store does not hold.
    Other,
}

/// What tells a file from every other one that exists: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The device.
    pub device: u64,
    /// The inode.
    pub inode: u64,
}

/// Who else may hold a lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Other shared holders.
    Shared,
    /// Nobody.
    Exclusive,
}

/// A file system, as little of it as the backend needs. Every call can fail as the system's own can.
#[expect(
    clippy::missing_errors_doc,
    reason = "every call fails as the system says, and the caller translates it"
)]
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>>;
    /// Makes a folder, mode 0700; its parent must exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, in no order.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Renames a file or folder over whatever file is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames a file or folder; `AlreadyExists` if something is there.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Makes what was created, renamed and removed in a folder survive power loss.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// What a path names, without following a link at its end; `None` where there is nothing.
    fn kind(&self, path: &Path) -> io::Result<Option<(Kind, Identity)>>;
    /// What file system a folder is on.
    fn file_system(&self, path: &Path) -> io::Result<FileSystem>;
    /// What names this run of the machine: another text after each reboot or loss of power, the same one until then.
    fn boot(&self) -> io::Result<String>;
}

/// An open file. Every call can fail as the system's own can.
#[expect(
    clippy::len_without_is_empty,
    clippy::missing_errors_doc,
    reason = "every call fails as the system says, and the caller translates it"
)]
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// What tells the file from every other one.
    fn identity(&self) -> io::Result<Identity>;
    /// How long it is, in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Reads from an offset; fewer bytes than asked for are no error, 0 is the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at an offset; fewer bytes than given are no error.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes the file's bytes and length survive power loss. After an error nothing is known of what was written since
    /// the last success, and another call may succeed without having written it.
    fn sync(&self) -> io::Result<()>;
    /// Takes the file's kernel lock if nobody is in the way; it is held until `unlock` or until the file is closed.
    fn try_lock(&self, mode: LockMode) -> io::Result<bool>;
    /// Lets go of the lock.
    fn unlock(&self) -> io::Result<()>;
}
