//! The verdict on one session from what a database holds of it: the same verdicts, for the same reasons, as those of the file
//! storage. One difference: a transaction is there whole or not at all, so that nothing is ever torn.

use std::path::PathBuf;
use std::sync::Arc;

use session_core::{
    Chain, Condition, DecodeError, Head, InstanceId, Owner, SessionHealth, SessionId, StorageError, Tip,
    TransitionError, follows,
};

/// What the records, the head and the mark of a session show.
#[derive(Debug, Clone)]
pub struct Audit {
    id: SessionId,
    tip: Option<Tip>,
    head: Option<Head>,
    unfoldable: Option<(u64, Unfoldable)>,
    flushed: u64,
    replaced: Option<u64>,
    stored: Option<Tip>,
    is_stale: bool,
    behind: Vec<u8>,
    owners: Vec<Owner>,
}

/// Why a record with a right sum cannot be folded into the head before it.
#[derive(Debug, Clone)]
enum Unfoldable {
    /// It breaks a rule of the machine.
    Illegal(TransitionError),
    /// It is of a kind or format of a newer version, or no record.
    Undecodable(Arc<DecodeError>),
}

/// An audit that is under way: tell it each stored line, ascending, then the rest.
#[derive(Debug)]
pub struct Auditor {
    chain: Chain,
    id: SessionId,
    head: Option<Head>,
    unfoldable: Option<(u64, Unfoldable)>,
    /// The tips at which the log is to be compared with what is known of it.
    mark: Option<Tip>,
    replaced: Option<u64>,
    flushed: u64,
    /// Lines behind the chain, each with its end.
    behind: Vec<u8>,
    before: Option<Vec<u8>>,
    broken: bool,
}

impl Auditor {
    /// Begins with a session of which no record was seen yet. `mark` is what is known to be flushed: read before the
    /// database, so that what is appended meanwhile is no false alarm.
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
            behind: Vec::new(),
            before: None,
            broken: false,
        }
    }

    /// The next stored line, without a line end, with the number that it is stored under.
    pub fn line(&mut self, seq: u64, line: &[u8]) {
        if !self.broken && seq == self.chain.revision() + 1 && self.follow(line) {
            return;
        }
        self.broken = true;
        // Each line whose sum holds against the one before it is a record of this log, and what it says of flushed records
        // is true.
        if let Some(before) = &self.before
            && let Some(envelope) = follows(before, line)
        {
            self.flushed = self.flushed.max(envelope.flushed);
        }
        self.before = Some(line.to_vec());
        self.behind.extend_from_slice(line);
        self.behind.push(b'\n');
    }

    fn follow(&mut self, line: &[u8]) -> bool {
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

    /// The verdict, with the head that is stored; `None` where there is none, or none that can be read.
    #[must_use]
    pub fn finish(self, stored: Option<&Head>) -> Audit {
        let Self { chain, id, head, unfoldable, replaced, mut flushed, behind, .. } = self;
        flushed = flushed.max(head.as_ref().map_or(0, |head| head.flushed));
        let is_stale = unfoldable.is_none() && stored != head.as_ref();
        // The log may have lost who owns the session, and the stored head who did.
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
            is_stale,
            behind,
            owners,
        }
    }
}

impl Audit {
    /// Judges a session whose lines are at hand, numbered from 1.
    #[must_use]
    pub fn of<L: AsRef<[u8]>>(
        id: SessionId,
        lines: impl IntoIterator<Item = L>,
        stored: Option<&Head>,
        mark: Option<Tip>,
    ) -> Self {
        let mut auditor = Auditor::new(id, mark);
        for (seq, line) in (1..).zip(lines) {
            auditor.line(seq, line.as_ref());
        }
        auditor.finish(stored)
    }

    /// The last record of the unbroken chain from record 1.
    #[must_use]
    pub const fn tip(&self) -> Option<Tip> {
        self.tip
    }

    /// How many records can be read.
    #[must_use]
    pub fn readable(&self) -> u64 {
        self.tip.map_or(0, |tip| tip.revision)
    }

