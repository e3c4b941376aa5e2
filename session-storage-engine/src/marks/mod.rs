//! What is known to be flushed, kept outside the database, so that one that comes back with less than was acknowledged is
//! found out. How lines look is in `line`, what they come to in `known`, how processes share the file in `file`, and how a new
//! one takes its place in `stage`.

mod file;
mod known;
mod line;
mod stage;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use session_core::{SessionId, StorageError, Tip};

use self::file::{Hold, Open};
use self::known::Known;
use self::line::Line;
pub use self::line::StoreId;

/// Lines that are not worth a new file, beside half as many as are in order: whoever opens a store reads and sorts all.
const SLACK: usize = 4096;
/// How often the file may be replaced while one is about to hold it.
const ROUNDS: usize = 64;

/// What is known to have been flushed of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The database's change with which it was.
    pub change: u64,
    /// The tip that was; `None` for a session that is being deleted, or was.
    pub tip: Option<Tip>,
}

/// A file of marks whose store nobody knows, as far as it can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarksSummary {
    /// The store that it names, if that can be read.
    pub store: Option<StoreId>,
    /// The highest change that it says was flushed.
    pub change: u64,
    /// How many sessions it says were flushed, and not deleted.
    pub sessions: usize,
}

/// The marks of one store. All calls block, for a few calls to the system each.
///
/// Three rules make them true: a tip is noted only after the database was flushed with it, and before that is
/// acknowledged; a deletion is noted, and flushed here, before the database commits it; and each line carries the database's
/// own counter of changes, advanced in the same transaction as the data, so that of two lines the later one counts in
/// whatever order they were written. Tips need no flush here: what power loss takes of this file only lowers a mark.
#[derive(Debug)]
pub struct Marks {
    path: PathBuf,
    store: StoreId,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Open>,
    known: Known,
    /// The file stays as long as it is until it has so many lines: it could not be written anew when it had fewer.
    enough: usize,
}

impl Marks {
    /// Reads the marks of a store. Nothing is created: no file is no marks.
    ///
    /// # Errors
    /// `Unavailable` where the marks are those of another store, or something else stands at the path; what the system
    /// says.
    pub fn open(path: impl Into<PathBuf>, store: StoreId) -> Result<Self, StorageError> {
        let marks = Self { path: path.into(), store, state: Mutex::default() };
        marks.refresh()?;
        Ok(marks)
    }

    /// What a file says of itself to whoever does not know its store: for a database that is missing. `None` where there
    /// is no file, or nothing in it.
    ///
    /// # Errors
    /// `Unavailable` where something else stands at the path; what the system says.
    pub fn find(path: &Path) -> Result<Option<MarksSummary>, StorageError> {
        let Some(mut file) = Open::find(path)? else { return Ok(None) };
        let mut known = Known::default();
        known.read(&mut file, path)?;
        let Known { store, change, lines, .. } = known;
        Ok((lines > 0).then(|| MarksSummary { store, change, sessions: known.tips().count() }))
    }

    /// Where they are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The store that they are of.
    #[must_use]
    pub const fn store(&self) -> StoreId {
        self.store
    }

