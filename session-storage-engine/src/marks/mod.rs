//! Marks: what is known to be flushed, stored outside the database, so that a database that comes back with less than
//! was acknowledged is detected. The line format is in `line`, their combined content in `table`, the file that
//! processes share in `file`, and its replacement in `stage`.

mod file;
mod line;
mod stage;
mod table;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use session_core::backend::Tip;
use session_core::{SessionId, StorageError};

use self::file::{LockMode, MarksFile};
use self::line::Line;
pub use self::line::StoreId;
use self::table::MarkTable;

/// Lines allowed on top of one and a half times the sorted ones before the file is compacted: opening a store reads and
/// sorts all of them.
const SLACK: usize = 4096;
/// The number of attempts to lock a file that other processes replace.
const LOCK_ATTEMPTS: usize = 64;

/// The part of one session that is known to be flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The database's change counter at that flush.
    pub change: u64,
    /// The flushed tip; `None` for a session that is being deleted, or was.
    pub tip: Option<Tip>,
}

/// The content of a marks file whose store is not known, as far as it can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarksSummary {
    /// The store that the file names, if that can be read.
    pub store: Option<StoreId>,
    /// The highest change that was flushed.
    pub change: u64,
    /// The number of sessions that were flushed and not deleted.
    pub sessions: usize,
}

/// The marks of one store. All calls block, for a few system calls each.
///
/// Three rules keep them true: a tip is recorded only after the database was flushed with it, and before the append is
/// acknowledged; a deletion is recorded, and flushed here, before the database commits it; and each line has the
/// database's own change counter, advanced in the same transaction as the data, so that the line with the later change
/// wins in any order of writing. Tips need no flush here: if power loss removes a part of this file, that only lowers a
/// mark.
#[derive(Debug)]
pub struct Marks {
    path: PathBuf,
    store: StoreId,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Option<MarksFile>,
    table: MarkTable,
    /// No compaction below this number of lines: an attempt with fewer lines has failed.
    compact_above: usize,
}

impl Marks {
    /// Reads the marks of a store. Nothing is created: a missing file means no marks.
    ///
    /// # Errors
    /// `Unavailable` if the marks belong to another store, or something else is at the path; else the system's error.
    pub fn open(path: impl Into<PathBuf>, store: StoreId) -> Result<Self, StorageError> {
        let marks = Self { path: path.into(), store, state: Mutex::default() };
        marks.refresh()?;
        Ok(marks)
    }

    /// Reads a file without knowing its store, for a database that is missing. `None` if there is no file, or if it is
    /// empty.
    ///
    /// # Errors
    /// `Unavailable` if something else is at the path; else the system's error.
    pub fn read_summary(path: &Path) -> Result<Option<MarksSummary>, StorageError> {
        let Some(mut file) = MarksFile::open(path)? else { return Ok(None) };
        let mut table = MarkTable::default();
        table.read(&mut file, path)?;
        let MarkTable { store, change, lines, .. } = table;
        Ok((lines > 0).then(|| MarksSummary { store, change, sessions: table.tips().count() }))
    }

