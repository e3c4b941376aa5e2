//! What makes a folder a store: the look at a path before anything is done with it, and the making of a new store.

use std::io;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use session_core::{FileSystem, StorageError};
use uuid::Uuid;

use crate::disk::{Disk, DiskFile, Kind, LockMode, Open};
use crate::error::IoContext;
use crate::layout::{FOLDERS, Layout, NAMES};
use crate::lock;
use crate::scan::read_exactly;
use crate::slots::write_all;
use crate::store::Store;

/// The format of the store's folders; that of a log stands in its first record.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct FormatFile {
    format: u32,
    store: Uuid,
}

/// What a path holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// A store.
    Store,
    /// Nothing, or the beginnings of a store.
    Empty,
}

/// Looks whether a path is a store of ours, or can become one. Changes nothing.
pub(crate) fn probe(disk: &dyn Disk, layout: &Layout) -> Result<Probe, StorageError> {
    let root = layout.root();
    check_file_system(disk, root)?;
    match kind(disk, root)? {
        None => return Ok(Probe::Empty),
        Some(Kind::Dir) => {}
        Some(Kind::File | Kind::Other) => {
            return unavailable(format!("{} is not a folder: name a folder, or none yet", root.display()));
        }
    }
    let names = disk.read_dir(root).context("list", root)?;
    for folder in FOLDERS {
        let path = root.join(folder);
        if names.iter().any(|name| name == folder) && kind(disk, &path)? != Some(Kind::Dir) {
            return unavailable(format!("{} is not a folder: put it away and try again", path.display()));
        }
    }
    if names.iter().any(|name| name == "FORMAT") {
        return read_format(disk, &layout.format()).map(|()| Probe::Store);
    }
    if let Some(foreign) = names.iter().find(|name| !NAMES.contains(&name.as_str())) {
        return unavailable(format!(
            "{} is not a store and holds other things ({foreign:?}): choose an empty or new folder",
            root.display()
        ));
    }
    let sessions = layout.sessions();
    if names.iter().any(|name| name == "sessions")
        && !disk.read_dir(&sessions).context("list", &sessions)?.is_empty()
    {
        // FORMAT is there before the first session is: somebody made both since the look above, or it was lost, and with
        // it what says how to read the rest.
        if kind(disk, &layout.format())?.is_some() {
            return read_format(disk, &layout.format()).map(|()| Probe::Store);
        }
        return unavailable(format!(
            "{} has sessions and no file FORMAT: put it back, it reads {{\"format\":{FORMAT},\"store\":\"<uuid>\"}}",
            root.display()
        ));
    }
    Ok(Probe::Empty)
}

fn check_file_system(disk: &dyn Disk, root: &Path) -> Result<(), StorageError> {
    let mut existing = root;
    while existing != parent_of(existing) && kind(disk, existing)?.is_none() {
        existing = parent_of(existing);
    }
    match disk.file_system(existing).context("look at", existing)? {
        FileSystem::Remote { name } => unavailable(format!(
            "{} is on {name}, where locks and flushes may not hold what they promise: choose a folder on a local disk",
            root.display()
        )),
        FileSystem::Local => Ok(()),
        other => unavailable(format!("{} is on an unknown kind of file system ({other:?})", root.display())),
    }
}

/// The folder that a path is in; the path itself where it is in none.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

fn kind(disk: &dyn Disk, path: &Path) -> Result<Option<Kind>, StorageError> {
    match disk.kind(path) {
        // A parent is a file: what is named does not exist, and the parent is what is looked at next.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
        result => Ok(result.context("look at", path)?.map(|(kind, _)| kind)),
    }
}

fn read_format(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    if kind(disk, path)? != Some(Kind::File) {
        return unavailable(format!(
            "{} is not a regular file: put it away and the right one back",
            path.display()
        ));
    }
    let file = disk.open(path, Open::Read).context("open", path)?;
    let length = file.len().context("look at", path)?;
    // A newer version's file may say more, but no book.
    let text =
        read_exactly(&*file, 0, usize::try_from(length.min(4096)).unwrap_or(4096)).context("read", path)?;
    let json: serde_json::Value =
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or(serde_json::Value::Null);
    match json.get("format").and_then(serde_json::Value::as_u64) {
        Some(newer) if newer > u64::from(FORMAT) => Err(StorageError::UnsupportedFormat {
            what: format!("the store of format {newer} that {} speaks of", path.display()),
            source: None,
        }),
        Some(1) if serde_json::from_value::<FormatFile>(json).is_ok() => Ok(()),
        _ => unavailable(format!(
            "{} is damaged: put it right, it reads {{\"format\":{FORMAT},\"store\":\"<uuid>\"}}",
            path.display()
        )),
    }
}

