//! Reads concurrent to the writer: each is one short transaction, so that it sees one state and blocks no other. Marks
//! are read before the database, so that a concurrent acknowledgement is no false alarm.

use std::num::NonZeroUsize;
use std::sync::Arc;

use session_core::backend::{HeadPage, PageRoom, RecordPage, Tip};
use session_core::maintenance::{Condition, SessionHealth, StoreHealth};
use session_core::{Head, SessionFilter, SessionId, StorageError};
use session_storage_engine::{Page, page};

use crate::error::{DbContext as _, is_damage, is_unexpected, unreadable};
use crate::list::{self, IndexHints};
use crate::repair::{self, NEEDS_AUDIT};
use crate::rows::{self, SessionAudit, revision_to_sql};
use crate::schema;
use crate::store::{Access, Db, Store};
use crate::writer::change_counter;

/// Attempts before a session is reported as damaged: it may have been deleted or created again between marks and
/// database.
const READ_ATTEMPTS: usize = 3;

/// The state of a reader thread.
#[derive(Debug)]
pub(crate) struct Reader {
    store: Arc<Store>,
    db: Option<Db>,
}

impl Reader {
    pub(crate) const fn new(store: Arc<Store>) -> Self {
        Self { store, db: None }
    }

    /// Reads one state of the store; `None` if there is no store. Reads again with a new connection, which checks the
    /// schema, if that does not fit the statements any more.
    fn snapshot<T>(&mut self, read: impl Fn(&Db) -> rusqlite::Result<T>) -> Result<Option<T>, StorageError> {
        let is_reused = self.db.is_some();
        let mut outcome = self.snapshot_once(&read)?;
        if let Some(Err(error)) = &outcome
            && is_unexpected(error)
        {
            self.db = None;
            if is_reused {
                outcome = self.snapshot_once(&read)?;
            }
        }
        outcome.transpose().context("read", self.store.path())
    }

    fn snapshot_once<T>(
        &mut self,
        read: impl Fn(&Db) -> rusqlite::Result<T>,
    ) -> Result<Option<rusqlite::Result<T>>, StorageError> {
        if self.db.as_ref().is_some_and(|db| !self.store.is_current(db)) {
            self.db = None;
        }
        if self.db.is_none() {
            self.db = self.store.connect(Access::Read)?;
        }
        let Some(db) = &self.db else { return Ok(None) };
        db.marks.refresh()?;
        db.limit.restart();
        Ok(Some((|| {
            // Rolled back at the end, which for a read is the same as a commit.
            let _transaction = db.connection.unchecked_transaction()?;
            read(db)
        })()))
    }

    /// Returns the highest number at the end of a name with this prefix, by the index of names alone.
    pub(crate) fn highest_number(&mut self, prefix: &str) -> Result<u64, StorageError> {
        let highest = self.snapshot(|db| {
            let hint = match db.index_hints() {
                IndexHints::Named => "INDEXED BY sessions_by_name",
                IndexHints::None => "",
            };
            let sql = format!(
                "SELECT max(CAST(substr(name, length(?1) + 1) AS INTEGER)) FROM sessions {hint} \
                 WHERE name > ?1 AND name < ?1 || ':' AND substr(name, length(?1) + 1) NOT GLOB '*[^0-9]*'"
            );
            db.connection.prepare_cached(&sql)?.query_row([prefix], |row| row.get::<_, Option<i64>>(0))
        })?;
        Ok(highest.flatten().and_then(|number| u64::try_from(number).ok()).unwrap_or_default())
    }

    /// Reads one session, again if it seems damaged, so that a transient state is not reported.
    fn read_settled<T>(
        &mut self,
        id: SessionId,
        absent: impl Fn() -> Result<T, StorageError>,
        read: impl Fn(&Db) -> rusqlite::Result<ReadOutcome<T>>,
    ) -> Result<T, StorageError> {
        let mut last = None;
        for _ in 0..READ_ATTEMPTS {
            let outcome = self.snapshot(|db| match read(db) {
                Err(error) if is_damage(&error) => Ok(ReadOutcome::Damaged(unreadable(id, &error))),
                outcome => outcome,
            })?;
            match outcome {
                None | Some(ReadOutcome::Absent) => return absent(),
                Some(ReadOutcome::Intact(found)) => return Ok(found),
                Some(ReadOutcome::Damaged(error)) => last = Some(error),
            }
        }
        Err(last.unwrap_or(StorageError::NotFound { id }))
    }

    pub(crate) fn head(&mut self, id: SessionId) -> Result<Option<Head>, StorageError> {
        let text = id.to_string();
        self.read_settled(
            id,
            || Ok(None),
            |db| {
                let mark = db.marks.tip(id);
                if let Some(row) = rows::session_row(&db.connection, id)?
                    && row.tip == rows::last_tip(&db.connection, &text)?
                    && covers_mark(mark, row.tip)
                    && let Some(head) = row.head(id)
                {
                    return Ok(ReadOutcome::Intact(Some(head)));
                }
                Ok(match rows::audit(&db.connection, id, mark)? {
                    None => ReadOutcome::Absent,
                    // For a damaged session, the head of the readable records.
                    Some(SessionAudit { audit, .. }) => match audit.head() {
                        Some(head) => ReadOutcome::Intact(Some(head.clone())),
                        None => ReadOutcome::Damaged(audit.refusal().unwrap_or_else(|| audit.damage())),
                    },
                })
            },
        )
    }

