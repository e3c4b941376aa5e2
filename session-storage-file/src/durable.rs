//! How an append becomes durable. Everything here happens under the session's lock; a journal shared by many sessions
//! could take this module's place and no other would notice.
//!
//! Invariant: an inode whose flush failed, or may have failed, is never flushed again, by nobody. A slot says
//! `flushing` from before the flush until after its success, so that whoever comes next knows.

use session_core::{Batch, Chain, Durability, Expected, SessionId, StorageError, Tip};

use crate::disk::{DiskFile, Open};
use crate::error::{Told, storage_error};
use crate::handle::{Handle, Known};
use crate::scan::{Step, Walk, fold, read_exactly};
use crate::slots::{Mark, Slot, Slots, read_stamp, write_all};
use crate::store::Store;
use crate::verdict::{Assessment, Trust, Verdict, assess};

/// Buffered bytes after which the head is written, so that readers never have much to fold.
const HEAD_EVERY: u64 = 16 * 1024;
const COPY: usize = 256 * 1024;

/// Why a flush did not come to a good end.
enum Unflushed {
    /// It did not begin: the log can be flushed later.
    NotBegun(StorageError),
    /// Nothing is known of what reached the disk.
    Unknown(StorageError),
}

impl Store {
    /// Adds a batch behind `at`, or changes nothing.
    pub(crate) fn append(
        &self,
        cached: &mut Option<Handle>,
        id: SessionId,
        at: Tip,
        batch: &Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        let deadline = self.deadline();
        let done = self.under_lock(cached, id, deadline, |handle| {
            let tip = self.append_locked(handle, at, batch, durability)?;
            let known = handle.known();
            Ok((tip, known.is_flushed() && known.head.state().is_final()))
        })?;
        let (tip, ended) = done.ok_or(StorageError::Conflict { id, expected: Some(at), actual: None })?;
        if ended {
            self.unmark_ended(id);
        }
        Ok(tip)
    }

    /// As [`append`](Self::append) for a buffered batch, only if it takes no waiting and nothing but a write; `None`
    /// where it would take more, and nothing was done.
    pub(crate) fn append_now(
        &self,
        cached: &mut Option<Handle>,
        at: Tip,
        batch: &Batch,
    ) -> Result<Option<Tip>, StorageError> {
        self.under_free_lock(cached, |handle| self.append_at_once(handle, at, batch))
    }

    /// Adds a batch behind `at`, or changes nothing; the lock is held.
    fn append_locked(
        &self,
        handle: &mut Handle,
        at: Tip,
        batch: &Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        self.catch_up(handle)?;
        self.append_here(handle, at, batch, durability)
    }

    /// As [`append_locked`](Self::append_locked), where nothing has changed since the log was read.
    fn append_here(
        &self,
        handle: &mut Handle,
        at: Tip,
        batch: &Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        let id = handle.id;
        let Known { tip, end, .. } = *handle.known();
        if tip != at {
            return Err(StorageError::Conflict { id, expected: Some(at), actual: Some(tip) });
        }
        let lines = sealed_lines(id, Expected::At(at), batch)?;
        if let Some(head) = batch.head() {
            if let Err(error) = write_all(&*handle.log, &lines, end) {
                return Err(self.cut_back(handle, end, storage_error("write", &handle.paths.log, error)));
            }
            let known = handle.known();
            known.tip = head.tip;
            known.end += lines.len() as u64;
            known.head = Box::new(head.clone());
        }
        match durability {
            Durability::Flushed => match self.flush(handle) {
                Ok(()) => {}
                Err(Unflushed::NotBegun(error)) => return Err(self.cut_back(handle, end, error)),
                Err(Unflushed::Unknown(error)) => self.remake_after(handle, error)?,
            },
            _ => self.keep_head_near(handle),
        }
        Ok(batch.head().map_or(at, |head| head.tip))
    }

    /// As [`append_locked`](Self::append_locked) for a buffered batch, only if all that takes is one write.
    fn append_at_once(
        &self,
        handle: &mut Handle,
        at: Tip,
        batch: &Batch,
    ) -> Result<Option<Tip>, StorageError> {
        let Some(known) = &handle.known else { return Ok(None) };
        let unchanged = handle.log.len().is_ok_and(|len| len == known.end)
            && read_stamp(&*handle.slots).is_ok_and(|stamp| known.stamp == Some(stamp));
        if !unchanged {
            return Ok(None);
        }
        self.append_here(handle, at, batch, Durability::Buffered).map(Some)
    }

    /// Reads what others added, and mends what a crash left.
    pub(crate) fn catch_up(&self, handle: &mut Handle) -> Result<(), StorageError> {
        let id = handle.id;
        let stamp = read_stamp(&*handle.slots).told("read", &handle.paths.slots)?;
        let length = handle.log.len().told("look at", &handle.paths.log)?;
        if let Some(known) = &mut handle.known {
            let written = known.stamp.as_ref() != Some(&stamp);
            if !written && known.end == length {
                return Ok(());
            }
            if written {
                let slots = Slots::read(id, &*handle.slots).told("read", &handle.paths.slots)?;
                if slots.flushing() {
                    return self.remake(handle);
                }
                known.turn = slots.turn();
                known.mark = slots.mark();
                known.stored = slots.newest.map_or(0, |slot| slot.length);
                known.stamp = Some(stamp);
            }
            if grow(id, &*handle.log, known).told("read", &handle.paths.log)? {
                return Ok(());
            }
        }
        self.take_stock(handle)
    }

