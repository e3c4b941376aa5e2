//! The used part of sled: one tree, batches, ranges, a blocking flush. The guarantees that sled lacks are added in
//! `engine` and `durable`. The callers catch its panics.

use std::path::Path;

use session_core::backend::Tip;
use session_core::limits::RECORD_BYTES;
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

/// Bytes of a log that are read for each access that makes sled evict pages: a page of 8 to 16 parts of a line has at
/// least 64.
const BYTES_PER_ACCESS: usize = rows::PART / 8;

/// A stored line with its number.
#[derive(Debug)]
pub(crate) struct StoredLine {
    pub(crate) revision: u64,
    /// The bytes; of a line that is longer than any record, only enough to detect that.
    pub(crate) bytes: Vec<u8>,
    /// The number of bytes that are stored.
    pub(crate) length: u64,
}

impl StoredLine {
    /// Returns `true` if the line is longer than any record: it is damaged, and was not read completely.
    pub(crate) const fn is_overlong(&self) -> bool {
        self.length >= RECORD_BYTES as u64
    }

    fn add_part(&mut self, part: &[u8]) {
        self.length += part.len() as u64;
        if self.bytes.len() < RECORD_BYTES {
            if !self.bytes.is_empty() {
                // Once, for all parts: a buffer that grows leaves pieces of all sizes in the allocator.
                self.bytes.reserve_exact(RECORD_BYTES + rows::PART - self.bytes.len());
            }
            self.bytes.extend_from_slice(part);
        }
    }
}

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
        let line = self.lines(id, revision, Some(revision)).next().transpose()?;
        Ok(line.map(|line| line.bytes))
    }

    /// Iterates over the lines from a revision on, ascending, up to another revision or the end.
    pub(crate) fn lines(
        &self,
        id: SessionId,
        from: u64,
        to: Option<u64>,
    ) -> impl Iterator<Item = Result<StoredLine>> + use<> {
        let mut parts = self.parts(id, from, to).peekable();
        std::iter::from_fn(move || {
            let (revision, first) = match parts.next()? {
                Ok(part) => part,
                Err(error) => return Some(Err(error)),
            };
            let mut line = StoredLine { revision, bytes: Vec::new(), length: 0 };
            line.add_part(&first);
            let more =
                |part: &Result<(u64, sled::IVec)>| part.as_ref().is_ok_and(|(other, _)| *other == revision);
            while let Some(Ok((_, value))) = parts.next_if(more) {
                line.add_part(&value);
            }
            Some(Ok(line))
        })
    }

    /// Iterates over the parts of lines with their revisions, ascending, from a revision on up to another one or the
    /// end.
    pub(crate) fn parts(
        &self,
        id: SessionId,
        from: u64,
        to: Option<u64>,
    ) -> impl Iterator<Item = Result<(u64, sled::IVec)>> + use<> {
        self.parts_between(id, (from, 0), (to.unwrap_or(u64::MAX), u16::MAX))
    }

    /// Reads what was written once, from a part of a line to another one, which makes sled evict it.
    pub(crate) fn evict(&self, id: SessionId, from: (u64, u16), to: (u64, u16)) -> Result<()> {
        self.parts_between(id, from, to).try_for_each(|part| part.map(drop))
    }

    fn parts_between(
        &self,
        id: SessionId,
        from: (u64, u16),
        to: (u64, u16),
    ) -> impl Iterator<Item = Result<(u64, sled::IVec)>> + use<> {
        let range = rows::record_key(id, from.0, from.1)..=rows::record_key(id, to.0, to.1);
        let sled = self.sled.clone();
        self.sled.range(range).filter_map(move |part| {
            let found = part.map(|(key, value)| {
                access(&sled, &key, value.len());
                Some((rows::parse_record_key(&key)?.1, value))
            });
            found.transpose()
        })
    }

    /// Iterates over the sessions whose import was not completed.
    pub(crate) fn imports(&self) -> impl Iterator<Item = Result<SessionId>> + use<> {
        let rows = self.sled.range(b"i".to_vec()..b"j".to_vec());
        rows.filter_map(|row| row.map(|(key, _)| rows::parse_import_key(&key)).transpose())
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

/// Accesses a row that was read, so often that sled notices that its cache is full: it collects 64 accesses of pages of
/// one of its 256 shards before it evicts any, and a log that is read once has fewer. See `MAX_QUEUE_ITEMS` and
/// `accessed` in its `lru.rs`.
fn access(sled: &sled::Db, key: &[u8], bytes: usize) {
    for _ in 0..bytes / BYTES_PER_ACCESS {
        // Its error, if there is one, is that of the next row that is read.
        drop(sled.contains_key(key));
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

    /// Inserts a part of a line.
    pub(crate) fn put_part(&mut self, id: SessionId, revision: u64, part: u16, bytes: &[u8]) {
        self.batch.insert(rows::record_key(id, revision, part), bytes);
    }

    /// Inserts a line.
    pub(crate) fn put_line(&mut self, id: SessionId, revision: u64, line: &[u8]) {
        for (part, bytes) in rows::parts(line) {
            self.put_part(id, revision, part, bytes);
        }
    }

    /// Marks a session as being imported, or removed: its lines are no records yet, or not any more.
    pub(crate) fn begin_import(&mut self, id: SessionId) {
        self.batch.insert(rows::import_key(id), b"");
    }

    /// Removes that mark.
    pub(crate) fn end_import(&mut self, id: SessionId) {
        self.batch.remove(rows::import_key(id));
    }

    /// Removes the first lines of a session, up to this many parts. Returns `false` if there were none.
    pub(crate) fn remove_first_parts(&mut self, db: &Db, id: SessionId, limit: usize) -> Result<bool> {
        let range = rows::record_key(id, 0, 0)..=rows::record_key(id, u64::MAX, u16::MAX);
        let mut is_any = false;
        for row in db.sled.range(range).take(limit) {
            self.batch.remove(row?.0);
            is_any = true;
        }
        Ok(is_any)
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
