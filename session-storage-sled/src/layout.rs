//! The paths in a store. Names contain ids only, never user input.

use std::path::{Path, PathBuf};

use session_storage_engine::{Folders, Reserve};

/// Bytes of room for a full disk: sled writes a snapshot when it opens a database, and new segments of its log, of
/// 512 KiB each, when sessions are deleted.
const RESERVE: u64 = 4 << 20;

/// The names in a store's top folder.
pub(crate) const KNOWN_NAMES: &[&str] = &[
    "FORMAT",
    "FORMAT.new",
    "lock",
    "unclean",
    "db",
    "db.new",
    "marks",
    "reserve",
    "owners",
    "sessions",
    "aside",
    "aside.new",
    "quarantine",
];
/// The folders among them.
pub(crate) const FOLDERS: &[&str] =
    &["db", "db.new", "owners", "sessions", "aside", "aside.new", "quarantine"];

/// The paths of a store.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn format(&self) -> PathBuf {
        self.root.join("FORMAT")
    }

    pub(crate) fn staged(&self) -> PathBuf {
        self.root.join("FORMAT.new")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Returns the marker that exists while the database is open, and after an unclean shutdown.
    pub(crate) fn unclean(&self) -> PathBuf {
        self.root.join("unclean")
    }

    /// Returns the folder of sled.
    pub(crate) fn db(&self) -> PathBuf {
        self.root.join("db")
    }

    /// Returns the file of sled's log.
    pub(crate) fn data(&self) -> PathBuf {
        self.db().join("db")
    }

    /// Returns the folder of sled's large values, one file each.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.db().join("blobs")
    }

    /// Returns the folder in which the database is rewritten from its readable bytes.
    pub(crate) fn db_new(&self) -> PathBuf {
        self.root.join("db.new")
    }

    /// Returns the folder of the database as of the last unclean shutdown.
    pub(crate) fn aside(&self) -> PathBuf {
        self.root.join("aside")
    }

    pub(crate) fn aside_new(&self) -> PathBuf {
        self.root.join("aside.new")
    }

    /// Returns the room for opening the database and deleting sessions on a full disk.
    pub(crate) fn reserve(&self) -> Reserve {
        Reserve::new(&self.folders(), RESERVE)
    }

    /// Returns the folders that every storage over an embedded database has.
    pub(crate) fn folders(&self) -> Folders {
        Folders::new(&self.root)
    }
}
