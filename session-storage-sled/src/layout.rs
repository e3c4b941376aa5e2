//! Where everything is in a store. Only ids become names, never what a user gave.

use std::path::{Path, PathBuf};

use session_storage_engine::Folders;

/// The names that a store has at its top.
pub(crate) const KNOWN_NAMES: &[&str] = &[
    "FORMAT",
    "FORMAT.new",
    "lock",
    "unclean",
    "db",
    "db.new",
    "marks",
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

    /// There for as long as the database is open, and after an end without a goodbye.
    pub(crate) fn unclean(&self) -> PathBuf {
        self.root.join("unclean")
    }

    /// The folder that is sled's own.
    pub(crate) fn db(&self) -> PathBuf {
        self.root.join("db")
    }

    /// The file that sled keeps its log in.
    pub(crate) fn data(&self) -> PathBuf {
        self.db().join("db")
    }

    /// What sled keeps large values in, one file each.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.db().join("blobs")
    }

    /// The database while it is made anew from its readable bytes.
    pub(crate) fn db_new(&self) -> PathBuf {
        self.root.join("db.new")
    }

    /// The database as it was at the last end without a goodbye.
    pub(crate) fn aside(&self) -> PathBuf {
        self.root.join("aside")
    }

    pub(crate) fn aside_new(&self) -> PathBuf {
        self.root.join("aside.new")
    }

    /// What every backend over an engine has beside it.
    pub(crate) fn folders(&self) -> Folders {
        Folders::new(&self.root)
    }
}
