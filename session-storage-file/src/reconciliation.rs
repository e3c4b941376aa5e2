//! The mending of a whole store after crashes: leftovers, markers, unended sessions. Writes nothing where all is well.

use session_core::{Condition, ReconcileReport, SessionId, StorageError};

use crate::format::CreateIfMissing;
use crate::handle::CachedHandle;
use crate::store::Store;

impl Store {
    /// Clears what is out of sight and makes the markers right. Returns the sessions that are marked now.
    pub(crate) fn reconcile_store(&self) -> Result<(ReconcileReport, Vec<SessionId>), StorageError> {
        let mut done = ReconcileReport::default();
        let Some(_lock) = self.lock_store(CreateIfMissing::No, self.deadline())? else {
            return Ok((done, Vec::new()));
        };
        self.clear_leftovers()?;
        let active = self.layout.active();
        let marked = self.ids(&active)?;
        for id in &marked {
            if self.remove_marker(*id, self.marker_state(*id))? {
                done.unmarked.push(*id);
            }
        }
        for id in self.ids(&self.layout.sessions())? {
            // What cannot be read may be unended; marked, it is named by every list.
            let ended = self.read_head(id).is_ok_and(|head| head.is_none_or(|head| head.state().is_final()));
            if !ended && marked.binary_search(&id).is_err() {
                self.mark_active(id)?;
                done.marked.push(id);
            }
        }
        let marked = self.ids(&active)?;
        Ok((done, marked))
    }

    /// Mends one session after a crash, if that takes no decision, and makes an ending durable, so that its marker can
    /// go. Returns what was found, if it was not health.
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
