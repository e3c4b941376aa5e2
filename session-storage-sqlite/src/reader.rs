//! Reading beside the writer: each look is one short transaction, so that it sees one state and holds nobody up. Marks are
//! read before the database: what is acknowledged meanwhile is then no false alarm.

use std::num::NonZeroUsize;
use std::sync::Arc;

use session_core::{
    Condition, Head, HeadPage, RecordPage, SessionFilter, SessionHealth, SessionId, StorageError,
    StoreHealth, Tip,
};
use session_storage_engine::{Page, page};

use crate::error::{DbContext as _, is_damage, unreadable};
use crate::list;
use crate::mend::{self, SUSPECT};
use crate::rows::{self, Found, number};
use crate::schema;
use crate::store::{Db, Store, Use};
use crate::writer::change_of;

/// Bytes of records after which a page ends, whatever was asked for.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// Looks at a session that seems damaged before that is believed: it may be deleted meanwhile, or made anew.
const LOOKS: usize = 3;

/// What a thread that reads works with.
#[derive(Debug)]
pub(crate) struct Reader {
    store: Arc<Store>,
    db: Option<Db>,
}

impl Reader {
    pub(crate) const fn new(store: Arc<Store>) -> Self {
        Self { store, db: None }
    }

    /// Looks at the store as it is at one instant; `None` where there is none.
    fn snapshot<T>(
        &mut self,
        look: impl FnOnce(&Db) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StorageError> {
        if self.db.as_ref().is_some_and(|db| !self.store.is_current(db)) {
            self.db = None;
        }
        if self.db.is_none() {
            self.db = self.store.connect(Use::Read)?;
        }
        let Some(db) = &self.db else { return Ok(None) };
        db.marks.refresh()?;
        let seen = (|| {
            // Where it ends it is rolled back, which of a look is the same as to commit it.
            let _transaction = db.connection.unchecked_transaction()?;
            look(db)
        })();
        seen.context("read", self.store.path()).map(Some)
    }

    /// Looks at one session until what is seen is no passing state. `Ok(None)` of a look is one that may be.
    fn settled<T>(
        &mut self,
        id: SessionId,
        absent: impl Fn() -> Result<T, StorageError>,
        look: impl Fn(&Db) -> rusqlite::Result<Seen<T>>,
    ) -> Result<T, StorageError> {
        let mut last = None;
        for _ in 0..LOOKS {
            let seen = self.snapshot(|db| match look(db) {
                Err(error) if is_damage(&error) => Ok(Seen::Damaged(unreadable(id, &error))),
                seen => seen,
            })?;
            match seen {
                None | Some(Seen::Absent) => return absent(),
                Some(Seen::Sound(found)) => return Ok(found),
                Some(Seen::Damaged(error)) => last = Some(error),
            }
        }
        Err(last.unwrap_or(StorageError::NotFound { id }))
    }

    pub(crate) fn head(&mut self, id: SessionId) -> Result<Option<Head>, StorageError> {
        let text = id.to_string();
        self.settled(
            id,
            || Ok(None),
            |db| {
                let mark = db.marks.tip(id);
                if let Some(stored) = rows::stored(&db.connection, id)?
                    && stored.tip == rows::last(&db.connection, &text)?
                    && is_known(mark, stored.tip)
                    && let Some(head) = stored.head(id)
                {
                    return Ok(Seen::Sound(Some(head)));
                }
                Ok(match rows::audit(&db.connection, id, mark)? {
                    None => Seen::Absent,
                    // Of a damaged session, the head of what can be read.
                    Some(Found { audit, .. }) => match audit.head() {
                        Some(head) => Seen::Sound(Some(head.clone())),
                        None => Seen::Damaged(audit.refusal().unwrap_or_else(|| audit.damage())),
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
        self.settled(
            id,
            || Err(StorageError::NotFound { id }),
            |db| {
                let mark = db.marks.tip(id);
                let tip = rows::tip(&db.connection, &text)?;
                let before = match after {
                    0 => None,
                    after => rows::line(&db.connection, &text, after)?,
                };
                let (mut lines, mut bytes) = (Vec::new(), 0);
                rows::lines(&db.connection, &text, number(after), |seq, line| {
                    lines.push((seq, line.to_vec()));
                    bytes += line.len();
                    lines.len() < limit.get() && bytes < PAGE_BYTES
                })?;
                if tip.is_some() {
                    match page(id, after, before.as_deref(), lines, &[tip, mark]) {
                        Page::Records(records) => return Ok(Seen::Sound(RecordPage::new(records))),
                        Page::End => return Ok(Seen::Sound(RecordPage::default())),
                        Page::Suspect => {}
                    }
                }
                let Some(Found { audit, .. }) = rows::audit(&db.connection, id, mark)? else {
                    return Ok(Seen::Absent);
                };
                // Where only the head is wrong, or only its rules are broken, all that was stored can be read.
                if after < audit.readable()
                    && audit.behind().is_empty()
                    && audit.condition() != Condition::Corrupt
                {
                    return Ok(
                        read_on(db, id, after, limit)?.map_or(Seen::Damaged(audit.damage()), Seen::Sound)
                    );
                }
                if matches!(
                    audit.condition(),
                    Condition::Healthy | Condition::Invalid | Condition::Unsupported
                ) && after >= audit.readable()
                {
                    return Ok(Seen::Sound(RecordPage::default()));
                }
                if after < audit.readable()
                    && let Some(page) = read_on(db, id, after, limit)?
                {
                    return Ok(Seen::Sound(page));
                }
                Ok(Seen::Damaged(audit.damage()))
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
            let known = db.marks.change();
            let suspect =
                is_behind(db, known)? || schema::meta::<i64>(&db.connection, SUSPECT)?.unwrap_or(0) != 0;
            let found = list::page(&db.connection, filter, after, limit)?;
            let mut page = HeadPage::new(Vec::new(), Vec::new(), found.next);
            let mut doubtful = Vec::new();
            for (id, stored) in &found.rows {
                let is_sound = stored.tip == rows::last(&db.connection, &id.to_string())?
                    && is_known(db.marks.tip(*id), stored.tip);
                match stored.head(*id).filter(|_| is_sound) {
                    Some(head) if filter.matches(&head) => page.heads.push(head),
                    Some(_) => {}
                    None => doubtful.push(*id),
                }
            }
            // Those that are not there cannot be found by looking at what is.
            if suspect {
                let lost = mend::lost(&db.connection, &db.marks, after, found.next)?;
                doubtful.extend(lost.into_iter().map(|(id, _)| id));
            } else if *filter == SessionFilter::all() {
                let is_listed = |id| found.rows.binary_search_by_key(&id, |(id, _)| *id).is_ok();
                let marked = db.marks.between(after, found.next).into_iter();
                doubtful.extend(marked.map(|(id, _)| id).filter(|id| !is_listed(*id)));
            }
            Ok((page, doubtful))
        })?;
        let Some((mut page, mut doubtful)) = page else { return Ok(HeadPage::default()) };
        doubtful.sort_unstable();
        doubtful.dedup();
        for id in doubtful {
            // The marks may have been ahead of what was seen: each is looked at again, by itself.
            match self.sound_head(id) {
                Ok(Some(head)) if filter.matches(&head) => page.heads.push(head),
                Ok(_) => {}
                Err(error) => page.unreadable.push((id, error)),
            }
        }
        page.heads.sort_by_key(|head| head.id);
        Ok(page)
    }

    /// The head of a session that has lost nothing.
    fn sound_head(&mut self, id: SessionId) -> Result<Option<Head>, StorageError> {
        self.settled(
            id,
            || Ok(None),
            |db| {
                let mark = db.marks.tip(id);
                let Some(Found { audit, .. }) = rows::audit(&db.connection, id, mark)? else {
                    return Ok(Seen::Absent);
                };
                Ok(match audit.head() {
                    Some(head) if audit.condition() != Condition::Corrupt => Seen::Sound(Some(head.clone())),
                    _ => Seen::Damaged(audit.refusal().unwrap_or_else(|| audit.damage())),
                })
            },
        )
    }

    /// How one session is; `None` if there is none.
    pub(crate) fn verify(&mut self, id: SessionId) -> Result<Option<SessionHealth>, StorageError> {
        let store = Arc::clone(&self.store);
        let mut last = None;
        for _ in 0..LOOKS {
            let seen = self.snapshot(|db| {
                let (mark, expected) = (db.marks.tip(id), db.marks.change());
                let found = match rows::audit(&db.connection, id, mark) {
                    Err(error) if is_damage(&error) => Err(unreadable(id, &error)),
                    found => Ok(found?),
                };
                let change = change_of(db)?;
                Ok((found, (change < expected).then_some((change, expected))))
            })?;
            let (found, behind) = match seen {
                None | Some((Ok(None), _)) => return Ok(None),
                Some((Ok(Some(found)), behind)) => (found, behind),
                Some((Err(error), _)) => {
                    let mut health = SessionHealth::new(id, Condition::Corrupt);
                    health.problem = Some(error);
                    return Ok(Some(health));
                }
            };
            let Found { audit, is_misfiled } = found;
            let mut health = audit.health(store.folders.losses(id)?);
            if health.condition == Condition::Healthy && (is_misfiled || behind.is_some()) {
                health.condition = Condition::Degraded;
                health.problem = Some(match behind {
                    Some((found, expected)) => store.behind(found, expected),
                    None => audit.damage(),
                });
            }
            if health.condition != Condition::Corrupt {
                return Ok(Some(health));
            }
            // Deleted and made anew meanwhile, it looks like one that has lost something.
            last = Some(health);
        }
        Ok(last)
    }

    /// How all of it is.
    pub(crate) fn verify_all(&mut self) -> Result<StoreHealth, StorageError> {
        let store = Arc::clone(&self.store);
        let seen = self.snapshot(|db| {
            let expected = db.marks.change();
            let mut ids: Vec<String> = db.marks.tips().into_iter().map(|(id, _)| id.to_string()).collect();
            let mut problems = match mend::integrity(&db.connection) {
                Err(error) if is_damage(&error) => vec![error.to_string()],
                result => result?,
            };
            if is_behind(db, expected)? {
                problems.push(store.behind(change_of(db)?, expected).to_string());
            }
            ids.extend(list::ids(&db.connection)?);
            ids.sort_unstable();
            ids.dedup();
            Ok((problems, ids))
        })?;
        let mut all = StoreHealth::default();
        let Some((problems, ids)) = seen else { return Ok(all) };
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
        all.foreign.extend(store.folders.session_folders()?.1);
        Ok(all)
    }
}

/// What a look at a session shows.
enum Seen<T> {
    Sound(T),
    Absent,
    Damaged(StorageError),
}

/// Whether a log that ends with `tip` has all that is known to be flushed.
fn is_known(mark: Option<Tip>, tip: Option<Tip>) -> bool {
    mark.is_none_or(|mark| tip.is_some_and(|tip| mark == tip || mark.revision < tip.revision))
}

/// Whether the database is behind a change that was known before it was looked at.
fn is_behind(db: &Db, known: u64) -> rusqlite::Result<bool> {
    Ok(change_of(db)? < known)
}

/// The readable records behind a revision of a session whose head or end is wrong; `None` where there are none.
fn read_on(db: &Db, id: SessionId, after: u64, limit: NonZeroUsize) -> rusqlite::Result<Option<RecordPage>> {
    let text = id.to_string();
    let before = if after == 0 { None } else { rows::line(&db.connection, &text, after)? };
    let mut lines = Vec::new();
    rows::lines(&db.connection, &text, number(after), |seq, line| {
        lines.push((seq, line.to_vec()));
        lines.len() < limit.get()
    })?;
    Ok(match page(id, after, before.as_deref(), lines, &[]) {
        Page::Records(records) => Some(RecordPage::new(records)),
        Page::End | Page::Suspect => None,
    })
}
