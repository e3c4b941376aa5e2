//! Copies a whole store into another one, of whatever backend: each session by itself, and read back afterwards. What was
//! copied before is found to be there, so that a migration which was cut off goes on where it stopped.

use std::collections::VecDeque;
use std::sync::Arc;

use session_core::{
    ErrorCode, Imported, Liveness, SessionError, SessionFilter, SessionId, SessionStorageExt as _,
    StorageError, StoredRecord,
};
use session_runner::{OutputError, OutputStorage};
use tokio::task::JoinSet;

use super::restore::Restore;
use super::{ExchangeError, Output, blocking};
use crate::store::Store;

/// Sessions that are on their way at once: a backend that flushes for many in one go has something to gather.
const AT_ONCE: usize = 8;
/// About how much output of a session is in memory at once.
const PAGE: usize = 256 * 1024;

/// A migration on its way. The source is only read.
#[derive(Debug)]
pub struct Migration {
    from: Store,
    to: Store,
    with: Output,
    left: VecDeque<SessionId>,
    total: usize,
    unreadable: VecDeque<(SessionId, ExchangeError)>,
    moving: JoinSet<Moved>,
}

/// What became of one session.
#[derive(Debug)]
#[non_exhaustive]
pub struct Moved {
    /// The session.
    pub id: SessionId,
    /// What became of it.
    pub outcome: Result<MoveOutcome, ExchangeError>,
}

/// What became of a session that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MoveOutcome {
    /// It is in the other store now, whole, and was read back from there.
    Copied {
        /// How many records its log has.
        records: u64,
        /// How many bytes its programs printed.
        output: u64,
    },
    /// It was there already; what was missing of its output was added. It was read back as well.
    AlreadyThere {
        /// How many records its log has.
        records: u64,
        /// How many bytes its programs printed.
        output: u64,
    },
    /// Its owner lives, or may: it would go on here while a copy of it stood still there. Nothing was copied.
    Alive,
}

impl Store {
    /// Begins to copy all sessions into another store.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` where the two are one and the same; whatever keeps this store from being listed.
    pub async fn migrate(&self, to: &Self, with: Output) -> Result<Migration, ExchangeError> {
        if self.url() == to.url() && self.url().path().is_some() {
            let what = format!("{} cannot be moved into itself", self.url());
            return Err(SessionError::InvalidArgument { what }.into());
        }
        let page = self.storage().list_all(&SessionFilter::all()).await?;
        let left: VecDeque<SessionId> = page.heads.iter().map(|head| head.id).collect();
        let unreadable: VecDeque<_> =
            page.unreadable.into_iter().map(|(id, error)| (id, error.into())).collect();
        let total = left.len() + unreadable.len();
        let (from, to) = (self.clone(), to.clone());
        Ok(Migration { from, to, with, left, total, unreadable, moving: JoinSet::new() })
    }
}

impl Migration {
    /// How many sessions there are to be moved in all.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.total
    }

    /// Waits until one more session is through, whichever; `None` after the last one. One that fails keeps no other back.
    /// Dropping the migration ends it; what was copied stays.
    pub async fn next(&mut self) -> Option<Moved> {
        while self.moving.len() < AT_ONCE
            && let Some(id) = self.left.pop_front()
        {
            let (from, to, with) = (self.from.clone(), self.to.clone(), self.with);
            self.moving.spawn(async move { Moved { id, outcome: copy(&from, &to, with, id).await } });
        }
        match self.moving.join_next().await {
            Some(Ok(moved)) => Some(moved),
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => {
                let (id, error) = self.unreadable.pop_front()?;
                Some(Moved { id, outcome: Err(error) })
            }
        }
    }
}

async fn copy(from: &Store, to: &Store, with: Output, id: SessionId) -> Result<MoveOutcome, ExchangeError> {
    match from.manager().liveness(id).await? {
        None | Some(Liveness::Dead { .. }) => {}
        Some(Liveness::Alive | Liveness::Unknown { .. } | _) => return Ok(MoveOutcome::Alive),
    }
    let records = from.storage().records_after(id, 0).await?;
    let lines: Vec<&str> = records.iter().map(StoredRecord::line).collect();
    let imported = match to.storage().import(id, &lines).await {
        Err(StorageError::Conflict { .. }) => return Err(ExchangeError::Exists { id }),
        imported => imported?,
    };
    let output = match (from.output(), to.output()) {
        (Some(from), Some(to)) if with == Output::Included => {
            blocking(move || copy_output(id, &*from, &to)).await?
        }
        _ => 0,
    };
    if to.storage().records_after(id, 0).await? != records {
        return Err(differs(id, "log"));
    }
    let records = records.len() as u64;
    Ok(match imported {
        Imported::New(_) => MoveOutcome::Copied { records, output },
        Imported::AlreadyThere(_) | _ => MoveOutcome::AlreadyThere { records, output },
    })
}

/// Copies what is not there yet, and compares all of it. Returns how many bytes there are.
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
    if to.length(id)? == all && bytes(id, from, all.bytes)? == bytes(id, &**to, all.bytes)? {
        return Ok(all.bytes);
    }
    Err(differs(id, "output"))
}

/// A sum of what was printed, by stream. Chunks may come back joined or split, so that only bytes can be compared.
fn bytes(id: SessionId, output: &dyn OutputStorage, end: u64) -> Result<[u64; 2], OutputError> {
    let mut sums = [xxhash_rust::xxh3::Xxh3::new(), xxhash_rust::xxh3::Xxh3::new()];
    let mut at = 0;
    while at < end {
        let page = output.read(id, at, PAGE)?;
        let Some(last) = page.chunks.last() else { break };
        at = last.end();
        for chunk in &page.chunks {
            let [stdout, stderr] = &mut sums;
            match chunk.stream {
                session_runner::OutputStream::Stdout => stdout.update(&chunk.bytes),
                session_runner::OutputStream::Stderr => stderr.update(&chunk.bytes),
            }
        }
    }
    Ok(sums.map(|sum| sum.digest()))
}

/// What was written does not come back: nothing that was said of it can be relied on.
fn differs(id: SessionId, what: &str) -> ExchangeError {
    let what = format!("what comes back of its {what} is not what was stored");
    SessionError::from(StorageError::Corrupt { id, readable: 0, what }).into()
}

impl Moved {
    /// The stable code of what kept the session from being moved.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match &self.outcome {
            Ok(MoveOutcome::Alive) => Some(ErrorCode::Conflict),
            Ok(MoveOutcome::Copied { .. } | MoveOutcome::AlreadyThere { .. }) => None,
            Err(error) => Some(error.code()),
        }
    }
}
