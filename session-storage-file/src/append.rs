//! How an append becomes durable. Everything here happens under the session's lock; a journal shared by many sessions
//! could take this module's place and no other would notice.
//!
//! Invariant: an inode whose flush failed, or may have failed, is never flushed again, by nobody. A slot says
//! `flushing` from before the flush until after its success, so that whoever comes next knows
//! (guard: `session-storage-file/tests/laws.rs::a_failed_flush_is_never_acknowledged`).

use std::io;
use std::ops::Range;
use std::sync::Arc;

use session_core::{Batch, Chain, Condition, Durability, Expected, SessionId, StorageError, Tip};

use crate::condition::{CachedHead, assess};
use crate::disk::{DiskFile, Open};
use crate::error::{IoContext, storage_error};
use crate::handle::{CachedHandle, Handle, LogPosition, LogState};
use crate::scan::{ReadAt, read_exactly};
use crate::slots::{Slot, Slots, write_all};
use crate::store::Store;

const COPY_CHUNK: usize = 256 * 1024;
/// The most bytes that are kept in memory while they are flushed.
const MAX_TAIL_BYTES: usize = 16 * 1024 * 1024;

/// What a slot says of the log's flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlushState {
    /// None is under way.
    Idle,
    /// One has begun.
    Flushing,
}

/// Why a flush did not come to a good end.
enum FlushError {
    /// It did not begin: the log can be flushed later.
    NotStarted(StorageError),
    /// Nothing is known of what reached the disk.
    Unknown(StorageError, UnflushedTail),
}

impl Store {
    /// Adds a batch behind `at`, or changes nothing.
    pub(crate) fn append(
        &self,
        cached: &mut Option<CachedHandle>,
        id: SessionId,
        at: Tip,
        batch: &Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        let deadline = self.deadline();
        let done = self.with_session_lock(cached, id, deadline, |handle| {
            self.catch_up(handle)?;
            let tip = self.append_locked(handle, at, batch, durability)?;
            let state = handle.state();
            Ok((tip, state.is_flushed() && state.position.head.state().is_final()))
        })?;
        let (tip, ended) = done.ok_or(StorageError::Conflict { id, expected: Some(at), actual: None })?;
        if ended {
            self.unmark_ended(id);
        }
        Ok(tip)
    }

    /// As [`append`](Self::append) for a buffered batch, only if it takes no waiting and nothing but writes; `None`
    /// where it would take more, and nothing was done.
    pub(crate) fn try_append_buffered(
        &self,
        cached: &mut Option<CachedHandle>,
        at: Tip,
        batch: &Batch,
    ) -> Result<Option<Tip>, StorageError> {
        self.try_with_session_lock(cached, |handle| {
            if handle.is_unchanged() {
                self.append_locked(handle, at, batch, Durability::Buffered).map(Some)
            } else {
                Ok(None)
            }
        })
    }

    /// Write, flush, acknowledge, in that order. Nothing has changed since the log was read.
    fn append_locked(
        &self,
        handle: &mut Handle,
        at: Tip,
        batch: &Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        let id = handle.id;
        let state = handle.state.as_mut().expect("the log was read");
        let (actual, end) = (state.position.tip, state.position.end);
        if actual != at {
            return Err(StorageError::Conflict { id, expected: Some(at), actual: Some(actual) });
        }
        let lines = sealed_lines(id, Expected::At(at), batch)?;
        let before = batch.head().map(|head| {
            let end = end + lines.len() as u64;
            std::mem::replace(
                &mut state.position,
                LogPosition { tip: head.tip, end, head: Box::new(head.clone()) },
            )
        });
        if let Err(error) = write_all(&*handle.log, &lines, end) {
            return Err(self.undo_append(handle, before, storage_error("write", &handle.paths.log, error)));
        }
        let tip = batch.head().map_or(at, |head| head.tip);
        if durability == Durability::Flushed {
            if handle.state().is_flushed() {
                return Ok(tip);
            }
            match self.flush(handle, before.as_ref(), Some(lines)) {
                // Before anybody is told: what was acknowledged can then not be lost without a word.
                Ok(()) => self.record_flush(handle),
                Err(FlushError::NotStarted(error)) => return Err(self.undo_append(handle, before, error)),
                Err(FlushError::Unknown(error, end)) => {
                    self.rebuild_after_failed_flush(handle, error, &end)?
                }
            }
        } else if before.is_some() {
            // With its head, so that it is known what was there for as long as this boot lasts.
            self.refresh_slot(handle);
        }
        Ok(tip)
    }