    pub(crate) fn records(
        &mut self,
        id: SessionId,
        after: u64,
        limit: NonZeroUsize,
    ) -> Result<RecordPage, StorageError> {
        let text = id.to_string();
        self.read_settled(
            id,
            || Err(StorageError::NotFound { id }),
            |db| {
                let mark = db.marks.tip(id);
                let tip = rows::row_tip(&db.connection, &text)?;
                let before = match after {
                    0 => None,
                    after => rows::line(&db.connection, &text, after)?,
                };
                let lines = page_lines(db, &text, after, limit)?;
                if tip.is_some() {
                    match page(id, after, before.as_deref(), lines, &[tip, mark]) {
                        Page::Records(records) => return Ok(ReadOutcome::Intact(RecordPage::new(records))),
                        Page::End => return Ok(ReadOutcome::Intact(RecordPage::default())),
                        Page::Suspect => {}
                    }
                }
                let Some(SessionAudit { audit, .. }) = rows::audit(&db.connection, id, mark)? else {
                    return Ok(ReadOutcome::Absent);
                };
                // If only the head is wrong, or a rule is broken, all stored records can be read.
                if after < audit.readable() && audit.behind() == 0 && audit.condition() != Condition::Corrupt
                {
                    return Ok(read_available(db, id, after, limit)?
                        .map_or(ReadOutcome::Damaged(audit.damage()), ReadOutcome::Intact));
                }
                if matches!(
                    audit.condition(),
                    Condition::Healthy | Condition::Invalid | Condition::Unsupported
                ) && after >= audit.readable()
                {
                    return Ok(ReadOutcome::Intact(RecordPage::default()));
                }
                if after < audit.readable()
                    && let Some(page) = read_available(db, id, after, limit)?
                {
                    return Ok(ReadOutcome::Intact(page));
                }
                Ok(ReadOutcome::Damaged(audit.damage()))
            },
        )
    }

