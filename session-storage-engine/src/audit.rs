//! The condition of one session, derived from its rows in a database: the same conditions, for the same reasons, as in
//! the file storage. One difference: a transaction is stored completely or not at all, so no session is ever torn.

use std::path::PathBuf;
use std::sync::Arc;

use session_core::backend::{Chain, DecodeError, Tip, follows};
use session_core::maintenance::{Condition, SessionHealth};
use session_core::{Head, InstanceId, Owner, SessionId, StorageError, TransitionError};

/// The result of comparing the records, the head and the mark of a session.
#[derive(Debug, Clone)]
pub struct Audit {
    id: SessionId,
    tip: Option<Tip>,
    head: Option<Head>,
    unfoldable: Option<(u64, Unfoldable)>,
    flushed: u64,
    replaced: Option<u64>,
    stored: Option<Tip>,
    is_head_stale: bool,
    behind: u64,
    owners: Vec<Owner>,
}

/// The reason why a record with a valid checksum cannot be folded into the head before it.
#[derive(Debug, Clone)]
enum Unfoldable {
    /// It breaks a rule of the state machine.
    Illegal(TransitionError),
    /// It has a kind or format of a newer version, or is not a record.
    Undecodable(Arc<DecodeError>),
}

/// An audit in progress: takes each stored line, ascending, then the stored head.
#[derive(Debug)]
pub struct Auditor {
    chain: Chain,
    id: SessionId,
    head: Option<Head>,
    unfoldable: Option<(u64, Unfoldable)>,
    /// The tip that the log must contain.
    mark: Option<Tip>,
    replaced: Option<u64>,
    flushed: u64,
    /// Bytes of the lines after the chain, each with its line end.
    behind: u64,
    /// The last of them, unless it is longer than any record.
    before: Option<Vec<u8>>,
    is_broken: bool,
}

impl Auditor {
    /// Creates an audit without records. `mark` is what is known to be flushed: read it before the database, so that a
    /// concurrent append is no false alarm.
    #[must_use]
    pub fn new(id: SessionId, mark: Option<Tip>) -> Self {
        Self {
            chain: Chain::start(id),
            id,
            head: None,
            unfoldable: None,
            mark,
            replaced: None,
            flushed: mark.map_or(0, |mark| mark.revision),
            behind: 0,
            before: None,
            is_broken: false,
        }
    }

    /// Adds the next stored line, without a line end, with the number that it is stored under.
    pub fn add_line(&mut self, seq: u64, line: &[u8]) {
        if !self.is_broken && seq == self.chain.revision() + 1 && self.extend_chain(line) {
            return;
        }
        self.is_broken = true;
        // Each line whose checksum continues the line before it is a record of this log, and its claim of flushed
        // records is true.
        if let Some(before) = &self.before
            && let Some(envelope) = follows(before, line)
        {
            self.flushed = self.flushed.max(envelope.flushed);
        }
        self.before = Some(line.to_vec());
        self.behind += line.len() as u64 + 1;
    }

    /// Adds the next stored line, of this many bytes, which is longer than any record: it is damaged, and is not read.
    pub fn add_overlong_line(&mut self, bytes: u64) {
        self.is_broken = true;
        self.before = None;
        self.behind = self.behind.saturating_add(bytes).saturating_add(1);
    }

    fn extend_chain(&mut self, line: &[u8]) -> bool {
        let Ok(record) = self.chain.pass(line) else { return false };
        let tip = record.tip();
        if self.mark.is_some_and(|mark| mark.revision == tip.revision && mark != tip) {
            self.replaced = Some(tip.revision);
        }
        if self.unfoldable.is_some() {
            return true;
        }
        let folded = match record.decode() {
            Ok(record) => Head::fold(&mut self.head, self.id, &record).map_err(Unfoldable::Illegal),
            Err(error) => Err(Unfoldable::Undecodable(Arc::new(error))),
        };
        self.unfoldable = folded.err().map(|reason| (tip.revision, reason));
        true
    }

    /// Ends the audit with the stored head; `None` if there is none, or if it cannot be read.
    #[must_use]
    pub fn finish(self, stored: Option<&Head>) -> Audit {
        let Self { chain, id, head, unfoldable, replaced, mut flushed, behind, .. } = self;
        flushed = flushed.max(head.as_ref().map_or(0, |head| head.flushed));
        let is_head_stale = unfoldable.is_none() && stored != head.as_ref();
        // A damaged log may lack the latest owner, and a stale head may lack one that the log names.
        let mut owners: Vec<Owner> = Vec::new();
        for owner in head.iter().chain(stored).filter_map(|head| head.lifecycle.owner.as_ref()) {
            if owners.iter().all(|known| known.instance != owner.instance) {
                owners.push(owner.clone());
            }
        }
        Audit {
            id,
            tip: chain.tip(),
            head,
            unfoldable,
            flushed,
            replaced,
            stored: stored.map(|head| head.tip),
            is_head_stale,
            behind,
            owners,
        }
    }
}

impl Audit {
    /// Audits a session whose lines are in memory, numbered from 1.
    #[must_use]
    pub fn from_lines<L: AsRef<[u8]>>(
        id: SessionId,
        lines: impl IntoIterator<Item = L>,
        stored: Option<&Head>,
        mark: Option<Tip>,
    ) -> Self {
        let mut auditor = Auditor::new(id, mark);
        for (seq, line) in (1..).zip(lines) {
            auditor.add_line(seq, line.as_ref());
        }
        auditor.finish(stored)
    }

