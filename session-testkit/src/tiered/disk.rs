//! A disk with two tiers: live data, and durable data that survives power loss.

use std::collections::BTreeMap;
use std::sync::Arc;

use session_core::backend::{Batch, Chain};
use session_core::{Head, SessionId, StorageError, StoredRecord};

use crate::harness::{Damage, Kept};
use crate::random::Random;

#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<SessionId, File>,
    pub(super) fail_next_flush: bool,
    /// The number of crashes so far. A handle works only in the generation in which it was opened.
    pub(super) generation: u64,
}

/// The file of a log, with its head and mark.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) lines: Vec<Line>,
    /// The head of the last append. It is valid only if it matches the lines.
    head: Option<Head>,
    /// The highest revision known to be flushed. It survives damage to the lines.
    pub(super) mark: u64,
    /// `true` if a flush failed since the file was created.
    flush_failed: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Line {
    bytes: Vec<u8>,
    level: Level,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Durable,
    Dirty,
    /// Its flush failed. The system treats it as clean, so another flush skips it.
    Lost,
}

impl File {
    pub(super) fn write(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let line = |record: &StoredRecord| Line { bytes: record.line().into(), level: Level::Dirty };
        self.lines.extend(batch.load()?.iter().map(line));
        self.head = batch.head().cloned();
        Ok(())
    }

    /// Returns the records up to the first break of the chain.
    pub(super) fn read(&self, id: SessionId) -> Vec<StoredRecord> {
        let mut chain = Chain::start(id);
        self.lines.iter().map_while(|line| chain.check(&line.bytes).ok()).collect()
    }

    /// Returns the records like [`read`](Self::read), but fails if a flushed one is missing. Behind the mark, an
    /// incomplete write is allowed.
    pub(super) fn intact(&self, id: SessionId) -> Result<Vec<StoredRecord>, StorageError> {
        let records = self.read(id);
        let readable = records.len() as u64;
        if readable < self.mark || records.is_empty() {
            return Err(StorageError::Corrupt { id, readable, what: format!("{} were flushed", self.mark) });
        }
        Ok(records)
    }

    pub(super) fn head(&self, id: SessionId) -> Result<Head, StorageError> {
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

    /// Flushes the file. Silently skips lines of an earlier failed flush, as real systems do.
    pub(super) fn flush(&mut self, fails: bool) -> std::io::Result<()> {
        for line in self.lines.iter_mut().filter(|line| line.level == Level::Dirty) {
            line.level = if fails { Level::Lost } else { Level::Durable };
        }
        self.flush_failed |= fails;
        if fails {
            return Err(std::io::Error::other("the device failed"));
        }
        self.mark = self.lines.len() as u64;
        Ok(())
    }

    pub(super) fn lose_power(&mut self, id: SessionId, kept: Kept, random: &mut Random) {
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
                // The last surviving write may be torn.
                let torn = matches!(kept, Kept::Some(_)) && left == 0 && random.one_in(3);
                line.bytes.truncate(if torn { random.below(line.bytes.len()) } else { usize::MAX });
                true
            }
            Level::Dirty => false,
        });
        // Lost lines at the end leave a shorter file instead of zeros.
        while self.lines.last().is_some_and(|line| line.level == Level::Lost) {
            self.lines.pop();
        }
        for line in &mut self.lines {
            line.level = Level::Durable;
        }
        self.head = crate::logs::Log::from_records(id, self.read(id)).ok().map(|log| log.head().clone());
        self.flush_failed = false;
    }

    pub(super) fn damage(&mut self, damage: Damage) {
        damage.apply(&mut self.lines, |line| &mut line.bytes);
    }
}

impl Disk {
    pub(super) fn flush(&mut self, id: SessionId) -> Result<(), StorageError> {
        let Some(file) = self.files.get_mut(&id) else { return Ok(()) };
        let fails = std::mem::take(&mut self.fail_next_flush);
        file.flush(fails).map_err(|error| StorageError::OutcomeUnknown { id, source: Arc::new(error) })
    }

    pub(super) fn needs_rewrite(&self, id: SessionId) -> bool {
        self.files.get(&id).is_some_and(|file| file.flush_failed)
    }

    /// Rewrites a file in which a flush failed, from the records that can be read.
    pub(super) fn rewrite(&mut self, id: SessionId) -> Result<(), StorageError> {
        let Some(file) = self.files.get_mut(&id) else { return Ok(()) };
        let good = file.intact(id)?.len();
        file.lines.truncate(good);
        file.lines.iter_mut().for_each(|line| line.level = Level::Dirty);
        self.flush(id)?;
        if let Some(file) = self.files.get_mut(&id) {
            file.flush_failed = false;
        }
        Ok(())
    }

    /// Counts the sessions other than `but` that hold a place.
    pub(super) fn places(&self, but: SessionId) -> usize {
        // A session that cannot be read may have an owner.
        let holds_place = |(id, file): (&SessionId, &File)| {
            *id != but && file.head(*id).map_or(true, |head| head.holds_place())
        };
        self.files.iter().filter(|entry| holds_place(*entry)).count()
    }
}
