//! The used part of sled: one tree, batches, ranges, a blocking flush. The guarantees that sled lacks are added in
//! `engine` and `durable`. The callers catch its panics.

use std::path::Path;

use session_core::backend::Tip;
use session_core::{Head, SessionId, StoredRecord};
use session_storage_engine::StoreId;

use crate::rows::{self, HeadSummary, META};

/// An open database.
#[derive(Debug, Clone)]
pub(crate) struct Db {
    sled: sled::Db,
}

/// The row of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) store: StoreId,
    /// The change counter, part of every batch.
    pub(crate) change: u64,
}

/// A stored line with its number.
pub(crate) type Numbered = (u64, Vec<u8>);

type Result<T> = std::result::Result<T, sled::Error>;

impl Db {
    /// Opens or creates the database. This may change it: sled truncates what it cannot read, and writes a new
    /// snapshot.
    pub(crate) fn open(path: &Path, cache_bytes: u64) -> Result<Self> {
        let sled = sled::Config::new()
            .path(path)
            .cache_capacity(cache_bytes)
            // No periodic flush: it does not report failures.
            .flush_every_ms(None)
            .open()?;
        Ok(Self { sled })
    }

    /// Writes everything to the system. Waits for the disk too, though not for the disk's own cache.
    pub(crate) fn flush(&self) -> Result<()> {
        self.sled.flush().map(drop)
    }

    /// Returns the first error of a write that sled made in the background. Nothing is written any more after one, but
    /// sled may not wake the threads that wait for that write.
    pub(crate) fn background_error(&self) -> Option<sled::Error> {
        self.sled.context.global_error().err()
    }

    /// Reads the row of the store; `None` if it is missing or cannot be parsed.
    pub(crate) fn meta(&self) -> Result<Option<Meta>> {
        let Some(value) = self.sled.get(META)? else { return Ok(None) };
        let text = std::str::from_utf8(&value).unwrap_or_default();
        Ok(text.split_once(' ').and_then(|(store, change)| {
            Some(Meta { store: store.parse().ok()?, change: change.parse().ok()? })
        }))
    }

    /// Applies a change set completely or not at all, as one batch of sled.
    pub(crate) fn apply(&self, change: ChangeSet) -> Result<()> {
        self.sled.apply_batch(change.batch)
    }

    /// Reads the head's row, unparsed; `None` if there is none.
    pub(crate) fn head_row(&self, id: SessionId) -> Result<Option<sled::IVec>> {
        self.sled.get(rows::head_key(id))
    }

    /// Reads the tip of the log's last line; `None` if there is no line, or it is not a record.
    pub(crate) fn last_record(&self, id: SessionId) -> Result<Option<Tip>> {
        let range = rows::record_key(id, 0, 0)..=rows::record_key(id, u64::MAX, u16::MAX);
        let Some(last) = self.sled.range(range).next_back() else { return Ok(None) };
        let (key, value) = last?;
        let Some((_, revision)) = rows::parse_record_key(&key) else { return Ok(None) };
        // The checksum is at the end of the line. A line stored in parts may be split there.
        let line =
            if value.len() < 64 { self.line(id, revision)?.unwrap_or_default() } else { value.to_vec() };
        Ok(StoredRecord::from_storage(revision, String::from_utf8_lossy(&line))
            .ok()
            .map(|record| record.tip()))
    }

    /// Reads one line, joined from its parts.
    pub(crate) fn line(&self, id: SessionId, revision: u64) -> Result<Option<Vec<u8>>> {
        self.lines(id, revision, Some(revision)).next().transpose().map(|line| line.map(|(_, line)| line))
    }

    /// Iterates over the lines from a revision on, ascending, up to another revision or the end.
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

    /// Iterates over the rows of heads after an id, ascending.
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

    /// Iterates over the sessions that have records, ascending, with one lookup for each.
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

    /// Returns the size of sled's files in bytes.
    pub(crate) fn size(&self) -> Result<u64> {
        self.sled.size_on_disk()
    }
}

/// A set of changes that is applied atomically.
#[derive(Debug)]
pub(crate) struct ChangeSet {
    batch: sled::Batch,
}

impl ChangeSet {
    /// Creates a change set that writes this row of the store.
    pub(crate) fn new(meta: Meta) -> Self {
        let mut batch = sled::Batch::default();
        batch.insert(META, format!("{} {}", meta.store, meta.change).as_bytes());
        Self { batch }
    }

    /// Inserts or replaces a head.
    pub(crate) fn put_head(&mut self, head: &Head) {
        self.batch.insert(rows::head_key(head.id), rows::head_value(head));
    }

    /// Removes a head.
    pub(crate) fn remove_head(&mut self, id: SessionId) {
        self.batch.remove(rows::head_key(id));
    }

    /// Inserts a line.
    pub(crate) fn put_line(&mut self, id: SessionId, revision: u64, line: &[u8]) {
        for (part, bytes) in (0..).zip(line.chunks(rows::PART)) {
            self.batch.insert(rows::record_key(id, revision, part), bytes);
        }
    }

    /// Removes the lines from a revision on, if there are any.
    pub(crate) fn remove_lines(&mut self, db: &Db, id: SessionId, from: u64) -> Result<()> {
        let range = rows::record_key(id, from, 0)..=rows::record_key(id, u64::MAX, u16::MAX);
        for row in db.sled.range(range) {
            self.batch.remove(row?.0);
        }
        Ok(())
    }
}

/// Parses the start of a head's row, which is enough for a list.
pub(crate) fn head_summary(row: &[u8]) -> Option<HeadSummary> {
    rows::head_summary(row)
}
