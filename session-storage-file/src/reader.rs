//! Lock-free reads: heads, pages of records, lists. Readers change nothing, and treat what a writer has not
//! finished as not stored yet.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use session_core::backend::{Chain, HeadPage, PageRoom, RecordPage, Tip};
use session_core::maintenance::Condition;
use session_core::{Head, SessionFilter, SessionId, StorageError, StoredRecord};

use crate::catch_up::ends_at;
use crate::condition::{Assessment, CachedHead, assess};
use crate::disk::{DiskFile, Identity, Open};
use crate::error::IoContext;
use crate::layout::SessionPaths;
use crate::scan::{ChainItem, ChainReader, fold};
use crate::slots::{Slot, Slots};
use crate::store::Store;

/// The number of reads before a log is reported as damaged: a writer may have been in the middle of an append.
const READ_ATTEMPTS: usize = 3;
/// The most sessions whose last page end is cached.
const MAX_CURSORS: usize = 256;
/// The most sessions whose head is cached, one to two kilobytes each; beyond that an arbitrary one is evicted.
const MAX_CACHED_HEADS: usize = 4096;

/// A cache of page ends, so that the next page need not be searched from the start of the log.
#[derive(Debug, Default)]
pub(crate) struct Cursors(Mutex<HashMap<SessionId, Cursor>>);

#[derive(Debug, Clone, Copy)]
struct Cursor {
    file: Identity,
    tip: Tip,
    end: u64,
}

impl Cursors {
    fn get(&self, id: SessionId) -> Option<Cursor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    fn set(&self, id: SessionId, cursor: Cursor) {
        let mut cursors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cursors.len() >= MAX_CURSORS && !cursors.contains_key(&id) {
            // Which cursors are dropped does not matter: a reader without one reads its log from the start
            // once.
            cursors.clear();
        }
        cursors.insert(id, cursor);
    }
}

/// A cache of the heads of unended sessions, which are read repeatedly, with the ends of their logs. A log that
/// still ends there with the same sum is unchanged: each sum covers all records before it.
#[derive(Debug, Default)]
pub(crate) struct HeadCache(Mutex<HashMap<SessionId, (Arc<Head>, u64)>>);

impl HeadCache {
    fn get(&self, id: SessionId) -> Option<(Arc<Head>, u64)> {
        self.lock().get(&id).map(|(head, end)| (Arc::clone(head), *end))
    }

    fn insert(&self, head: &Head, end: u64) {
        let mut heads = self.lock();
        if head.state().is_final() {
            heads.remove(&head.id);
            return;
        }
        if heads.len() >= MAX_CACHED_HEADS
            && !heads.contains_key(&head.id)
            && let Some(evicted) = heads.keys().next().copied()
        {
            heads.remove(&evicted);
        }
        heads.insert(head.id, (Arc::new(head.clone()), end));
    }

