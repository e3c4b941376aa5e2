//! Reconciliation of a store after crashes: leftovers, markers, unended sessions. Writes nothing if the store
//! is healthy.

use session_core::maintenance::{Condition, ReconcileReport};
use session_core::{SessionId, StorageError};

use crate::format::CreateIfMissing;
use crate::handle::CachedHandle;
use crate::store::Store;

impl Store {
    /// Clears leftovers and corrects the markers. Returns the sessions that are marked now.
    pub(crate) fn reconcile_store(&self) -> Result<(ReconcileReport, Vec<SessionId>), StorageError> {
        let mut report = ReconcileReport::default();
        report.store.extend(self.rebuild_format(self.deadline())?);
        let Some(_lock) = self.lock_store(CreateIfMissing::No, self.deadline())? else {
            return Ok((report, Vec::new()));
        };
        self.clear_leftovers()?;
        let active = self.layout.active();
        let marked = self.ids(&active)?;
        for id in &marked {
            if self.remove_marker(*id, self.marker_state(*id))? {
                report.unmarked.push(*id);
            }
        }
        for id in self.ids(&self.layout.sessions())? {
            // A session that cannot be read may be unended; with a marker, every list names it.
            let ended = self.read_head(id).is_ok_and(|head| head.is_none_or(|head| head.state().is_final()));
            if !ended && marked.binary_search(&id).is_err() {
                self.mark_active(id)?;
                report.marked.push(id);
            }
        }
        let marked = self.ids(&active)?;
        Ok((report, marked))
    }

    /// Repairs one session after a crash, if that needs no decision, and flushes an end, so that its
    /// marker can be removed. Returns the condition that was found, unless it was healthy.
    pub(crate) fn reconcile_session(
        &self,
        cached: &mut Option<CachedHandle>,
        id: SessionId,
    ) -> Result<Option<Condition>, StorageError> {
        let deadline = self.deadline();
        let repaired = self.with_session_lock(cached, id, deadline, |handle| {
            self.remove_tree(&handle.paths.rebuilt_log())?;
            self.remove_tree(&handle.paths.rebuilt_slots())?;
            let condition = if handle.is_unchanged() { Condition::Healthy } else { self.rescan(handle)? };
            let ended = handle.state().position.head.state().is_final();
            if ended && !handle.state().is_flushed() {
                self.flush_or_rebuild(handle)?;
            }
            Ok((condition, ended))
        })?;
        let Some((condition, ended)) = repaired else { return Ok(None) };
        if ended {
            self.unmark_ended(id);
        }
        Ok((condition != Condition::Healthy).then_some(condition))
    }
}
