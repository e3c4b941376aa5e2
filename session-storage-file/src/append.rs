//! Durable appends: write the records, flush the log, record the flush in a slot. Everything here runs under
//! the session's lock. A journal shared by many sessions could replace this module without a change elsewhere.
//!
//! Invariant: no process flushes an inode again whose flush failed or may have failed. A slot has `flushing`
//! set from before the flush until it has succeeded, so that the next writer knows (guard:
//! `session-storage-file/tests/laws.rs::a_failed_flush_is_never_acknowledged`).

use std::io;
use std::ops::Range;
use std::sync::Arc;

use session_core::backend::{Batch, Chain, Expected, Tip};
use session_core::maintenance::Condition;
use session_core::{Durability, SessionId, StorageError};

use crate::condition::{CachedHead, assess};
use crate::disk::{DiskFile, Open};
use crate::error::{IoContext, storage_error};
use crate::handle::{CachedHandle, Handle, LogPosition, LogState};
use crate::scan::{ReadAt, read_exactly};
use crate::slots::{Slot, Slots, write_all};
use crate::store::Store;

const COPY_CHUNK: usize = 256 * 1024;
/// The most unflushed bytes that are kept in memory during a flush.
const MAX_TAIL_BYTES: usize = 16 * 1024 * 1024;

/// The flush state that a slot records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlushState {
    /// No flush is in progress.
    Idle,
    /// A flush has started.
    Flushing,
}

/// The reason why a flush failed.
enum FlushError {
    /// It did not start: the log can be flushed later.
    NotStarted(StorageError),
    /// It is unknown which bytes reached the disk.
    Unknown(StorageError, UnflushedTail),
}

impl Store {
    /// Appends a batch after `at`, or changes nothing.
    pub(crate) fn append(
        &self,
        cached: &mut Option<CachedHandle>,
        id: SessionId,
        at: Tip,
        batch: &Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        let (tip, ended) = self.append_if(cached, id, at, batch, durability, || Ok(()))?;
        if ended {
            self.unmark_ended(id);
        }
        Ok(tip)
    }

    /// Appends a batch after `at`, or changes nothing if `check` fails, which is called if the log ends there. Returns
    /// the new tip, and `true` if the session has ended durably.
    pub(crate) fn append_if(
        &self,
        cached: &mut Option<CachedHandle>,
        id: SessionId,
        at: Tip,
        batch: &Batch,
        durability: Durability,
        check: impl FnOnce() -> Result<(), StorageError>,
    ) -> Result<(Tip, bool), StorageError> {
        let done = self.with_session_lock(cached, id, self.deadline(), |handle| {
            self.catch_up(handle)?;
            if handle.state().position.tip == at {
                check()?;
            }
            let tip = self.append_locked(handle, at, batch, durability)?;
            let state = handle.state();
            Ok((tip, state.is_flushed() && state.position.head.state().is_final()))
        });
        let done = match done {
            // A reader that may not write to the store only asks.
            Err(StorageError::Unavailable { .. }) if batch.is_empty() && self.is_flushed_at(id, at)? => {
                return Ok((at, false));
            }
            done => done?,
        };
        done.ok_or(StorageError::Conflict { id, expected: Some(at), actual: None })
    }

    /// Like [`append`](Self::append) for a buffered batch, but only if that needs neither waiting nor anything
    /// except writes. Returns `None`, with nothing done, if it needs more.
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

