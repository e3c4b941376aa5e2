//! Repair of one session, and cleanup after crashes, within a transaction. The checks of health are in `reader`.

use rusqlite::Connection;
use session_core::backend::Tip;
use session_core::maintenance::{AcceptedLoss, Condition, Loss, ReconcileReport, RepairReport};
use session_core::{SessionId, StorageError};
use session_storage_engine::{Folders, IoContext as _, Marks, refuse_while_owned};

use crate::create::STAGED;
use crate::rows::{self, HeadText, WriteError};
use crate::schema;
use crate::store::Store;
use crate::transaction::ChangeSet;

/// The key in `meta` that is not 0 while sessions may have lost something.
pub(crate) const NEEDS_AUDIT: &str = "suspect";
/// The largest number of problems that `integrity_check` reports.
const PROBLEMS: usize = 100;

/// Returns the problems of the database file itself, a sentence each.
pub(crate) fn integrity(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut check = connection.prepare(&format!("PRAGMA integrity_check({PROBLEMS})"))?;
    let mut problems: Vec<String> =
        check.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    problems.retain(|problem| problem != "ok");
    Ok(problems)
}

/// Returns the sessions between two ids whose marks are ahead of the database.
pub(crate) fn lost(
    connection: &Connection,
    marks: &Marks,
    after: Option<SessionId>,
    last: Option<SessionId>,
) -> rusqlite::Result<Vec<(SessionId, Tip)>> {
    let mut found = Vec::new();
    for (id, mark) in marks.between(after, last) {
        let tip = rows::row_tip(connection, &id.to_string())?;
        if tip.is_none_or(|tip| tip != mark && tip.revision <= mark.revision) {
            found.push((id, mark));
        }
    }
    Ok(found)
}

/// The report of a repair, and the mark to record once the repair is flushed.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) repaired: RepairReport,
    /// The lowered mark, as of this change.
    pub(crate) accepted: Option<(u64, Option<Tip>)>,
}

impl ChangeSet<'_> {
    /// Repairs one session, as far as `acceptance` allows, and acknowledges its losses.
    pub(crate) fn repair(
        &mut self,
        store: &Store,
        id: SessionId,
        acceptance: &AcceptedLoss,
    ) -> Result<Plan, WriteError> {
        let mark = self.marks.tip(id);
        let found = rows::audit(self.connection, id, mark)?.ok_or(StorageError::NotFound { id })?;
        let mut before = found.audit.condition();
        if before == Condition::Healthy && found.has_stale_columns {
            before = Condition::Degraded;
        }
        match (before, acceptance) {
            (Condition::Corrupt, AcceptedLoss::Of { dead }) => {
                refuse_while_owned(id, found.audit.owners(), dead)?;
                return self.accept_loss(id, &found);
            }
            (_, AcceptedLoss::Of { .. }) if self.refusal.is_some() => {
                // This session has lost nothing; the loss of the store is accepted.
                self.refusal = None;
                self.is_changed = true;
            }
            _ => {}
        }
        if let Some(refusal) = found.audit.refusal() {
            return Err(refusal.into());
        }
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone().into());
        }
        self.repair_rows(id, &found)?;
        let acknowledged = store.folders.acknowledge(id)?;
        let repaired = RepairReport::new(before, found.audit.tip()).acknowledged(acknowledged);
        Ok(Plan { repaired, accepted: None })
    }

    /// Cuts a log down to its readable records, and plans to lower its mark.
    fn accept_loss(&mut self, id: SessionId, found: &rows::SessionAudit) -> Result<Plan, WriteError> {
        let (audit, text) = (&found.audit, id.to_string());
        // A session without a head loses all of its lines.
        let kept_lines = if audit.head().is_none() { 0 } else { audit.readable() };
        let mut bytes = 0;
        let kept = self.folders.quarantine_lines(id, "lost", audit.readable(), |lines| {
            rows::for_each_cut_line(self.connection, &text, kept_lines, |line| {
                bytes += line.len() as u64 + 1;
                lines.add(line)
            })
        })?;
        let mut loss =
            Loss { readable: audit.readable(), flushed: audit.flushed(), bytes, owned: false, kept };
        if let Some(head) = audit.head() {
            rows::remove_after(self.connection, &text, audit.readable())?;
            rows::set_head(self.connection, &text, head, &HeadText::of(head)?)?;
            rows::set_labels(self.connection, &text, head)?;
            loss.owned = head.lifecycle.owner.is_some();
        } else {
            rows::remove_session(self.connection, &text)?;
        }
        self.is_changed = true;
        // Other sessions may have lost something too: until that is accepted, lists check the marks for missing
        // sessions.
        let others = self.lost(None, None)?.into_iter().any(|(lost, _)| lost != id);
        schema::set_meta(self.connection, NEEDS_AUDIT, i64::from(others))?;
        let tip = audit.head().and(audit.tip());
        let repaired = RepairReport::new(Condition::Corrupt, tip).loss(loss);
        Ok(Plan { repaired, accepted: Some((self.change, tip)) })
    }

    /// Returns the sessions between two ids whose marks are ahead of the database.
    pub(crate) fn lost(
        &self,
        after: Option<SessionId>,
        last: Option<SessionId>,
    ) -> rusqlite::Result<Vec<(SessionId, Tip)>> {
        lost(self.connection, self.marks, after, last)
    }

    /// Repairs active sessions, rebuilds wrong indexes, and removes the folders of sessions that do not exist.
    pub(crate) fn reconcile(&mut self, store: &Store) -> Result<ReconcileReport, WriteError> {
        let mut report = ReconcileReport::default();
        // Reads the whole database, for as long as that takes.
        self.limit.suspend();
        let problems = integrity(self.connection)?;
        if !problems.is_empty() && problems.iter().all(|problem| problem.contains("index")) {
            tracing::warn!(?problems, "rebuilding indexes");
            self.connection.execute_batch("REINDEX")?;
            report.store.push(format!("the indexes of {} were rebuilt", store.path().display()));
            self.is_changed = true;
        }
        let unended: Vec<String> = self
            .connection
            .prepare_cached(
                "SELECT id FROM sessions WHERE ended IS NULL AND octet_length(id) < 65536 ORDER BY id",
            )?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for text in unended {
            let Ok(id) = text.parse::<SessionId>() else { continue };
            let touched = self.touched.len();
            match self.verified_tip(id, &text) {
                Ok(_) if self.touched.len() > touched => report.repaired.push((id, Condition::Degraded)),
                Ok(_) => {}
                Err(WriteError::Refused(error)) => report.failed.push((id, error)),
                Err(WriteError::Sqlite(error)) => return Err(error.into()),
            }
        }
        for id in store.folders.list_session_folders()?.0 {
            let is_there = rows::row_tip(self.connection, &id.to_string())?.is_some();
            if !is_there && self.marks.tip(id).is_none() && self.refusal.is_none() {
                store.folders.remove_session(id)?;
            }
        }
        remove_staged(&store.folders)?;
        Ok(report)
    }
}

/// Removes databases whose construction was never finished. A process that is building one now finds this store
/// instead.
fn remove_staged(folders: &Folders) -> Result<(), StorageError> {
    let root = folders.root();
    if !Folders::is_folder(root)? {
        return Ok(());
    }
    for entry in std::fs::read_dir(root).context("list", root)? {
        let path = entry.context("list", root)?.path();
        let is_staged = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(STAGED));
        if is_staged && Folders::is_file(&path)? {
            std::fs::remove_file(&path).context("remove", &path)?;
        }
    }
    Ok(())
}