    /// Flushes the log, once a slot tells everybody that this has begun; whoever calls it says in a slot how it went.
    /// `before` is the place up to which all was acknowledged before, `lines` is what was written behind it.
    fn flush(
        &self,
        handle: &mut Handle,
        before: Option<&LogPosition>,
        lines: Option<Vec<u8>>,
    ) -> Result<(), FlushError> {
        self.write_slot(handle, FlushState::Flushing).map_err(FlushError::NotStarted)?;
        let unflushed_tail = handle.unflushed_tail(before, lines);
        handle.log.sync().map_err(|error| {
            FlushError::Unknown(storage_error("flush", &handle.paths.log, error), unflushed_tail)
        })
    }

    /// Notes that all of the log has reached the disk.
    fn record_flush(&self, handle: &mut Handle) {
        let state = handle.state();
        state.mark = Some(state.position.mark());
        self.refresh_slot(handle);
    }

    /// Writes what is a help and no promise. The records are where they should be; that the slot says less, or still
    /// `flushing`, costs the next append a look or a rewrite.
    fn refresh_slot(&self, handle: &mut Handle) {
        if let Err(error) = self.write_slot(handle, FlushState::Idle) {
            tracing::warn!(session = %handle.id, %error, "the head was not written");
            handle.state().stamp = None;
        }
    }

    /// Flushes the log whatever the mark says, or makes it anew.
    pub(crate) fn flush_or_rebuild(&self, handle: &mut Handle) -> Result<(), StorageError> {
        match self.flush(handle, None, None) {
            Ok(()) => {
                self.record_flush(handle);
                Ok(())
            }
            Err(FlushError::NotStarted(error)) => Err(error),
            Err(FlushError::Unknown(_, end)) => self.rebuild_log(handle, &end),
        }
    }

    /// The batch is in the log and its flush failed: only a new file can make it durable.
    fn rebuild_after_failed_flush(
        &self,
        handle: &mut Handle,
        error: StorageError,
        end: &UnflushedTail,
    ) -> Result<(), StorageError> {
        let (id, wanted) = (handle.id, handle.state().position.tip);
        tracing::warn!(session = %id, %error, "a flush failed, the log is made anew");
        let unknown = |error| StorageError::OutcomeUnknown { id, source: Arc::new(error) };
        self.rebuild_log(handle, end).map_err(unknown)?;
        if handle.state().position.tip == wanted { Ok(()) } else { Err(unknown(error)) }
    }

    /// Makes the log anew in another file, from all that can be read back or is recalled, and puts it in the old one's
    /// place. Until that has succeeded, nobody appends.
    pub(crate) fn rebuild_log(&self, handle: &mut Handle, end: &UnflushedTail) -> Result<(), StorageError> {
        handle.state = None;
        let slots = Slots::read(handle.id, &*handle.slots).context("read", &handle.paths.slots)?;
        let log = LogWithTail { file: &*handle.log, end };
        let found = assess(handle.id, &log, &slots, &self.boot, CachedHead::Use)
            .context("read", &handle.paths.log)?;
        if let Some(refusal) = found.refusal() {
            return Err(refusal);
        }
        if found.condition() != Condition::Healthy {
            self.quarantine(handle, &found, found.condition().as_str())?;
        }
        let new = self.copy_log(handle, &log, found.end)?;
        self.replace_log(handle, new)?;
        handle.adopt(&found, &slots)?;
        self.record_flush(handle);
        Ok(())
    }

    /// Copies the first `length` bytes of a log to a new file and flushes it.
    pub(crate) fn copy_log<S: ReadAt + ?Sized>(
        &self,
        handle: &Handle,
        log: &S,
        length: u64,
    ) -> Result<Box<dyn DiskFile>, StorageError> {
        let path = handle.paths.rebuilt_log();
        self.remove_tree(&path)?;
        let new = self.disk.open(&path, Open::Create).context("create", &path)?;
        copy(log, 0..length, &*new).context("write", &path)?;
        new.sync().context("flush", &path)?;
        Ok(new)
    }

