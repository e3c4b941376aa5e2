//! Cost of a session to a process that does not run it: a head and a few records to open it, and no memory.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::World;
use crate::wrapper::{Overrides, Wrapped};
use async_trait::async_trait;
use session_core::backend::*;
use session_core::*;

/// A storage that counts the records it returns.
#[derive(Debug, Default)]
struct Counting {
    inner: MemoryStorage,
    read: AtomicUsize,
}

#[async_trait]
impl Overrides for Counting {
    fn memory(&self) -> &MemoryStorage {
        &self.inner
    }

    async fn records(
        &self,
        id: SessionId,
        after: u64,
        limit: NonZeroUsize,
    ) -> Result<RecordPage, StorageError> {
        let page = self.inner.records(id, after, limit).await?;
        self.read.fetch_add(page.records.len(), Ordering::SeqCst);
        Ok(page)
    }
}

/// Returns the number of records read by a process that takes over a session with this many notes after its checkpoint.
async fn records_read(notes: u64) -> usize {
    let world = World::default();
    let first = world.process().await;
    let id = first.create_session(SessionConfig::new("test").name("a name")).await.unwrap();
    let session = first.start_session(id).await.unwrap();
    session.checkpoint(&"here").await.unwrap();
    for number in 0..notes {
        session.note("test.event", number.into(), Durability::Buffered).await.unwrap();
    }
    world.declare_dead(id).await;
    let storage = Arc::new(Wrapped(Counting { inner: world.storage.clone(), read: AtomicUsize::new(0) }));
    let second =
        PersistentSessionManager::open(Arc::clone(&storage), Arc::new(world.clone()), ManagerOptions::new())
            .await
            .unwrap();
    let session = second.resume_session(id).await.unwrap();
    assert_eq!(session.last_checkpoint::<String>().unwrap().as_deref(), Some("here"));
    assert_eq!(session.config().name.as_deref(), Some("a name"));
    storage.read.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn a_takeover_reads_no_more_of_a_long_log_than_of_a_short_one() {
    let short = records_read(1).await;
    assert!(short <= 8, "{short} records, where the first and the checkpoint are needed");
    assert_eq!(records_read(3_000).await, short);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_not_owned_here_leaves_nothing_in_memory() {
    let world = World::default();
    let (manager, other) = (world.process().await, world.process().await);
    let id = other.create_session(SessionConfig::new("test")).await.unwrap();
    let _elsewhere = other.start_session(id).await.unwrap();
    manager.get_progress(id).await.unwrap();
    manager.list_active_sessions().await.unwrap();
    manager.find_crashed_sessions().await.unwrap();
    manager.recover(RecoveryOptions::new(RecoveryPolicy::Fail)).await.unwrap();
    manager.pause_session(id, "breathe".to_owned()).await.unwrap();
    manager.resume_session(id).await.unwrap_err();
    manager.complete_session(id, SessionSummary::new()).await.unwrap_err();
    let unstarted = manager.create_session(SessionConfig::new("test")).await.unwrap();
    manager.cancel_session(unstarted, CancelRequest::new("stop", "")).await.unwrap();
    assert_eq!((manager.sessions_in_memory(), other.sessions_in_memory()), (0, 1));
}
