//! The file `FORMAT`, which identifies a folder as a store, and the check of a path before it is used. The repair of a
//! damaged one is in `format_repair`.

use std::io::Write as _;

use session_core::StorageError;
use session_storage_engine::{FileKind, Folders, IoContext as _, Marks, StoreId, refuse_remote, stat_path};

use crate::error::unavailable;
use crate::files::{self, OpenMode};
use crate::layout::{FOLDERS, KNOWN_NAMES, Layout};
use crate::options::Purpose;

/// The format version of the store: of its folders and of the rows in sled.
const FORMAT: u64 = 1;
/// The largest size read of the file, which is one line now and may be longer in a newer version.
const MAX_BYTES: u64 = 4096;

/// The result of checking a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Nothing, or an incomplete store.
    Missing,
    /// A store.
    Store(StoreId),
    /// A store without a usable `FORMAT`.
    Damaged(FormatDamage),
}

/// The damage of the file `FORMAT` of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FormatDamage {
    /// The file is missing.
    Missing,
    /// The file has other content.
    Content,
    /// A folder, a link or something else is at its path.
    NotRegular,
    /// The file names another store than the marks.
    OtherStore {
        /// The store that the file names.
        named: StoreId,
        /// The store that the marks belong to.
        marks: StoreId,
    },
}

impl FormatDamage {
    /// Describes the damage.
    pub(crate) fn problem(self, layout: &Layout) -> String {
        let path = layout.format();
        let path = path.display();
        match self {
            Self::Missing => format!("{} has sessions but no file FORMAT", layout.root().display()),
            Self::Content => format!("{path} is damaged"),
            Self::NotRegular => format!("{path} is not a regular file"),
            Self::OtherStore { named, marks } => {
                format!("{path} names store {named}, but the file `marks` belongs to store {marks}")
            }
        }
    }

    /// Returns the error of every operation but the repair.
    pub(crate) fn error(self, layout: &Layout) -> StorageError {
        let problem = self.problem(layout);
        StorageError::StoreDamaged {
            what: format!(
                "{problem}: `sessionctl verify --repair` rebuilds it from the marks and the database"
            ),
        }
    }

    /// Returns the error of a repair that is not possible.
    pub(crate) fn refusal(self, layout: &Layout, why: &str) -> StorageError {
        StorageError::StoreDamaged { what: format!("{}, and {why}", self.problem(layout)) }
    }
}

/// The identity of an existing store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) store: StoreId,
    /// Set if the id comes from the marks.
    pub(crate) damage: Option<FormatDamage>,
}

/// Returns the identity of the store; `None` if there is none, or only an incomplete one. Read-only.
pub(crate) fn identify(layout: &Layout, purpose: Purpose) -> Result<Option<Identity>, StorageError> {
    let damage = match (probe(layout)?, purpose) {
        (Probe::Missing, _) => return Ok(None),
        (Probe::Store(store), Purpose::Work) => return Ok(Some(Identity { store, damage: None })),
        (Probe::Store(store), Purpose::Repair) => match other_store(layout, store)? {
            None => return Ok(Some(Identity { store, damage: None })),
            Some(damage) => damage,
        },
        (Probe::Damaged(damage), Purpose::Work) => return Err(damage.error(layout)),
        (Probe::Damaged(damage), Purpose::Repair) => damage,
    };
    let marks = Marks::read_summary(&layout.folders().marks())?;
    let Some(store) = marks.and_then(|marks| marks.store) else {
        return Err(
            damage.refusal(layout, "the file `marks`, which names the store too, is missing or damaged")
        );
    };
    Ok(Some(Identity { store, damage: Some(damage) }))
}

/// Returns the damage if the marks belong to another store than the one that `FORMAT` names.
pub(crate) fn other_store(layout: &Layout, named: StoreId) -> Result<Option<FormatDamage>, StorageError> {
    let marks = Marks::read_summary(&layout.folders().marks())?.and_then(|marks| marks.store);
    Ok(marks.filter(|marks| *marks != named).map(|marks| FormatDamage::OtherStore { named, marks }))
}

/// Checks that a path is a sled store, or can become one. Read-only. `None` if nothing is there, or only an incomplete
/// store.
pub(crate) fn detect(layout: &Layout) -> Result<Option<StoreId>, StorageError> {
    identify(layout, Purpose::Work).map(|identity| identity.map(|identity| identity.store))
}

fn probe(layout: &Layout) -> Result<Probe, StorageError> {
    let root = layout.root();
    refuse_remote(root)?;
    match stat_path(root).context("stat", root)? {
        None => return Ok(Probe::Missing),
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
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    for folder in FOLDERS.iter().filter(|folder| has(folder)) {
        Folders::is_folder(&root.join(folder))?;
    }
    if has("FORMAT") {
        let probe = read(layout)?;
        if matches!(probe, Probe::Damaged(_)) && !has("db") && !has("marks") {
            return Err(unavailable(format!(
                "{} is not the file of a store, and there is no database: restore the store, or remove that file",
                layout.format().display()
            )));
        }
        return Ok(probe);
    }
    let foreign = names.iter().find(|name| !KNOWN_NAMES.contains(&name.as_str()));
    // FORMAT is written before the first mark: it was lost, and with it the store's id.
    if has("marks") && (has("db") || foreign.is_none()) {
        return Ok(Probe::Damaged(FormatDamage::Missing));
    }
    if let Some(foreign) = foreign {
        return Err(unavailable(format!(
            "{} is not a sled store and contains other files ({foreign:?}): choose an empty or new folder",
            root.display()
        )));
    }
    Ok(Probe::Missing)
}

fn read(layout: &Layout) -> Result<Probe, StorageError> {
    let path = layout.format();
    match stat_path(&path).context("stat", &path)? {
        Some((FileKind::File, _)) => {}
        None => return Ok(Probe::Damaged(FormatDamage::Missing)),
        Some(_) => return Ok(Probe::Damaged(FormatDamage::NotRegular)),
    }
    let bytes = files::read_start(&path, MAX_BYTES)?.unwrap_or_default();
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    // The field names differ from those of a file store, so that neither storage opens the other's store.
    // The rest of a newer version's file must not be taken for one of ours.
    match json.get("sled").and_then(serde_json::Value::as_u64).or_else(|| written_format(&bytes)) {
        Some(newer) if newer > FORMAT => Err(StorageError::UnsupportedFormat {
            what: format!("the store (format {newer} in {})", path.display()),
            source: None,
        }),
        None if json.get("format").is_some() => Err(unavailable(format!(
            "{} is a store of another backend: open it with that backend, as in `file:PATH`",
            layout.root().display()
        ))),
        Some(FORMAT) => {
            let id = json.get("id").and_then(|id| id.as_str()?.parse().ok());
            Ok(id.map_or(Probe::Damaged(FormatDamage::Content), Probe::Store))
        }
        _ => Ok(Probe::Damaged(FormatDamage::Content)),
    }
}

/// Returns the format that a damaged file still names.
fn written_format(bytes: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(bytes);
    let (_, rest) = text.split_once("\"sled\":")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
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