    /// Returns the last record of the unbroken chain from record 1.
    #[must_use]
    pub const fn tip(&self) -> Option<Tip> {
        self.tip
    }

    /// Returns the number of records that can be read.
    #[must_use]
    pub fn readable(&self) -> u64 {
        self.tip.map_or(0, |tip| tip.revision)
    }

    /// Returns the fold of the readable records, up to the first that this version cannot fold.
    #[must_use]
    pub const fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Returns the highest revision that is known to have been flushed, or stored together with a head.
    #[must_use]
    pub fn flushed(&self) -> u64 {
        self.flushed.max(self.stored.map_or(0, |tip| tip.revision))
    }

    /// Returns the size of the lines after the chain in bytes, each with its line end.
    #[must_use]
    pub const fn behind(&self) -> u64 {
        self.behind
    }

    /// Returns `true` if the stored head is not the fold of the records, and so has to be rebuilt from them.
    #[must_use]
    pub const fn has_stale_head(&self) -> bool {
        self.is_head_stale
    }

    /// Returns all processes that may own the session.
    #[must_use]
    pub fn owners(&self) -> &[Owner] {
        &self.owners
    }

    /// Returns the condition of the session, never [`Condition::Torn`].
    #[must_use]
    pub fn condition(&self) -> Condition {
        let readable = self.readable();
        if readable == 0 || readable < self.flushed() || self.replaced.is_some() {
            return Condition::Corrupt;
        }
        match &self.unfoldable {
            Some((_, Unfoldable::Undecodable(error))) if !matches!(**error, DecodeError::Malformed(_)) => {
                Condition::Unsupported
            }
            Some(_) => Condition::Invalid,
            None if self.is_head_stale || self.behind > 0 => Condition::Degraded,
            None => Condition::Healthy,
        }
    }

    /// Returns the error that refuses an append; `None` if appends are allowed, after a repair of a degraded session.
    #[must_use]
    pub fn refusal(&self) -> Option<StorageError> {
        match self.condition() {
            Condition::Healthy | Condition::Torn | Condition::Degraded => None,
            Condition::Invalid | Condition::Unsupported => self.fold_error(),
            Condition::Corrupt | _ => Some(self.damage()),
        }
    }

    /// Returns the error for reads of records that cannot be read.
    #[must_use]
    pub fn damage(&self) -> StorageError {
        let readable = self.readable();
        let what = match self.replaced {
            Some(revision) => format!("revision {revision} differs from the record that was stored"),
            None if readable < self.flushed() => {
                format!("revision {} was stored and is missing", self.flushed())
            }
            None if readable == 0 => "record 1 is missing or damaged".to_owned(),
            None if self.behind == 0 => "its stored head does not match its records".to_owned(),
            None => format!("the {} bytes after it are not a record", self.behind),
        };
        StorageError::Corrupt { id: self.id, readable, what: format!("{what}; see `verify {}`", self.id) }
    }

    fn fold_error(&self) -> Option<StorageError> {
        let (revision, reason) = self.unfoldable.as_ref()?;
        let (id, revision) = (self.id, *revision);
        Some(match reason {
            Unfoldable::Illegal(rejected) => StorageError::Invalid { id, revision, source: rejected.clone() },
            Unfoldable::Undecodable(error) if matches!(**error, DecodeError::Malformed(_)) => {
                StorageError::Corrupt {
                    id,
                    readable: revision.saturating_sub(1),
                    what: format!("revision {revision}: checksum is valid but the line is not a record"),
                }
            }
            Unfoldable::Undecodable(error) => StorageError::UnsupportedFormat {
                what: format!("session {id} from revision {revision} on"),
                source: Some(Arc::<DecodeError>::clone(error)),
            },
        })
    }

    /// Returns the full report for `verify`. `losses` are the quarantined parts that no one has acknowledged yet.
    #[must_use]
    pub fn health(&self, losses: Vec<PathBuf>) -> SessionHealth {
        let without_losses = self.condition();
        let condition = if without_losses == Condition::Healthy && !losses.is_empty() {
            Condition::Degraded
        } else {
            without_losses
        };
        let mut health = SessionHealth::new(self.id, condition);
        health.tip = self.tip;
        health.flushed = self.flushed;
        health.seen = self.stored.map_or(0, |tip| tip.revision);
        health.behind = self.behind;
        health.problem =
            if without_losses == Condition::Degraded { Some(self.damage()) } else { self.refusal() };
        health.owners.clone_from(&self.owners);
        health.losses = losses;
        health
    }
}

/// Refuses to discard records of a session whose owner may be alive.
///
/// # Errors
/// `Unavailable`, naming an owner that is not among `dead`.
pub fn refuse_while_owned(id: SessionId, owners: &[Owner], dead: &[InstanceId]) -> Result<(), StorageError> {
    match owners.iter().find(|owner| !dead.contains(&owner.instance)) {
        None => Ok(()),
        Some(owner) => Err(StorageError::Unavailable {
            what: format!("session {id} may still be owned by {owner}: stop that process, then repair again"),
            source: None,
        }),
    }
}

#[cfg(test)]
mod tests;
