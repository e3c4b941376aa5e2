//! Location of the lock files: a path, and the check that kernel locks can be trusted on its file system.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::lock_dir::LockDir;
use super::system::FileSystem;
use crate::storage::StorageError;

/// The path of a folder of lock files. It is opened, and its file system checked, for each use.
#[derive(Debug, Clone)]
pub(super) struct LockRoot {
    path: Arc<Path>,
    file_system: fn(&Path) -> io::Result<FileSystem>,
}

impl LockRoot {
    pub(super) fn new(path: Arc<Path>, file_system: fn(&Path) -> io::Result<FileSystem>) -> Self {
        Self { path, file_system }
    }

    /// Opens the folder, creating it if necessary.
    pub(super) fn create(&self) -> Result<LockDir, StorageError> {
        self.check_file_system()?;
        LockDir::create(&self.path).map_err(|error| self.failed("cannot be created", error))
    }

    /// Opens the folder; `None` if it does not exist.
    pub(super) fn open(&self) -> Result<Option<LockDir>, StorageError> {
        self.check_file_system()?;
        LockDir::open(&self.path).map_err(|error| self.failed("cannot be opened", error))
    }

    /// Checks the file system at every call, since mounts can change. For a folder that does not exist yet, its nearest
    /// existing parent decides.
    fn check_file_system(&self) -> Result<(), StorageError> {
        for path in self.path.ancestors() {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            match (self.file_system)(path) {
                Ok(FileSystem::Local) => return Ok(()),
                Ok(FileSystem::Remote { name }) => {
                    return Err(StorageError::Unavailable {
                        what: format!(
                            "{} is on {name}, where kernel locks are not reliable: use a local file system",
                            self.path.display()
                        ),
                        source: None,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.failed("cannot be checked", error)),
            }
        }
        Ok(())
    }

    pub(super) fn failed(&self, how: &str, error: io::Error) -> StorageError {
        // A process that reaches its file size limit cannot write more, as on a full disk.
        let full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        let source = Arc::new(error);
        if full {
            StorageError::Full { what: format!("the lock files in {}", self.path.display()), source }
        } else {
            let what = format!("the folder of lock files {} {how}", self.path.display());
            StorageError::Unavailable { what, source: Some(source) }
        }
    }
}
