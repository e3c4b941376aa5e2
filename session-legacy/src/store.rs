//! The contents of an older store, converted.

use session_core::{Head, SessionId, StoredRecord};

use crate::Format;

/// An older store, read completely. Entries are in the order of their names, or of the store's one file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LegacyStore {
    /// The tool that wrote it.
    pub format: Format,
    /// Its entries.
    pub entries: Vec<LegacyEntry>,
    /// Warnings about the store and not about a single entry: an unusable file, names that are no entries.
    pub warnings: Vec<String>,
}

impl LegacyStore {
    /// Iterates over its sessions.
    pub fn sessions(&self) -> impl Iterator<Item = &LegacySession> {
        self.entries.iter().filter_map(|entry| match entry {
            LegacyEntry::Session(session) => Some(&**session),
            LegacyEntry::Unreadable(_) => None,
        })
    }

    /// Iterates over the entries that could not be converted.
    pub fn unreadable(&self) -> impl Iterator<Item = &Unreadable> {
        self.entries.iter().filter_map(|entry| match entry {
            LegacyEntry::Session(_) => None,
            LegacyEntry::Unreadable(unreadable) => Some(unreadable),
        })
    }
}

/// One entry of an older store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LegacyEntry {
    /// A session with its converted log.
    Session(Box<LegacySession>),
    /// An entry that could not be converted.
    Unreadable(Unreadable),
}

/// A session of an older store with its converted log.
#[derive(Debug, Clone)]
pub struct LegacySession {
    pub(crate) source: String,
    pub(crate) legacy_id: String,
    pub(crate) head: Head,
    pub(crate) records: Vec<StoredRecord>,
    pub(crate) notes: Vec<String>,
}

impl LegacySession {
    /// Returns its id: the old one if that is a UUID, otherwise one derived from it.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.head.id
    }

    /// Returns its id in the old store, cut to 256 characters. It is untrusted: show it through
    /// [`visible`](session_core::text::visible).
    #[must_use]
    pub fn legacy_id(&self) -> &str {
        &self.legacy_id
    }

    /// Returns its location in the old store: a file name, or a position in a file. It is untrusted, too.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns its head: the fold of the log.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// Returns its converted log.
    #[must_use]
    pub fn log(&self) -> &[StoredRecord] {
        &self.records
    }

    /// Returns notes on values that have no exact counterpart, one sentence each; none if everything was kept.
    #[must_use]
    pub fn mapped(&self) -> &[String] {
        &self.notes
    }
}

/// An entry that could not be converted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unreadable {
    /// Its location in the old store; untrusted.
    pub source: String,
    /// The reason.
    pub reason: String,
}

impl LegacyEntry {
    pub(crate) fn unreadable(source: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Unreadable(Unreadable { source: source.into(), reason: reason.into() })
    }
}
