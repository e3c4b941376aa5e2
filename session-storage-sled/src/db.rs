//! sled, as far as it is used: one tree, batches, ranges, a blocking flush. What sled does not promise is made up for in
//! `engine`. Its panics are caught where its calls are made, not here.

use std::path::Path;

use session_core::{Head, SessionId, StoredRecord, Tip};
use session_storage_engine::StoreId;

use crate::rows::{self, HeadSummary, META};

/// An open database.
#[derive(Debug, Clone)]
pub(crate) struct Db {
    sled: sled::Db,
}

/// The row of the store itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) store: StoreId,
    /// Counts what was changed; part of every batch.
    pub(crate) change: u64,
}

/// A stored line with its number.
pub(crate) type Numbered = (u64, Vec<u8>);

type Result<T> = std::result::Result<T, sled::Error>;

impl Db {
    /// Opens or makes it. This may change it: sled cuts what it cannot read, and writes a new snapshot.
    pub(crate) fn open(path: &Path, cache_bytes: u64) -> Result<Self> {
        let sled = sled::Config::new()
            .path(path)
            .cache_capacity(cache_bytes)
            // No thread that flushes from time to time: it does not say when that fails.
            .flush_every_ms(None)
            .open()?;
        Ok(Self { sled })
    }

    /// Gives everything to the system. Waits for the disk too, though not for what the disk keeps in a cache of its own.
    pub(crate) fn flush(&self) -> Result<()> {
        self.sled.flush().map(drop)
    }

    /// The row of the store; `None` where there is none, or none that can be read.
    pub(crate) fn meta(&self) -> Result<Option<Meta>> {
        let Some(value) = self.sled.get(META)? else { return Ok(None) };
        let text = std::str::from_utf8(&value).unwrap_or_default();
        Ok(text.split_once(' ').and_then(|(store, change)| {
            Some(Meta { store: store.parse().ok()?, change: change.parse().ok()? })
        }))
    }

    /// What a change adds and takes away is there whole or not at all: sled applies a batch as one.
    pub(crate) fn apply(&self, change: ChangeSet) -> Result<()> {
        self.sled.apply_batch(change.batch)
    }

    /// The head's row as it is; `None` if there is none.
    pub(crate) fn head_row(&self, id: SessionId) -> Result<Option<sled::IVec>> {
        self.sled.get(rows::head_key(id))
    }

    /// The end of the log as its last line has it; `None` where there is no line, or the last one is no record.
    pub(crate) fn last_record(&self, id: SessionId) -> Result<Option<Tip>> {
        let range = rows::record_key(id, 0, 0)..=rows::record_key(id, u64::MAX, u16::MAX);
        let Some(last) = self.sled.range(range).next_back() else { return Ok(None) };
        let (key, value) = last?;
        let Some((_, revision)) = rows::parse_record_key(&key) else { return Ok(None) };
        // The sum stands at the end of the line. A line in parts may have been divided there.
        let line =
            if value.len() < 64 { self.line(id, revision)?.unwrap_or_default() } else { value.to_vec() };
        Ok(StoredRecord::from_storage(revision, String::from_utf8_lossy(&line))
            .ok()
            .map(|record| record.tip()))
    }

    /// One line, put together.
    pub(crate) fn line(&self, id: SessionId, revision: u64) -> Result<Option<Vec<u8>>> {
        self.lines(id, revision, Some(revision)).next().transpose().map(|line| line.map(|(_, line)| line))
    }

    /// The lines from a revision on, ascending, up to one or all.
    pub(crate) fn lines(
        &self,
        id: SessionId,
        from: u64,
        to: Option<u64>,
    ) -> impl Iterator<Item = Result<Numbered>> + use<> {
        let range = rows::record_key(id, from, 0)..=rows::record_key(id, to.unwrap_or(u64::MAX), u16::MAX);
        let mut parts = self.sled.range(range).peekable();
        std::iter::from_fn(move || {
            let (revision, mut line) = match parts.next()? {
                Ok((key, value)) => (rows::parse_record_key(&key)?.1, value.to_vec()),
                Err(error) => return Some(Err(error)),
            };
            let more = |part: &Result<(sled::IVec, sled::IVec)>| {
                part.as_ref().is_ok_and(|(key, _)| {
                    rows::parse_record_key(key).is_some_and(|(_, other)| other == revision)
                })
            };
            while let Some(Ok((_, value))) = parts.next_if(more) {
                line.extend_from_slice(&value);
            }
            Some(Ok((revision, line)))
        })
    }

    /// The rows of heads behind an id, ascending.
    pub(crate) fn heads(
        &self,
        after: Option<SessionId>,
    ) -> impl Iterator<Item = Result<(SessionId, sled::IVec)>> + use<> {
        let from = after.map_or_else(|| b"h".to_vec(), rows::head_key);
        let found = self.sled.range(from..b"i".to_vec());
        found
            .filter_map(|row| row.map(|(key, value)| Some((rows::parse_head_key(&key)?, value))).transpose())
            .filter(move |row| row.as_ref().map_or(true, |(id, _)| Some(*id) != after))
    }

    /// The sessions that have records, ascending: a look for each.
    pub(crate) fn sessions_with_records(&self) -> impl Iterator<Item = Result<SessionId>> + use<> {
        let sled = self.sled.clone();
        let mut from = Some(b"r".to_vec());
        std::iter::from_fn(move || {
            let start = from.take()?;
            match sled.range(start..b"s".to_vec()).next()? {
                Ok((key, _)) => {
                    let (id, _) = rows::parse_record_key(&key)?;
                    from = Some([rows::record_key(id, u64::MAX, u16::MAX), vec![0]].concat());
                    Some(Ok(id))
                }
                Err(error) => Some(Err(error)),
            }
        })
    }

    /// Bytes of sled's files.
    pub(crate) fn size(&self) -> Result<u64> {
        self.sled.size_on_disk()
    }
}

/// What is changed at once.
#[derive(Debug)]
pub(crate) struct ChangeSet {
    batch: sled::Batch,
}

impl ChangeSet {
    /// A change that makes the store's row this.
    pub(crate) fn new(meta: Meta) -> Self {
        let mut batch = sled::Batch::default();
        batch.insert(META, format!("{} {}", meta.store, meta.change).as_bytes());
        Self { batch }
    }

    /// Puts a head.
    pub(crate) fn put_head(&mut self, head: &Head) {
        self.batch.insert(rows::head_key(head.id), rows::head_value(head));
    }

    /// Takes a head away.
    pub(crate) fn remove_head(&mut self, id: SessionId) {
        self.batch.remove(rows::head_key(id));
    }

    /// Puts a line.
    pub(crate) fn put_line(&mut self, id: SessionId, revision: u64, line: &[u8]) {
        for (part, bytes) in (0..).zip(line.chunks(rows::PART)) {
            self.batch.insert(rows::record_key(id, revision, part), bytes);
        }
    }

    /// Takes the lines from a revision on away, as far as they are there.
    pub(crate) fn remove_lines(&mut self, db: &Db, id: SessionId, from: u64) -> Result<()> {
        let range = rows::record_key(id, from, 0)..=rows::record_key(id, u64::MAX, u16::MAX);
        for row in db.sled.range(range) {
            self.batch.remove(row?.0);
        }
        Ok(())
    }
}

/// The start of a head's row, which a look at many heads needs.
pub(crate) fn head_summary(row: &[u8]) -> Option<HeadSummary> {
    rows::head_summary(row)
}
