//! Mending: one session, as far as that is allowed; all that a crash left. Part of the writer.

use session_core::{
    AcceptedLoss, Condition, InstanceId, Loss, ReconcileReport, RepairReport, SessionId, StorageError,
};
use session_storage_engine::{Audit, refuse_while_owned};

use crate::db::{Change, Meta};
use crate::engine::Looked;
use crate::error::Fault;
use crate::write::{Stop, Writer};

impl Writer {
    /// Mends one session, as far as `acceptance` allows, and acknowledges its losses.
    pub(crate) fn repair(&mut self, id: SessionId, acceptance: &AcceptedLoss) -> Result<RepairReport, Stop> {
        let Some(Looked { audit }) = self.engine.audit(&self.db, id)? else {
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
                    self.mend(id, &audit)?;
                }
                if matches!(acceptance, AcceptedLoss::Of { .. }) && self.engine.behind().is_some() {
                    refuse_while_owned(id, audit.owners(), dead_of(acceptance))?;
                    let change = self.change_above_all();
                    self.apply(change)?;
                    self.settle_above_all()?;
                }
                let acknowledged = self.engine.layout.folders().acknowledge(id)?;
                Ok(RepairReport::new(condition, audit.tip()).acknowledged(acknowledged))
            }
        }
    }

    /// Cuts what is no record and makes the head anew: costs nothing that was flushed.
    fn mend(&mut self, id: SessionId, audit: &Audit) -> Result<(), Stop> {
        let folders = self.engine.layout.folders();
        let mut change = self.next_change();
        if !audit.behind().is_empty() {
            folders.keep(id, "degraded", audit.readable(), audit.behind())?;
            change.take_lines(&self.db, id, audit.readable() + 1)?;
        }
        if let Some(head) = audit.head() {
            change.put_head(head);
        }
        self.apply(change)?;
        self.remember(id, audit.head());
        self.durable.settle(&self.engine, &self.db, self.change).map_err(Stop::from)
    }

    /// Cuts a log down to what can be read. The database first and the marks after it: whoever comes in between finds the
    /// session as damaged as before.
    fn accept_loss(
        &mut self,
        id: SessionId,
        audit: &Audit,
        dead: &[InstanceId],
    ) -> Result<RepairReport, Stop> {
        refuse_while_owned(id, audit.owners(), dead)?;
        let folders = self.engine.layout.folders();
        let readable = audit.readable();
        // What is left of a session of which nothing can be read is nobody's to acknowledge later: it is gone.
        let why = if readable == 0 { "whole" } else { "lost" };
        let kept = folders.keep(id, why, readable, audit.behind())?;
        let mut change = self.change_above_all();
        change.take_lines(&self.db, id, readable + 1)?;
        let head = if readable == 0 { None } else { audit.head() };
        match head {
            Some(head) => change.put_head(head),
            None => change.take_head(id),
        }
        self.apply(change)?;
        self.remember(id, head);
        self.settle_above_all()?;
        self.engine.marks.accept(self.change, id, head.map(|head| head.tip))?;
        let loss = Loss {
            readable,
            flushed: audit.flushed(),
            bytes: audit.behind().len() as u64,
            owned: head.is_some_and(|head| head.lifecycle.owner.is_some()),
            kept,
        };
        Ok(RepairReport::new(Condition::Corrupt, head.map(|head| head.tip)).loss(loss))
    }

    /// A change whose number is above all that the database and the marks know of.
    fn change_above_all(&mut self) -> Change {
        self.change = self.change.max(self.engine.marks.change());
        Change::new(Meta { store: self.engine.store, change: self.change + 1 })
    }

    /// After such a change: the database is behind nothing any more.
    fn settle_above_all(&mut self) -> Result<(), Fault> {
        self.durable.settle(&self.engine, &self.db, self.change)?;
        self.engine.lock().behind = None;
        Ok(())
    }

    /// Mends what crashes left. Writes nothing where all is well.
    pub(crate) fn reconcile(&mut self) -> Result<ReconcileReport, Stop> {
        let mut done = ReconcileReport::default();
        let folders = self.engine.layout.folders();
        let suspects = {
            let state = self.engine.lock();
            state.unended.union(&state.odd).copied().collect::<Vec<_>>()
        };
        for id in suspects {
            let Some(Looked { audit }) = self.engine.audit(&self.db, id)? else { continue };
            match audit.refusal() {
                Some(refusal) => done.failed.push((id, refusal)),
                None if audit.condition() == Condition::Degraded => match self.mend(id, &audit) {
                    Ok(()) => done.repaired.push((id, Condition::Degraded)),
                    Err(Stop::Refused(error)) => done.failed.push((id, error)),
                    Err(broken) => return Err(broken),
                },
                None => {}
            }
        }
        // A process that died between a deletion and this left the session's folder.
        let there = self.engine.all(&self.db)?;
        let (ids, _) = folders.session_folders()?;
        for id in ids.into_iter().filter(|id| !there.contains(id)) {
            if self.engine.behind().is_none() {
                folders.remove_session(id)?;
            }
        }
        Ok(done)
    }
}

fn dead_of(acceptance: &AcceptedLoss) -> &[InstanceId] {
    match acceptance {
        AcceptedLoss::Of { dead } => dead,
        AcceptedLoss::None | _ => &[],
    }
}
