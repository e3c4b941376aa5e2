//! The store's format file: probing a path before it is used, and creating a new store. The repair of a damaged one is
//! in `format_repair`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use session_core::backend::FileSystem;
use session_core::{SessionId, StorageError};
use uuid::Uuid;

use crate::disk::{Disk, DiskFile, Kind, LockMode, Open};
use crate::error::IoContext;
use crate::layout::{FOLDERS, Layout, NAMES};
use crate::lock;
use crate::scan::read_exactly;
use crate::slots::write_all;
use crate::store::{Purpose, Store};

/// The format of the store's folders; each log has its own format in its first record.
const FORMAT: u32 = 1;

/// The largest size read of the file: a newer version's file may have more fields, but not a book's worth.
const MAX_BYTES: u64 = 4096;

#[derive(Serialize, Deserialize)]
struct FormatFile {
    format: u32,
    store: Uuid,
}

/// The result of probing a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// A store.
    Store,
    /// Nothing, or a store whose creation did not finish.
    Empty,
    /// A store without a usable `FORMAT`.
    Damaged(FormatDamage),
}

/// The damage of the file `FORMAT` of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FormatDamage {
    /// The file is missing, but there are sessions.
    Missing,
    /// The file has other content.
    Content {
        /// The store's id, if that can still be read.
        store: Option<Uuid>,
    },
    /// A folder, a link or something else is at its path.
    NotRegular,
}

impl FormatDamage {
    /// Describes the damage.
    pub(crate) fn problem(self, layout: &Layout) -> String {
        let path = layout.format();
        match self {
            Self::Missing => format!("{} has sessions but no file FORMAT", layout.root().display()),
            Self::Content { .. } => format!("{} is damaged", path.display()),
            Self::NotRegular => format!("{} is not a regular file", path.display()),
        }
    }

    /// Returns the error of every operation but the repair.
    fn error(self, layout: &Layout) -> StorageError {
        let problem = self.problem(layout);
        StorageError::StoreDamaged {
            what: format!(
                "{problem}: `sessionctl verify --repair` rebuilds it from the logs of the sessions"
            ),
        }
    }
}

impl Probe {
    /// Returns the error of a damaged store.
    pub(crate) fn intact(self, layout: &Layout) -> Result<Self, StorageError> {
        match self {
            Self::Damaged(damage) => Err(damage.error(layout)),
            Self::Store | Self::Empty => Ok(self),
        }
    }
}

/// Checks if a path is a store, or can become one. Read-only.
pub(crate) fn probe(disk: &dyn Disk, layout: &Layout) -> Result<Probe, StorageError> {
    let root = layout.root();
    check_file_system(disk, root)?;
    match kind(disk, root)? {
        None => return Ok(Probe::Empty),
        Some(Kind::Dir) => {}
        Some(Kind::File | Kind::Other) => {
            return unavailable(format!(
                "{} is not a folder: choose a folder, or a path that does not exist yet",
                root.display()
            ));
        }
    }
    let names = disk.read_dir(root).context("list", root)?;
    for folder in FOLDERS {
        let path = root.join(folder);
        if names.iter().any(|name| name == folder) && kind(disk, &path)? != Some(Kind::Dir) {
            return unavailable(format!(
                "{} is not a folder: move it elsewhere, then try again",
                path.display()
            ));
        }
    }
    if names.iter().any(|name| name == "FORMAT") {
        let probe = read_format(disk, layout)?;
        if matches!(probe, Probe::Damaged(_)) && !names.iter().any(|name| name == "sessions") {
            return unavailable(format!(
                "{} is not the file of a store, and there are no sessions: restore it as \
                 {{\"format\":{FORMAT},\"store\":\"<uuid>\"}}, or remove it",
                layout.format().display()
            ));
        }
        return Ok(probe);
    }
    let sessions = if names.iter().any(|name| name == "sessions") {
        disk.read_dir(&layout.sessions()).context("list", &layout.sessions())?
    } else {
        Vec::new()
    };
    let foreign = names.iter().find(|name| !NAMES.contains(&name.as_str()));
    if let Some(foreign) = foreign
        && !sessions.iter().any(|name| name.parse::<SessionId>().is_ok())
    {
        return unavailable(format!(
            "{} is not a store and contains other files ({foreign:?}): choose an empty or new folder",
            root.display()
        ));
    }
    if !sessions.is_empty() {
        // FORMAT is created before the first session: either another process created both since the check above, or
        // FORMAT was lost, and with it the information about how to read the rest.
        return match kind(disk, &layout.format())? {
            Some(_) => read_format(disk, layout),
            None => Ok(Probe::Damaged(FormatDamage::Missing)),
        };
    }
    Ok(Probe::Empty)
}