    /// Describes the damage of the file as of the last [`refresh`](Self::refresh); `None` if it has none. The readable
    /// marks are still used.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        let damaged = self.lock().table.damaged;
        (damaged > 0).then(|| {
            format!(
                "{} is damaged: {damaged} bytes of it are no marks, so that losses of sessions may go unnoticed",
                self.path.display()
            )
        })
    }

    /// Rebuilds a damaged file from its readable marks, flushed, and keeps the damaged one in the quarantine folder next
    /// to it. Returns a sentence about the repair; `None` if none was needed.
    ///
    /// # Errors
    /// The system's error; the marks are then the old or the new ones.
    pub fn repair(&self) -> Result<Option<String>, StorageError> {
        let mut state = self.lock();
        state.refresh(&self.path, self.store)?;
        if state.table.damaged == 0 {
            return Ok(None);
        }
        state.open_locked(&self.path, self.store, LockMode::Exclusive)?;
        let kept = state.rewrite(&self.path, self.store);
        if !matches!(kept, Ok(Some(_)))
            && let Some(file) = &state.open
        {
            file.unlock();
        }
        Ok(kept?.map(|kept| {
            format!(
                "{} was rebuilt from its readable marks; the damaged one is {}",
                self.path.display(),
                kept.display()
            )
        }))
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the store that the marks belong to.
    #[must_use]
    pub const fn store(&self) -> StoreId {
        self.store
    }

    /// Reads what other processes have added.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn refresh(&self) -> Result<(), StorageError> {
        self.lock().refresh(&self.path, self.store)
    }

    /// Returns the mark of a session as of the last [`refresh`](Self::refresh).
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<Mark> {
        self.lock().table.get(id)
    }

    /// Returns the flushed tip of a session as of the last [`refresh`](Self::refresh), unless it was deleted.
    #[must_use]
    pub fn tip(&self, id: SessionId) -> Option<Tip> {
        self.get(id)?.tip
    }

    /// Returns all flushed and not deleted sessions as of the last [`refresh`](Self::refresh), ascending by id.
    #[must_use]
    pub fn tips(&self) -> Vec<(SessionId, Tip)> {
        self.between(None, None)
    }

    /// Returns those of [`tips`](Self::tips) after `after` and up to `last`.
    #[must_use]
    pub fn between(&self, after: Option<SessionId>, last: Option<SessionId>) -> Vec<(SessionId, Tip)> {
        let state = self.lock();
        state.table.between(after, last).filter_map(|(id, mark)| Some((id, mark.tip?))).collect()
    }

    /// Returns the highest change that is known to be flushed: a database that is behind it has lost something.
    #[must_use]
    pub fn change(&self) -> u64 {
        self.lock().table.change
    }

    /// Records the tips that the database was flushed with, as of this change: call it after the flush and before the
    /// acknowledgement. Without sessions it records the change alone, as after a deletion. Compacts a file that has
    /// become long.
    ///
    /// # Errors
    /// The system's error; the record may then be missing, though the flush took place.
    pub fn record_flush(&self, change: u64, sessions: &[(SessionId, Tip)]) -> Result<(), StorageError> {
        let tips = sessions.iter().map(|(id, tip)| Line::Tip(change, *id, *tip));
        let alone = sessions.is_empty().then_some(Line::Change(change));
        let mut state = self.lock();
        state.append(&self.path, self.store, &tips.chain(alone).collect::<Vec<_>>(), false)?;
        state.compact_if_sparse(&self.path, self.store);
        Ok(())
    }

    /// Records, flushed, that a session will be deleted with this change: call it before the commit. If the commit
    /// fails, the session has no mark until its next flush.
    ///
    /// # Errors
    /// The system's error; then the session must not be deleted.
    pub fn record_deletion(&self, change: u64, id: SessionId) -> Result<(), StorageError> {
        self.lock().append(&self.path, self.store, &[Line::Deletion(change, id)], true)
    }

    /// Records, flushed, that the loss of a session is accepted: its mark is this tip from now on, or none. `change`
    /// must be above all known ones, and the database flushed with it.
    ///
    /// # Errors
    /// The system's error; then the session may still be treated as damaged.
    pub fn accept_loss(&self, change: u64, id: SessionId, tip: Option<Tip>) -> Result<(), StorageError> {
        let line = tip.map_or(Line::Deletion(change, id), |tip| Line::Tip(change, id, tip));
        self.lock().append(&self.path, self.store, &[line, Line::Change(change)], true)
    }

    /// Replaces all marks by those of these sessions, as of this change. For a store whose losses are all accepted; the
    /// caller must keep all processes from writing to the database meanwhile.
    ///
    /// # Errors
    /// The system's error; the marks are then the old or the new ones.
    pub fn reset(&self, change: u64, sessions: &[(SessionId, Tip)]) -> Result<(), StorageError> {
        let mut lines = vec![Line::Change(change)];
        lines.extend(sessions.iter().map(|(id, tip)| Line::Tip(change, *id, *tip)));
        let mut state = self.lock();
        state.open_locked(&self.path, self.store, LockMode::Exclusive)?;
        let replaced = state.replace(&self.path, self.store, &lines);
        if replaced.is_err()
            && let Some(file) = &state.open
        {
            file.unlock();
        }
        replaced
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refresh(&mut self, path: &Path, store: StoreId) -> Result<(), StorageError> {
        let is_current = self.open.as_mut().map_or(Ok(false), |file| file.is_at(path))?;
        if !is_current {
            self.open = MarksFile::open(path)?;
            // No process of ours removes the file: its content is in memory here, and is written again with the next
            // mark. A file that replaced it is complete.
            if self.open.is_none() {
                return Ok(());
            }
            self.table = MarkTable::default();
        }
        let Self { open, table, .. } = self;
        if let Some(file) = open {
            table.read(file, path)?;
        }
        match table.store {
            Some(other) if other != store => {
                let what = format!(
                    "{} belongs to store {other}, but the database is store {store}: restore the marks and the database \
                     of the same store",
                    path.display()
                );
                // Nothing of this file is used, and nothing is written to it.
                *self = Self::default();
                Err(StorageError::Unavailable { what, source: None })
            }
            _ => Ok(()),
        }
    }

    /// Opens the file, creates it if necessary, and locks it; then it is the file at the path, and was read to its end.
    fn open_locked(&mut self, path: &Path, store: StoreId, mode: LockMode) -> Result<(), StorageError> {
        for _ in 0..LOCK_ATTEMPTS {
            if self.open.is_none() {
                self.refresh(path, store)?;
            }
            let Some(file) = &self.open else {
                stage::create(path, store, &Line::encode_all(&self.table.lines()))?;
                continue;
            };
            file.lock(path, mode)?;
            // Another file may have replaced it: then the new file is read, and closing the old one releases its lock.
            let locked_identity = file.identity();
            if let Err(error) = self.refresh(path, store) {
                self.open.iter().for_each(MarksFile::unlock);
                return Err(error);
            }
            if self.open.as_ref().is_some_and(|file| file.identity() == locked_identity) {
                return Ok(());
            }
        }
        Err(StorageError::Unavailable {
            what: format!("{} keeps being replaced: find the process that does it", path.display()),
            source: None,
        })
    }

    fn append(
        &mut self,
        path: &Path,
        store: StoreId,
        lines: &[Line],
        flush: bool,
    ) -> Result<(), StorageError> {
        self.open_locked(path, store, LockMode::Shared)?;
        let bytes = Line::encode_all(lines);
        let Some(file) = &mut self.open else { return Ok(()) };
        let mut written = file.append(path, &bytes);
        if flush && written.is_ok() {
            written = file.sync(path);
        }
        file.unlock();
        written?;
        // If another process appended in between, these are read again and counted twice, which is harmless.
        self.table.lines += lines.len();
        for line in lines {
            if let Some((id, mark)) = self.table.apply(*line) {
                self.table.merge(id, mark);
            }
        }
        Ok(())
    }

    /// Returns `true` if the file is worth compacting.
    fn is_sparse(&self) -> bool {
        self.table.lines > self.compact_above.max(self.table.sorted / 2 * 3 + SLACK)
    }

    /// Replaces a long file by one with the fewest lines of the same content, unless another process holds the lock.
    fn compact_if_sparse(&mut self, path: &Path, store: StoreId) {
        if !self.is_sparse() {
            return;
        }
        self.compact_above = self.table.lines + SLACK;
        match self.compact(path, store) {
            Ok(true) => self.compact_above = 0,
            Ok(false) => {}
            Err(error) => {
                // The file keeps its content; the next attempt is made when it is longer.
                tracing::warn!(path = %path.display(), %error, "could not compact the marks, will retry later");
            }
        }
    }

    fn compact(&mut self, path: &Path, store: StoreId) -> Result<bool, StorageError> {
        let Some(file) = &mut self.open else { return Ok(false) };
        if !file.try_lock(path, LockMode::Exclusive)? {
            return Ok(false);
        }
        // Releases the lock explicitly: the old file is closed only when the new one is read.
        if !file.is_at(path)? {
            file.unlock();
            return Ok(false);
        }
        let replaced = self.refresh(path, store).and_then(|()| self.rewrite(path, store));
        if replaced.is_err()
            && let Some(file) = &self.open
        {
            file.unlock();
        }
        replaced.map(|_| true)
    }

    /// Replaces the file by one with the fewest lines of the same content. Keeps a damaged one, and returns its path
    /// then. The caller must hold the exclusive lock.
    fn rewrite(&mut self, path: &Path, store: StoreId) -> Result<Option<PathBuf>, StorageError> {
        let kept = if self.table.damaged > 0 { Some(stage::quarantine(path)?) } else { None };
        let lines = self.table.lines();
        self.replace(path, store, &lines)?;
        if let Some(kept) = &kept {
            tracing::warn!(path = %path.display(), kept = %kept.display(), "rebuilt damaged marks");
        }
        Ok(kept)
    }

    fn replace(&mut self, path: &Path, store: StoreId, lines: &[Line]) -> Result<(), StorageError> {
        let bytes = Line::encode_all(lines);
        stage::replace(path, store, &bytes)?;
        self.refresh(path, store)
    }
}

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod tests;
