//! Migration of all sessions to another store, of any backend. Each session is copied on its own and read back.
//! Sessions that were copied before are recognized, so that an interrupted migration can be continued.

use std::collections::VecDeque;
use std::sync::Arc;

use session_core::backend::{CheckedLog, Imported, PAGE_BYTES, SessionStorageExt as _, blocking};
use session_core::{ErrorCode, Liveness, SessionError, SessionFilter, SessionId, StorageError, StoredRecord};
use session_runner::{OutputError, OutputStorage, OutputStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use xxhash_rust::xxh3::Xxh3;

use super::restore::Restore;
use super::{ExchangeError, Output};
use crate::store::Store;
use crate::url::StoreUrl;

/// Sessions that are copied concurrently. More than one, so that a backend with group commit can combine flushes.
const CONCURRENT_COPIES: usize = 8;
/// Sessions among them whose logs are longer than a page, so that few pages are in memory.
const CONCURRENT_LONG_LOGS: usize = 1;
/// Bytes of output read at a time.
const PAGE: usize = 256 * 1024;

/// A running migration. It only reads the source.
#[derive(Debug)]
pub struct Migration {
    from: Store,
    to: Store,
    with: Output,
    remaining: VecDeque<SessionId>,
    total: usize,
    unreadable: VecDeque<(SessionId, ExchangeError)>,
    copies: JoinSet<MigratedSession>,
    /// Permits to hold pages of a long log in memory.
    long_logs: Arc<Semaphore>,
}

/// The result of migrating one session.
#[derive(Debug)]
#[non_exhaustive]
pub struct MigratedSession {
    /// The session.
    pub id: SessionId,
    /// The outcome, or the error.
    pub outcome: Result<MigrationOutcome, ExchangeError>,
}

/// The outcome of a session whose migration did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MigrationOutcome {
    /// It was copied, and read back from the target.
    Copied {
        /// Records of its log.
        records: u64,
        /// Bytes of its programs' output.
        output: u64,
    },
    /// It already existed. Missing output was added, and everything was read back.
    AlreadyThere {
        /// Records of its log.
        records: u64,
        /// Bytes of its programs' output.
        output: u64,
    },
    /// Its owner is or may be alive and would continue it in the source, so it was not copied.
    OwnerMayBeAlive,
}

impl Store {
    /// Starts copying all sessions to another store.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if both are the same store; errors of listing this store.
    pub async fn migrate(&self, to: &Self, with: Output) -> Result<Migration, ExchangeError> {
        if self.url() == to.url() && *self.url() != StoreUrl::Memory {
            let what = format!("cannot migrate {} into itself", self.url());
            return Err(SessionError::InvalidArgument { what }.into());
        }
        let page = self.storage().list_all(&SessionFilter::all()).await?;
        let remaining: VecDeque<SessionId> = page.heads.iter().map(|head| head.id).collect();
        let unreadable: VecDeque<_> =
            page.unreadable.into_iter().map(|(id, error)| (id, error.into())).collect();
        let total = remaining.len() + unreadable.len();
        let (from, to) = (self.clone(), to.clone());
        let long_logs = Arc::new(Semaphore::new(CONCURRENT_LONG_LOGS));
        Ok(Migration { from, to, with, remaining, total, unreadable, copies: JoinSet::new(), long_logs })
    }
}

impl Migration {
    /// Returns the number of sessions in the source.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.total
    }

    /// Waits for the next session, in order of completion; `None` after the last one. A failed session does not stop
    /// the others. Dropping the migration stops it; copied sessions stay.
    pub async fn next(&mut self) -> Option<MigratedSession> {
        while self.copies.len() < CONCURRENT_COPIES
            && let Some(id) = self.remaining.pop_front()
        {
            let (from, to, with) = (self.from.clone(), self.to.clone(), self.with);
            let long_logs = Arc::clone(&self.long_logs);
            self.copies.spawn(async move {
                MigratedSession { id, outcome: copy(&from, &to, with, id, &long_logs).await }
            });
        }
        match self.copies.join_next().await {
            Some(Ok(moved)) => Some(moved),
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => {
                let (id, error) = self.unreadable.pop_front()?;
                Some(MigratedSession { id, outcome: Err(error) })
            }
        }
    }
}

