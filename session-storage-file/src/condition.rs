//! What a log shows: how far it can be read, what was known to be flushed, and what follows from the two.
//! Nothing here changes anything.

use std::io;

use session_core::{Chain, Condition, Head, SessionId, StorageError, Tip, follows};

use crate::error::Unfoldable;
use crate::scan::{Flaw, Lines, ReadAt, Step, Walk, fold};
use crate::slots::{Slot, Slots};

/// Whether a head that a slot keeps may stand for the records that it is the fold of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It may: their sums are checked, what they say is not read again.
    Slots,
    /// Every record is read.
    Nothing,
}

/// What one look at a whole log found.
#[derive(Debug, Clone)]
pub(crate) struct Assessment {
    pub(crate) id: SessionId,
    /// The last record of the unbroken chain.
    pub(crate) tip: Option<Tip>,
    /// Where it ends.
    pub(crate) end: u64,
    /// Where the log ends.
    pub(crate) length: u64,
    /// The fold of the chain, as far as it can be understood.
    pub(crate) head: Option<Head>,
    /// The first record that cannot be.
    pub(crate) unfoldable: Option<(u64, Unfoldable)>,
    /// What stands behind the chain.
    pub(crate) flaw: Option<Flaw>,
    /// The highest revision known to be flushed.
    pub(crate) flushed: u64,
    /// A revision at which the log is not the one that was flushed.
    pub(crate) replaced: Option<u64>,
    /// The highest revision that was there in this boot.
    pub(crate) seen: u64,
    /// A revision at which the log is not the one that was there in this boot.
    pub(crate) changed: Option<u64>,
}

/// Looks at a whole log. `boot` is the present one.
pub(crate) fn assess<S: ReadAt + ?Sized>(
    id: SessionId,
    log: &S,
    slots: &Slots,
    boot: &str,
    trust: Trust,
) -> io::Result<Assessment> {
    let trusted = match trust {
        Trust::Slots => slots.iter().find_map(|slot| slot.head.as_deref().map(|head| (slot.length, head))),
        Trust::Nothing => None,
    };
    let mut seen = Assessment::nothing(id);
    seen.flushed = slots.mark().map_or(0, |mark| mark.tip.revision);
    let of_this_boot = |slot: &&Slot<'_>| slot.boot == boot;
    let heads = || slots.iter().filter(of_this_boot).filter_map(|slot| slot.head.as_deref());
    seen.seen = heads().map(|head| head.tip.revision).max().unwrap_or(0);

    let mut walk = Walk::from(log, Chain::start(id), 0);
    let last = loop {
        let record = match walk.next()? {
            Step::Record(record) => record,
            Step::End => break None,
            Step::Flaw(flaw) => break Some(flaw),
        };
        let tip = record.tip();
        let other = |known: Tip| known.revision == tip.revision && known != tip;
        if slots.iter().filter_map(|slot| slot.mark).any(|mark| other(mark.tip)) {
            seen.replaced = seen.replaced.or(Some(tip.revision));
        }
        if heads().any(|head| other(head.tip)) {
            seen.changed = seen.changed.or(Some(tip.revision));
        }
        match trusted {
            Some((_, head)) if tip.revision < head.tip.revision => {}
            Some((length, head)) if tip.revision == head.tip.revision => {
                if head.tip != tip || length != walk.end() {
                    return assess(id, log, slots, boot, Trust::Nothing);
                }
                seen.head = Some(head.clone());
            }
            _ if seen.unfoldable.is_some() => {}
            _ => {
                if let Err(reason) = fold(&mut seen.head, id, record) {
                    seen.unfoldable = Some((tip.revision, reason));
                }
            }
        }
    };
    if let Some((_, head)) = trusted
        && walk.tip().is_none_or(|tip| tip.revision < head.tip.revision)
    {
        return assess(id, log, slots, boot, Trust::Nothing);
    }
    if trusted.is_some() && seen.unfoldable.is_some() {
        // The head may be the one that is wrong. It is a cache: what the records say is not its to decide.
        return assess(id, log, slots, boot, Trust::Nothing);
    }
    seen.tip = walk.tip();
    seen.end = walk.end();
    seen.length = seen.end;
    seen.flaw = last;
    if let Some(head) = &seen.head {
        seen.flushed = seen.flushed.max(head.flushed);
    }
    if last.is_some() {
        seen.look_behind(log)?;
    }
    Ok(seen)
}

impl Assessment {
    /// What is known of a session of which nothing can be read.
    pub(crate) const fn nothing(id: SessionId) -> Self {
        Self {
            id,
            tip: None,
            end: 0,
            length: 0,
            head: None,
            unfoldable: None,
            flaw: None,
            flushed: 0,
            replaced: None,
            seen: 0,
            changed: None,
        }
    }

    /// Reads what stands behind the chain: each line whose sum holds against the one before it is a record of this
    /// log, and what it says of flushed records is true.
    fn look_behind<S: ReadAt + ?Sized>(&mut self, log: &S) -> io::Result<()> {
        let mut lines = Lines::from(log, self.end);
        let mut before: Option<Vec<u8>> = None;
        while let Some(line) = lines.next()? {
            self.length = line.end;
            if let Some(before) = &before
                && line.complete
                && let Some(envelope) = follows(before, line.bytes)
            {
                self.flushed = self.flushed.max(envelope.flushed);
            }
            before = line.complete.then(|| line.bytes.to_vec());
        }
        Ok(())
    }

    /// How many records can be read.
    pub(crate) fn readable(&self) -> u64 {
        self.tip.map_or(0, |tip| tip.revision)
    }

    /// What follows from it.
    pub(crate) fn condition(&self) -> Condition {
        let readable = self.readable();
        if readable == 0 || readable < self.flushed || self.replaced.is_some() {
            return Condition::Corrupt;
        }
        match (&self.unfoldable, self.flaw) {
            (Some((_, Unfoldable::Newer(_))), _) => Condition::Unsupported,
            (Some((_, Unfoldable::Illegal(_) | Unfoldable::Malformed)), _) => Condition::Invalid,
            (None, Some(Flaw::Wrong)) => Condition::Degraded,
            (None, _) if readable < self.seen || self.changed.is_some() => Condition::Degraded,
            (None, Some(Flaw::Torn)) => Condition::Torn,
            (None, None) => Condition::Healthy,
        }
    }

    /// Why nothing may be appended; `None` where it may, once what is torn or degraded is mended.
    pub(crate) fn refusal(&self) -> Option<StorageError> {
        match self.condition() {
            Condition::Healthy | Condition::Torn | Condition::Degraded => None,
            Condition::Invalid | Condition::Unsupported => {
                self.unfoldable.as_ref().map(|(revision, reason)| reason.at(self.id, *revision))
            }
            Condition::Corrupt | _ => Some(self.damage()),
        }
    }

    /// The error for whoever asks for the records behind the readable ones.
    pub(crate) fn damage(&self) -> StorageError {
        let readable = self.readable();
        let what = match self.replaced.or(self.changed) {
            Some(revision) => format!("revision {revision} is not the one that was stored"),
            None if readable < self.flushed => format!("revision {} was stored", self.flushed),
            None if readable == 0 => "record 1 is missing or damaged".to_owned(),
            None if readable < self.seen => format!("revision {} was there before", self.seen),
            None => format!("what follows is no record, {} bytes of it", self.length - self.end),
        };
        StorageError::Corrupt { id: self.id, readable, what: format!("{what}; see `verify {}`", self.id) }
    }
}

#[cfg(test)]
mod tests;
