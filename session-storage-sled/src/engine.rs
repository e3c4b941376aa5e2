//! An open database and its cached state, shared by the readers and the writer. Opening is in `open`, changes are in
//! `writer`, flushes in `durable`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use session_core::backend::Tip;
use session_core::{Head, SessionId, StorageError};
use session_storage_engine::{Audit, Auditor, Marks, StoreId};

use crate::db::Db;
use crate::error::{Fault, unavailable};
use crate::format::FormatDamage;
use crate::layout::Layout;
use crate::panic_guard::guard;
use crate::rows;

/// The number of sessions whose tips the writer caches, so that it need not audit them again.
const MAX_TIPS: usize = 4096;

/// An open database, shared by the readers and the writer.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) layout: Layout,
    pub(crate) store: StoreId,
    pub(crate) marks: Marks,
    /// Changes are applied under the write lock, so that a reader of several rows sees one state. `None` once the
    /// database is closed.
    pub(crate) db: RwLock<Option<Db>>,
    /// The fault that closed the store.
    closed: OnceLock<Fault>,
    /// Counts the parts of long changes that are done: a watchdog sees that the writer does not hang.
    pub(crate) progress: AtomicU64,
    pub(crate) state: Mutex<State>,
    /// Wakes followers when a session changes.
    pub(crate) changes: Arc<tokio::sync::Notify>,
}

/// The cached state of the sessions.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The sessions that have not ended.
    pub(crate) unended: BTreeSet<SessionId>,
    /// Those of them without an owner, which hold no place within a limit.
    unowned: BTreeSet<SessionId>,
    /// The sessions whose heads are missing, damaged or behind the marks: each list reads them individually.
    pub(crate) inconsistent: BTreeSet<SessionId>,
    /// The sessions whose import or removal is not complete: they do not exist.
    pub(crate) imports: BTreeSet<SessionId>,
    /// The tips of logs that were audited or written since the database was opened.
    tips: HashMap<SessionId, Tip>,
    /// Set if the store was opened for repair and its file `FORMAT` is damaged.
    pub(crate) format_damage: Option<FormatDamage>,
    /// Set if the database has less than was acknowledged: its last change, and the last flushed one.
    pub(crate) behind_marks: Option<(u64, u64)>,
}

impl State {
    /// Returns the cached tip of a log.
    pub(crate) fn tip(&self, id: SessionId) -> Option<Tip> {
        self.tips.get(&id).copied()
    }

    /// Caches the tip of an intact log.
    pub(crate) fn remember_tip(&mut self, id: SessionId, tip: Tip) {
        if self.tips.len() >= MAX_TIPS
            && !self.tips.contains_key(&id)
            && let Some(any) = self.tips.keys().next().copied()
        {
            self.tips.remove(&any);
        }
        self.tips.insert(id, tip);
    }

    /// Updates the state after a change of a session, with its new head; `None` if it was deleted.
    pub(crate) fn update(&mut self, id: SessionId, head: Option<&Head>) {
        self.inconsistent.remove(&id);
        match head {
            Some(head) => self.remember_tip(id, head.tip),
            None => drop(self.tips.remove(&id)),
        }
        self.unowned.remove(&id);
        match head.filter(|head| !head.state().is_final()) {
            Some(head) => self.mark_unended(id, head.holds_place()),
            None => drop(self.unended.remove(&id)),
        }
    }

    fn mark_unended(&mut self, id: SessionId, holds_place: bool) {
        self.unended.insert(id);
        if !holds_place {
            self.unowned.insert(id);
        }
    }

    /// Counts the sessions other than `but` that hold a place.
    pub(crate) fn places(&self, but: SessionId) -> usize {
        let own = self.unended.contains(&but) && !self.unowned.contains(&but);
        self.unended.len() - self.unowned.len() - usize::from(own)
    }
}

impl Engine {
    pub(crate) fn new(
        layout: Layout,
        store: StoreId,
        marks: Marks,
        db: Db,
        state: State,
        changes: Arc<tokio::sync::Notify>,
    ) -> Self {
        Self {
            layout,
            store,
            marks,
            db: RwLock::new(Some(db)),
            closed: OnceLock::new(),
            progress: AtomicU64::new(0),
            state: Mutex::new(state),
            changes,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the store for good after a fault.
    pub(crate) fn close(&self, fault: Fault) {
        if self.closed.set(fault).is_ok() {
            tracing::error!(
                store = %self.layout.root().display(),
                reason = self.closed.get().map(Fault::summary),
                "store closed after a fault"
            );
            self.changes.notify_waiters();
        }
    }

    /// Returns the error of requests to a closed store; `None` while it is open.
    pub(crate) fn closed(&self) -> Option<StorageError> {
        self.closed.get().map(|fault| self.closed_by(fault.clone()))
    }

    fn closed_by(&self, fault: Fault) -> StorageError {
        StorageError::Closed {
            what: format!("the store {}", self.layout.root().display()),
            source: Some(Arc::new(fault)),
        }
    }

    /// Reads the database. A panic of sled closes the store: its state is unknown afterwards.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Self, &Db) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if let Some(closed) = self.closed() {
            return Err(closed);
        }
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let Some(db) = &*db else {
            return Err(self.closed().unwrap_or_else(|| unavailable("the store is being closed")));
        };
        guard(|| read(self, db)).unwrap_or_else(|fault| {
            self.close(fault.clone());
            Err(self.closed_by(fault))
        })
    }

