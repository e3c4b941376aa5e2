//! The rows of one session: reading, writing and removing them. What they mean together is judged elsewhere.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use session_core::{Head, SessionId, StorageError, StoredRecord, Sum, Timestamp, Tip};
use session_storage_engine::{Audit, Auditor};
use xxhash_rust::xxh3::xxh3_64;

/// A session's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    name: Vec<u8>,
    state: Vec<u8>,
    updated: i64,
    updated_second: i64,
    ended: Option<i64>,
    /// What the row says of the log's end; `None` where that is no tip.
    pub(crate) tip: Option<Tip>,
    head: Vec<u8>,
    head_sum: Vec<u8>,
}

/// The columns of [`Stored`], in its order.
pub(crate) const COLUMNS: &str =
    "s.name, s.state, s.updated, s.ended, s.revision, s.sum, s.head, s.head_sum, s.updated_second";

impl Stored {
    /// From a row whose columns from this one on are [`COLUMNS`].
    pub(crate) fn from_row(row: &Row<'_>, from: usize) -> rusqlite::Result<Self> {
        let revision = row.get::<_, i64>(from + 4).ok().and_then(|revision| u64::try_from(revision).ok());
        let sum = std::str::from_utf8(bytes(row, from + 5)?).ok().and_then(|sum| sum.parse::<Sum>().ok());
        Ok(Self {
            name: bytes(row, from)?.to_vec(),
            state: bytes(row, from + 1)?.to_vec(),
            updated: row.get(from + 2).unwrap_or_default(),
            updated_second: row.get(from + 8).unwrap_or_default(),
            ended: row.get(from + 3).unwrap_or_default(),
            tip: revision.zip(sum).map(|(revision, sum)| Tip { revision, sum }),
            head: bytes(row, from + 6)?.to_vec(),
            head_sum: bytes(row, from + 7)?.to_vec(),
        })
    }

    /// The head; `None` where it is none, or not that of this session and tip.
    pub(crate) fn head(&self, id: SessionId) -> Option<Head> {
        if head_sum(&self.head).as_bytes() != self.head_sum {
            return None;
        }
        let head: Head = serde_json::from_slice(&self.head).ok()?;
        (head.id == id && Some(head.tip) == self.tip).then_some(head)
    }

    /// Whether what one searches for is what the head says.
    fn agrees(&self, head: &Head) -> bool {
        self.name == head.name.as_bytes()
            && self.state == head.state().name().name().as_bytes()
            && self.updated == head.updated_at.as_millis()
            && self.updated_second == second(head.updated_at)
            && self.ended == head.ended_at.map(Timestamp::as_millis)
    }
}

/// The second of an instant: one finds what was updated by it, and of many appends in a row only the first one changes it.
pub(crate) fn second(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(1000)
}

/// A head as it is stored: as text, made before anybody waits for the write lock.
#[derive(Debug)]
pub(crate) struct HeadText {
    json: String,
    sum: String,
}

impl HeadText {
    pub(crate) fn of(head: &Head) -> Result<Self, StorageError> {
        let json = serde_json::to_string(head).map_err(|error| StorageError::InvalidArgument {
            what: format!("the head is no JSON: {error}"),
        })?;
        Ok(Self { sum: head_sum(json.as_bytes()), json })
    }
}

/// What tells whether a head is the one that was stored.
fn head_sum(json: &[u8]) -> String {
    format!("{:016x}", xxh3_64(json))
}

/// A column as the bytes that it holds, of whatever type damage has made it.
fn bytes<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<&'a [u8]> {
    Ok(row.get_ref(column)?.as_bytes().unwrap_or_default())
}

/// A revision as a number of `SQLite`'s.
pub(crate) fn number(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// A session's row; `None` where there is none.
pub(crate) fn stored(connection: &Connection, id: SessionId) -> rusqlite::Result<Option<Stored>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM sessions s WHERE s.id = ?1"))?
        .query_row([id.to_string()], |row| Stored::from_row(row, 0))
        .optional()
}

/// What a session's row says of its end, without its head; `None` where there is no row, or no tip in it.
pub(crate) fn tip(connection: &Connection, id: &str) -> rusqlite::Result<Option<Tip>> {
    let tip = connection
        .prepare_cached("SELECT revision, sum FROM sessions WHERE id = ?1")?
        .query_row([id], |row| {
            let sum = std::str::from_utf8(bytes(row, 1)?).ok().and_then(|sum| sum.parse::<Sum>().ok());
            let revision = row.get::<_, i64>(0).ok().and_then(|revision| u64::try_from(revision).ok());
            Ok(revision.zip(sum).map(|(revision, sum)| Tip { revision, sum }))
        })
        .optional()?;
    Ok(tip.flatten())
}

/// The tip that the last record of a session speaks of; `None` where there is no record, or no tip in it.
pub(crate) fn last(connection: &Connection, id: &str) -> rusqlite::Result<Option<Tip>> {
    let last = connection
        .prepare_cached("SELECT seq, line FROM records WHERE session = ?1 ORDER BY seq DESC LIMIT 1")?
        .query_row([id], |row| Ok(tip_of(row.get(0)?, bytes(row, 1)?)))
        .optional()?;
    Ok(last.flatten())
}

fn tip_of(seq: i64, line: &[u8]) -> Option<Tip> {
    let line = std::str::from_utf8(line).ok()?;
    StoredRecord::from_storage(u64::try_from(seq).ok()?, line).ok().map(|record| record.tip())
}

/// One line; `None` where there is none.
pub(crate) fn line(connection: &Connection, id: &str, seq: u64) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT line FROM records WHERE session = ?1 AND seq = ?2")?
        .query_row(params![id, number(seq)], |row| Ok(bytes(row, 0)?.to_vec()))
        .optional()
}

