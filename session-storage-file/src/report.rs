//! What looking at, mending and recovering a store tell.

use std::path::PathBuf;

use session_core::{InstanceId, Owner, SessionId, StorageError, Tip};

use crate::verdict::Verdict;

/// What a look at one session shows.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionReport {
    /// The session.
    pub id: SessionId,
    /// What follows from the rest. A session whose loss nobody has acknowledged yet is degraded, its log may be whole.
    pub verdict: Verdict,
    /// The last record that can be read; `None` if not even the first one can.
    pub tip: Option<Tip>,
    /// The highest revision that is known to have been flushed.
    pub flushed: u64,
    /// The highest revision that is known to have been there since the machine was started.
    pub seen: u64,
    /// Bytes of the log behind the last record that can be read.
    pub behind: u64,
    /// A flush began and is not known to have ended well: the next append makes the log anew.
    pub untrusted: bool,
    /// Why it can not be written, or not be read to its end.
    pub problem: Option<StorageError>,
    /// Whoever owns the session, as far as its files say. More than one where they contradict each other.
    pub owners: Vec<Owner>,
    /// Losses that nobody has acknowledged yet: what was cut from the log, one file each.
    pub losses: Vec<PathBuf>,
}

impl SessionReport {
    /// How many records can be read.
    #[must_use]
    pub fn readable(&self) -> u64 {
        self.tip.map_or(0, |tip| tip.revision)
    }
}

/// What a look at a whole store shows.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct StoreReport {
    /// The sessions, ascending by id.
    pub sessions: Vec<SessionReport>,
    /// Sessions that could not be looked at.
    pub failed: Vec<(SessionId, StorageError)>,
    /// Names among the sessions that are none.
    pub foreign: Vec<String>,
    /// Unended sessions without a marker: lists of active sessions do not show them until the store is recovered.
    pub unmarked: Vec<SessionId>,
}

/// What may be given up to make a session writable again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Acceptance {
    /// Nothing that was acknowledged as flushed.
    #[default]
    Nothing,
    /// Whatever is lost. The session's owners must be proven dead by the caller.
    Loss {
        /// The owners that are.
        dead: Vec<InstanceId>,
    },
}

/// What mending a session did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Repaired {
    /// What was found.
    pub before: Verdict,
    /// The end of the log now; `None` if nothing could be read and the session was put away whole.
    pub tip: Option<Tip>,
    /// What was given up.
    pub loss: Option<Loss>,
    /// How many earlier losses were acknowledged.
    pub acknowledged: usize,
}

/// Records that were acknowledged as flushed and are gone. Who repairs a session notes that in its log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// The last record that is left.
    pub readable: u64,
    /// The last one that was known to be flushed.
    pub flushed: u64,
    /// What was there instead, in bytes.
    pub bytes: u64,
    /// Whether the log as it is now has an owner, who is dead.
    pub owned: bool,
    /// Where what was cut is kept.
    pub kept: PathBuf,
}

/// What recovering a store did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Recovered {
    /// Unended sessions that were mended, with what was found.
    pub mended: Vec<(SessionId, Verdict)>,
    /// Unended sessions that could not be, with the reason.
    pub failed: Vec<(SessionId, StorageError)>,
    /// Markers that were missing.
    pub marked: Vec<SessionId>,
    /// Markers that stood for no unended session.
    pub unmarked: Vec<SessionId>,
}