    /// Writes, flushes and acknowledges, in that order. The log has not changed since it was read.
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
                // The mark is written before the caller is notified: the loss of an acknowledged record is then
                // detectable.
                Ok(()) => self.record_flush(handle),
                Err(FlushError::NotStarted(error)) => return Err(self.undo_append(handle, before, error)),
                Err(FlushError::Unknown(error, end)) => {
                    self.rebuild_after_failed_flush(handle, error, &end)?;
                }
            }
        } else if before.is_some() {
            // The slot includes the head, so that a lost record is detectable for as long as this boot lasts.
            self.refresh_slot(handle);
        }
        Ok(tip)
    }

    /// Announces the flush in a slot, then flushes the log; the caller records the outcome in a slot. `before`
    /// is the position up to which everything was acknowledged before, `lines` is what was written after it.
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

    /// Records that the whole log is on the disk.
    fn record_flush(&self, handle: &mut Handle) {
        let state = handle.state();
        state.mark = Some(state.position.mark());
        self.refresh_slot(handle);
    }

    /// Refreshes the slot, best effort: if this write is lost, the next append re-reads or rewrites the log; no
    /// record is at risk.
    fn refresh_slot(&self, handle: &mut Handle) {
        if let Err(error) = self.write_slot(handle, FlushState::Idle) {
            tracing::warn!(session = %handle.id, %error, "could not write head.json");
            handle.state().stamp = None;
        }
    }

    /// Flushes the log, even if the mark says that it is flushed; rebuilds it if the flush fails.
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

    /// Rebuilds the log after the flush of a batch failed: only a new file can make the batch durable.
    fn rebuild_after_failed_flush(
        &self,
        handle: &mut Handle,
        error: StorageError,
        end: &UnflushedTail,
    ) -> Result<(), StorageError> {
        let (id, wanted) = (handle.id, handle.state().position.tip);
        tracing::warn!(session = %id, %error, "a flush failed, rebuilding the log");
        let unknown = |error| StorageError::OutcomeUnknown { id, source: Arc::new(error) };
        self.rebuild_log(handle, end).map_err(unknown)?;
        if handle.state().position.tip == wanted { Ok(()) } else { Err(unknown(error)) }
    }

    /// Rebuilds the log in a new file, from what can be read back and the unflushed tail, and replaces the old
    /// file with it. No process appends until this has succeeded.
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

    /// Replaces the log's file durably.
    pub(crate) fn replace_log(
        &self,
        handle: &mut Handle,
        new: Box<dyn DiskFile>,
    ) -> Result<(), StorageError> {
        let path = handle.paths.rebuilt_log();
        self.disk.rename(&path, &handle.paths.log).context("rename", &path)?;
        self.disk.sync_dir(&handle.paths.dir).context("flush", &handle.paths.dir)?;
        // The slot may have `flushing` set because the session's directory entry was never known to be durable.
        self.sync_sessions_dir()?;
        handle.replace_log(new).context("stat", &handle.paths.log)
    }

    /// Truncates what a failed append wrote, so that not even power loss brings it back.
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
            _ => handle
                .log
                .set_len(end)
                .context("truncate", &path)
                .and_then(|()| self.flush_or_rebuild(handle)),
        };
        match undone {
            Ok(()) => error,
            // A part of the batch may be stored: the next lock holder handles it.
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
    /// Returns the bytes that a flush is about to make durable, or nothing if they exceed [`MAX_TAIL_BYTES`].
    ///
    /// Some systems drop from the page cache what a failed flush should have written, acknowledged buffered
    /// records included.
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

/// The tail of a log as it was before a flush failed.
#[derive(Debug, Default)]
pub(crate) struct UnflushedTail {
    start: u64,
    bytes: Vec<u8>,
}

/// A log whose tail comes from memory, not from its file.
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

/// Returns the bytes of a batch if its chain continues the log at `expected`.
pub(crate) fn sealed_lines(
    id: SessionId,
    expected: Expected,
    batch: &Batch,
) -> Result<Vec<u8>, StorageError> {
    let mut lines = Vec::new();
    for_each_sealed_line(id, expected, batch, |line| {
        lines.extend_from_slice(line);
        lines.push(b'\n');
        Ok(())
    })?;
    Ok(lines)
}

/// Calls `on_line` for each line of a batch, without its line end, if the chain of all lines up to it continues the log
/// at `expected`.
pub(crate) fn for_each_sealed_line(
    id: SessionId,
    expected: Expected,
    batch: &Batch,
    mut on_line: impl FnMut(&[u8]) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let misfit = |what: String| Err(StorageError::InvalidArgument { what });
    if !batch.fits(expected) {
        return misfit(format!("the batch does not start at {expected:?}"));
    }
    if batch.head().is_some_and(|head| head.id != id) {
        return misfit(format!("the batch's head belongs to another session, not to {id}"));
    }
    let mut chain = match expected.tip() {
        None => Chain::start(id),
        Some(tip) => Chain::at(id, tip),
    };
    for record in batch.records() {
        let record = record?;
        if let Err(error) = chain.follow(&record) {
            return misfit(format!("revision {} does not follow: {error}", record.revision()));
        }
        on_line(record.line().as_bytes())?;
    }
    Ok(())
}

/// Copies a range of one file to the start of another.
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