    pub(crate) fn list(
        &mut self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> Result<HeadPage, StorageError> {
        let page = self.snapshot(|db| {
            let marked_change = db.marks.change();
            let needs_audit = is_behind_marks(db, marked_change)?
                || schema::meta::<i64>(&db.connection, NEEDS_AUDIT)?.unwrap_or(0) != 0;
            let found = list::page(&db.connection, filter, after, limit, db.index_hints())?;
            let mut page = HeadPage::new(Vec::new(), Vec::new(), found.next);
            let mut to_check = Vec::new();
            for (id, row) in &found.rows {
                let is_intact = row.tip == rows::last_tip(&db.connection, &id.to_string())?
                    && covers_mark(db.marks.tip(*id), row.tip);
                match row.head(*id).filter(|_| is_intact) {
                    Some(head) if filter.matches(&head) => page.heads.push(head),
                    Some(_) => {}
                    None => to_check.push(*id),
                }
            }
            // Missing sessions are found through the marks only.
            if needs_audit {
                let lost = repair::lost(&db.connection, &db.marks, after, found.next)?;
                to_check.extend(lost.into_iter().map(|(id, _)| id));
            } else if *filter == SessionFilter::all() {
                let is_listed = |id| found.rows.binary_search_by_key(&id, |(id, _)| *id).is_ok();
                let marked = db.marks.between(after, found.next).into_iter();
                to_check.extend(marked.map(|(id, _)| id).filter(|id| !is_listed(*id)));
            }
            Ok((page, to_check))
        })?;
        let Some((mut page, mut to_check)) = page else { return Ok(HeadPage::default()) };
        to_check.sort_unstable();
        to_check.dedup();
        for id in to_check {
            // The marks may have been ahead of this snapshot: each session is read again, by itself.
            match self.intact_head(id) {
                Ok(Some(head)) if filter.matches(&head) => page.heads.push(head),
                Ok(_) => {}
                Err(error) => page.unreadable.push((id, error)),
            }
        }
        page.heads.sort_by_key(|head| head.id);
        Ok(page)
    }

    /// Returns the head of a session that has lost nothing.
    fn intact_head(&mut self, id: SessionId) -> Result<Option<Head>, StorageError> {
        self.read_settled(
            id,
            || Ok(None),
            |db| {
                let mark = db.marks.tip(id);
                let Some(SessionAudit { audit, .. }) = rows::audit(&db.connection, id, mark)? else {
                    return Ok(ReadOutcome::Absent);
                };
                Ok(match audit.head() {
                    Some(head) if audit.condition() != Condition::Corrupt => {
                        ReadOutcome::Intact(Some(head.clone()))
                    }
                    _ => ReadOutcome::Damaged(audit.refusal().unwrap_or_else(|| audit.damage())),
                })
            },
        )
    }

    /// Checks the health of one session; `None` if it does not exist.
    pub(crate) fn verify(&mut self, id: SessionId) -> Result<Option<SessionHealth>, StorageError> {
        let store = Arc::clone(&self.store);
        let mut last = None;
        for _ in 0..READ_ATTEMPTS {
            let outcome = self.snapshot(|db| {
                let (mark, expected) = (db.marks.tip(id), db.marks.change());
                let found = match rows::audit(&db.connection, id, mark) {
                    Err(error) if is_damage(&error) => Err(unreadable(id, &error)),
                    found => Ok(found?),
                };
                let change = change_counter(db)?;
                Ok((found, (change < expected).then_some((change, expected))))
            })?;
            let (found, behind) = match outcome {
                None | Some((Ok(None), _)) => return Ok(None),
                Some((Ok(Some(found)), behind)) => (found, behind),
                Some((Err(error), _)) => {
                    let mut health = SessionHealth::new(id, Condition::Corrupt);
                    health.problem = Some(error);
                    return Ok(Some(health));
                }
            };
            let SessionAudit { audit, has_stale_columns } = found;
            let mut health = audit.health(store.folders.losses(id)?);
            if health.condition == Condition::Healthy && (has_stale_columns || behind.is_some()) {
                health.condition = Condition::Degraded;
                health.problem = Some(match behind {
                    Some((found, expected)) => store.behind_marks(found, expected),
                    None => audit.damage(),
                });
            }
            if health.condition != Condition::Corrupt {
                return Ok(Some(health));
            }
            // A session deleted and created again meanwhile looks as if it had lost something.
            last = Some(health);
        }
        Ok(last)
    }

    /// Checks the health of the store and of all its sessions.
    pub(crate) fn verify_all(&mut self) -> Result<StoreHealth, StorageError> {
        let store = Arc::clone(&self.store);
        let outcome = self.snapshot(|db| {
            let expected = db.marks.change();
            let mut ids: Vec<String> = db.marks.tips().into_iter().map(|(id, _)| id.to_string()).collect();
            // Reads the whole database, for as long as that takes.
            db.limit.suspend();
            let mut problems = match repair::integrity(&db.connection) {
                Err(error) if is_damage(&error) => vec![error.to_string()],
                result => result?,
            };
            problems.extend(db.index_damage.problems.iter().cloned());
            match list::unreadable_ids(&db.connection)? {
                0 => {}
                rows => problems.push(format!("{rows} rows have an id that is longer than any session's")),
            }
            if is_behind_marks(db, expected)? {
                problems.push(store.behind_marks(change_counter(db)?, expected).to_string());
            }
            problems.extend(db.marks.damage());
            ids.extend(list::ids(&db.connection)?);
            ids.sort_unstable();
            ids.dedup();
            Ok((problems, ids))
        })?;
        let mut all = StoreHealth::default();
        let Some((problems, ids)) = outcome else { return Ok(all) };
        all.problems = problems;
        for text in ids {
            let Ok(id) = text.parse::<SessionId>() else {
                all.foreign.push(text);
                continue;
            };
            match self.verify(id) {
                Ok(health) => all.sessions.extend(health),
                Err(error) => all.failed.push((id, error)),
            }
        }
        all.foreign.extend(store.folders.list_session_folders()?.1);
        Ok(all)
    }
}

/// The outcome of one read of a session.
enum ReadOutcome<T> {
    Intact(T),
    Absent,
    Damaged(StorageError),
}

/// Returns `true` if a log that ends with `tip` has all that is known to be flushed.
fn covers_mark(mark: Option<Tip>, tip: Option<Tip>) -> bool {
    mark.is_none_or(|mark| tip.is_some_and(|tip| mark == tip || mark.revision < tip.revision))
}

/// Returns `true` if the database is behind a change that was marked before it was read.
fn is_behind_marks(db: &Db, marked_change: u64) -> rusqlite::Result<bool> {
    Ok(change_counter(db)? < marked_change)
}

/// Reads the lines of a page after a revision. One that is longer than any record is empty: a page ends before it.
fn page_lines(db: &Db, id: &str, after: u64, limit: NonZeroUsize) -> rusqlite::Result<Vec<(u64, Vec<u8>)>> {
    let (mut lines, mut room) = (Vec::new(), PageRoom::new(limit));
    rows::for_each_line(&db.connection, id, revision_to_sql(after), |seq, line| {
        let line = line.readable();
        lines.push((seq, line.to_vec()));
        room.take(line.len());
        room.is_left() && !line.is_empty()
    })?;
    Ok(lines)
}

/// Reads the records after a revision of a session whose head or end is wrong; `None` if there are none.
fn read_available(
    db: &Db,
    id: SessionId,
    after: u64,
    limit: NonZeroUsize,
) -> rusqlite::Result<Option<RecordPage>> {
    let text = id.to_string();
    let before = if after == 0 { None } else { rows::line(&db.connection, &text, after)? };
    let lines = page_lines(db, &text, after, limit)?;
    Ok(match page(id, after, before.as_deref(), lines, &[]) {
        Page::Records(records) => Some(RecordPage::new(records)),
        Page::End | Page::Suspect => None,
    })
}
