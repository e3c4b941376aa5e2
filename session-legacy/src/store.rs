//! What an older store was found to hold.

use session_core::{Head, SessionId, StoredRecord};

use crate::Format;

/// An older store, read whole. Entries are in the order of their names, or that of the store's one file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LegacyStore {
    /// The tool that it is of.
    pub format: Format,
    /// What it holds.
    pub entries: Vec<LegacyEntry>,
    /// What concerns no single entry: a file that had to be done without, names that are no entries.
    pub warnings: Vec<String>,
}

impl LegacyStore {
    /// The sessions of it.
    pub fn sessions(&self) -> impl Iterator<Item = &LegacySession> {
        self.entries.iter().filter_map(|entry| match entry {
            LegacyEntry::Session(session) => Some(&**session),
            LegacyEntry::Unreadable(_) => None,
        })
    }

    /// The entries that no session could be made of.
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
    /// A session, with the log that was made of it.
    Session(Box<LegacySession>),
    /// Something that no session could be made of.
    Unreadable(Unreadable),
}

/// A session of an older store, and its log.
#[derive(Debug, Clone)]
pub struct LegacySession {
    pub(crate) source: String,
    pub(crate) legacy_id: String,
    pub(crate) head: Head,
    pub(crate) records: Vec<StoredRecord>,
    pub(crate) notes: Vec<String>,
}

impl LegacySession {
    /// Its id: the old one where that was a UUID, else one that is made from it.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.head.id
    }

    /// Its id in the old store, at most 256 characters of it. It comes from elsewhere: show it through
    /// [`visible`](session_core::text::visible).
    #[must_use]
    pub fn legacy_id(&self) -> &str {
        &self.legacy_id
    }

    /// Where in the old store it was: a file's name, or its place in one. It comes from elsewhere, too.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The current view of it: the fold of the log.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// The log that was made of it.
    #[must_use]
    pub fn log(&self) -> &[StoredRecord] {
        &self.records
    }

    /// What has no counterpart of its own and became something else, a sentence each; none where all was kept.
    #[must_use]
    pub fn mapped(&self) -> &[String] {
        &self.notes
    }
}

/// An entry that no session could be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unreadable {
    /// Where in the old store it is; it comes from elsewhere.
    pub source: String,
    /// Why.
    pub reason: String,
}

impl LegacyEntry {
    pub(crate) fn unreadable(source: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Unreadable(Unreadable { source: source.into(), reason: reason.into() })
    }
}