    /// Reads what others added since.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn refresh(&self) -> Result<(), StorageError> {
        self.lock().refresh(&self.path, self.store)
    }

    /// What was known of a session at the last [`refresh`](Self::refresh).
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<Mark> {
        self.lock().known.get(id)
    }

    /// The tip up to which a session was known to be flushed at the last [`refresh`](Self::refresh), unless it was deleted.
    #[must_use]
    pub fn tip(&self, id: SessionId) -> Option<Tip> {
        self.get(id)?.tip
    }

    /// All sessions that were known to be flushed and not deleted at the last [`refresh`](Self::refresh), ascending by id.
    #[must_use]
    pub fn tips(&self) -> Vec<(SessionId, Tip)> {
        self.between(None, None)
    }

    /// As [`tips`](Self::tips), those behind `after` and up to `last` only.
    #[must_use]
    pub fn between(&self, after: Option<SessionId>, last: Option<SessionId>) -> Vec<(SessionId, Tip)> {
        let state = self.lock();
        state.known.between(after, last).filter_map(|(id, mark)| Some((id, mark.tip?))).collect()
    }

    /// The highest change that was known to be flushed: a database that is behind it has lost something.
    #[must_use]
    pub fn change(&self) -> u64 {
        self.lock().known.change
    }

    /// Notes what the database was flushed with, as of this change: after the flush, before the acknowledgement. No sessions
    /// notes the change alone, as after a deletion. A file that has become long is then written anew with as few lines as
    /// say the same.
    ///
    /// # Errors
    /// What the system says; the note may then be missing, and what was flushed is flushed.
    pub fn flushed(&self, change: u64, sessions: &[(SessionId, Tip)]) -> Result<(), StorageError> {
        let tips = sessions.iter().map(|(id, tip)| Line::Tip(change, *id, *tip));
        let alone = sessions.is_empty().then_some(Line::Change(change));
        let mut state = self.lock();
        state.append(&self.path, self.store, &tips.chain(alone).collect::<Vec<_>>(), false)?;
        state.keep_short(&self.path, self.store);
        Ok(())
    }

    /// Notes that a session will be deleted with this change, durably: before that commits. Should it not commit, the
    /// session has no mark until it is flushed again.
    ///
    /// # Errors
    /// What the system says; then nothing may be deleted.
    pub fn record_deletion(&self, change: u64, id: SessionId) -> Result<(), StorageError> {
        self.lock().append(&self.path, self.store, &[Line::Leaving(change, id)], true)
    }

    /// Notes that what a session lost is given up: durably, its mark is this tip from now on, or none. `change` is above all
    /// that is known, and the database was flushed with it.
    ///
    /// # Errors
    /// What the system says; then the session may still count as damaged.
    pub fn accept(&self, change: u64, id: SessionId, tip: Option<Tip>) -> Result<(), StorageError> {
        let line = tip.map_or(Line::Leaving(change, id), |tip| Line::Tip(change, id, tip));
        self.lock().append(&self.path, self.store, &[line, Line::Change(change)], true)
    }

    /// Puts new marks in the place of all that are there: of these sessions, as of this change. For a store whose losses
    /// are accepted as a whole; whoever calls it sees to it that nobody writes to the database meanwhile.
    ///
    /// # Errors
    /// What the system says; the marks are then as before, or the new ones.
    pub fn reset(&self, change: u64, sessions: &[(SessionId, Tip)]) -> Result<(), StorageError> {
        let mut lines = vec![Line::Change(change)];
        lines.extend(sessions.iter().map(|(id, tip)| Line::Tip(change, *id, *tip)));
        let mut state = self.lock();
        state.open_held(&self.path, self.store, Hold::Alone)?;
        let replaced = state.replace(&self.path, self.store, &lines);
        if replaced.is_err()
            && let Some(file) = &state.open
        {
            file.let_go();
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
            self.open = Open::find(path)?;
            // Nobody removes it: what it said is known here, and is written again with the next mark. Another file in its
            // place says everything that is to be said.
            if self.open.is_none() {
                return Ok(());
            }
            self.known = Known::default();
        }
        let Self { open, known, .. } = self;
        if let Some(file) = open {
            known.read(file, path)?;
        }
        match known.store {
            Some(other) if other != store => {
                let what = format!(
                    "{} has the marks of the store {other}, and the database is the store {store}: put the two that \
                     belong together beside each other",
                    path.display()
                );
                // Nothing of it is to be believed, nor written to.
                *self = Self::default();
                Err(StorageError::Unavailable { what, source: None })
            }
            _ => Ok(()),
        }
    }

    /// Opens the file, makes it if need be, and holds it; it is the one at the path then, and was read to its end.
    fn open_held(&mut self, path: &Path, store: StoreId, hold: Hold) -> Result<(), StorageError> {
        for _ in 0..ROUNDS {
            if self.open.is_none() {
                self.refresh(path, store)?;
            }
            let Some(file) = &self.open else {
                stage::create(path, store, &Line::bytes(&self.known.lines()))?;
                continue;
            };
            file.hold(path, hold)?;
            // Another file may have taken its place: that one is read then, and closing this one lets go of it.
            let locked = file.identity();
            if let Err(error) = self.refresh(path, store) {
                self.open.iter().for_each(Open::let_go);
                return Err(error);
            }
            if self.open.as_ref().is_some_and(|file| file.identity() == locked) {
                return Ok(());
            }
        }
        Err(StorageError::Unavailable {
            what: format!("{} is replaced again and again: find out by whom", path.display()),
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
        self.open_held(path, store, Hold::Shared)?;
        let bytes = Line::bytes(lines);
        let Some(file) = &mut self.open else { return Ok(()) };
        let mut written = file.append(path, &bytes);
        if flush && written.is_ok() {
            written = file.sync(path);
        }
        file.let_go();
        written?;
        // Where somebody else's came in between they are read again from the file, and counted twice: no harm is done.
        self.known.lines += lines.len();
        for line in lines {
            if let Some((id, mark)) = self.known.note(*line) {
                self.known.hear(id, mark);
            }
        }
        Ok(())
    }

    /// Whether it is worthwhile to write the file anew.
    fn is_sparse(&self) -> bool {
        self.known.lines > self.enough.max(self.known.sorted / 2 * 3 + SLACK)
    }

    /// Writes the file anew with as few lines as say the same, if it has become long and nobody is about to write to it.
    fn keep_short(&mut self, path: &Path, store: StoreId) {
        if !self.is_sparse() {
            return;
        }
        self.enough = self.known.lines + SLACK;
        match self.compact(path, store) {
            Ok(true) => self.enough = 0,
            Ok(false) => {}
            Err(error) => {
                // It says what it said, and is tried again when it is longer.
                tracing::warn!(path = %path.display(), %error, "the marks stay as long as they are");
            }
        }
    }

    fn compact(&mut self, path: &Path, store: StoreId) -> Result<bool, StorageError> {
        let Some(file) = &mut self.open else { return Ok(false) };
        if !file.try_hold(path, Hold::Alone)? {
            return Ok(false);
        }
        // Letting go: the old file is closed when the new one is read.
        if !file.is_at(path)? {
            file.let_go();
            return Ok(false);
        }
        let replaced = self.refresh(path, store).and_then(|()| {
            let lines = self.known.lines();
            self.replace(path, store, &lines)
        });
        if replaced.is_err()
            && let Some(file) = &self.open
        {
            file.let_go();
        }
        replaced.map(|()| true)
    }

    fn replace(&mut self, path: &Path, store: StoreId, lines: &[Line]) -> Result<(), StorageError> {
        let bytes = Line::bytes(lines);
        stage::replace(path, store, &bytes)?;
        self.refresh(path, store)
    }
}

#[cfg(test)]
mod tests;