    /// Reads everything anew.
    fn take_stock(&self, handle: &mut Handle) -> Result<(), StorageError> {
        handle.known = None;
        let slots = Slots::read(handle.id, &*handle.slots).told("read", &handle.paths.slots)?;
        if slots.flushing() {
            return self.remake(handle);
        }
        let found = self.assess(handle, &slots, Trust::Slots)?;
        if let Some(refusal) = found.refusal() {
            return Err(refusal);
        }
        let verdict = found.verdict();
        if verdict == Verdict::Healthy {
            return know(handle, &found, &slots);
        }
        self.quarantine(handle, &found, verdict.as_str())?;
        handle.log.set_len(found.end).told("cut", &handle.paths.log)?;
        know(handle, &found, &slots)?;
        // The cut must be on the disk before anything is written in its place: else old and new bytes could be mixed.
        self.flush_or_remake(handle)
    }

    pub(crate) fn assess(
        &self,
        handle: &Handle,
        slots: &Slots,
        trust: Trust,
    ) -> Result<Assessment, StorageError> {
        assess(handle.id, &*handle.log, slots, &self.boot, trust).told("read", &handle.paths.log)
    }

    /// Flushes the log, in the order that lets everybody know how it went.
    fn flush(&self, handle: &mut Handle) -> Result<(), Unflushed> {
        if handle.known().is_flushed() {
            return Ok(());
        }
        self.write_slot(handle, Slot::flushing).map_err(Unflushed::NotBegun)?;
        if let Err(error) = handle.log.sync() {
            return Err(Unflushed::Unknown(storage_error("flush", &handle.paths.log, error)));
        }
        self.flushed(handle);
        Ok(())
    }

    /// Notes that all of the log has reached the disk.
    fn flushed(&self, handle: &mut Handle) {
        let known = handle.known();
        known.mark = Some(Mark { tip: known.tip, length: known.end });
        if let Err(error) = self.write_slot(handle, |slot| slot) {
            // The records are safe. That the slot still says `flushing` costs the next append a rewrite.
            tracing::warn!(session = %handle.id, %error, "the mark was not written");
            handle.known().stamp = None;
        }
    }

    pub(crate) fn flush_or_remake(&self, handle: &mut Handle) -> Result<(), StorageError> {
        match self.flush(handle) {
            Ok(()) => Ok(()),
            Err(Unflushed::NotBegun(error)) => Err(error),
            Err(Unflushed::Unknown(_)) => self.remake(handle),
        }
    }

    /// The batch is in the log and its flush failed: only a new file can make it durable.
    fn remake_after(&self, handle: &mut Handle, error: StorageError) -> Result<(), StorageError> {
        let (id, wanted) = (handle.id, handle.known().tip);
        tracing::warn!(session = %id, %error, "a flush failed, the log is made anew");
        let unknown = |error| StorageError::OutcomeUnknown { id, source: std::sync::Arc::new(error) };
        self.remake(handle).map_err(unknown)?;
        match &handle.known {
            Some(known) if known.tip == wanted => Ok(()),
            _ => Err(unknown(error)),
        }
    }

    /// Makes the log anew in another file, from all that can be read back, and puts it in the old one's place.
    pub(crate) fn remake(&self, handle: &mut Handle) -> Result<(), StorageError> {
        handle.known = None;
        let slots = Slots::read(handle.id, &*handle.slots).told("read", &handle.paths.slots)?;
        let found = self.assess(handle, &slots, Trust::Slots)?;
        if let Some(refusal) = found.refusal() {
            return Err(refusal);
        }
        if found.verdict() != Verdict::Healthy {
            self.quarantine(handle, &found, found.verdict().as_str())?;
        }
        self.replace_log(handle, found.end)?;
        know(handle, &found, &slots)?;
        self.flushed(handle);
        Ok(())
    }

    /// Copies the first `length` bytes of the log to a new file, flushes it, and puts it in the old one's place.
    pub(crate) fn replace_log(&self, handle: &mut Handle, length: u64) -> Result<(), StorageError> {
        let path = handle.paths.remade_log();
        if self.disk.kind(&path).told("look at", &path)?.is_some() {
            self.disk.remove_file(&path).told("remove", &path)?;
        }
        let new = self.disk.open(&path, Open::Create).told("create", &path)?;
        copy(&*handle.log, 0..length, &*new).told("write", &path)?;
        new.sync().told("flush", &path)?;
        self.disk.rename(&path, &handle.paths.log).told("rename", &path)?;
        self.disk.sync_dir(&handle.paths.dir).told("flush", &handle.paths.dir)?;
        // The slot may say `flushing` because its session was never known to be in the list of sessions.
        self.disk.sync_dir(&self.layout.sessions()).told("flush", &self.layout.sessions())?;
        handle.replace_log(new).told("look at", &handle.paths.log)
    }

