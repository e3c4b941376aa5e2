//! The rows of one session: reading, writing and removing them. Their condition is derived in `session-storage-engine`.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use session_core::backend::{Batch, Sum, Tip};
use session_core::limits::RECORD_BYTES;
use session_core::{Head, SessionId, StorageError, StoredRecord, Timestamp};
use session_storage_engine::{Audit, Auditor};
use xxhash_rust::xxh3::xxh3_64;

/// A row of the table `sessions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionRow {
    name: Vec<u8>,
    state: Vec<u8>,
    updated: i64,
    updated_second: i64,
    ended: Option<i64>,
    /// The tip that the row records; `None` if it is not valid.
    pub(crate) tip: Option<Tip>,
    head: Vec<u8>,
    head_sum: Vec<u8>,
}

/// The columns that [`SessionRow::from_row`] reads, in its order.
///
/// A text that is longer than any of a head is damaged, and is not read.
pub(crate) const COLUMNS: &str = "
    CASE WHEN octet_length(s.name) < 65536 THEN s.name END, CASE WHEN octet_length(s.state) < 65536 THEN s.state END,
    s.updated, s.ended, s.revision, CASE WHEN octet_length(s.sum) < 65536 THEN s.sum END,
    CASE WHEN octet_length(s.head) < 65536 THEN s.head END,
    CASE WHEN octet_length(s.head_sum) < 65536 THEN s.head_sum END, s.updated_second";

impl SessionRow {
    /// Reads a row whose columns from this one on are [`COLUMNS`].
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

    /// Parses the head; `None` if it is damaged, or belongs to another session or tip.
    pub(crate) fn head(&self, id: SessionId) -> Option<Head> {
        if head_sum(&self.head).as_bytes() != self.head_sum {
            return None;
        }
        let head: Head = serde_json::from_slice(&self.head).ok()?;
        (head.id == id && Some(head.tip) == self.tip).then_some(head)
    }

    /// Returns `true` if the search columns agree with the head.
    fn matches(&self, head: &Head) -> bool {
        self.name == head.name.as_bytes()
            && self.state == head.state().name().name().as_bytes()
            && self.updated == head.updated_at.as_millis()
            && self.updated_second == second(head.updated_at)
            && self.ended == head.ended_at.map(Timestamp::as_millis)
    }
}

/// Returns the second of a timestamp: the index of update times uses seconds, so that of many appends in a row only the
/// first one changes it.
pub(crate) fn second(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(1000)
}

/// A head encoded for storage, before the write lock is acquired.
#[derive(Debug)]
pub(crate) struct HeadText {
    json: String,
    sum: String,
}

impl HeadText {
    pub(crate) fn of(head: &Head) -> Result<Self, StorageError> {
        let json = serde_json::to_string(head).map_err(|error| StorageError::InvalidArgument {
            what: format!("cannot encode the head as JSON: {error}"),
        })?;
        Ok(Self { sum: head_sum(json.as_bytes()), json })
    }
}

/// Returns the checksum of a stored head.
fn head_sum(json: &[u8]) -> String {
    format!("{:016x}", xxh3_64(json))
}

/// Returns the bytes of a column; empty if damage changed its type to a number.
fn bytes<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<&'a [u8]> {
    Ok(row.get_ref(column)?.as_bytes().unwrap_or_default())
}

/// Converts a revision to an `SQLite` integer.
pub(crate) fn revision_to_sql(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// Reads a session's row; `None` if there is none.
pub(crate) fn session_row(connection: &Connection, id: SessionId) -> rusqlite::Result<Option<SessionRow>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM sessions s WHERE s.id = ?1"))?
        .query_row([id.to_string()], |row| SessionRow::from_row(row, 0))
        .optional()
}

/// Reads the tip of a session's row, without its head; `None` if there is no row, or no valid tip in it.
pub(crate) fn row_tip(connection: &Connection, id: &str) -> rusqlite::Result<Option<Tip>> {
    let tip = connection
        .prepare_cached(
            "SELECT revision, CASE WHEN octet_length(sum) < 65536 THEN sum END FROM sessions WHERE id = ?1",
        )?
        .query_row([id], |row| {
            let sum = std::str::from_utf8(bytes(row, 1)?).ok().and_then(|sum| sum.parse::<Sum>().ok());
            let revision = row.get::<_, i64>(0).ok().and_then(|revision| u64::try_from(revision).ok());
            Ok(revision.zip(sum).map(|(revision, sum)| Tip { revision, sum }))
        })
        .optional()?;
    Ok(tip.flatten())
}