fn unavailable<T>(what: String) -> Result<T, StorageError> {
    Err(StorageError::Unavailable { what, source: None })
}

impl Store {
    /// Looks at the path again until a store is found there; afterwards it is one.
    pub(crate) fn exists(&self) -> Result<bool, StorageError> {
        if self.ready.get().is_some() {
            return Ok(true);
        }
        let found = probe(&*self.disk, &self.layout)? == Probe::Store;
        if found {
            self.ready.get_or_init(|| ());
        }
        Ok(found)
    }

    /// Takes the store's lock, making the store if there is none.
    pub(crate) fn lock_store(
        &self,
        if_missing: CreateIfMissing,
        deadline: Instant,
    ) -> Result<Option<StoreLock>, StorageError> {
        let path = self.layout.lock();
        let found = probe(&*self.disk, &self.layout)?;
        if found == Probe::Empty && if_missing == CreateIfMissing::No {
            return Ok(None);
        }
        if found == Probe::Empty {
            self.create_root(self.layout.root())?;
        }
        let file = loop {
            let file = self.disk.open(&path, Open::CreateIfAbsent).context("open", &path)?;
            lock::acquire(&*file, &path, LockMode::Exclusive, deadline)?;
            // Whoever waited for a lock file that was removed meanwhile holds nothing.
            let named = self.disk.kind(&path).context("look at", &path)?.map(|(_, identity)| identity);
            if named == Some(file.identity().context("look at", &path)?) {
                break file;
            }
        };
        let lock = StoreLock(file);
        if found == Probe::Empty && probe(&*self.disk, &self.layout)? == Probe::Empty {
            self.create_store()?;
        }
        if if_missing == CreateIfMissing::Yes && self.root_synced.get().is_none() {
            self.sync_root()?;
            self.root_synced.get_or_init(|| ());
        }
        Ok(Some(lock))
    }

    /// Makes sure that the store itself is durable: whoever made it may have died one flush too early.
    fn sync_root(&self) -> Result<(), StorageError> {
        let root = self.layout.root();
        self.disk.sync_dir(root).context("flush", root)?;
        let parent = parent_of(root);
        match self.disk.sync_dir(parent) {
            // Who may not read the parent has not made the store's folder in it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            result => result.context("flush", parent),
        }
    }

    /// Makes a folder and those above it, each durable in its parent.
    fn create_root(&self, path: &Path) -> Result<(), StorageError> {
        let parent = parent_of(path);
        match self.disk.create_dir(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.create_root(parent)?;
                match self.disk.create_dir(path) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(error).context("create", path);
                    }
                    _ => {}
                }
            }
            Err(error) => return Err(error).context("create", path),
        }
        // Also if it was there: whoever made it may not have come this far.
        self.disk.sync_dir(parent).context("flush", parent)
    }

    /// Makes those of the store's folders that are missing; the lock is held.
    pub(crate) fn create_folders(&self) -> Result<(), StorageError> {
        let root = self.layout.root();
        let mut created = false;
        for folder in FOLDERS {
            let path = root.join(folder);
            if !self.is_folder(&path)? {
                match self.disk.create_dir(&path) {
                    // Owners announce themselves without the store's lock.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    result => result.context("create", &path)?,
                }
                created = true;
            }
        }
        if created { self.disk.sync_dir(root).context("flush", root) } else { Ok(()) }
    }

    /// Makes the store in its folder, FORMAT last; the lock is held.
    fn create_store(&self) -> Result<(), StorageError> {
        let root = self.layout.root();
        self.create_folders()?;
        let staged = self.layout.stage().join("FORMAT");
        let content = serde_json::to_string(&FormatFile { format: FORMAT, store: Uuid::new_v4() })
            .expect("a number and an id are always JSON");
        self.remove_tree(&staged)?;
        let file = self.disk.open(&staged, Open::Create).context("create", &staged)?;
        write_all(&*file, format!("{content}\n").as_bytes(), 0).context("write", &staged)?;
        file.sync().context("flush", &staged)?;
        self.disk.rename_new(&staged, &self.layout.format()).context("rename", &staged)?;
        self.disk.sync_dir(root).context("flush", root)
    }
}

/// Whether a store is made where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CreateIfMissing {
    Yes,
    No,
}

/// The store's lock, held until this goes.
#[derive(Debug)]
pub(crate) struct StoreLock(Box<dyn DiskFile>);

impl Drop for StoreLock {
    fn drop(&mut self) {
        // Closing the file right after lets go as well.
        drop(self.0.unlock());
    }
}
