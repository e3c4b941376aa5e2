//! What makes a folder a store: the look at a path before anything is done with it, and the file that says so.

use std::io::Write as _;

use session_core::StorageError;
use session_storage_engine::{FileKind, Folders, IoContext as _, StoreId, refuse_remote, stat_path};

use crate::error::unavailable;
use crate::files::{self, OpenMode};
use crate::layout::{FOLDERS, KNOWN_NAMES, Layout};

/// The format of the store: of its folders, and of the rows in sled.
const FORMAT: u64 = 1;
/// The file is a line; a newer version's may say more, but no book.
const MAX_BYTES: u64 = 4096;

/// Looks whether a path is a store of ours, or can become one. Changes nothing. `None` for nothing, or the beginnings of
/// a store.
pub(crate) fn detect(layout: &Layout) -> Result<Option<StoreId>, StorageError> {
    let root = layout.root();
    refuse_remote(root)?;
    match stat_path(root).context("look at", root)? {
        None => return Ok(None),
        Some((FileKind::Folder, _)) => {}
        // The path of the store itself may be a link: it is the user's, and below it no link is followed.
        Some((FileKind::Other, _)) if root.is_dir() => {}
        Some((FileKind::File | FileKind::Other, _)) => {
            return Err(unavailable(format!(
                "{} is not a folder: name a folder, or none yet",
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
            "{} is not a sled store and holds other things ({foreign:?}): choose an empty or new folder",
            root.display()
        )));
    }
    if names.iter().any(|name| name == "marks") {
        // FORMAT is there before the first mark is: it was lost, and with it the store's id.
        return Err(unavailable(format!(
            "{} has sessions and no file FORMAT: put it back, it reads {{\"sled\":{FORMAT},\"id\":\"<uuid>\"}} with the id \
             in the first line of `marks`",
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
    // The fields are not named as a file store's are: neither takes the other for its own.
    match json.get("sled").and_then(serde_json::Value::as_u64) {
        Some(newer) if newer > FORMAT => Err(StorageError::UnsupportedFormat {
            what: format!("the store of format {newer} that {} speaks of", path.display()),
            source: None,
        }),
        None if json.get("format").is_some() => Err(unavailable(format!(
            "{} is a store of another backend: open it as what it is, as in `file:PATH`",
            layout.root().display()
        ))),
        _ => json.get("id").and_then(|id| id.as_str()?.parse().ok()).ok_or_else(|| {
            unavailable(format!(
                "{} is damaged: put it right, it reads {{\"sled\":{FORMAT},\"id\":\"<uuid>\"}}",
                path.display()
            ))
        }),
    }
}

/// Makes the folder a store: what this file names is durable before it is.
pub(crate) fn write(layout: &Layout, id: StoreId) -> Result<(), StorageError> {
    let path = layout.format();
    // Never there in part: it is renamed in whole.
    let staged = layout.staged();
    files::remove(&staged)?;
    let mut file = files::open(&staged, OpenMode::CreateNew).context("create", &staged)?;
    file.write_all(format!("{{\"sled\":{FORMAT},\"id\":\"{id}\"}}\n").as_bytes())
        .context("write", &staged)?;
    file.sync_all().context("flush", &staged)?;
    std::fs::rename(&staged, &path).context("rename", &staged)?;
    files::sync_folder(layout.root())
}