fn check_file_system(disk: &dyn Disk, root: &Path) -> Result<(), StorageError> {
    let mut existing = root;
    while existing != parent_of(existing) && kind(disk, existing)?.is_none() {
        existing = parent_of(existing);
    }
    match disk.file_system(existing).context("stat", existing)? {
        FileSystem::Remote { name } => unavailable(format!(
            "{} is on {name}, where locks and flushes are unreliable: choose a folder on a local disk",
            root.display()
        )),
        FileSystem::Local => Ok(()),
        other => unavailable(format!("{} is on an unknown kind of file system ({other:?})", root.display())),
    }
}

/// Returns the parent folder of a path; the path itself if it has none.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

fn kind(disk: &dyn Disk, path: &Path) -> Result<Option<Kind>, StorageError> {
    match disk.kind(path) {
        // A parent is a file: the path does not exist, and the caller checks the parent next.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
        result => Ok(result.context("stat", path)?.map(|(kind, _)| kind)),
    }
}

/// Reads FORMAT, which is or was there.
fn read_format(disk: &dyn Disk, layout: &Layout) -> Result<Probe, StorageError> {
    let path = layout.format();
    match kind(disk, &path)? {
        Some(Kind::File) => {}
        // Another process is repairing it.
        None => return Ok(Probe::Damaged(FormatDamage::Missing)),
        Some(Kind::Dir | Kind::Other) => return Ok(Probe::Damaged(FormatDamage::NotRegular)),
    }
    let file = disk.open(&path, Open::Read).context("open", &path)?;
    let length = file.len().context("stat", &path)?.min(MAX_BYTES);
    let text = read_exactly(&*file, 0, usize::try_from(length).unwrap_or(0)).context("read", &path)?;
    let text = text.unwrap_or_default();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    // The rest of a newer version's file must not be taken for one of ours.
    let format = json.get("format").and_then(serde_json::Value::as_u64).or_else(|| written_format(&text));
    match format {
        Some(newer) if newer > u64::from(FORMAT) => Err(StorageError::UnsupportedFormat {
            what: format!("the store (format {newer} in {})", path.display()),
            source: None,
        }),
        Some(1) if FormatFile::deserialize(&json).is_ok() => Ok(Probe::Store),
        None if json.get("sled").is_some() => unavailable(format!(
            "{} is a store of another backend: open it with that backend, as in `sled:PATH`",
            layout.root().display()
        )),
        _ => {
            let store = json.get("store").and_then(|store| store.as_str()?.parse().ok());
            Ok(Probe::Damaged(FormatDamage::Content { store }))
        }
    }
}

