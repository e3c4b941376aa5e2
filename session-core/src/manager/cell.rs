//! Where one session's changes queue in this process, and what their writer knows of the end of the log.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::engine::Engine;
use super::live::Live;
use crate::event::SessionEvent;
use crate::head::Head;
use crate::id::SessionId;
use crate::observer::EventContext;

/// The place in this process where one session's changes queue. It exists while somebody waits or the session is
/// owned here: sessions that nobody touches cost nothing.
#[derive(Debug)]
pub(crate) struct Cell {
    id: SessionId,
    pub(crate) state: tokio::sync::Mutex<CellState>,
}

impl Cell {
    pub(crate) fn new(id: SessionId) -> Self {
        Self { id, state: tokio::sync::Mutex::default() }
    }

    pub(crate) const fn id(&self) -> SessionId {
        self.id
    }
}

/// A session as its only writer in this process sees it.
#[derive(Debug, Default)]
pub(crate) struct CellState {
    /// Kept while the session is owned here; else loaded anew for each change.
    pub(crate) owned: Option<(Arc<Live>, Writer)>,
}

/// A cell in use. The last one to let go of a session that is not owned here removes it.
#[derive(Debug)]
pub(crate) struct CellRef<'a> {
    engine: &'a Engine,
    cell: Option<Arc<Cell>>,
}

impl<'a> CellRef<'a> {
    pub(crate) const fn new(engine: &'a Engine, cell: Arc<Cell>) -> Self {
        Self { engine, cell: Some(cell) }
    }
}

impl std::ops::Deref for CellRef<'_> {
    type Target = Cell;

    fn deref(&self) -> &Cell {
        self.cell.as_ref().expect("only `drop` takes the cell")
    }
}

impl Drop for CellRef<'_> {
    fn drop(&mut self) {
        let mut cells = self.engine.cells();
        let Some(cell) = self.cell.take() else { return };
        // The map and this reference: nobody else can get another while the map is locked.
        if Arc::strong_count(&cell) == 2 && cell.state.try_lock().is_ok_and(|state| state.owned.is_none()) {
            cells.remove(&cell.id);
        }
    }
}

/// The end of a log as one process knows it.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) head: Head,
    /// The highest revision that is known to be flushed.
    pub(crate) flushed: u64,
    /// Facts that are in the log, and that nobody may hear of before they are flushed.
    pub(crate) untold: VecDeque<(EventContext, Arc<SessionEvent>)>,
    /// Since when something is in the log that is not known to be flushed.
    pub(crate) unflushed_since: Option<Instant>,
    /// Whether others said `interrupted` since this writer began: an owner that reads that owns nothing any more.
    pub(crate) interrupted: bool,
}

impl Writer {
    pub(crate) fn new(head: Head) -> Self {
        let unflushed_since = (head.flushed < head.tip.revision).then(Instant::now);
        Self { flushed: head.flushed, head, untold: VecDeque::new(), unflushed_since, interrupted: false }
    }

    pub(crate) fn reached(&mut self, flushed: u64) {
        self.flushed = self.flushed.max(flushed);
        self.unflushed_since = if self.flushed >= self.head.tip.revision {
            None
        } else {
            self.unflushed_since.or_else(|| Some(Instant::now()))
        };
    }

    /// The log no longer holds what was read from it: others repaired it with loss. What is there now counts.
    pub(crate) fn start_over(&mut self, stored: Head) {
        tracing::warn!(session = %stored.id, revision = stored.tip.revision, "the log no longer holds what was read from it");
        *self = Self { interrupted: true, ..Self::new(stored) };
    }
}
