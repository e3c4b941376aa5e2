//! The repair of one session, and of what crashes left, within a transaction. Looking at health is in `verify`.

use rusqlite::Connection;
use session_core::{
    AcceptedLoss, Condition, Loss, ReconcileReport, RepairReport, SessionId, StorageError, Tip,
};
use session_storage_engine::{Folders, IoContext as _, Marks, refuse_while_owned};

use crate::change::Changes;
use crate::create::STAGED;
use crate::rows::{self, HeadText, Unstored};
use crate::schema;
use crate::store::Store;

/// In `meta`: whether sessions may have lost something.
pub(crate) const SUSPECT: &str = "suspect";
/// What `integrity_check` says at most.
const PROBLEMS: usize = 100;

/// What is wrong with the database itself, a sentence each.
pub(crate) fn integrity(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut check = connection.prepare(&format!("PRAGMA integrity_check({PROBLEMS})"))?;
    let mut problems: Vec<String> =
        check.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    problems.retain(|problem| problem != "ok");
    Ok(problems)
}

/// The sessions between two ids that are known to be flushed further than they are in the database.
pub(crate) fn lost(
    connection: &Connection,
    marks: &Marks,
    after: Option<SessionId>,
    last: Option<SessionId>,
) -> rusqlite::Result<Vec<(SessionId, Tip)>> {
    let mut found = Vec::new();
    for (id, mark) in marks.between(after, last) {
        let tip = rows::tip(connection, &id.to_string())?;
        if tip.is_none_or(|tip| tip != mark && tip.revision <= mark.revision) {
            found.push((id, mark));
        }
    }
    Ok(found)
}

/// What a repair did, and what is to be noted once that is flushed.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) repaired: RepairReport,
    /// A mark that is lowered, as of this change.
    pub(crate) accepted: Option<(u64, Option<Tip>)>,
}

impl Changes<'_> {
    /// Mends one session, as far as `acceptance` allows, and acknowledges its losses.
    pub(crate) fn repair(
        &mut self,
        store: &Store,
        id: SessionId,
        acceptance: &AcceptedLoss,
    ) -> Result<Plan, Unstored> {
        let mark = self.marks.tip(id);
        let found = rows::audit(self.connection, id, mark)?.ok_or(StorageError::NotFound { id })?;
        let mut before = found.audit.condition();
        if before == Condition::Healthy && found.is_misfiled {
            before = Condition::Degraded;
        }
        match (before, acceptance) {
            (Condition::Corrupt, AcceptedLoss::Of { dead }) => {
                refuse_while_owned(id, found.audit.owners(), dead)?;
                return self.accept_loss(id, &found);
            }
            (_, AcceptedLoss::Of { .. }) if self.refusal.is_some() => {
                // Nothing of this session is gone; that something else is, is accepted.
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
        self.mend(id, &found)?;
        let acknowledged = store.folders.acknowledge(id)?;
        let repaired = RepairReport::new(before, found.audit.tip()).acknowledged(acknowledged);
        Ok(Plan { repaired, accepted: None })
    }

    /// Cuts a log down to what can be read, and lowers what is known of it.
    fn accept_loss(&mut self, id: SessionId, found: &rows::Found) -> Result<Plan, Unstored> {
        let (audit, text) = (&found.audit, id.to_string());
        let mut cut = audit.behind().to_vec();
        if audit.head().is_none() {
            cut.clear();
            rows::lines(self.connection, &text, i64::MIN, |_, line| {
                cut.extend_from_slice(line);
                cut.push(b'\n');
                true
            })?;
        }
        let kept = self.folders.keep(id, "lost", audit.readable(), &cut)?;
        let mut loss = Loss {
            readable: audit.readable(),
            flushed: audit.flushed(),
            bytes: cut.len() as u64,
            owned: false,
            kept,
        };
        if let Some(head) = audit.head() {
            rows::cut(self.connection, &text, audit.readable())?;
            rows::set_head(self.connection, &text, head, &HeadText::of(head)?)?;
            rows::set_labels(self.connection, &text, head)?;
            loss.owned = head.lifecycle.owner.is_some();
        } else {
            rows::remove(self.connection, &text)?;
        }
        self.is_changed = true;
        // Others may have lost something too: until that is settled as well, lists look for those that are gone.
        let others = self.lost(None, None)?.into_iter().any(|(lost, _)| lost != id);
        schema::set_meta(self.connection, SUSPECT, i64::from(others))?;
        let tip = audit.head().and(audit.tip());
        let repaired = RepairReport::new(Condition::Corrupt, tip).loss(loss);
        Ok(Plan { repaired, accepted: Some((self.change, tip)) })
    }

    /// The sessions between two ids that are known to be flushed further than they are here.
    pub(crate) fn lost(
        &self,
        after: Option<SessionId>,
        last: Option<SessionId>,
    ) -> rusqlite::Result<Vec<(SessionId, Tip)>> {
        lost(self.connection, self.marks, after, last)
    }

    /// Mends unended sessions, makes indexes anew that are wrong, and removes what belongs to sessions that are not there.
    pub(crate) fn reconcile(&mut self, store: &Store) -> Result<ReconcileReport, Unstored> {
        let mut done = ReconcileReport::default();
        let problems = integrity(self.connection)?;
        if !problems.is_empty() && problems.iter().all(|problem| problem.contains("index")) {
            tracing::warn!(?problems, "indexes are made anew");
            self.connection.execute_batch("REINDEX")?;
            self.is_changed = true;
        }
        let unended: Vec<String> = self
            .connection
            .prepare_cached("SELECT id FROM sessions WHERE ended IS NULL ORDER BY id")?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for text in unended {
            let Ok(id) = text.parse::<SessionId>() else { continue };
            let touched = self.touched.len();
            match self.sound_tip(id, &text) {
                Ok(_) if self.touched.len() > touched => done.repaired.push((id, Condition::Degraded)),
                Ok(_) => {}
                Err(Unstored::Refused(error)) => done.failed.push((id, error)),
                Err(Unstored::Sqlite(error)) => return Err(error.into()),
            }
        }
        for id in store.folders.session_folders()?.0 {
            let is_there = rows::tip(self.connection, &id.to_string())?.is_some();
            if !is_there && self.marks.tip(id).is_none() && self.refusal.is_none() {
                store.folders.remove_session(id)?;
            }
        }
        clear_staged(&store.folders)?;
        Ok(done)
    }
}

/// Removes databases that were never finished. Whoever is at it now makes another one.
fn clear_staged(folders: &Folders) -> Result<(), StorageError> {
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
