//! The condition of a log: how far it can be read, what was known to be flushed, and the classification that
//! follows. Read-only.

use std::io;

use session_core::backend::{Chain, Tip, follows};
use session_core::maintenance::Condition;
use session_core::{Head, SessionId, StorageError};

use crate::error::FoldError;
use crate::scan::{ChainBreak, ChainItem, ChainReader, LineReader, ReadAt, fold};
use crate::slots::{Slot, Slots};

/// The use of a head that is cached in a slot instead of the records that it is the fold of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CachedHead {
    /// The records before it have their sums checked and are not decoded.
    Use,
    /// Every record is decoded.
    Ignore,
}

/// The result of reading a whole log.
#[derive(Debug, Clone)]
pub(crate) struct Assessment {
    pub(crate) id: SessionId,
    /// The last record of the unbroken chain.
    pub(crate) tip: Option<Tip>,
    /// The end of that record, in bytes.
    pub(crate) end: u64,
    /// The end of the log, in bytes.
    pub(crate) length: u64,
    /// The fold of the chain, as far as its records can be decoded and applied.
    pub(crate) head: Option<Head>,
    /// The first record that cannot be folded.
    pub(crate) fold_error: Option<(u64, FoldError)>,
    /// The reason why the chain ends before the log does.
    pub(crate) chain_break: Option<ChainBreak>,
    /// The highest revision known to be flushed.
    pub(crate) flushed: u64,
    /// The first revision that differs from the flushed record.
    pub(crate) replaced: Option<u64>,
    /// The highest revision that was stored during this boot.
    pub(crate) seen: u64,
    /// The first revision that differs from the record stored during this boot.
    pub(crate) changed: Option<u64>,
}

/// Reads a whole log. `boot` is the current boot id.
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
    let mut assessment = Assessment::unreadable(id);
    assessment.flushed = slots.mark().map_or(0, |mark| mark.tip.revision);
    let of_this_boot = |slot: &&Slot<'_>| slot.boot == boot;
    let heads = || slots.iter().filter(of_this_boot).filter_map(|slot| slot.head.as_deref());
    assessment.seen = heads().map(|head| head.tip.revision).max().unwrap_or(0);

    let mut reader = ChainReader::from(log, Chain::start(id), 0);
    let chain_break = loop {
        let record = match reader.next()? {
            ChainItem::Record(record) => record,
            ChainItem::End => break None,
            ChainItem::Break(chain_break) => break Some(chain_break),
        };
        let tip = record.tip();
        let differs = |known: Tip| known.revision == tip.revision && known != tip;
        if slots.iter().filter_map(|slot| slot.mark).any(|mark| differs(mark.tip)) {
            assessment.replaced = assessment.replaced.or(Some(tip.revision));
        }
        if heads().any(|head| differs(head.tip)) {
            assessment.changed = assessment.changed.or(Some(tip.revision));
        }
        match cached {
            Some((_, head)) if tip.revision < head.tip.revision => {}
            Some((length, head)) if tip.revision == head.tip.revision => {
                if head.tip != tip || length != reader.end() {
                    return assess(id, log, slots, boot, CachedHead::Ignore);
                }
                assessment.head = Some(head.clone());
            }
            _ if assessment.fold_error.is_some() => {}
            _ => {
                if let Err(reason) = fold(&mut assessment.head, id, record) {
                    assessment.fold_error = Some((tip.revision, reason));
                }
            }
        }
    };
    if let Some((_, head)) = cached
        && reader.tip().is_none_or(|tip| tip.revision < head.tip.revision)
    {
        return assess(id, log, slots, boot, CachedHead::Ignore);
    }
    if cached.is_some() && assessment.fold_error.is_some() {
        // The cached head may be wrong; the records decide.
        return assess(id, log, slots, boot, CachedHead::Ignore);
    }
    assessment.tip = reader.tip();
    assessment.end = reader.end();
    assessment.length = assessment.end;
    assessment.chain_break = chain_break;
    if let Some(head) = &assessment.head {
        assessment.flushed = assessment.flushed.max(head.flushed);
    }
    if chain_break.is_some() {
        assessment.scan_beyond_chain(log)?;
    }
    Ok(assessment)
}

impl Assessment {
    /// Returns the assessment of a session of which nothing can be read.
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

    /// Reads what follows the chain: each line whose sum matches the line before it is a record of this log,
    /// and its claim about flushed records is true.
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

    /// Returns the number of readable records.
    pub(crate) fn readable(&self) -> u64 {
        self.tip.map_or(0, |tip| tip.revision)
    }

    /// Classifies the log.
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

    /// Returns the reason to reject appends; `None` if appends are allowed, once what is torn or degraded is
    /// repaired.
    pub(crate) fn refusal(&self) -> Option<StorageError> {
        match self.condition() {
            Condition::Healthy | Condition::Torn | Condition::Degraded => None,
            Condition::Invalid | Condition::Unsupported => {
                self.fold_error.as_ref().map(|(revision, reason)| reason.to_storage_error(self.id, *revision))
            }
            Condition::Corrupt | _ => Some(self.damage()),
        }
    }

    /// Returns the error for a read beyond the readable records.
    pub(crate) fn damage(&self) -> StorageError {
        let readable = self.readable();
        let what = match self.replaced.or(self.changed) {
            Some(revision) => format!("revision {revision} differs from the record that was stored"),
            None if readable < self.flushed => {
                format!("revision {} was flushed and is missing", self.flushed)
            }
            None if readable == 0 => "record 1 is missing or damaged".to_owned(),
            None if readable < self.seen => format!("revision {} was stored and is missing", self.seen),
            None => format!("the {} bytes after it are not a record", self.length - self.end),
        };
        StorageError::Corrupt { id: self.id, readable, what: format!("{what}; see `verify {}`", self.id) }
    }
}

#[cfg(test)]
mod tests;