/// Tells of lines behind revision `after`, ascending, with their numbers, until told to stop.
pub(crate) fn lines(
    connection: &Connection,
    id: &str,
    after: i64,
    mut tell: impl FnMut(u64, &[u8]) -> bool,
) -> rusqlite::Result<()> {
    let mut select = connection
        .prepare_cached("SELECT seq, line FROM records WHERE session = ?1 AND seq > ?2 ORDER BY seq")?;
    let mut rows = select.query(params![id, after])?;
    while let Some(row) = rows.next()? {
        // A number below 1 is the place of no record.
        if !tell(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0), bytes(row, 1)?) {
            break;
        }
    }
    Ok(())
}

/// What all rows of a session show.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) audit: Audit,
    /// Whether what one searches for is not what the records say.
    pub(crate) is_misfiled: bool,
}

/// Reads and judges all rows of a session; `None` where there are none, and no mark says that there were.
pub(crate) fn audit(
    connection: &Connection,
    id: SessionId,
    mark: Option<Tip>,
) -> rusqlite::Result<Option<Found>> {
    let mut auditor = Auditor::new(id, mark);
    let (text, mut any) = (id.to_string(), mark.is_some());
    lines(connection, &text, i64::MIN, |seq, line| {
        auditor.line(seq, line);
        any = true;
        true
    })?;
    let stored = stored(connection, id)?;
    if !any && stored.is_none() {
        return Ok(None);
    }
    let head = stored.as_ref().and_then(|stored| stored.head(id));
    let is_misfiled = match (&head, &stored) {
        (Some(head), Some(stored)) => !stored.agrees(head) || labels(connection, &text)? != sorted(head),
        _ => true,
    };
    Ok(Some(Found { audit: auditor.finish(head.as_ref()), is_misfiled }))
}

fn sorted(head: &Head) -> Vec<(String, String)> {
    head.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn labels(connection: &Connection, id: &str) -> rusqlite::Result<Vec<(String, String)>> {
    connection
        .prepare_cached("SELECT key, value FROM labels WHERE session = ?1 ORDER BY key, value")?
        .query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Adds records behind those that are there.
pub(crate) fn add(connection: &Connection, id: &str, records: &[StoredRecord]) -> rusqlite::Result<()> {
    let mut insert =
        connection.prepare_cached("INSERT INTO records (session, seq, line) VALUES (?1, ?2, ?3)")?;
    for record in records {
        insert.execute(params![id, number(record.revision()), record.line()])?;
    }
    Ok(())
}

/// Puts a head in the place of the one that is there.
pub(crate) fn set_head(
    connection: &Connection,
    id: &str,
    head: &Head,
    text: &HeadText,
) -> rusqlite::Result<()> {
    let (name, state, second) = (&head.name, head.state().name().name(), second(head.updated_at));
    let ended = head.ended_at.map(Timestamp::as_millis);
    let (revision, sum) = (number(head.tip.revision), head.tip.sum.to_string());
    let (updated, HeadText { json, sum: head_sum }) = (head.updated_at.as_millis(), text);
    // Mostly nothing has changed that stands in an index, and a column that is not named leaves its index alone: each of
    // them would be a page more to write and to flush.
    let same = connection
        .prepare_cached(
            "UPDATE sessions SET updated = ?6, revision = ?7, sum = ?8, head = ?9, head_sum = ?10
             WHERE id = ?1 AND name = ?2 AND state = ?3 AND updated_second = ?4 AND ended IS ?5",
        )?
        .execute(params![id, name, state, second, ended, updated, revision, sum, json, head_sum])?;
    if same == 0 {
        connection
            .prepare_cached(
                "INSERT INTO sessions (id, name, state, updated_second, ended, updated, revision, sum, head, head_sum)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
                 ON CONFLICT (id) DO UPDATE SET name = ?2, state = ?3, updated_second = ?4, ended = ?5, updated = ?6,
                 revision = ?7, sum = ?8, head = ?9, head_sum = ?10",
            )?
            .execute(params![id, name, state, second, ended, updated, revision, sum, json, head_sum])?;
    }
    Ok(())
}

/// Puts a head's labels in the place of those that are there. They never change while a session lives.
pub(crate) fn set_labels(connection: &Connection, id: &str, head: &Head) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM labels WHERE session = ?1")?.execute([id])?;
    let mut insert =
        connection.prepare_cached("INSERT INTO labels (key, value, session) VALUES (?1, ?2, ?3)")?;
    for (key, value) in &head.labels {
        insert.execute([key, value, id])?;
    }
    Ok(())
}

/// Removes the records behind a revision.
pub(crate) fn cut(connection: &Connection, id: &str, after: u64) -> rusqlite::Result<()> {
    // Numbers below 1 are the places of no records.
    connection
        .prepare_cached("DELETE FROM records WHERE session = ?1 AND (seq > ?2 OR seq < 1)")?
        .execute(params![id, number(after)])
        .map(drop)
}

/// Removes all rows of a session.
pub(crate) fn remove(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    for delete in [
        "DELETE FROM records WHERE session = ?1",
        "DELETE FROM labels WHERE session = ?1",
        "DELETE FROM sessions WHERE id = ?1",
    ] {
        connection.prepare_cached(delete)?.execute([id])?;
    }
    Ok(())
}

/// Why rows were not written.
#[derive(Debug)]
pub(crate) enum Unstored {
    /// `SQLite` says so, and the transaction is spoilt.
    Sqlite(rusqlite::Error),
    /// The storage does, and nothing was written.
    Refused(StorageError),
}

impl From<rusqlite::Error> for Unstored {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StorageError> for Unstored {
    fn from(error: StorageError) -> Self {
        Self::Refused(error)
    }
}