    /// Takes back what a failed append wrote.
    fn cut_back(&self, handle: &mut Handle, length: u64, error: StorageError) -> StorageError {
        handle.known = None;
        match handle.log.set_len(length) {
            Ok(()) => error,
            // A part of the batch may stay: whoever takes the lock next mends what is torn.
            Err(_) => StorageError::OutcomeUnknown { id: handle.id, source: std::sync::Arc::new(error) },
        }
    }

    /// Readers fold what is behind the stored head: it follows buffered records at a distance.
    fn keep_head_near(&self, handle: &mut Handle) {
        let known = handle.known();
        if known.end - known.stored.min(known.end) >= HEAD_EVERY
            && let Err(error) = self.write_slot(handle, |slot| slot)
        {
            tracing::debug!(session = %handle.id, %error, "the head was not written");
            handle.known().stamp = None;
        }
    }

    pub(crate) fn write_slot(
        &self,
        handle: &mut Handle,
        change: impl FnOnce(Slot) -> Slot,
    ) -> Result<(), StorageError> {
        let known = handle.known.as_mut().expect("the log is read before a slot is written");
        let head = Some((*known.head).clone());
        let slot = change(Slot::new(known.turn + 1, &self.boot, known.mark, known.end, head));
        slot.write(handle.id, &*handle.slots).told("write", &handle.paths.slots)?;
        known.turn = slot.turn;
        known.stored = slot.length;
        known.stamp = Some(read_stamp(&*handle.slots).told("read", &handle.paths.slots)?);
        Ok(())
    }
}

/// The bytes of a batch that goes where `expected` says, if its chain is that of the log.
pub(crate) fn sealed_lines(
    id: SessionId,
    expected: Expected,
    batch: &Batch,
) -> Result<Vec<u8>, StorageError> {
    let misfit = |what: String| Err(StorageError::InvalidArgument { what });
    if !batch.fits(expected) {
        return misfit(format!("the batch does not begin where {expected:?} ends"));
    }
    if batch.head().is_some_and(|head| head.id != id) {
        return misfit(format!("the head is not that of session {id}"));
    }
    let mut chain = match expected {
        Expected::Absent | Expected::AbsentWithin(_) => Chain::start(id),
        Expected::At(tip) => Chain::at(id, tip),
    };
    let mut lines = Vec::new();
    for record in batch.records() {
        if let Err(error) = chain.follow(record) {
            return misfit(format!("revision {} does not follow: {error}", record.revision()));
        }
        lines.extend_from_slice(record.line().as_bytes());
        lines.push(b'\n');
    }
    Ok(lines)
}

/// Whether a record with this sum ends at this place of a log.
pub(crate) fn ends_at(log: &dyn DiskFile, tip: Tip, end: u64) -> std::io::Result<bool> {
    let ending = format!(",\"sum\":\"{}\"}}\n", tip.sum);
    let Some(start) = end.checked_sub(ending.len() as u64) else { return Ok(false) };
    Ok(read_exactly(log, start, ending.len())?.is_some_and(|bytes| bytes == ending.as_bytes()))
}

/// Copies a part of one file to the start of another.
pub(crate) fn copy(
    from: &dyn DiskFile,
    part: std::ops::Range<u64>,
    to: &dyn DiskFile,
) -> std::io::Result<()> {
    let mut at = part.start;
    while at < part.end {
        let size = usize::try_from(part.end - at).unwrap_or(usize::MAX).min(COPY);
        let bytes = read_exactly(from, at, size)?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        write_all(to, &bytes, at - part.start)?;
        at += size as u64;
    }
    Ok(())
}

/// Folds what was added since; false where what is there is not what is known, and more.
fn grow(id: SessionId, log: &dyn DiskFile, known: &mut Known) -> std::io::Result<bool> {
    if !ends_at(log, known.tip, known.end)? {
        return Ok(false);
    }
    let mut walk = Walk::from(log, Chain::at(id, known.tip), known.end);
    let mut head = Some((*known.head).clone());
    loop {
        match walk.next()? {
            Step::Record(record) if fold(&mut head, id, &record).is_ok() => {}
            Step::Record(_) | Step::Flaw(_) => return Ok(false),
            Step::End => break,
        }
    }
    if let (Some(tip), Some(head)) = (walk.tip(), head) {
        known.tip = tip;
        known.end = walk.end();
        known.head = Box::new(head);
    }
    Ok(true)
}

/// Remembers what was found.
pub(crate) fn know(handle: &mut Handle, found: &Assessment, slots: &Slots) -> Result<(), StorageError> {
    let (Some(tip), Some(head)) = (found.tip, found.head.clone()) else { return Err(found.damage()) };
    let stamp = read_stamp(&*handle.slots).told("read", &handle.paths.slots)?;
    handle.known = Some(Known {
        tip,
        end: found.end,
        head: Box::new(head),
        turn: slots.turn(),
        stamp: Some(stamp),
        mark: slots.mark(),
        stored: slots.newest.as_ref().map_or(0, |slot| slot.length),
    });
    Ok(())
}
