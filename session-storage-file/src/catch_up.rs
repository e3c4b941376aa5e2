//! Preparation of a write, under the session's lock: reads what other processes appended, and repairs what a
//! crash left.

use std::io;

use session_core::backend::{Chain, Tip};
use session_core::maintenance::Condition;
use session_core::{SessionId, StorageError};

use crate::append::UnflushedTail;
use crate::condition::{Assessment, CachedHead, assess};
use crate::disk::DiskFile;
use crate::error::IoContext;
use crate::handle::{Handle, LogPosition, LogState};
use crate::scan::{ChainItem, ChainReader, fold, read_exactly};
use crate::slots::{Slots, Stamp};
use crate::store::Store;

impl Store {
    /// Brings the cached state of a log up to date.
    pub(crate) fn catch_up(&self, handle: &mut Handle) -> Result<(), StorageError> {
        if handle.is_unchanged() {
            return Ok(());
        }
        let id = handle.id;
        if let Some(mut state) = handle.state.take() {
            if !state.slots_are_unchanged(&*handle.slots) {
                let slots = Slots::read(id, &*handle.slots).context("read", &handle.paths.slots)?;
                if slots.flushing() {
                    return self.rebuild_log(handle, &UnflushedTail::default());
                }
                state.turn = slots.turn();
                state.mark = slots.mark();
                state.stamp = Some(Stamp::read(&*handle.slots).context("read", &handle.paths.slots)?);
            }
            if advance(id, &*handle.log, &mut state.position).context("read", &handle.paths.log)? {
                handle.state = Some(state);
                return Ok(());
            }
        }
        self.rescan(handle).map(|_| ())
    }

    /// Reads the whole log again, and repairs what may be repaired without loss.
    pub(crate) fn rescan(&self, handle: &mut Handle) -> Result<Condition, StorageError> {
        handle.state = None;
        let slots = Slots::read(handle.id, &*handle.slots).context("read", &handle.paths.slots)?;
        let found = self.assess(handle, &slots, CachedHead::Use)?;
        if let Some(refusal) = found.refusal() {
            return Err(refusal);
        }
        let condition = found.condition();
        if slots.flushing() {
            self.rebuild_log(handle, &UnflushedTail::default())?;
        } else if condition == Condition::Healthy {
            handle.adopt(&found, &slots)?;
        } else {
            self.quarantine(handle, &found, condition.as_str())?;
            handle.log.set_len(found.end).context("truncate", &handle.paths.log)?;
            handle.adopt(&found, &slots)?;
            // Flushed before anything is written at that offset, or power loss could mix old and new bytes.
            self.flush_or_rebuild(handle)?;
        }
        Ok(condition)
    }

    /// Assesses the whole log of open files.
    pub(crate) fn assess(
        &self,
        handle: &Handle,
        slots: &Slots,
        cached_head: CachedHead,
    ) -> Result<Assessment, StorageError> {
        assess(handle.id, &*handle.log, slots, &self.boot, cached_head).context("read", &handle.paths.log)
    }
}

impl Handle {
    /// Returns `true` if log and slots are as this process left them.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.state.as_ref().is_some_and(|state| {
            self.log.len().is_ok_and(|length| length == state.position.end)
                && state.slots_are_unchanged(&*self.slots)
        })
    }

    /// Takes the result of an assessment as the cached state.
    pub(crate) fn adopt(&mut self, found: &Assessment, slots: &Slots) -> Result<(), StorageError> {
        let (Some(tip), Some(head)) = (found.tip, found.head.clone()) else { return Err(found.damage()) };
        let stamp = Some(Stamp::read(&*self.slots).context("read", &self.paths.slots)?);
        self.state = Some(LogState {
            position: LogPosition { tip, end: found.end, head: Box::new(head) },
            turn: slots.turn(),
            stamp,
            mark: slots.mark(),
        });
        Ok(())
    }
}

impl LogState {
    /// Returns `true` if no process has written a slot since.
    fn slots_are_unchanged(&self, slots: &dyn DiskFile) -> bool {
        self.stamp.as_ref().is_some_and(|stamp| stamp.is_current(slots, self.turn).unwrap_or(false))
    }
}

/// Returns `true` if a record with this sum ends at this offset of a log.
pub(crate) fn ends_at(log: &dyn DiskFile, tip: Tip, end: u64) -> io::Result<bool> {
    let ending = format!(",\"sum\":\"{}\"}}\n", tip.sum);
    let Some(start) = end.checked_sub(ending.len() as u64) else { return Ok(false) };
    Ok(read_exactly(log, start, ending.len())?.is_some_and(|bytes| bytes == ending.as_bytes()))
}

/// Advances a position to the end of the log and folds the added records. Returns `false` if the log does not
/// continue the position, or not with legal records only.
fn advance(id: SessionId, log: &dyn DiskFile, position: &mut LogPosition) -> io::Result<bool> {
    if !ends_at(log, position.tip, position.end)? {
        return Ok(false);
    }
    let mut reader = ChainReader::from(log, Chain::at(id, position.tip), position.end);
    let mut head = Some((*position.head).clone());
    loop {
        match reader.next()? {
            ChainItem::Record(record) if fold(&mut head, id, record).is_ok() => {}
            ChainItem::Record(_) | ChainItem::Break(_) => return Ok(false),
            ChainItem::End => break,
        }
    }
    if let (Some(tip), Some(head)) = (reader.tip(), head) {
        *position = LogPosition { tip, end: reader.end(), head: Box::new(head) };
    }
    Ok(true)
}
