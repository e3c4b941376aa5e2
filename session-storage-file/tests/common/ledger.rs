//! A ledger of what was submitted to a storage and what it acknowledged, and the check of a storage against it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use session_core::backend::{Batch, SessionStorage, SessionStorageExt, Tip};
use session_core::{Head, SessionFilter, SessionId, StorageError, StoredRecord};

use super::logs::{chain_of, fold, wait};

/// The expected state of each session. A moment is an index into
/// [`FaultDisk::moments`](session_storage_file::fault::FaultDisk::moments).
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    pub(crate) sessions: BTreeMap<SessionId, SessionModel>,
}

/// The submitted and acknowledged records of one session.
#[derive(Debug, Clone, Default)]
pub(crate) struct SessionModel {
    /// Every submitted record, and the moment from which on it may be stored.
    submitted: HashMap<Tip, (usize, Arc<str>)>,
    /// Flushed acknowledgements: the moment and the tip.
    flushed: Vec<(usize, Tip)>,
    /// The last acknowledgement of any durability.
    acknowledged: Option<Tip>,
    /// The moment from which on it may be deleted.
    pub(crate) deleting: Option<usize>,
    /// The moment from which on it must be deleted.
    pub(crate) deleted: Option<usize>,
}

/// The content of a storage.
pub(crate) type Found = BTreeMap<SessionId, (Head, Vec<StoredRecord>)>;

impl Ledger {
    pub(crate) fn submit(&mut self, id: SessionId, now: usize, batch: &Batch) {
        let session = self.sessions.entry(id).or_default();
        for record in batch.load().unwrap() {
            session.submitted.entry(record.tip()).or_insert_with(|| (now, record.line().into()));
        }
    }

    pub(crate) fn acknowledge(&mut self, id: SessionId, now: usize, tip: Tip, flushed: bool) {
        let session = self.sessions.entry(id).or_default();
        session.acknowledged = Some(tip);
        if flushed {
            session.flushed.push((now, tip));
        }
    }

    /// Returns the ledger after a power cut at a moment and a restart: only what was flushed is acknowledged.
    #[must_use]
    pub(crate) fn after_cut(&self, moment: usize, found: &Found) -> Self {
        let mut ledger = Self::default();
        for (id, session) in &self.sessions {
            let submitted: HashMap<_, _> = session
                .submitted
                .iter()
                .filter(|(_, (since, _))| *since <= moment)
                .map(|(tip, (_, line))| (*tip, (0, Arc::clone(line))))
                .collect();
            if submitted.is_empty() {
                continue;
            }
            let required = session.required(moment);
            let since = |at: Option<usize>| at.filter(|since| *since <= moment).map(|_| 0);
            let undone = found.contains_key(id);
            ledger.sessions.insert(
                *id,
                SessionModel {
                    submitted,
                    flushed: required.map(|tip| (0, tip)).into_iter().collect(),
                    acknowledged: required,
                    // A deletion that was interrupted and left the session is no longer pending.
                    deleting: since(session.deleting).filter(|_| !undone),
                    deleted: since(session.deleted),
                },
            );
        }
        ledger
    }

    /// Reads a whole storage and compares it with the expected state at a moment. With `running`, buffered
    /// acknowledgements are required, too: no power was lost.
    pub(crate) fn check(
        &self,
        storage: &dyn SessionStorage,
        moment: usize,
        running: bool,
    ) -> Result<Found, String> {
        let mut found = Found::new();
        for (id, session) in &self.sessions {
            let deleted = session.deleted.is_some_and(|since| since <= moment);
            let may_be_deleted = session.deleting.is_some_and(|since| since <= moment);
            let required = if running { session.acknowledged } else { session.required(moment) };
            let records = match wait(storage.records_after(*id, 0)) {
                Err(StorageError::NotFound { .. }) if deleted || may_be_deleted || required.is_none() => {
                    continue;
                }
                Err(error) => return Err(format!("{id}: {}, required is {required:?}", chain_of(&error))),
                Ok(_) if deleted => return Err(format!("{id}: was deleted and has reappeared")),
                Ok(records) => records,
            };
            for record in &records {
                match session.submitted.get(&record.tip()) {
                    Some((since, line)) if *since <= moment && **line == *record.line() => {}
                    _ => return Err(format!("{id}: record {} was never written", record.tip())),
                }
            }
            let folded = fold(*id, &records)?.ok_or_else(|| format!("{id}: exists without a record"))?;
            if let Some(tip) = required
                && !records.iter().any(|record| record.tip() == tip)
            {
                return Err(format!("{id}: {tip} was acknowledged, the log ends at {}", folded.tip));
            }
            let head =
                wait(storage.head(*id)).map_err(|error| format!("{id}: head: {}", chain_of(&error)))?;
            if head.as_ref() != Some(&folded) {
                return Err(format!("{id}: the head is not the fold of the log: {head:?} {folded:?}"));
            }
            found.insert(*id, (folded, records));
        }
        check_lists(storage, &found)?;
        Ok(found)
    }
}

/// Checks that the lists show exactly what was found.
fn check_lists(storage: &dyn SessionStorage, found: &Found) -> Result<(), String> {
    let list = |filter: &SessionFilter| {
        let page = wait(storage.list_all(filter)).map_err(|error| format!("list: {}", chain_of(&error)))?;
        match page.unreadable.first() {
            Some((id, error)) => Err(format!("list: {id} is unreadable: {}", chain_of(error))),
            None => Ok(page.heads),
        }
    };
    let all: Vec<&Head> = found.values().map(|(head, _)| head).collect();
    let active: Vec<&Head> = all.iter().copied().filter(|head| !head.state().is_final()).collect();
    for (name, filter, expected) in
        [("all", SessionFilter::all(), all), ("active", SessionFilter::active(), active)]
    {
        let listed = list(&filter)?;
        if listed.iter().collect::<Vec<_>>() != expected {
            let ids = |heads: &[&Head]| heads.iter().map(|head| head.id.to_string()).collect::<Vec<_>>();
            let listed: Vec<&Head> = listed.iter().collect();
            return Err(format!("list of {name}: {:?} instead of {:?}", ids(&listed), ids(&expected)));
        }
    }
    Ok(())
}

impl SessionModel {
    /// Returns the highest tip that was acknowledged as flushed at that moment.
    fn required(&self, moment: usize) -> Option<Tip> {
        let known = self.flushed.iter().filter(|(since, _)| *since <= moment).map(|(_, tip)| *tip);
        known.max_by_key(|tip| tip.revision)
    }

    /// Returns the highest revision that its writers know to be flushed.
    pub(crate) fn known_flushed(&self) -> u64 {
        self.required(usize::MAX).map_or(0, |tip| tip.revision)
    }
}