    /// Describes the damage of the file `FORMAT`, if there is one.
    pub(crate) fn format_problem(&self) -> Option<String> {
        let damage = self.lock().format_damage?;
        Some(damage.problem(&self.layout))
    }

    /// Returns the error that refuses writes to a database that has less than was acknowledged.
    pub(crate) fn behind_marks(&self) -> Option<StorageError> {
        let (found, flushed) = self.lock().behind_marks?;
        let path = self.layout.root().display();
        Some(unavailable(format!(
            "the store {path} has lost acknowledged changes: its database is at change {found}, but change {flushed} was \
             flushed. It can be read, and `sessionctl verify` lists the damaged sessions. If it cannot be restored, \
             `sessionctl verify --repair --accept-loss` accepts the loss"
        )))
    }

    /// Reads and audits all rows of a session; `None` if there are none, and no mark shows that there were.
    pub(crate) fn audit(&self, db: &Db, id: SessionId) -> Result<Option<Audit>, Fault> {
        if self.lock().imports.contains(&id) {
            return Ok(None);
        }
        // The mark before the database, so that a concurrent append is no false alarm.
        let mark = self.marks.tip(id);
        let row = db.head_row(id)?;
        let mut auditor = Auditor::new(id, mark);
        let mut lines = 0;
        for line in db.lines(id, 0, None) {
            let line = line?;
            if line.is_overlong() {
                auditor.add_overlong_line(line.length);
            } else {
                auditor.add_line(line.revision, &line.bytes);
            }
            lines += 1;
        }
        if lines == 0 && row.is_none() && mark.is_none() {
            return Ok(None);
        }
        let head = row.as_deref().and_then(|row| rows::head(id, row));
        Ok(Some(auditor.finish(head.as_ref())))
    }

    /// Returns the head of a session: the stored one if it belongs to the last record, else the fold of the records.
    pub(crate) fn head(&self, db: &Db, id: SessionId) -> Result<Option<Head>, StorageError> {
        let row = db.head_row(id).map_err(|error| Fault::from(error).for_session(id))?;
        self.head_of_row(db, id, row.as_deref())
    }

    /// Returns the same as [`head`](Self::head), for a row that was read already.
    pub(crate) fn head_of_row(
        &self,
        db: &Db,
        id: SessionId,
        row: Option<&[u8]>,
    ) -> Result<Option<Head>, StorageError> {
        let last = db.last_record(id).map_err(|error| Fault::from(error).for_session(id))?;
        if let Some(row) = row
            && let Some(head_summary) = rows::head_summary(row)
            && Some(head_summary.tip) == last
            && let Some(head) = rows::head(id, row)
        {
            return Ok(Some(head));
        }
        let Some(audit) = self.audit(db, id).map_err(|fault| fault.for_session(id))? else {
            return Ok(None);
        };
        // Records of a newer version may be unknown; without a first record that can be folded there is no head.
        audit.head().cloned().map(Some).ok_or_else(|| audit.refusal().unwrap_or_else(|| audit.damage()))
    }

    /// Returns all sessions that have rows or marks.
    pub(crate) fn all(&self, db: &Db) -> Result<BTreeSet<SessionId>, Fault> {
        let mut ids: BTreeSet<SessionId> = self.marks.tips().into_iter().map(|(id, _)| id).collect();
        for row in db.heads(None) {
            ids.insert(row?.0);
        }
        let imports = self.lock().imports.clone();
        for id in db.sessions_with_records() {
            let id = id?;
            if !imports.contains(&id) {
                ids.insert(id);
            }
        }
        Ok(ids)
    }
}

/// Compares the heads with the marks after a database was opened.
pub(crate) fn scan_heads(db: &Db, marks: &Marks) -> Result<State, Fault> {
    let mut marked: BTreeMap<SessionId, Tip> = marks.tips().into_iter().collect();
    let mut state = State::default();
    for row in db.heads(None) {
        let (id, row) = row?;
        let mark = marked.remove(&id);
        match rows::head_summary(&row) {
            Some(head_summary) => {
                if !head_summary.ended {
                    // A damaged head may be that of a session with an owner.
                    let holds_place = rows::head(id, &row).is_none_or(|head| head.holds_place());
                    state.mark_unended(id, holds_place);
                }
                if mark.is_some_and(|mark| head_summary.tip.revision < mark.revision) {
                    state.inconsistent.insert(id);
                }
            }
            None => drop(state.inconsistent.insert(id)),
        }
    }
    state.inconsistent.extend(marked.into_keys());
    state.imports = db.imports().collect::<Result<_, _>>()?;
    Ok(state)
}