/// Reads the tip of a session's last record; `None` if there is no record, or it is not valid.
pub(crate) fn last_tip(connection: &Connection, id: &str) -> rusqlite::Result<Option<Tip>> {
    let last = connection
        .prepare_cached(&format!(
            "SELECT seq, {} FROM records WHERE session = ?1 ORDER BY seq DESC LIMIT 1",
            line_columns()
        ))?
        .query_row([id], |row| Ok(tip_of(row.get(0)?, stored_line(row, 1)?.readable())))
        .optional()?;
    Ok(last.flatten())
}

fn tip_of(seq: i64, line: &[u8]) -> Option<Tip> {
    let line = std::str::from_utf8(line).ok()?;
    StoredRecord::from_storage(u64::try_from(seq).ok()?, line).ok().map(|record| record.tip())
}

/// Reads one line, which is empty if it is longer than any record; `None` if there is none.
pub(crate) fn line(connection: &Connection, id: &str, seq: u64) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached(&format!("SELECT {} FROM records WHERE session = ?1 AND seq = ?2", line_columns()))?
        .query_row(params![id, revision_to_sql(seq)], |row| Ok(stored_line(row, 0)?.readable().to_vec()))
        .optional()
}

/// A stored line.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StoredLine<'a> {
    Read(&'a [u8]),
    /// A line of this many bytes, longer than any record: it is damaged, and was not read.
    Overlong(u64),
}

/// The columns that [`stored_line`] reads. `SQLite` finds the length of a text without reading it.
fn line_columns() -> String {
    format!("CASE WHEN octet_length(line) < {RECORD_BYTES} THEN line END, octet_length(line)")
}

impl<'a> StoredLine<'a> {
    /// Returns the bytes of the line; none of a line that was not read, which is damaged as an empty one is.
    pub(crate) const fn readable(self) -> &'a [u8] {
        match self {
            Self::Read(line) => line,
            Self::Overlong(_) => &[],
        }
    }
}

fn stored_line<'a>(row: &'a Row<'_>, from: usize) -> rusqlite::Result<StoredLine<'a>> {
    let length = row.get::<_, i64>(from + 1).ok().and_then(|length| u64::try_from(length).ok());
    Ok(match length {
        Some(length) if length >= RECORD_BYTES as u64 => StoredLine::Overlong(length),
        _ => StoredLine::Read(bytes(row, from)?),
    })
}

/// Calls `on_line` for the lines after revision `after`, ascending, with their numbers, until it returns `false`.
pub(crate) fn for_each_line(
    connection: &Connection,
    id: &str,
    after: i64,
    mut on_line: impl FnMut(u64, StoredLine<'_>) -> bool,
) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT seq, {} FROM records WHERE session = ?1 AND seq > ?2 ORDER BY seq",
        line_columns()
    ))?;
    let mut rows = select.query(params![id, after])?;
    while let Some(row) = rows.next()? {
        // No record has a number below 1.
        if !on_line(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0), stored_line(row, 1)?) {
            break;
        }
    }
    Ok(())
}

/// Calls `on_line` for the lines that a repair removes: all except the records up to revision `kept`, ascending. A line
/// that is longer than any record is read too, so that it can be quarantined.
pub(crate) fn for_each_cut_line(
    connection: &Connection,
    id: &str,
    kept: u64,
    mut on_line: impl FnMut(&[u8]) -> Result<(), StorageError>,
) -> Result<(), WriteError> {
    let mut select = connection.prepare_cached(
        "SELECT line FROM records WHERE session = ?1 AND (seq > ?2 OR seq < 1) ORDER BY seq",
    )?;
    let mut rows = select.query(params![id, revision_to_sql(kept)])?;
    while let Some(row) = rows.next()? {
        on_line(bytes(row, 0)?)?;
    }
    Ok(())
}

/// The audit of all rows of a session.
#[derive(Debug)]
pub(crate) struct SessionAudit {
    pub(crate) audit: Audit,
    /// `true` if the search columns or labels disagree with the stored head.
    pub(crate) has_stale_columns: bool,
}

