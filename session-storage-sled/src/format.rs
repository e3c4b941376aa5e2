//! The file `FORMAT`, which identifies a folder as a store, and the check of a path before it is used.

use std::io::Write as _;

use session_core::StorageError;
use session_storage_engine::{FileKind, Folders, IoContext as _, StoreId, refuse_remote, stat_path};

use crate::error::unavailable;
use crate::files::{self, OpenMode};
use crate::layout::{FOLDERS, KNOWN_NAMES, Layout};

/// The format version of the store: of its folders and of the rows in sled.
const FORMAT: u64 = 1;
/// The largest size read of the file, which is one line now and may be longer in a newer version.
const MAX_BYTES: u64 = 4096;

/// Checks that a path is a sled store, or can become one. Read-only. `None` if nothing is there, or only an incomplete
/// store.
pub(crate) fn detect(layout: &Layout) -> Result<Option<StoreId>, StorageError> {
    let root = layout.root();
    refuse_remote(root)?;
    match stat_path(root).context("stat", root)? {
        None => return Ok(None),
        Some((FileKind::Folder, _)) => {}
        // The path of the store may be a link of the user; below it no link is followed.
        Some((FileKind::Other, _)) if root.is_dir() => {}
        Some((FileKind::File | FileKind::Other, _)) => {
            return Err(unavailable(format!(
                "{} is not a folder: choose a folder, or a path that does not exist yet",
                root.display()
            )));
        }
    }
    let names = files::names(root)?;
    for folder in FOLDERS.iter().filter(|folder| names.iter().any(|name| name == *folder)) {
        Folders::is_folder(&root.join(folder))?;
    }
    if names.iter().any(|name| name == "FORMAT") {
        return read(layout).map(Some);
    }
    if let Some(foreign) = names.iter().find(|name| !KNOWN_NAMES.contains(&name.as_str())) {
        return Err(unavailable(format!(
            "{} is not a sled store and contains other files ({foreign:?}): choose an empty or new folder",
            root.display()
        )));
    }
    if names.iter().any(|name| name == "marks") {
        // FORMAT is written before the first mark: it was lost, and with it the store's id.
        return Err(unavailable(format!(
            "{} has sessions but no file FORMAT: restore it as {{\"sled\":{FORMAT},\"id\":\"<uuid>\"}} with the id in the \
             first line of `marks`",
            root.display()
        )));
    }
    Ok(None)
}

fn read(layout: &Layout) -> Result<StoreId, StorageError> {
    let path = layout.format();
    Folders::is_file(&path)?;
    let bytes = files::read_start(&path, MAX_BYTES)?.unwrap_or_default();
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    // The field names differ from those of a file store, so that neither storage opens the other's store.
    match json.get("sled").and_then(serde_json::Value::as_u64) {
        Some(newer) if newer > FORMAT => Err(StorageError::UnsupportedFormat {
            what: format!("the store (format {newer} in {})", path.display()),
            source: None,
        }),
        None if json.get("format").is_some() => Err(unavailable(format!(
            "{} is a store of another backend: open it with that backend, as in `file:PATH`",
            layout.root().display()
        ))),
        _ => json.get("id").and_then(|id| id.as_str()?.parse().ok()).ok_or_else(|| {
            unavailable(format!(
                "{} is damaged: restore it as {{\"sled\":{FORMAT},\"id\":\"<uuid>\"}}",
                path.display()
            ))
        }),
    }
}

/// Writes `FORMAT`, which completes the creation of a store. The database must be flushed before.
pub(crate) fn write(layout: &Layout, id: StoreId) -> Result<(), StorageError> {
    let path = layout.format();
    // Written under another name and renamed, so that it never exists incomplete.
    let staged = layout.staged();
    files::remove(&staged)?;
    let mut file = files::open(&staged, OpenMode::CreateNew).context("create", &staged)?;
    file.write_all(format!("{{\"sled\":{FORMAT},\"id\":\"{id}\"}}\n").as_bytes())
        .context("write", &staged)?;
    file.sync_all().context("flush", &staged)?;
    std::fs::rename(&staged, &path).context("rename", &staged)?;
    files::sync_folder(layout.root())
}
