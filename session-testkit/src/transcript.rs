//! Comparison of the results that storages return for the same random calls.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use session_core::backend::{
    Batch, ChangeFeed, Expected, HeadPage, RecordPage, SessionStorage, StorageProfile, Tip,
};
use session_core::{Durability, Head, SessionFilter, SessionId, StorageError};

use crate::laws::model;

/// Sends the same random calls, valid and invalid, to each of these storages and compares the results literally: tips,
/// records, heads, error codes. Each storage has a name and some handles, and is empty before and afterwards.
///
/// # Errors
/// The storage that returned something else than the first one, with the call; or a violation of a law.
///
/// # Panics
/// If a storage has no handle.
pub async fn compare_backends(
    storages: &[(String, Vec<Arc<dyn SessionStorage>>)],
    seed: u64,
    calls: usize,
) -> Result<(), String> {
    let mut first: Option<(&str, Vec<String>)> = None;
    for (name, handles) in storages {
        let report = |what: &str| format!("SESSION_TESTKIT_SEED={seed}, {name}: {what}");
        let results = transcript(handles, seed, calls).await.map_err(|error| report(&error))?;
        let Some((first, expected)) = &first else {
            first = Some((name, results));
            continue;
        };
        let other = results.iter().zip(expected).find(|(ours, theirs)| ours != theirs);
        if let Some((ours, theirs)) = other {
            return Err(report(&format!("{ours}\nbut {first}: {theirs}")));
        }
        if results.len() != expected.len() {
            return Err(report(&format!("{} results, but {} from {first}", results.len(), expected.len())));
        }
    }
    Ok(())
}

/// Sends this number of random calls through the handles of one empty store, and returns the calls with their results.
async fn transcript(
    handles: &[Arc<dyn SessionStorage>],
    seed: u64,
    calls: usize,
) -> Result<Vec<String>, String> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let recording = |storage: &Arc<dyn SessionStorage>| -> Arc<dyn SessionStorage> {
        Arc::new(RecordingStorage { storage: Arc::clone(storage), lines: Arc::clone(&lines) })
    };
    let handles: Vec<_> = handles.iter().map(recording).collect();
    model::run(&handles, seed, calls).await.map_err(|finding| format!("{finding:?}"))?;
    let lines = std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(lines)
}

/// A storage that records its results.
#[derive(Debug)]
struct RecordingStorage {
    storage: Arc<dyn SessionStorage>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl RecordingStorage {
    fn record<T>(
        &self,
        call: &str,
        answer: Result<T, StorageError>,
        show: impl FnOnce(&T) -> String,
    ) -> Result<T, StorageError> {
        let panic_message = match &answer {
            Ok(answer) => show(answer),
            Err(error @ StorageError::Conflict { .. }) => format!("{}: {error}", error.code()),
            Err(error) => error.code().to_string(),
        };
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{call} -> {panic_message}"));
        answer
    }
}

#[async_trait]
impl SessionStorage for RecordingStorage {
    async fn append(
        &self,
        id: SessionId,
        expected: Expected,
        batch: Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        let call = format!("append {id} {expected:?} {} records {durability:?}", batch.len());
        self.record(&call, self.storage.append(id, expected, batch, durability).await, Tip::to_string)
    }

    async fn head(&self, id: SessionId) -> Result<Option<Head>, StorageError> {
        self.record(&format!("head {id}"), self.storage.head(id).await, |head| format!("{head:?}"))
    }

    async fn records(
        &self,
        id: SessionId,
        after: u64,
        limit: NonZeroUsize,
    ) -> Result<RecordPage, StorageError> {
        let call = format!("records {id} {after} {limit}");
        self.record(&call, self.storage.records(id, after, limit).await, |page| {
            page.records.iter().flat_map(|record| ["\n  ", record.line()]).collect()
        })
    }

    async fn list(
        &self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> Result<HeadPage, StorageError> {
        let call = format!("list {filter:?} {after:?} {limit}");
        let answer = self.storage.list(filter, after, limit).await;
        // A storage may or may not know that a full page is the last one, so an empty last page is not compared.
        if after.is_some()
            && answer.as_ref().is_ok_and(|page| page.heads.is_empty() && page.unreadable.is_empty())
        {
            return answer;
        }
        self.record(&call, answer, |page| {
            let heads = page.heads.iter().map(|head| format!(" {} {}", head.id, head.tip));
            let unreadable = page.unreadable.iter().map(|(id, error)| format!(" {id} {}", error.code()));
            heads.chain(unreadable).collect::<Vec<_>>().concat()
        })
    }

    async fn delete(&self, id: SessionId, tip: Tip) -> Result<(), StorageError> {
        self.record(&format!("delete {id} {tip}"), self.storage.delete(id, tip).await, |()| "done".to_owned())
    }

    fn profile(&self) -> StorageProfile {
        self.storage.profile()
    }

    fn change_feed(&self) -> Option<Arc<dyn ChangeFeed>> {
        self.storage.change_feed()
    }
}
