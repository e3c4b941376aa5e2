//! How an append becomes durable. Everything here happens under the session's lock; a journal shared by many sessions
//! could take this module's place and no other would notice.
//!
//! Invariant: an inode whose flush failed, or may have failed, is never flushed again, by nobody. A slot says
//! `flushing` from before the flush until after its success, so that whoever comes next knows.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use session_core::{Batch, Chain, Durability, Expected, SessionId, StorageError, Tip};

use crate::disk::{DiskFile, Open};
use crate::error::{Told, storage_error};
use crate::handle::{Handle, Known, Place};
use crate::scan::read_exactly;
use crate::slots::{Slot, Slots, write_all};
use crate::store::Store;
use crate::verdict::{Trust, Verdict};

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
            self.catch_up(handle)?;
            let tip = self.append_here(handle, at, batch, durability)?;
            let known = handle.known();
            Ok((tip, known.is_flushed() && known.place.head.state().is_final()))
        })?;
        let (tip, ended) = done.ok_or(StorageError::Conflict { id, expected: Some(at), actual: None })?;
        if ended {
            self.unmark_ended(id);
        }
        Ok(tip)
    }

    /// As [`append`](Self::append) for a buffered batch, only if it takes no waiting and nothing but writes; `None`
    /// where it would take more, and nothing was done.
    pub(crate) fn append_now(
        &self,
        cached: &mut Option<Handle>,
        at: Tip,
        batch: &Batch,
    ) -> Result<Option<Tip>, StorageError> {
        self.under_free_lock(cached, |handle| {
            if handle.is_unchanged() {
                self.append_here(handle, at, batch, Durability::Buffered).map(Some)
            } else {
                Ok(None)
            }
        })
    }

    /// Write, flush, acknowledge, in that order. Nothing has changed since the log was read.
    fn append_here(
        &self,
        handle: &mut Handle,
        at: Tip,
        batch: &Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        let id = handle.id;
        let known = handle.known.as_mut().expect("the log was read");
        let (actual, end) = (known.place.tip, known.place.end);
        if actual != at {
            return Err(StorageError::Conflict { id, expected: Some(at), actual: Some(actual) });
        }
        let lines = sealed_lines(id, Expected::At(at), batch)?;
        let before = batch.head().map(|head| {
            let end = end + lines.len() as u64;
            std::mem::replace(&mut known.place, Place { tip: head.tip, end, head: Box::new(head.clone()) })
        });
        if let Err(error) = write_all(&*handle.log, &lines, end) {
            return Err(self.cut_back(handle, before, storage_error("write", &handle.paths.log, error)));
        }
        if durability == Durability::Flushed {
            match self.flush(handle, before.as_ref()) {
                Ok(()) => {}
                Err(Unflushed::NotBegun(error)) => return Err(self.cut_back(handle, before, error)),
                Err(Unflushed::Unknown(error)) => self.remake_after(handle, error)?,
            }
        } else if before.is_some() {
            // With its head, so that it is known what was there for as long as this boot lasts.
            self.write_last_slot(handle);
        }
        Ok(batch.head().map_or(at, |head| head.tip))
    }

    /// Flushes the log, if that is not done already. `before` is the place up to which all was acknowledged before.
    fn flush(&self, handle: &mut Handle, before: Option<&Place>) -> Result<(), Unflushed> {
        if handle.known().is_flushed() { Ok(()) } else { self.flush_file(handle, before) }
    }

    /// Flushes the log in the order that lets everybody know how it went.
    fn flush_file(&self, handle: &mut Handle, before: Option<&Place>) -> Result<(), Unflushed> {
        self.write_slot(handle, before, Slot::flushing).map_err(Unflushed::NotBegun)?;
        if let Err(error) = handle.log.sync() {
            return Err(Unflushed::Unknown(storage_error("flush", &handle.paths.log, error)));
        }
        self.flushed(handle);
        Ok(())
    }

    /// Notes that all of the log has reached the disk.
    fn flushed(&self, handle: &mut Handle) {
        let known = handle.known();
        known.mark = Some(known.place.mark());
        self.write_last_slot(handle);
    }

    /// Writes what is a help and no promise. The records are where they should be; that the slot says less, or still
    /// `flushing`, costs the next append a look or a rewrite.
    fn write_last_slot(&self, handle: &mut Handle) {
        if let Err(error) = self.write_slot(handle, None, |slot| slot) {
            tracing::warn!(session = %handle.id, %error, "the head was not written");
            handle.known().stamp = None;
        }
    }

    /// Flushes the log whatever the mark says, or makes it anew.
    pub(crate) fn flush_or_remake(&self, handle: &mut Handle) -> Result<(), StorageError> {
        match self.flush_file(handle, None) {
            Ok(()) => Ok(()),
            Err(Unflushed::NotBegun(error)) => Err(error),
            Err(Unflushed::Unknown(_)) => self.remake(handle),
        }
    }

    /// The batch is in the log and its flush failed: only a new file can make it durable.
    fn remake_after(&self, handle: &mut Handle, error: StorageError) -> Result<(), StorageError> {
        let (id, wanted) = (handle.id, handle.known().place.tip);
        tracing::warn!(session = %id, %error, "a flush failed, the log is made anew");
        let unknown = |error| StorageError::OutcomeUnknown { id, source: Arc::new(error) };
        self.remake(handle).map_err(unknown)?;
        if handle.known().place.tip == wanted { Ok(()) } else { Err(unknown(error)) }
    }

    /// Makes the log anew in another file, from all that can be read back, and puts it in the old one's place. Until
    /// that has succeeded, nobody appends.
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
        handle.know(&found, &slots)?;
        self.flushed(handle);
        Ok(())
    }

    /// Copies the first `length` bytes of the log to a new file, flushes it, and puts it in the old one's place.
    pub(crate) fn replace_log(&self, handle: &mut Handle, length: u64) -> Result<(), StorageError> {
        let path = handle.paths.remade_log();
        self.remove_tree(&path)?;
        let new = self.disk.open(&path, Open::Create).told("create", &path)?;
        copy(&*handle.log, 0..length, &*new).told("write", &path)?;
        new.sync().told("flush", &path)?;
        self.disk.rename(&path, &handle.paths.log).told("rename", &path)?;
        self.disk.sync_dir(&handle.paths.dir).told("flush", &handle.paths.dir)?;
        // The slot may say `flushing` because its session was never known to be in the list of sessions.
        self.disk.sync_dir(&self.layout.sessions()).told("flush", &self.layout.sessions())?;
        handle.replace_log(new).told("look at", &handle.paths.log)
    }

    /// Takes back what a failed append wrote, so that not even a loss of power brings it back.
    fn cut_back(&self, handle: &mut Handle, before: Option<Place>, error: StorageError) -> StorageError {
        let Some(before) = before else { return error };
        let path = handle.paths.log.clone();
        let end = before.end;
        handle.known().place = before;
        let taken_back = match handle.log.len() {
            Ok(length) if length == end => Ok(()),
            _ => handle.log.set_len(end).told("cut", &path).and_then(|()| self.flush_or_remake(handle)),
        };
        match taken_back {
            Ok(()) => error,
            // A part of the batch may be there: whoever takes the lock next sees to it.
            Err(_) => StorageError::OutcomeUnknown { id: handle.id, source: Arc::new(error) },
        }
    }

    /// Writes the next slot. `head_at` is the place whose head it keeps, the end of the log unless told otherwise.
    pub(crate) fn write_slot(
        &self,
        handle: &mut Handle,
        head_at: Option<&Place>,
        change: impl FnOnce(Slot) -> Slot,
    ) -> Result<(), StorageError> {
        let Known { place, turn, stamp, mark } = handle.known.as_mut().expect("the log was read");
        let Place { end, head, .. } = head_at.unwrap_or(place);
        let slot = change(Slot::new(*turn + 1, &self.boot, *mark, *end, Some((**head).clone())));
        let written = slot.write(handle.id, &*handle.slots).told("write", &handle.paths.slots)?;
        *turn = slot.turn;
        if let Some(stamp) = stamp {
            stamp.replace(slot.turn, written);
        }
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

/// Copies a part of one file to the start of another.
pub(crate) fn copy(from: &dyn DiskFile, part: Range<u64>, to: &dyn DiskFile) -> io::Result<()> {
    let mut at = part.start;
    while at < part.end {
        let size = usize::try_from(part.end - at).unwrap_or(COPY).min(COPY);
        let bytes = read_exactly(from, at, size)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        write_all(to, &bytes, at - part.start)?;
        at += size as u64;
    }
    Ok(())
}