/// Returns the format that a damaged file still names.
fn written_format(text: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(text);
    let (_, rest) = text.split_once("\"format\":")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn unavailable<T>(what: String) -> Result<T, StorageError> {
    Err(StorageError::Unavailable { what, source: None })
}

impl Store {
    /// Returns `true` if the path is a store. Probes the path again until one is found, and not after that.
    pub(crate) fn exists(&self) -> Result<bool, StorageError> {
        if self.ready.get().is_some() {
            return Ok(true);
        }
        let probe = probe(&*self.disk, &self.layout)?;
        if self.purpose == Purpose::Repair && matches!(probe, Probe::Damaged(_)) {
            return Ok(true);
        }
        let found = probe.intact(&self.layout)? == Probe::Store;
        if found {
            self.ready.get_or_init(|| ());
        }
        Ok(found)
    }

    /// Takes the store's lock. Creates the store first if it does not exist and `if_missing` allows that.
    pub(crate) fn lock_store(
        &self,
        if_missing: CreateIfMissing,
        deadline: Instant,
    ) -> Result<Option<StoreLock>, StorageError> {
        let found = probe(&*self.disk, &self.layout)?.intact(&self.layout)?;
        if found == Probe::Empty && if_missing == CreateIfMissing::No {
            return Ok(None);
        }
        if found == Probe::Empty {
            self.create_root(self.layout.root())?;
        }
        let lock = self.wait_for_lock(deadline)?;
        if found == Probe::Empty && probe(&*self.disk, &self.layout)?.intact(&self.layout)? == Probe::Empty {
            self.create_store()?;
        }
        if if_missing == CreateIfMissing::Yes && self.root_synced.get().is_none() {
            self.sync_root()?;
            self.root_synced.get_or_init(|| ());
        }
        Ok(Some(lock))
    }

    /// Takes the store's lock, whatever the condition of the store is.
    pub(crate) fn wait_for_lock(&self, deadline: Instant) -> Result<StoreLock, StorageError> {
        let path = self.layout.lock();
        loop {
            let file = self.disk.open(&path, Open::CreateIfAbsent).context("open", &path)?;
            lock::acquire(&*file, &path, LockMode::Exclusive, deadline)?;
            // A lock on a file that was removed while this process waited for it protects nothing.
            let named = self.disk.kind(&path).context("stat", &path)?.map(|(_, identity)| identity);
            if named == Some(file.identity().context("stat", &path)?) {
                return Ok(StoreLock(file));
            }
        }
    }

    /// Flushes the store itself: its creator may have died before its last flush.
    fn sync_root(&self) -> Result<(), StorageError> {
        let root = self.layout.root();
        self.disk.sync_dir(root).context("flush", root)?;
        let parent = parent_of(root);
        match self.disk.sync_dir(parent) {
            // A process that may not read the parent has not created the store's folder in it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            result => result.context("flush", parent),
        }
    }

    /// Creates a folder and its parents, each durable in its own parent.
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
        // Also if it existed: its creator may have died before this flush.
        self.disk.sync_dir(parent).context("flush", parent)
    }

    /// Creates the missing folders of the store; the caller holds the lock.
    pub(crate) fn create_folders(&self) -> Result<(), StorageError> {
        let root = self.layout.root();
        let mut created = false;
        for folder in FOLDERS {
            let path = root.join(folder);
            if !self.is_folder(&path)? {
                match self.disk.create_dir(&path) {
                    // Owners register without the store's lock.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    result => result.context("create", &path)?,
                }
                created = true;
            }
        }
        if created { self.disk.sync_dir(root).context("flush", root) } else { Ok(()) }
    }

    /// Creates the store in its folder, FORMAT last; the caller holds the lock.
    fn create_store(&self) -> Result<(), StorageError> {
        self.create_folders()?;
        let staged = self.stage_format(Uuid::new_v4())?;
        self.publish_format(&staged)
    }

    /// Writes and flushes FORMAT under another name; the caller holds the lock.
    pub(crate) fn stage_format(&self, store: Uuid) -> Result<PathBuf, StorageError> {
        let staged = self.layout.stage().join("FORMAT");
        let content = serde_json::to_string(&FormatFile { format: FORMAT, store })
            .expect("a number and an id are always JSON");
        self.remove_tree(&staged)?;
        let file = self.disk.open(&staged, Open::Create).context("create", &staged)?;
        write_all(&*file, format!("{content}\n").as_bytes(), 0).context("write", &staged)?;
        file.sync().context("flush", &staged)?;
        Ok(staged)
    }

    /// Moves FORMAT to its place, where there is none.
    pub(crate) fn publish_format(&self, staged: &Path) -> Result<(), StorageError> {
        let root = self.layout.root();
        self.disk.rename_new(staged, &self.layout.format()).context("rename", staged)?;
        self.disk.sync_dir(root).context("flush", root)
    }
}

/// The choice to create the store if it does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CreateIfMissing {
    Yes,
    No,
}

/// The store's lock, released on drop.
#[derive(Debug)]
pub(crate) struct StoreLock(Box<dyn DiskFile>);

impl Drop for StoreLock {
    fn drop(&mut self) {
        // Closing the file right after releases the lock as well.
        drop(self.0.unlock());
    }
}
