//! Repair of one session, and cleanup after crashes. Methods of the writer.

use std::path::PathBuf;

use session_core::maintenance::{AcceptedLoss, Condition, Loss, ReconcileReport, RepairReport};
use session_core::{InstanceId, SessionId, StorageError};
use session_storage_engine::{Audit, refuse_while_owned};

use crate::db::{ChangeSet, Meta};
use crate::error::Fault;
use crate::writer::{WriteError, Writer};

impl Writer {
    /// Repairs one session, as far as `acceptance` allows, and acknowledges its losses.
    pub(crate) fn repair(
        &mut self,
        id: SessionId,
        acceptance: &AcceptedLoss,
    ) -> Result<RepairReport, WriteError> {
        let Some(audit) = self.engine.audit(&self.db, id)? else {
            return Err(StorageError::NotFound { id }.into());
        };
        let condition = audit.condition();
        match (condition, acceptance) {
            (Condition::Corrupt, AcceptedLoss::None) => Err(audit.damage().into()),
            (Condition::Corrupt, AcceptedLoss::Of { dead }) => self.accept_loss(id, &audit, dead),
            _ => {
                if let Some(refusal) = audit.refusal() {
                    return Err(refusal.into());
                }
                if condition == Condition::Degraded {
                    self.repair_rows(id, &audit)?;
                }
                if matches!(acceptance, AcceptedLoss::Of { .. }) && self.engine.behind_marks().is_some() {
                    refuse_while_owned(id, audit.owners(), dead_of(acceptance))?;
                    let change = self.change_above_all();
                    self.apply(change)?;
                    self.flush_above_all()?;
                }
                let acknowledged = self.engine.layout.folders().acknowledge(id)?;
                Ok(RepairReport::new(condition, audit.tip()).acknowledged(acknowledged))
            }
        }
    }

    /// Quarantines what follows the records, and rebuilds the head from them. Loses nothing that was flushed.
    fn repair_rows(&mut self, id: SessionId, audit: &Audit) -> Result<(), WriteError> {
        let mut change = self.next_change();
        if audit.behind() > 0 {
            self.quarantine_behind(id, "degraded", audit)?;
            change.remove_lines(&self.db, id, audit.readable() + 1)?;
        }
        if let Some(head) = audit.head() {
            change.put_head(head);
        }
        self.apply(change)?;
        self.record_change(id, audit.head());
        self.durable.flush_durably(&self.engine, &self.db, self.change).map_err(WriteError::from)
    }

    /// Quarantines what follows the records of a log, a part of a line at a time.
    pub(crate) fn quarantine_behind(
        &self,
        id: SessionId,
        why: &str,
        audit: &Audit,
    ) -> Result<PathBuf, WriteError> {
        let readable = audit.readable();
        self.engine.layout.folders().quarantine_lines(id, why, readable, |lines| {
            let mut before = None;
            for part in self.db.parts(id, if readable == 0 { 0 } else { readable + 1 }, None) {
                let (revision, part) = part?;
                if before.is_some_and(|before| before != revision) {
                    lines.end_line()?;
                }
                before = Some(revision);
                lines.add_part(&part)?;
            }
            if before.is_some() { lines.end_line().map_err(WriteError::from) } else { Ok(()) }
        })
    }

    /// Cuts a log down to its readable records. The database first, then the marks: a reader in between finds the
    /// session as damaged as before.
    fn accept_loss(
        &mut self,
        id: SessionId,
        audit: &Audit,
        dead: &[InstanceId],
    ) -> Result<RepairReport, WriteError> {
        refuse_while_owned(id, audit.owners(), dead)?;
        let readable = audit.readable();
        // A session without readable records is removed: no one can acknowledge its loss later.
        let why = if readable == 0 { "whole" } else { "lost" };
        let kept = self.quarantine_behind(id, why, audit)?;
        let mut change = self.change_above_all();
        change.remove_lines(&self.db, id, readable + 1)?;
        let head = if readable == 0 { None } else { audit.head() };
        match head {
            Some(head) => change.put_head(head),
            None => change.remove_head(id),
        }
        self.apply(change)?;
        self.record_change(id, head);
        self.flush_above_all()?;
        self.engine.marks.accept_loss(self.change, id, head.map(|head| head.tip))?;
        let loss = Loss {
            readable,
            flushed: audit.flushed(),
            bytes: audit.behind(),
            owned: head.is_some_and(|head| head.lifecycle.owner.is_some()),
            kept,
        };
        Ok(RepairReport::new(Condition::Corrupt, head.map(|head| head.tip)).loss(loss))
    }

    /// Creates a change set whose counter is above those of the database and the marks.
    fn change_above_all(&mut self) -> ChangeSet {
        self.change = self.change.max(self.engine.marks.change());
        ChangeSet::new(Meta { store: self.engine.store, change: self.change + 1 })
    }

    /// Flushes after such a change set; the database is no longer behind the marks.
    fn flush_above_all(&mut self) -> Result<(), Fault> {
        self.durable.flush_durably(&self.engine, &self.db, self.change)?;
        self.engine.lock().behind_marks = None;
        Ok(())
    }

    /// Repairs what crashes left. Writes nothing if nothing needs repair.
    pub(crate) fn reconcile(&mut self) -> Result<ReconcileReport, WriteError> {
        let mut report = ReconcileReport::default();
        report.store.extend(self.rebuild_format()?);
        report.store.extend(self.engine.marks.repair()?);
        let folders = self.engine.layout.folders();
        let to_check = {
            let state = self.engine.lock();
            state.unended.union(&state.inconsistent).copied().collect::<Vec<_>>()
        };
        for id in to_check {
            let Some(audit) = self.engine.audit(&self.db, id)? else { continue };
            match audit.refusal() {
                Some(refusal) => report.failed.push((id, refusal)),
                None if audit.condition() == Condition::Degraded => match self.repair_rows(id, &audit) {
                    Ok(()) => report.repaired.push((id, Condition::Degraded)),
                    Err(WriteError::Refused(error)) => report.failed.push((id, error)),
                    Err(fault) => return Err(fault),
                },
                None => {}
            }
        }
        // A process that died during a deletion may have left the session's folder.
        let there = self.engine.all(&self.db)?;
        let (ids, _) = folders.list_session_folders()?;
        for id in ids.into_iter().filter(|id| !there.contains(id)) {
            if self.engine.behind_marks().is_none() {
                folders.remove_session(id)?;
            }
        }
        Ok(report)
    }
}

fn dead_of(acceptance: &AcceptedLoss) -> &[InstanceId] {
    match acceptance {
        AcceptedLoss::Of { dead } => dead,
        AcceptedLoss::None | _ => &[],
    }
}
