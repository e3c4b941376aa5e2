//! The tests of the laws, one file for each subject, and their shared checks.

pub(crate) mod bytes;
pub(crate) mod crash;
pub(crate) mod creation;
pub(crate) mod damage;
pub(crate) mod deletion;
pub(crate) mod dropped;
pub(crate) mod expectation;
pub(crate) mod flush;
pub(crate) mod import;
pub(crate) mod listing;
pub(crate) mod model;
pub(crate) mod order;
pub(crate) mod paging;
pub(crate) mod visibility;

use std::num::NonZeroUsize;
use std::sync::Arc;

use session_core::backend::{SessionStorage, SessionStorageExt as _, Tip};
use session_core::{Head, SessionFilter, SessionId, StorageError, StoredRecord};

use crate::harness::Harness;
use crate::law::{Finding, Outcome, check, check_eq};
use crate::logs::Log;

pub(crate) type Handle = Arc<dyn SessionStorage>;

pub(crate) async fn open_handles(harness: &dyn Harness, count: usize) -> Result<Vec<Handle>, Finding> {
    let mut handles = Vec::with_capacity(count);
    for _ in 0..count {
        handles.push(harness.open().await?);
    }
    Ok(handles)
}

pub(crate) fn limit(limit: usize) -> NonZeroUsize {
    NonZeroUsize::new(limit).expect("limits of the laws are not 0")
}

/// Returns all heads of the store, and checks that every session can be read.
pub(crate) async fn all_heads(storage: &dyn SessionStorage) -> Result<Vec<Head>, Finding> {
    let page = storage.list_all(&SessionFilter::all()).await?;
    check!(page.unreadable.is_empty(), "sessions cannot be read: {:?}", page.unreadable);
    Ok(page.heads)
}

/// Reads the stored log, and checks every checksum and event.
pub(crate) async fn stored_log(storage: &dyn SessionStorage, id: SessionId) -> Result<Log, Finding> {
    Log::read(storage, id)
        .await
        .map_err(|error| Finding::violated(format!("the stored log is invalid: {error:?}")))
}

/// Checks that every way to read a session returns this log.
pub(crate) async fn check_reads(storage: &dyn SessionStorage, log: &Log) -> Outcome {
    let (id, revision) = (log.id(), log.revision());
    let records = storage.records_after(id, 0).await?;
    let lines: Vec<&str> = records.iter().map(StoredRecord::line).collect();
    let expected: Vec<&str> = log.records().iter().map(StoredRecord::line).collect();
    check_eq!(lines, expected, "the lines of a log of {revision} records");
    check_eq!(records, log.records(), "the records' revisions");
    let head = storage.head(id).await?;
    check_eq!(head.as_ref(), Some(log.head()), "the head at revision {revision}");
    let listed: Vec<Head> = all_heads(storage).await?.into_iter().filter(|head| head.id == id).collect();
    check_eq!(listed, [log.head().clone()], "the session's heads in a list at revision {revision}");
    Ok(())
}

/// Checks that a session does not exist in any way of reading it.
pub(crate) async fn check_absent(storage: &dyn SessionStorage, id: SessionId) -> Outcome {
    check_eq!(storage.head(id).await?, None, "the head of an absent session");
    match storage.records(id, 0, limit(1)).await {
        Err(StorageError::NotFound { id: named }) => check_eq!(named, id, "the session that NotFound names"),
        other => return Err(Finding::violated(format!("expected NotFound for its records, not {other:?}"))),
    }
    let listed = all_heads(storage).await?;
    check!(listed.iter().all(|head| head.id != id), "an absent session is listed");
    Ok(())
}

/// Checks that an append was refused because the limit is reached.
pub(crate) fn check_limit_reached(answer: &Result<Tip, StorageError>, places: usize) -> Outcome {
    match answer {
        Err(StorageError::MaxSessions { limit }) => {
            check_eq!(*limit, places, "the limit that the error names");
            Ok(())
        }
        other => Err(Finding::violated(format!("expected MaxSessions, not {other:?}"))),
    }
}

/// Checks that a result is a conflict with exactly these tips.
pub(crate) fn check_conflict<T: std::fmt::Debug>(
    answer: &Result<T, StorageError>,
    session: SessionId,
    wanted: Option<Tip>,
    stored: Option<Tip>,
) -> Outcome {
    match answer {
        Err(StorageError::Conflict { id, expected, actual }) => {
            check_eq!(*id, session, "the session that a conflict names");
            check_eq!(*expected, wanted, "the expected tip that a conflict reports");
            check_eq!(*actual, stored, "the stored tip that a conflict reports");
            Ok(())
        }
        other => Err(Finding::violated(format!("expected a conflict, not {other:?}"))),
    }
}