    /// The fold of what can be read, as far as it can be understood.
    #[must_use]
    pub const fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The highest revision that is known to have been flushed, or to have been there with a head.
    #[must_use]
    pub fn flushed(&self) -> u64 {
        self.flushed.max(self.stored.map_or(0, |tip| tip.revision))
    }

    /// Lines behind the chain, each with its end.
    #[must_use]
    pub fn behind(&self) -> &[u8] {
        &self.behind
    }

    /// Whether the stored head is not the fold of the records, while all of these are there: it has to be made anew.
    #[must_use]
    pub const fn has_stale_head(&self) -> bool {
        self.is_stale
    }

    /// Everybody who may own the session.
    #[must_use]
    pub fn owners(&self) -> &[Owner] {
        &self.owners
    }

    /// What follows from it. Never [`Condition::Torn`].
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
            None if self.is_stale || !self.behind.is_empty() => Condition::Degraded,
            None => Condition::Healthy,
        }
    }

    /// Why nothing may be appended; `None` where it may, once what is degraded is mended.
    #[must_use]
    pub fn refusal(&self) -> Option<StorageError> {
        match self.condition() {
            Condition::Healthy | Condition::Torn | Condition::Degraded => None,
            Condition::Invalid | Condition::Unsupported => self.misunderstood(),
            Condition::Corrupt | _ => Some(self.damage()),
        }
    }

    /// The error for whoever asks for what cannot be read.
    #[must_use]
    pub fn damage(&self) -> StorageError {
        let readable = self.readable();
        let what = match self.replaced {
            Some(revision) => format!("revision {revision} is not the one that was stored"),
            None if readable < self.flushed() => format!("revision {} was stored", self.flushed()),
            None if readable == 0 => "record 1 is missing or damaged".to_owned(),
            None if self.behind.is_empty() => "its head is not the one of its records".to_owned(),
            None => format!("what follows is no record, {} bytes of it", self.behind.len()),
        };
        StorageError::Corrupt { id: self.id, readable, what: format!("{what}; see `verify {}`", self.id) }
    }

    fn misunderstood(&self) -> Option<StorageError> {
        let (revision, reason) = self.unfoldable.as_ref()?;
        let (id, revision) = (self.id, *revision);
        Some(match reason {
            Unfoldable::Illegal(rejected) => StorageError::Invalid { id, revision, source: rejected.clone() },
            Unfoldable::Undecodable(error) if matches!(**error, DecodeError::Malformed(_)) => {
                StorageError::Corrupt {
                    id,
                    readable: revision.saturating_sub(1),
                    what: format!("revision {revision} has a right sum and is no record"),
                }
            }
            Unfoldable::Undecodable(error) => StorageError::UnsupportedFormat {
                what: format!("session {id}, from revision {revision} on,"),
                source: Some(Arc::<DecodeError>::clone(error)),
            },
        })
    }

    /// All of it, for `verify`. `losses` is what was cut and nobody has acknowledged yet.
    #[must_use]
    pub fn health(&self, losses: Vec<PathBuf>) -> SessionHealth {
        let found = self.condition();
        let condition =
            if found == Condition::Healthy && !losses.is_empty() { Condition::Degraded } else { found };
        let mut health = SessionHealth::new(self.id, condition);
        health.tip = self.tip;
        health.flushed = self.flushed;
        health.seen = self.stored.map_or(0, |tip| tip.revision);
        health.behind = self.behind.len() as u64;
        health.problem = if found == Condition::Degraded { Some(self.damage()) } else { self.refusal() };
        health.owners.clone_from(&self.owners);
        health.losses = losses;
        health
    }
}

/// Refuses to give up records of a session whose owner may live.
///
/// # Errors
/// `Unavailable`, naming an owner that is not among the dead.
pub fn refuse_while_owned(id: SessionId, owners: &[Owner], dead: &[InstanceId]) -> Result<(), StorageError> {
    match owners.iter().find(|owner| !dead.contains(&owner.instance)) {
        None => Ok(()),
        Some(owner) => Err(StorageError::Unavailable {
            what: format!(
                "session {id} is owned by {owner}, who is not known to be dead: stop it, then repair again"
            ),
            source: None,
        }),
    }
}

#[cfg(test)]
mod tests;
