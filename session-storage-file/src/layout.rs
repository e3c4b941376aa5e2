//! The paths of a store. Only ids become file names, never what a user supplied.

use std::path::{Path, PathBuf};

use session_core::SessionId;

/// The names at the top level of a store.
pub(crate) const NAMES: &[&str] =
    &["FORMAT", "lock", "owners", "active", "sessions", "stage", "trash", "quarantine", "names.json"];
/// The folders among them.
pub(crate) const FOLDERS: &[&str] = &["owners", "active", "sessions", "stage", "trash", "quarantine"];

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

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn names(&self) -> PathBuf {
        self.root.join("names.json")
    }

    pub(crate) fn owners(&self) -> PathBuf {
        self.root.join("owners")
    }

    pub(crate) fn active(&self) -> PathBuf {
        self.root.join("active")
    }

    pub(crate) fn marker(&self, id: SessionId) -> PathBuf {
        self.active().join(id.to_string())
    }

    pub(crate) fn sessions(&self) -> PathBuf {
        self.root.join("sessions")
    }

    pub(crate) fn session(&self, id: SessionId) -> SessionPaths {
        SessionPaths::new(self.sessions().join(id.to_string()))
    }

    pub(crate) fn stage(&self) -> PathBuf {
        self.root.join("stage")
    }

    pub(crate) fn staged(&self, id: SessionId) -> SessionPaths {
        SessionPaths::new(self.stage().join(id.to_string()))
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    pub(crate) fn quarantined(&self, id: SessionId) -> PathBuf {
        self.quarantine().join(id.to_string())
    }
}

/// The paths of one session.
#[derive(Debug, Clone)]
pub(crate) struct SessionPaths {
    pub(crate) dir: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) lock: PathBuf,
    pub(crate) slots: PathBuf,
}

impl SessionPaths {
    fn new(dir: PathBuf) -> Self {
        Self { log: dir.join("events.jsonl"), lock: dir.join("lock"), slots: dir.join("head.json"), dir }
    }

    /// Returns the path at which a log is rebuilt before it replaces the old one.
    pub(crate) fn rebuilt_log(&self) -> PathBuf {
        self.dir.join("events.jsonl.new")
    }

    /// Returns the path at which the slots are rebuilt before they replace the old ones.
    pub(crate) fn rebuilt_slots(&self) -> PathBuf {
        self.dir.join("head.json.new")
    }
}
