//! What a writer does before it writes: reads what others added since, and mends what a crash left. Under the
//! session's lock.

use std::io;

use session_core::{Chain, Condition, SessionId, StorageError, Tip};

use crate::condition::{Assessment, Trust, assess};
use crate::disk::DiskFile;
use crate::durable::Recalled;
use crate::error::IoContext;
use crate::handle::{Handle, Known, Place};
use crate::scan::{Step, Walk, fold, read_exactly};
use crate::slots::{Slots, Stamp};
use crate::store::Store;

impl Store {
    /// Brings what is known of a log up to date.
    pub(crate) fn catch_up(&self, handle: &mut Handle) -> Result<(), StorageError> {
        if handle.is_unchanged() {
            return Ok(());
        }
        let id = handle.id;
        if let Some(mut known) = handle.known.take() {
            if !known.has_last_slot(&*handle.slots) {
                let slots = Slots::read(id, &*handle.slots).context("read", &handle.paths.slots)?;
                if slots.flushing() {
                    return self.remake(handle, &Recalled::default());
                }
                known.turn = slots.turn();
                known.mark = slots.mark();
                known.stamp = Some(Stamp::read(&*handle.slots).context("read", &handle.paths.slots)?);
            }
            if grow(id, &*handle.log, &mut known.place).context("read", &handle.paths.log)? {
                handle.known = Some(known);
                return Ok(());
            }
        }
        self.take_stock(handle).map(|_| ())
    }

    /// Reads everything anew, and mends what may be mended.
    pub(crate) fn take_stock(&self, handle: &mut Handle) -> Result<Condition, StorageError> {
        handle.known = None;
        let slots = Slots::read(handle.id, &*handle.slots).context("read", &handle.paths.slots)?;
        let found = self.assess(handle, &slots, Trust::Slots)?;
        if let Some(refusal) = found.refusal() {
            return Err(refusal);
        }
        let condition = found.condition();
        if slots.flushing() {
            self.remake(handle, &Recalled::default())?;
        } else if condition == Condition::Healthy {
            handle.know(&found, &slots)?;
        } else {
            self.quarantine(handle, &found, condition.as_str())?;
            handle.log.set_len(found.end).context("cut", &handle.paths.log)?;
            handle.know(&found, &slots)?;
            // On the disk before anything is written in its place, or a loss of power could mix old and new bytes.
            self.flush_or_remake(handle)?;
        }
        Ok(condition)
    }

    /// Looks at the whole log of open files.
    pub(crate) fn assess(
        &self,
        handle: &Handle,
        slots: &Slots,
        trust: Trust,
    ) -> Result<Assessment, StorageError> {
        assess(handle.id, &*handle.log, slots, &self.boot, trust).context("read", &handle.paths.log)
    }
}

impl Handle {
    /// Whether log and slots are as this process left them.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.known.as_ref().is_some_and(|known| {
            self.log.len().is_ok_and(|length| length == known.place.end) && known.has_last_slot(&*self.slots)
        })
    }

    /// Remembers what a look at everything found.
    pub(crate) fn know(&mut self, found: &Assessment, slots: &Slots) -> Result<(), StorageError> {
        let (Some(tip), Some(head)) = (found.tip, found.head.clone()) else { return Err(found.damage()) };
        let stamp = Some(Stamp::read(&*self.slots).context("read", &self.paths.slots)?);
        self.known = Some(Known {
            place: Place { tip, end: found.end, head: Box::new(head) },
            turn: slots.turn(),
            stamp,
            mark: slots.mark(),
        });
        Ok(())
    }
}

impl Known {
    /// Whether nobody has written a slot since.
    fn has_last_slot(&self, slots: &dyn DiskFile) -> bool {
        self.stamp.as_ref().is_some_and(|stamp| stamp.is_current(slots, self.turn).unwrap_or(false))
    }
}

/// Whether a record with this sum ends at this place of a log.
pub(crate) fn ends_at(log: &dyn DiskFile, tip: Tip, end: u64) -> io::Result<bool> {
    let ending = format!(",\"sum\":\"{}\"}}\n", tip.sum);
    let Some(start) = end.checked_sub(ending.len() as u64) else { return Ok(false) };
    Ok(read_exactly(log, start, ending.len())?.is_some_and(|bytes| bytes == ending.as_bytes()))
}

/// Moves a place to the end of the log, folding what was added; false where what is there is not what is known, and
/// more.
fn grow(id: SessionId, log: &dyn DiskFile, place: &mut Place) -> io::Result<bool> {
    if !ends_at(log, place.tip, place.end)? {
        return Ok(false);
    }
    let mut walk = Walk::from(log, Chain::at(id, place.tip), place.end);
    let mut head = Some((*place.head).clone());
    loop {
        match walk.next()? {
            Step::Record(record) if fold(&mut head, id, record).is_ok() => {}
            Step::Record(_) | Step::Flaw(_) => return Ok(false),
            Step::End => break,
        }
    }
    if let (Some(tip), Some(head)) = (walk.tip(), head) {
        *place = Place { tip, end: walk.end(), head: Box::new(head) };
    }
    Ok(true)
}
