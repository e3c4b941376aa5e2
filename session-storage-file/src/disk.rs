//! The file system interface of this backend: every system call that it uses, and no other. Tests cut the power after
//! each call, fail each, and tear each write.

mod real;

use std::fmt;
use std::io;
use std::path::Path;

use session_core::backend::FileSystem;

pub use self::real::RealDisk;

/// The mode in which a file is opened. A symbolic link as the last component is never followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; it must not exist. Mode 0600.
    Create,
    /// For reading and writing; created with mode 0600 if it does not exist.
    CreateIfAbsent,
}

/// The type of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link, or anything else that a store does not hold.
    Other,
}

/// The identity of a file: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The device.
    pub device: u64,
    /// The inode.
    pub inode: u64,
}

/// The mode of a file lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Shared with other shared holders.
    Shared,
    /// Exclusive.
    Exclusive,
}

/// A file system, reduced to what the backend needs. Every call can fail as the system call can.
#[expect(
    clippy::missing_errors_doc,
    reason = "every call fails as the system says, and the caller translates it"
)]
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>>;
    /// Creates a folder with mode 0700; its parent must exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Returns the names in a folder, in no particular order.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Renames a file or folder, and replaces an existing file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames a file or folder; fails with `AlreadyExists` if the target exists.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Flushes a folder, so that what was created, renamed and removed in it survives power loss.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Returns the type and identity of a directory entry, without following a link at its end; `None` if it
    /// does not exist.
    fn kind(&self, path: &Path) -> io::Result<Option<(Kind, Identity)>>;
    /// Returns the kind of file system that a folder is on.
    fn file_system(&self, path: &Path) -> io::Result<FileSystem>;
    /// Returns the boot id: a different text after each reboot or power loss, the same one until then.
    fn boot(&self) -> io::Result<String>;
}

/// An open file. Every call can fail as the system call can.
#[expect(
    clippy::len_without_is_empty,
    clippy::missing_errors_doc,
    reason = "every call fails as the system says, and the caller translates it"
)]
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Returns the identity of the file.
    fn identity(&self) -> io::Result<Identity>;
    /// Returns the length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Reads at an offset. Fewer bytes than requested are no error; 0 is the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at an offset. Fewer bytes than given are no error.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Truncates or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Flushes the file's bytes and length, so that they survive power loss. After an error nothing is known
    /// about what was written since the last success, and another call may succeed without having written it.
    fn sync(&self) -> io::Result<()>;
    /// Tries to take the file's kernel lock. It is held until `unlock` or until the file is closed.
    fn try_lock(&self, mode: LockMode) -> io::Result<bool>;
    /// Releases the lock.
    fn unlock(&self) -> io::Result<()>;
}
