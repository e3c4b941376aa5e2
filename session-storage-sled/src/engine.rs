//! An open database and what is known of it: what its readers and its writer share. How it is opened is in `open`, what
//! changes it in `write`, what keeps it durable in `durable`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use session_core::{Head, SessionId, StorageError, Tip};
use session_storage_engine::{Audit, Auditor, Marks, StoreId};

use crate::db::Db;
use crate::error::{Fault, unavailable};
use crate::layout::Layout;
use crate::rows;

/// Sessions of which the writer remembers the tip: what it need not audit again.
const MAX_TIPS: usize = 4096;

/// What readers and the writer share.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) layout: Layout,
    pub(crate) store: StoreId,
    pub(crate) marks: Marks,
    /// A change is applied by whoever has it alone, so that whoever looks at several rows sees one state. `None` once the
    /// database is closed.
    pub(crate) db: RwLock<Option<Db>>,
    /// Why nothing can be done any more.
    closed: OnceLock<Fault>,
    pub(crate) state: Mutex<State>,
    /// Tells those who follow sessions that one of them changed.
    pub(crate) changes: Arc<tokio::sync::Notify>,
}

/// What is known of the sessions.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Those that have not ended.
    pub(crate) unended: BTreeSet<SessionId>,
    /// Those of which the heads do not tell what the marks know: each list looks at them by themselves.
    pub(crate) inconsistent: BTreeSet<SessionId>,
    /// How logs end that were audited since the database was opened, or were written since.
    tips: HashMap<SessionId, Tip>,
    /// The database has less than was acknowledged: its last change, and the last one that was flushed.
    pub(crate) behind_marks: Option<(u64, u64)>,
}

impl State {
    /// How a log ends, if that is known.
    pub(crate) fn tip(&self, id: SessionId) -> Option<Tip> {
        self.tips.get(&id).copied()
    }

    /// Remembers how a log ends that is whole.
    pub(crate) fn remember_tip(&mut self, id: SessionId, tip: Tip) {
        if self.tips.len() >= MAX_TIPS
            && !self.tips.contains_key(&id)
            && let Some(any) = self.tips.keys().next().copied()
        {
            self.tips.remove(&any);
        }
        self.tips.insert(id, tip);
    }

    /// After a change of a session: it has this head now, or is gone.
    pub(crate) fn update(&mut self, id: SessionId, head: Option<&Head>) {
        self.inconsistent.remove(&id);
        match head {
            Some(head) => self.remember_tip(id, head.tip),
            None => drop(self.tips.remove(&id)),
        }
        if head.is_some_and(|head| !head.state().is_final()) {
            self.unended.insert(id);
        } else {
            self.unended.remove(&id);
        }
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
            state: Mutex::new(state),
            changes,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is done from now on.
    pub(crate) fn close(&self, fault: Fault) {
        if self.closed.set(fault).is_ok() {
            tracing::error!(
                store = %self.layout.root().display(),
                reason = self.closed.get().map(Fault::summary),
                "the store is closed"
            );
            self.changes.notify_waiters();
        }
    }

    /// The error for whoever comes after the end; `None` as long as it has not come.
    pub(crate) fn closed(&self) -> Option<StorageError> {
        self.closed.get().map(|fault| self.closed_by(fault.clone()))
    }

    fn closed_by(&self, fault: Fault) -> StorageError {
        StorageError::Closed {
            what: format!("the store {}", self.layout.root().display()),
            source: Some(Arc::new(fault)),
        }
    }

    /// Looks at the database. A panic of sled's closes the store: nobody knows what it left.
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
        catch_unwind(AssertUnwindSafe(|| read(self, db))).unwrap_or_else(|panic| {
            let fault = Fault::panic(&*panic);
            self.close(fault.clone());
            Err(self.closed_by(fault))
        })
    }

    /// Refuses to write to a database that has less than was acknowledged.
    pub(crate) fn behind_marks(&self) -> Option<StorageError> {
        let (found, flushed) = self.lock().behind_marks?;
        let path = self.layout.root().display();
        Some(unavailable(format!(
            "the store {path} has lost changes: its database is at change {found}, and change {flushed} was flushed and \
             acknowledged; what is there can be read, `sessionctl verify` names the sessions that are damaged, and \
             `sessionctl verify --repair --accept-loss` gives up what is lost"
        )))
    }

    /// Reads all that is stored of a session; `None` where there is nothing, and nothing was.
    pub(crate) fn audit(&self, db: &Db, id: SessionId) -> Result<Option<Audit>, Fault> {
        // The mark before the database: what is appended meanwhile is then no false alarm.
        let mark = self.marks.tip(id);
        let row = db.head_row(id)?;
        let mut auditor = Auditor::new(id, mark);
        let mut lines = 0;
        for line in db.lines(id, 0, None) {
            let (revision, line) = line?;
            auditor.add_line(revision, &line);
            lines += 1;
        }
        if lines == 0 && row.is_none() && mark.is_none() {
            return Ok(None);
        }
        let head = row.as_deref().and_then(|row| rows::head(id, row));
        Ok(Some(auditor.finish(head.as_ref())))
    }

    /// The head of a session as a reader gets it: the stored one if it belongs to the last record, else what the records
    /// say.
    pub(crate) fn head(&self, db: &Db, id: SessionId) -> Result<Option<Head>, StorageError> {
        let row = db.head_row(id).map_err(|error| Fault::from(error).for_session(id))?;
        self.head_of_row(db, id, row.as_deref())
    }

    /// As [`head`](Self::head), with the row at hand.
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
        // Of a newer version's records nothing may be understood; the first one always is, else there is no head.
        audit.head().cloned().map(Some).ok_or_else(|| audit.refusal().unwrap_or_else(|| audit.damage()))
    }

    /// All sessions that there are, or were.
    pub(crate) fn all(&self, db: &Db) -> Result<BTreeSet<SessionId>, Fault> {
        let mut ids: BTreeSet<SessionId> = self.marks.tips().into_iter().map(|(id, _)| id).collect();
        for row in db.heads(None) {
            ids.insert(row?.0);
        }
        for id in db.sessions_with_records() {
            ids.insert(id?);
        }
        Ok(ids)
    }
}

/// What the heads and the marks say of the sessions, when a database has been opened.
pub(crate) fn scan_heads(db: &Db, marks: &Marks) -> Result<State, Fault> {
    let mut marked: BTreeMap<SessionId, Tip> = marks.tips().into_iter().collect();
    let mut state = State::default();
    for row in db.heads(None) {
        let (id, row) = row?;
        let mark = marked.remove(&id);
        match rows::head_summary(&row) {
            Some(head_summary) => {
                if !head_summary.ended {
                    state.unended.insert(id);
                }
                if mark.is_some_and(|mark| head_summary.tip.revision < mark.revision) {
                    state.inconsistent.insert(id);
                }
            }
            None => drop(state.inconsistent.insert(id)),
        }
    }
    state.inconsistent.extend(marked.into_keys());
    Ok(state)
}