    /// Puts a new file in the log's place, durably.
    pub(crate) fn replace_log(
        &self,
        handle: &mut Handle,
        new: Box<dyn DiskFile>,
    ) -> Result<(), StorageError> {
        let path = handle.paths.rebuilt_log();
        self.disk.rename(&path, &handle.paths.log).context("rename", &path)?;
        self.disk.sync_dir(&handle.paths.dir).context("flush", &handle.paths.dir)?;
        // The slot may say `flushing` because its session was never known to be in the list of sessions.
        self.sync_sessions_dir()?;
        handle.replace_log(new).context("look at", &handle.paths.log)
    }

    /// Takes back what a failed append wrote, so that not even a loss of power brings it back.
    fn undo_append(
        &self,
        handle: &mut Handle,
        before: Option<LogPosition>,
        error: StorageError,
    ) -> StorageError {
        let Some(before) = before else { return error };
        let path = handle.paths.log.clone();
        let end = before.end;
        handle.state().position = before;
        let undone = match handle.log.len() {
            Ok(length) if length == end => Ok(()),
            _ => handle.log.set_len(end).context("cut", &path).and_then(|()| self.flush_or_rebuild(handle)),
        };
        match undone {
            Ok(()) => error,
            // A part of the batch may be there: whoever takes the lock next sees to it.
            Err(_) => StorageError::OutcomeUnknown { id: handle.id, source: Arc::new(error) },
        }
    }

    /// Writes the next slot.
    fn write_slot(&self, handle: &mut Handle, flush_state: FlushState) -> Result<(), StorageError> {
        let LogState { position: LogPosition { end, head, .. }, turn, stamp, mark } =
            handle.state.as_mut().expect("the log was read");
        let slot = Slot::new(*turn + 1, &self.boot, *mark, *end, Some(head));
        let slot = if flush_state == FlushState::Flushing { slot.flushing() } else { slot };
        let written = slot.write(handle.id, &*handle.slots).context("write", &handle.paths.slots)?;
        *turn = slot.turn;
        if let Some(stamp) = stamp {
            stamp.replace(slot.turn, written);
        }
        Ok(())
    }
}

impl Handle {
    /// What a flush is about to make durable, unless that is more than one wants in memory.
    ///
    /// Some systems forget what a failed flush should have written, acknowledged buffered records included.
    fn unflushed_tail(&mut self, before: Option<&LogPosition>, lines: Option<Vec<u8>>) -> UnflushedTail {
        let state = self.state();
        let start = state.mark.map_or(0, |mark| mark.length);
        if let (Some(before), Some(bytes)) = (before, lines)
            && before.end == start
        {
            return UnflushedTail { start, bytes };
        }
        let length = usize::try_from(state.position.end.saturating_sub(start)).unwrap_or(usize::MAX);
        let wanted = length <= MAX_TAIL_BYTES;
        let bytes = wanted.then(|| read_exactly(&*self.log, start, length).ok().flatten()).flatten();
        UnflushedTail { start, bytes: bytes.unwrap_or_default() }
    }
}

/// The end of a log as it was before a flush failed.
#[derive(Debug, Default)]
pub(crate) struct UnflushedTail {
    start: u64,
    bytes: Vec<u8>,
}

/// A log whose end is recalled, not read.
struct LogWithTail<'a> {
    file: &'a dyn DiskFile,
    end: &'a UnflushedTail,
}

impl ReadAt for LogWithTail<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let UnflushedTail { start, bytes } = self.end;
        if bytes.is_empty() {
            return self.file.read_at(buffer, offset);
        }
        match start.checked_sub(offset) {
            None | Some(0) => bytes.as_slice().read_at(buffer, offset - start),
            Some(before) => {
                let most = usize::try_from(before).unwrap_or(usize::MAX).min(buffer.len());
                self.file.read_at(buffer.get_mut(..most).unwrap_or_default(), offset)
            }
        }
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
pub(crate) fn copy<S: ReadAt + ?Sized>(from: &S, part: Range<u64>, to: &dyn DiskFile) -> io::Result<()> {
    let mut at = part.start;
    while at < part.end {
        let size = usize::try_from(part.end - at).unwrap_or(COPY_CHUNK).min(COPY_CHUNK);
        let bytes = read_exactly(from, at, size)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        write_all(to, &bytes, at - part.start)?;
        at += size as u64;
    }
    Ok(())
}
