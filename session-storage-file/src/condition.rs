//! What a log shows: how far it can be read, what was known to be flushed, and what follows from the two.
//! Nothing here changes anything.

use std::io;

use session_core::{Chain, Condition, Head, SessionId, StorageError, Tip, follows};

use crate::error::FoldError;
use crate::scan::{ChainBreak, ChainItem, ChainReader, LineReader, ReadAt, fold};
use crate::slots::{Slot, Slots};

/// Whether a head that a slot keeps may stand for the records that it is the fold of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CachedHead {
    /// It may: their sums are checked, what they say is not read again.
    Use,
    /// Every record is read.
    Ignore,
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
    pub(crate) fold_error: Option<(u64, FoldError)>,
    /// What stands behind the chain.
    pub(crate) chain_break: Option<ChainBreak>,
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
    cached_head: CachedHead,
) -> io::Result<Assessment> {
    let cached = match cached_head {
        CachedHead::Use => slots.iter().find_map(|slot| slot.head.as_deref().map(|head| (slot.length, head))),
        CachedHead::Ignore => None,
    };
    let mut seen = Assessment::unreadable(id);
    seen.flushed = slots.mark().map_or(0, |mark| mark.tip.revision);
    let of_this_boot = |slot: &&Slot<'_>| slot.boot == boot;
    let heads = || slots.iter().filter(of_this_boot).filter_map(|slot| slot.head.as_deref());
    seen.seen = heads().map(|head| head.tip.revision).max().unwrap_or(0);

    let mut reader = ChainReader::from(log, Chain::start(id), 0);
    let last = loop {
        let record = match reader.next()? {
            ChainItem::Record(record) => record,
            ChainItem::End => break None,
            ChainItem::Break(chain_break) => break Some(chain_break),
        };
        let tip = record.tip();
        let other = |known: Tip| known.revision == tip.revision && known != tip;
        if slots.iter().filter_map(|slot| slot.mark).any(|mark| other(mark.tip)) {
            seen.replaced = seen.replaced.or(Some(tip.revision));
        }
        if heads().any(|head| other(head.tip)) {
            seen.changed = seen.changed.or(Some(tip.revision));
        }
        match cached {
            Some((_, head)) if tip.revision < head.tip.revision => {}
            Some((length, head)) if tip.revision == head.tip.revision => {
                if head.tip != tip || length != reader.end() {
                    return assess(id, log, slots, boot, CachedHead::Ignore);
                }
                seen.head = Some(head.clone());
            }
            _ if seen.fold_error.is_some() => {}
            _ => {
                if let Err(reason) = fold(&mut seen.head, id, record) {
                    seen.fold_error = Some((tip.revision, reason));
                }
            }
        }
    };
    if let Some((_, head)) = cached
        && reader.tip().is_none_or(|tip| tip.revision < head.tip.revision)
    {
        return assess(id, log, slots, boot, CachedHead::Ignore);
    }
    if cached.is_some() && seen.fold_error.is_some() {
        // The head may be the one that is wrong. It is a cache: what the records say is not its to decide.
        return assess(id, log, slots, boot, CachedHead::Ignore);
    }
    seen.tip = reader.tip();
    seen.end = reader.end();
    seen.length = seen.end;
    seen.chain_break = last;
    if let Some(head) = &seen.head {
        seen.flushed = seen.flushed.max(head.flushed);
    }
    if last.is_some() {
        seen.scan_beyond_chain(log)?;
    }
    Ok(seen)
}

impl Assessment {
    /// What is known of a session of which nothing can be read.
    pub(crate) const fn unreadable(id: SessionId) -> Self {
        Self {
            id,
            tip: None,
            end: 0,
            length: 0,
            head: None,
            fold_error: None,
            chain_break: None,
            flushed: 0,
            replaced: None,
            seen: 0,
            changed: None,
        }
    }

    /// Reads what stands behind the chain: each line whose sum holds against the one before it is a record of this
    /// log, and what it says of flushed records is true.
    fn scan_beyond_chain<S: ReadAt + ?Sized>(&mut self, log: &S) -> io::Result<()> {
        let mut lines = LineReader::from(log, self.end);
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
        match (&self.fold_error, self.chain_break) {
            (Some((_, FoldError::Newer(_))), _) => Condition::Unsupported,
            (Some((_, FoldError::Illegal(_) | FoldError::Malformed)), _) => Condition::Invalid,
            (None, Some(ChainBreak::Mismatch)) => Condition::Degraded,
            (None, _) if readable < self.seen || self.changed.is_some() => Condition::Degraded,
            (None, Some(ChainBreak::Torn)) => Condition::Torn,
            (None, None) => Condition::Healthy,
        }
    }

    /// Why nothing may be appended; `None` where it may, once what is torn or degraded is mended.
    pub(crate) fn refusal(&self) -> Option<StorageError> {
        match self.condition() {
            Condition::Healthy | Condition::Torn | Condition::Degraded => None,
            Condition::Invalid | Condition::Unsupported => {
                self.fold_error.as_ref().map(|(revision, reason)| reason.to_storage_error(self.id, *revision))
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