/// Reads and audits all rows of a session; `None` if there are none, and no mark shows that there were.
pub(crate) fn audit(
    connection: &Connection,
    id: SessionId,
    mark: Option<Tip>,
) -> rusqlite::Result<Option<SessionAudit>> {
    let mut auditor = Auditor::new(id, mark);
    let (text, mut has_rows) = (id.to_string(), mark.is_some());
    for_each_line(connection, &text, i64::MIN, |seq, line| {
        match line {
            StoredLine::Read(line) => auditor.add_line(seq, line),
            StoredLine::Overlong(length) => auditor.add_overlong_line(length),
        }
        has_rows = true;
        true
    })?;
    let row = session_row(connection, id)?;
    if !has_rows && row.is_none() {
        return Ok(None);
    }
    let head = row.as_ref().and_then(|row| row.head(id));
    let has_stale_columns = match (&head, &row) {
        (Some(head), Some(row)) => !row.matches(head) || labels(connection, &text)? != sorted_labels(head),
        _ => true,
    };
    Ok(Some(SessionAudit { audit: auditor.finish(head.as_ref()), has_stale_columns }))
}

fn sorted_labels(head: &Head) -> Vec<(String, String)> {
    head.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Reads the labels of a session. One that is longer than any of ours is empty.
fn labels(connection: &Connection, id: &str) -> rusqlite::Result<Vec<(String, String)>> {
    const LABELS: &str = "
        SELECT CASE WHEN octet_length(key) < 65536 THEN key ELSE '' END AS key,
               CASE WHEN octet_length(value) < 65536 THEN value ELSE '' END AS value
        FROM labels WHERE session = ?1 ORDER BY 1, 2";
    connection.prepare_cached(LABELS)?.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Inserts records after the existing ones.
pub(crate) fn insert_records(connection: &Connection, id: &str, batch: &Batch) -> Result<(), WriteError> {
    let mut insert =
        connection.prepare_cached("INSERT INTO records (session, seq, line) VALUES (?1, ?2, ?3)")?;
    for record in batch.records() {
        let record = record?;
        insert.execute(params![id, revision_to_sql(record.revision()), record.line()])?;
    }
    Ok(())
}

/// Inserts or replaces a session's head.
pub(crate) fn set_head(
    connection: &Connection,
    id: &str,
    head: &Head,
    text: &HeadText,
) -> rusqlite::Result<()> {
    let (name, state, second) = (&head.name, head.state().name().name(), second(head.updated_at));
    let ended = head.ended_at.map(Timestamp::as_millis);
    let (revision, sum) = (revision_to_sql(head.tip.revision), head.tip.sum.to_string());
    let (updated, HeadText { json, sum: head_sum }) = (head.updated_at.as_millis(), text);
    // Mostly no indexed column has changed, and an update that does not name a column leaves its index untouched: each
    // index would be one more page to write and to flush.
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

/// Replaces a session's labels by those of its head. They never change during the life of a session.
pub(crate) fn set_labels(connection: &Connection, id: &str, head: &Head) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM labels WHERE session = ?1")?.execute([id])?;
    let mut insert =
        connection.prepare_cached("INSERT INTO labels (key, value, session) VALUES (?1, ?2, ?3)")?;
    for (key, value) in &head.labels {
        insert.execute([key, value, id])?;
    }
    Ok(())
}

/// Removes the records after a revision.
pub(crate) fn remove_after(connection: &Connection, id: &str, after: u64) -> rusqlite::Result<()> {
    // No record has a number below 1.
    connection
        .prepare_cached("DELETE FROM records WHERE session = ?1 AND (seq > ?2 OR seq < 1)")?
        .execute(params![id, revision_to_sql(after)])
        .map(drop)
}

/// Removes all rows of a session.
pub(crate) fn remove_session(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    for delete in [
        "DELETE FROM records WHERE session = ?1",
        "DELETE FROM labels WHERE session = ?1",
        "DELETE FROM sessions WHERE id = ?1",
    ] {
        connection.prepare_cached(delete)?.execute([id])?;
    }
    Ok(())
}

/// The error of a change that was not written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// `SQLite` failed, and the transaction must be rolled back.
    Sqlite(rusqlite::Error),
    /// The change was refused, and nothing was written.
    Refused(StorageError),
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StorageError> for WriteError {
    fn from(error: StorageError) -> Self {
        Self::Refused(error)
    }
}
