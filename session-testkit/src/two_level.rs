//! A storage whose power can be cut and whose flushes can be made to fail: what is live and what would survive are kept
//! apart. It exists to try the laws themselves; nothing is stored in it for long.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use session_core::{
    Batch, Chain, ChangeFeed, Durability, Expected, Head, HeadPage, RecordPage, SessionFilter, SessionId,
    SessionStorage, Sharing, StorageError, StorageProfile, StoredRecord, Tip,
};

use crate::random::Random;
use crate::subject::{Crash, Damage, Kept, Subject, Unable};

/// A store on a disk of two levels, in memory: it can do all that a [`Subject`] may be asked for.
#[derive(Debug, Clone, Default)]
pub struct TwoLevelSubject {
    disk: Arc<Mutex<Disk>>,
    care: Care,
}

impl TwoLevelSubject {
    /// A store that keeps the laws.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store that breaks one: it flushes again what a failed flush should have stored, and believes the answer.
    #[must_use]
    pub fn that_retries_failed_flushes() -> Self {
        Self { care: Care::RetriesFailedFlushes, ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is done after a flush that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Care {
    #[default]
    MakesAnew,
    RetriesFailedFlushes,
}

#[derive(Debug, Default)]
struct Disk {
    files: BTreeMap<SessionId, File>,
    fail_next_flush: bool,
    /// How often all handles ended; a handle works only in the life that it was opened in.
    life: u64,
}

/// A log's file and what is kept beside it.
#[derive(Debug, Default)]
struct File {
    lines: Vec<Line>,
    /// The head as it was last given, as long as it is that of the lines.
    head: Option<Head>,
    /// The highest revision known to be flushed. It survives what the lines do not.
    mark: u64,
    /// Whether a flush failed since the file was made.
    untrusted: bool,
}

#[derive(Debug, Clone)]
struct Line {
    bytes: Vec<u8>,
    level: Level,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Durable,
    Dirty,
    /// The flush that should have stored it failed. The system calls it clean, and another flush passes over it.
    Lost,
}

impl File {
    fn write(&mut self, batch: &Batch) {
        let line = |record: &StoredRecord| Line { bytes: record.line().into(), level: Level::Dirty };
        self.lines.extend(batch.records().iter().map(line));
        self.head = batch.head().cloned();
    }

    /// The records of the unbroken chain.
    fn read(&self, id: SessionId) -> Vec<StoredRecord> {
        let mut chain = Chain::start(id);
        self.lines.iter().map_while(|line| chain.check(&line.bytes).ok()).collect()
    }

    /// As [`read`](Self::read), where nothing is missing that was flushed. Behind the mark an unfinished write may be.
    fn intact(&self, id: SessionId) -> Result<Vec<StoredRecord>, StorageError> {
        let records = self.read(id);
        let readable = records.len() as u64;
        if readable < self.mark || records.is_empty() {
            return Err(StorageError::Corrupt { id, readable, what: format!("{} were flushed", self.mark) });
        }
        Ok(records)
    }

    fn head(&self, id: SessionId) -> Result<Head, StorageError> {
        let records = self.read(id);
        let tip = records.last().map(StoredRecord::tip);
        if let Some(head) = self.head.as_ref().filter(|head| Some(head.tip) == tip) {
            return Ok(head.clone());
        }
        let log = crate::logs::Log::from_records(id, records).map_err(|bad| StorageError::Corrupt {
            id,
            readable: 0,
            what: format!("{bad:?}"),
        })?;
        Ok(log.head().clone())
    }

    /// Flushes the file. What a flush that failed should have stored is passed over, without a word.
    fn flush(&mut self, fails: bool) -> std::io::Result<()> {
        for line in self.lines.iter_mut().filter(|line| line.level == Level::Dirty) {
            line.level = if fails { Level::Lost } else { Level::Durable };
        }
        self.untrusted |= fails;
        if fails {
            return Err(std::io::Error::other("the device said no"));
        }
        self.mark = self.lines.len() as u64;
        Ok(())
    }

    fn lose_power(&mut self, id: SessionId, kept: Kept, random: &mut Random) {
        let dirty = self.lines.iter().filter(|line| line.level == Level::Dirty).count();
        let keep = match kept {
            Kept::Nothing => 0,
            Kept::Everything => dirty,
            Kept::Some(_) => random.below(dirty + 1),
        };
        let mut left = keep;
        self.lines.retain_mut(|line| match line.level {
            Level::Durable => true,
            Level::Lost => {
                line.bytes.fill(0);
                true
            }
            Level::Dirty if left > 0 => {
                left -= 1;
                // Of the last write that is left only a part may be.
                let torn = matches!(kept, Kept::Some(_)) && left == 0 && random.one_in(3);
                line.bytes.truncate(if torn { random.below(line.bytes.len()) } else { usize::MAX });
                true
            }
            Level::Dirty => false,
        });
        // What stands at the end and was never stored is not in the file at all.
        while self.lines.last().is_some_and(|line| line.level == Level::Lost) {
            self.lines.pop();
        }
        for line in &mut self.lines {
            line.level = Level::Durable;
        }
        self.head = crate::logs::Log::from_records(id, self.read(id)).ok().map(|log| log.head().clone());
        self.untrusted = false;
    }

    fn damage(&mut self, damage: Damage) {
        let at = |revision: u64| usize::try_from(revision).unwrap_or(usize::MAX).saturating_sub(1);
        match damage {
            Damage::Flip { revision, bit } => {
                if let Some(line) = self.lines.get_mut(at(revision)) {
                    let len = line.bytes.len().max(1);
                    if let Some(byte) = line.bytes.get_mut(bit / 8 % len) {
                        *byte ^= 1 << (bit % 8);
                    }
                }
            }
            Damage::Lose { revision } if at(revision) < self.lines.len() => {
                self.lines.remove(at(revision));
            }
            Damage::Double { revision } => {
                let line = self.lines.get(at(revision)).cloned();
                self.lines.splice(at(revision)..at(revision), line);
            }
            Damage::Swap { revision } if at(revision) + 1 < self.lines.len() => {
                self.lines.swap(at(revision), at(revision) + 1);
            }
            Damage::Lose { .. } | Damage::Swap { .. } => {}
            Damage::Cut { after } => self.lines.truncate(at(after + 1)),
        }
    }
}

impl Disk {
    fn flush(&mut self, id: SessionId) -> Result<(), StorageError> {
        let Some(file) = self.files.get_mut(&id) else { return Ok(()) };
        let fails = std::mem::take(&mut self.fail_next_flush);
        file.flush(fails).map_err(|error| StorageError::OutcomeUnknown { id, source: Arc::new(error) })
    }

    fn is_untrusted(&self, id: SessionId) -> bool {
        self.files.get(&id).is_some_and(|file| file.untrusted)
    }

    /// Makes a file in which a flush failed anew, from what can be read back.
    fn make_anew(&mut self, id: SessionId) -> Result<(), StorageError> {
        let Some(file) = self.files.get_mut(&id) else { return Ok(()) };
        let good = file.intact(id)?.len();
        file.lines.truncate(good);
        file.lines.iter_mut().for_each(|line| line.level = Level::Dirty);
        self.flush(id)?;
        if let Some(file) = self.files.get_mut(&id) {
            file.untrusted = false;
        }
        Ok(())
    }

    fn unended(&self) -> usize {
        // A session that cannot be read may well live.
        let lives =
            |(id, file): (&SessionId, &File)| file.head(*id).map_or(true, |head| !head.state().is_final());
        self.files.iter().filter(|entry| lives(*entry)).count()
    }
}

#[async_trait]
impl Subject for TwoLevelSubject {
    async fn open(&self) -> Result<Arc<dyn SessionStorage>, StorageError> {
        let life = self.lock().life;
        Ok(Arc::new(Handle { store: self.clone(), life }))
    }

    async fn crash(&self, crash: Crash) -> Result<(), Unable> {
        let mut disk = self.lock();
        disk.life += 1;
        if let Crash::PowerLoss(kept) = crash {
            let mut random = Random::new(if let Kept::Some(seed) = kept { seed } else { 0 });
            for (id, file) in &mut disk.files {
                file.lose_power(*id, kept, &mut random);
            }
            disk.files.retain(|id, file| file.mark > 0 || !file.read(*id).is_empty());
        }
        Ok(())
    }

    async fn fail_next_flush(&self) -> Result<(), Unable> {
        self.lock().fail_next_flush = true;
        Ok(())
    }

    async fn damage(&self, id: SessionId, damage: Damage) -> Result<(), Unable> {
        if let Some(file) = self.lock().files.get_mut(&id) {
            file.damage(damage);
        }
        Ok(())
    }
}

/// One process that has the store open.
#[derive(Debug)]
struct Handle {
    store: TwoLevelSubject,
    life: u64,
}

impl Handle {
    fn disk(&self) -> Result<MutexGuard<'_, Disk>, StorageError> {
        let disk = self.store.lock();
        if disk.life == self.life {
            return Ok(disk);
        }
        Err(StorageError::Closed { what: "a handle whose process has died".into(), source: None })
    }

    fn write(&self, id: SessionId, expected: Expected, batch: &Batch) -> Result<Tip, StorageError> {
        let mut disk = self.disk()?;
        if self.store.care == Care::MakesAnew && disk.is_untrusted(id) {
            disk.make_anew(id)?;
        }
        let there = disk.files.get(&id).map(|file| file.intact(id)).transpose()?.unwrap_or_default();
        let actual = there.last().map(StoredRecord::tip);
        let wanted = match expected {
            Expected::Absent | Expected::AbsentWithin(_) => None,
            Expected::At(tip) => Some(tip),
        };
        if actual != wanted {
            return Err(StorageError::Conflict { id, expected: wanted, actual });
        }
        if !batch.fits(expected) {
            return Err(StorageError::InvalidArgument { what: "the batch begins elsewhere".into() });
        }
        if let Expected::AbsentWithin(limit) = expected
            && disk.unended() >= limit.get()
        {
            return Err(StorageError::MaxSessions { limit: limit.get() });
        }
        if let Some(head) = batch.head() {
            let file = disk.files.entry(id).or_default();
            file.lines.truncate(there.len());
            file.write(batch);
            return Ok(head.tip);
        }
        actual.ok_or(StorageError::NotFound { id })
    }
}

#[async_trait]
impl SessionStorage for Handle {
    async fn append(
        &self,
        id: SessionId,
        expected: Expected,
        batch: Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        let tip = self.write(id, expected, &batch)?;
        // Here a future may be dropped and another process come in between.
        tokio::task::yield_now().await;
        if durability == Durability::Flushed {
            let mut disk = self.disk()?;
            match self.store.care {
                // A flush that failed, even another's, may have taken this batch with it.
                Care::MakesAnew if disk.is_untrusted(id) => disk.make_anew(id)?,
                Care::MakesAnew => disk.flush(id)?,
                Care::RetriesFailedFlushes => disk.flush(id).or_else(|_| disk.flush(id))?,
            }
        }
        Ok(tip)
    }

    async fn head(&self, id: SessionId) -> Result<Option<Head>, StorageError> {
        self.disk()?.files.get(&id).map(|file| file.head(id)).transpose()
    }

    async fn records(
        &self,
        id: SessionId,
        after: u64,
        limit: NonZeroUsize,
    ) -> Result<RecordPage, StorageError> {
        let disk = self.disk()?;
        let file = disk.files.get(&id).ok_or(StorageError::NotFound { id })?;
        let follows = |record: &StoredRecord| record.revision() > after;
        let page: Vec<StoredRecord> = file.read(id).into_iter().filter(follows).take(limit.get()).collect();
        if page.is_empty() {
            file.intact(id)?;
        }
        Ok(RecordPage::new(page))
    }

    async fn list(
        &self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> Result<HeadPage, StorageError> {
        let disk = self.disk()?;
        let (mut heads, mut unreadable, mut last) = (Vec::new(), Vec::new(), None);
        for (id, file) in disk.files.iter().filter(|(id, _)| after.is_none_or(|after| **id > after)) {
            if heads.len() == limit.get() {
                return Ok(HeadPage::new(heads, unreadable, last));
            }
            last = Some(*id);
            match file.head(*id) {
                Ok(head) if filter.matches(&head) => heads.push(head),
                Ok(_) => {}
                Err(error) => unreadable.push((*id, error)),
            }
        }
        Ok(HeadPage::new(heads, unreadable, None))
    }

    async fn delete(&self, id: SessionId, tip: Tip) -> Result<(), StorageError> {
        let mut disk = self.disk()?;
        let there = disk.files.get(&id).ok_or(StorageError::NotFound { id })?.intact(id)?;
        let actual = there.last().map(StoredRecord::tip);
        if actual != Some(tip) {
            return Err(StorageError::Conflict { id, expected: Some(tip), actual });
        }
        disk.files.remove(&id);
        Ok(())
    }

    fn profile(&self) -> StorageProfile {
        StorageProfile::new("two-level", Some(Durability::Flushed), Sharing::Process)
    }

    fn change_feed(&self) -> Option<Arc<dyn ChangeFeed>> {
        None
    }
}