async fn copy(
    from: &Store,
    to: &Store,
    with: Output,
    id: SessionId,
    long_logs: &Semaphore,
) -> Result<MigrationOutcome, ExchangeError> {
    match from.manager().liveness(id).await? {
        None | Some(Liveness::Dead { .. }) => {}
        Some(Liveness::Alive | Liveness::Unknown { .. } | _) => return Ok(MigrationOutcome::OwnerMayBeAlive),
    }
    let mut permit = None;
    let mut copied = LogSum::default();
    let (mut log, mut pages) = (CheckedLog::new(id), from.storage().log(id, 0));
    while let Some(page) = pages.next_page().await? {
        copied.add(&page);
        let add = move || page.iter().try_for_each(|record| log.add(record.line().as_bytes())).map(|()| log);
        log = blocking(add).await?;
        if permit.is_none() && copied.bytes >= PAGE_BYTES as u64 {
            permit = long_logs.acquire().await.ok();
        }
    }
    let imported = match to.storage().import_log(log).await {
        Err(StorageError::Conflict { .. }) => return Err(ExchangeError::Exists { id }),
        imported => imported?,
    };
    let output = match (from.output(), to.output()) {
        (Some(from), Some(to)) if with == Output::Included => {
            blocking(move || copy_output(id, &*from, &to)).await?
        }
        _ => 0,
    };
    let (mut stored, mut pages) = (LogSum::default(), to.storage().log(id, 0));
    while let Some(page) = pages.next_page().await? {
        stored.add(&page);
    }
    drop(permit);
    if stored.digest() != copied.digest() {
        return Err(mismatch(id, "log"));
    }
    let records = copied.records;
    Ok(match imported {
        Imported::New(_) => MigrationOutcome::Copied { records, output },
        Imported::AlreadyThere(_) | _ => MigrationOutcome::AlreadyThere { records, output },
    })
}

/// The number of records of a log and the checksum of all its lines.
#[derive(Default)]
struct LogSum {
    records: u64,
    bytes: u64,
    sum: Xxh3,
}

impl LogSum {
    fn add(&mut self, page: &[StoredRecord]) {
        for record in page {
            self.records += 1;
            self.bytes += record.line().len() as u64 + 1;
            self.sum.update(record.line().as_bytes());
            self.sum.update(b"\n");
        }
    }

    fn digest(&self) -> (u64, u64, u64) {
        (self.records, self.bytes, self.sum.digest())
    }
}

/// Copies the missing output and compares all of it. Returns the number of bytes.
fn copy_output(
    id: SessionId,
    from: &dyn OutputStorage,
    to: &Arc<dyn OutputStorage>,
) -> Result<u64, ExchangeError> {
    let all = from.length(id)?;
    if all.bytes == 0 && all.cut.is_none() {
        return Ok(0);
    }
    let mut restore = Restore::open(id, Arc::clone(to))?;
    let mut at = 0;
    while at < all.bytes {
        let page = from.read(id, at, PAGE)?;
        let Some(last) = page.chunks.last() else { break };
        at = last.end();
        for chunk in page.chunks {
            restore.append(chunk)?;
        }
    }
    if let Some(cut) = all.cut {
        restore.cut(cut)?;
    }
    drop(restore);
    if to.length(id)? == all && output_sums(id, from, all.bytes)? == output_sums(id, &**to, all.bytes)? {
        return Ok(all.bytes);
    }
    Err(mismatch(id, "output"))
}

/// Returns checksums of each stream, and of where its bytes are missing. The target may join or split
/// chunks, so only bytes compare.
fn output_sums(
    id: SessionId,
    output: &dyn OutputStorage,
    end: u64,
) -> Result<[u64; OutputStream::ALL.len()], OutputError> {
    let mut sums = OutputStream::ALL.map(|_| Xxh3::new());
    let mut at = 0;
    while at < end {
        let page = output.read(id, at, PAGE)?;
        if page.chunks.is_empty() {
            break;
        }
        for chunk in &page.chunks {
            let [stdout, stderr, terminal] = &mut sums;
            let sum = match chunk.stream {
                OutputStream::Stdout => stdout,
                OutputStream::Stderr => stderr,
                OutputStream::Terminal => terminal,
            };
            if chunk.offset != at {
                sum.update(&chunk.offset.to_le_bytes());
                sum.update(&chunk.stream_offset.to_le_bytes());
            }
            sum.update(&chunk.bytes);
            at = chunk.end();
        }
    }
    Ok(sums.map(|sum| sum.digest()))
}

/// The copy read back from the target differs from the source.
fn mismatch(id: SessionId, what: &str) -> ExchangeError {
    let what = format!("its {what} differs from what was copied");
    SessionError::from(StorageError::Corrupt { id, readable: 0, what }).into()
}

impl MigratedSession {
    /// Returns the stable code of the reason why the session was not copied; `None` if it was.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match &self.outcome {
            Ok(MigrationOutcome::OwnerMayBeAlive) => Some(ErrorCode::Conflict),
            Ok(MigrationOutcome::Copied { .. } | MigrationOutcome::AlreadyThere { .. }) => None,
            Err(error) => Some(error.code()),
        }
    }
}