    fn remove(&self, id: SessionId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, (Arc<Head>, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of reading a page.
enum PageOutcome {
    Records(Vec<StoredRecord>),
    End,
    Damage(StorageError),
}

impl Store {
    /// Reads the head of a session; `None` if the session does not exist.
    pub(crate) fn read_head(&self, id: SessionId) -> Result<Option<Head>, StorageError> {
        if let Some(head) = self.cached_head(id) {
            return Ok(Some(head));
        }
        let Some(paths) = self.find(id)? else { return Ok(None) };
        match self.read_head_at(id, &paths) {
            // The session was deleted meanwhile.
            Err(_) if self.is_gone(id)? => Ok(None),
            result => result.map(Some),
        }
    }

    /// Returns the cached head, if the log has not changed since.
    fn cached_head(&self, id: SessionId) -> Option<Head> {
        let (head, end) = self.heads.get(id)?;
        let is_unchanged = || {
            let log = self.disk.open(&self.layout.session(id).log, Open::Read)?;
            Ok::<bool, io::Error>(log.len()? == end && ends_at(&*log, head.tip, end)?)
        };
        if !is_unchanged().unwrap_or(false) {
            self.heads.remove(id);
            return None;
        }
        Some(Head::clone(&head))
    }

    fn read_head_at(&self, id: SessionId, paths: &SessionPaths) -> Result<Head, StorageError> {
        // The slots are read before the log, so that the log has everything that they refer to.
        let slots = self.read_slots_with(id, paths, Slots::read_newest)?;
        let log = self.open_log(id, &paths.log)?;
        let mut stored = stored_head(&*log, &slots, &self.boot).context("read", &paths.log)?;
        if stored.is_none() && slots.older.is_none() {
            let slots = self.read_slots(id, paths)?;
            stored = stored_head(&*log, &slots, &self.boot).context("read", &paths.log)?;
        }
        let (mut head, end) = stored.unzip();
        let chain = head.as_ref().map_or(Chain::start(id), |head: &Head| Chain::at(id, head.tip));
        let mut reader = ChainReader::from(&*log, chain, end.unwrap_or(0));
        while let ChainItem::Record(record) = reader.next().context("read", &paths.log)? {
            match (fold(&mut head, id, record), &head) {
                (Ok(()), _) => {}
                (Err(reason), None) => return Err(reason.to_storage_error(id, 1)),
                (Err(_), Some(_)) => break,
            }
        }
        if let Some(head) = &head
            && reader.tip() == Some(head.tip)
        {
            self.heads.insert(head, reader.end());
        }
        head.ok_or_else(|| StorageError::Corrupt {
            id,
            readable: 0,
            what: format!("record 1 is missing or damaged; see `verify {id}`"),
        })
    }

    /// Returns `true` if the log ends with `tip` and a mark says that it is flushed up to there. Takes no lock.
    pub(crate) fn is_flushed_at(&self, id: SessionId, tip: Tip) -> Result<bool, StorageError> {
        let Some(paths) = self.find(id)? else { return Ok(false) };
        let slots = self.read_slots(id, &paths)?;
        let Some(mark) = slots.mark().filter(|mark| mark.tip == tip && !slots.flushing()) else {
            return Ok(false);
        };
        let log = self.open_log(id, &paths.log)?;
        let is_end = log.len().context("stat", &paths.log)? == mark.length;
        Ok(is_end && ends_at(&*log, tip, mark.length).context("read", &paths.log)?)
    }

    /// Reads both slots; returns none if their file is missing.
    pub(crate) fn read_slots(&self, id: SessionId, paths: &SessionPaths) -> Result<Slots, StorageError> {
        self.read_slots_with(id, paths, Slots::read)
    }

    fn read_slots_with(
        &self,
        id: SessionId,
        paths: &SessionPaths,
        read: impl Fn(SessionId, &dyn DiskFile) -> io::Result<Slots>,
    ) -> Result<Slots, StorageError> {
        match self.disk.open(&paths.slots, Open::Read) {
            Ok(file) => read(id, &*file).context("read", &paths.slots),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Slots::default()),
            Err(error) => {
                self.check_is_regular_file(id, &paths.slots)?;
                Err(error).context("open", &paths.slots)
            }
        }
    }

    pub(crate) fn open_log(&self, id: SessionId, path: &Path) -> Result<Box<dyn DiskFile>, StorageError> {
        self.disk.open(path, Open::Read).or_else(|error| {
            self.check_is_regular_file(id, path)?;
            Err(error).context("open", path)
        })
    }

    /// Assesses a session without taking its lock.
    pub(crate) fn assess_unlocked(
        &self,
        id: SessionId,
        paths: &SessionPaths,
        cached_head: CachedHead,
    ) -> Result<(Assessment, Slots), StorageError> {
        let slots = self.read_slots(id, paths)?;
        let log = self.open_log(id, &paths.log)?;
        let found = assess(id, &*log, &slots, &self.boot, cached_head).context("read", &paths.log)?;
        Ok((found, slots))
    }

    /// Reads a page of records.
    pub(crate) fn read_records(
        &self,
        id: SessionId,
        after: u64,
        limit: NonZeroUsize,
    ) -> Result<RecordPage, StorageError> {
        let mut damage = None;
        for _ in 0..READ_ATTEMPTS {
            let paths = self.find(id)?.ok_or(StorageError::NotFound { id })?;
            match self.read_page(id, &paths, after, limit) {
                Ok(PageOutcome::Records(records)) => return Ok(RecordPage::new(records)),
                Ok(PageOutcome::End) => return Ok(RecordPage::default()),
                Ok(PageOutcome::Damage(error)) => damage = Some(error),
                Err(_) if self.is_gone(id)? => return Err(StorageError::NotFound { id }),
                Err(error) => return Err(error),
            }
        }
        Err(damage.unwrap_or(StorageError::NotFound { id }))
    }

    fn read_page(
        &self,
        id: SessionId,
        paths: &SessionPaths,
        after: u64,
        limit: NonZeroUsize,
    ) -> Result<PageOutcome, StorageError> {
        let log = self.open_log(id, &paths.log)?;
        let file = log.identity().context("stat", &paths.log)?;
        let start = self.start_of_page(id, &*log, file, after).context("read", &paths.log)?;
        let (chain, offset) = start.map_or((Chain::start(id), 0), |at| (Chain::at(id, at.tip), at.end));
        let mut reader = ChainReader::from(&*log, chain, offset);
        let (mut records, mut room) = (Vec::new(), PageRoom::new(limit));
        while room.is_left() {
            match reader.next().context("read", &paths.log)? {
                ChainItem::Record(record) if record.tip().revision > after => {
                    let record = record.to_stored();
                    room.take(record.line().len());
                    records.push(record);
                }
                ChainItem::Record(_) => {}
                ChainItem::End | ChainItem::Break(_) => break,
            }
        }
        if let Some(tip) = reader.tip() {
            self.cursors.set(id, Cursor { file, tip, end: reader.end() });
        }
        if records.is_empty() {
            return self.reached_end(id, paths, reader.tip(), after);
        }
        Ok(PageOutcome::Records(records))
    }

    /// Returns the cached end of the last page, if the record after `after` can be found from there.
    fn start_of_page(
        &self,
        id: SessionId,
        log: &dyn DiskFile,
        file: Identity,
        after: u64,
    ) -> io::Result<Option<Cursor>> {
        let Some(cursor) = self.cursors.get(id) else { return Ok(None) };
        // A rebuilt file has the same records at the same offsets; a truncated one may not.
        let usable = cursor.tip.revision <= after && cursor.file == file;
        Ok((usable && ends_at(log, cursor.tip, cursor.end)?).then_some(cursor))
    }

    /// Determines if `tip` is the end of the log, or if records after it are lost. Nothing readable follows it.
    fn reached_end(
        &self,
        id: SessionId,
        paths: &SessionPaths,
        tip: Option<Tip>,
        after: u64,
    ) -> Result<PageOutcome, StorageError> {
        if let Some(tip) = tip
            && let Some(cursor) = self.cursors.get(id)
            && cursor.tip == tip
            && after >= tip.revision
            && self.is_plain_end(id, paths, tip)?
        {
            return Ok(PageOutcome::End);
        }
        let (found, _) = self.assess_unlocked(id, paths, CachedHead::Use)?;
        if found.readable() > after {
            // The log grew meanwhile: the next attempt reads it.
            return Ok(PageOutcome::Damage(found.damage()));
        }
        Ok(match found.condition() {
            Condition::Healthy | Condition::Torn | Condition::Invalid | Condition::Unsupported => {
                PageOutcome::End
            }
            Condition::Corrupt | Condition::Degraded | _ => PageOutcome::Damage(found.damage()),
        })
    }

    /// Returns `true` if the log ends with `tip` and no slot refers to later records: the usual case of a
    /// follower.
    fn is_plain_end(&self, id: SessionId, paths: &SessionPaths, tip: Tip) -> Result<bool, StorageError> {
        let slots = self.read_slots(id, paths)?;
        let log = self.open_log(id, &paths.log)?;
        let Some(cursor) = self.cursors.get(id) else { return Ok(false) };
        let length = log.len().context("stat", &paths.log)?;
        if length != cursor.end || !ends_at(&*log, tip, cursor.end).context("read", &paths.log)? {
            return Ok(false);
        }
        for slot in slots.iter() {
            let mark = slot.mark.map(|mark| (mark.tip, mark.length));
            let seen = slot.head.as_deref().map(|head| (head.tip, slot.length));
            for (known, end) in mark.into_iter().chain(seen) {
                // Checked below the end, too: all sums match in a log that was replaced by another one.
                let is_there = known == tip || (known.revision < tip.revision && end < cursor.end);
                if !is_there || !ends_at(&*log, known, end).context("read", &paths.log)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Reads a page of heads.
    pub(crate) fn read_list(
        &self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> Result<HeadPage, StorageError> {
        let folder = if filter.only_active() { self.layout.active() } else { self.layout.sessions() };
        let mut page = HeadPage::default();
        let mut ids =
            self.ids(&folder)?.into_iter().filter(|id| after.is_none_or(|after| *id > after)).peekable();
        while let Some(id) = ids.next() {
            match self.read_head(id) {
                Ok(Some(head)) if filter.matches(&head) => page.heads.push(head),
                Ok(_) => {}
                Err(error) => page.unreadable.push((id, error)),
            }
            if page.heads.len() >= limit.get() && ids.peek().is_some() {
                page.next = Some(id);
                break;
            }
        }
        Ok(page)
    }

    /// Returns the ids among the names in a folder of the store, ascending; none if the folder is missing.
    pub(crate) fn ids(&self, folder: &Path) -> Result<Vec<SessionId>, StorageError> {
        if !self.is_folder(folder)? {
            return Ok(Vec::new());
        }
        let names = self.disk.read_dir(folder).context("list", folder)?;
        let mut ids: Vec<SessionId> = names.iter().filter_map(|name| name.parse().ok()).collect();
        ids.sort_unstable();
        Ok(ids)
    }
}

/// Returns the newest head in the slots that is the head of a prefix of the log, and the end of that prefix.
///
/// After power loss, a slot may refer to records that were never flushed and of which only the end has reached
/// the disk: a slot of another boot is used only up to a mark.
fn stored_head(log: &dyn DiskFile, slots: &Slots, boot: &str) -> io::Result<Option<(Head, u64)>> {
    let flushed = slots.mark().map_or(0, |mark| mark.tip.revision);
    for slot in slots.iter() {
        if let Slot { head: Some(head), length, .. } = slot
            && (slot.boot == boot || head.tip.revision <= flushed)
            && ends_at(log, head.tip, *length)?
        {
            return Ok(Some((head.clone().into_owned(), *length)));
        }
    }
    Ok(None)
}
