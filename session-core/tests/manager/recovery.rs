//! Recovery next to other processes: conflicts, unreadable sessions, and the sweep of leftovers.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::World;
use crate::faults::overtake;
use crate::wrapper::{Overrides, Wrapped};
use async_trait::async_trait;
use session_core::backend::*;
use session_core::*;

/// A storage where rivals win the next appends, and where one session cannot be read.
#[derive(Debug)]
struct Crowded {
    inner: MemoryStorage,
    faster: AtomicUsize,
    unreadable: Option<SessionId>,
}

#[async_trait]
impl Overrides for Crowded {
    fn memory(&self) -> &MemoryStorage {
        &self.inner
    }

    async fn append(
        &self,
        id: SessionId,
        expected: Expected,
        batch: Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        let one_less = |left: usize| left.checked_sub(1);
        if self.faster.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            overtake(&self.inner, id, None).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.inner.append(id, expected, batch, durability).await
    }

    async fn list(
        &self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> Result<HeadPage, StorageError> {
        let mut page = self.inner.list(filter, after, limit).await?;
        if let Some(id) = self.unreadable {
            page.unreadable.push((id, StorageError::NotFound { id }));
        }
        Ok(page)
    }
}

/// Returns a session whose owner is dead, and a manager whose appends lose this many races.
async fn crowded(
    faster: usize,
    unreadable: Option<SessionId>,
) -> (World, Session, PersistentSessionManager<Wrapped<Crowded>>) {
    let world = World::default();
    let first = world.process().await;
    let id = first.create_session(SessionConfig::new("test")).await.unwrap();
    let session = first.start_session(id).await.unwrap();
    world.declare_dead(id).await;
    let storage = Crowded { inner: world.storage.clone(), faster: AtomicUsize::new(faster), unreadable };
    let storage = Wrapped(storage);
    let options = ManagerOptions::new().recovery(None);
    let manager =
        PersistentSessionManager::open(Arc::new(storage), Arc::new(world.clone()), options).await.unwrap();
    (world, session, manager)
}

#[tokio::test(start_paused = true)]
async fn a_recovery_retries_conflicts_until_its_timeout() {
    let (world, dead, manager) = crowded(3, None).await;
    let id = dead.id();
    let report = manager.recover(RecoveryOptions::new(RecoveryPolicy::Pause)).await.unwrap();
    assert_eq!(report.recovered, [(id, RecoveryOutcome::Paused)], "{report:?}");
    assert_eq!(world.kinds(id).await.iter().filter(|kind| **kind == "interrupted").count(), 1);

    let (world, dead, manager) = crowded(usize::MAX, None).await;
    let id = dead.id();
    let recovery = manager.recover(RecoveryOptions::new(RecoveryPolicy::Pause));
    let report =
        tokio::time::timeout(Duration::from_secs(3_600), recovery).await.expect("it gives up").unwrap();
    assert!(report.recovered.is_empty(), "{report:?}");
    assert!(matches!(report.failed[..], [(of, SessionError::Contended { .. })] if of == id), "{report:?}");
    assert!(!world.kinds(id).await.contains(&"interrupted"));
}

#[tokio::test(start_paused = true)]
async fn a_takeover_retries_conflicts_until_its_timeout() {
    let (_, dead, manager) = crowded(3, None).await;
    let id = dead.id();
    assert_eq!(manager.resume_session(id).await.unwrap().attempt(), 2);

    let (world, dead, manager) = crowded(usize::MAX, None).await;
    let id = dead.id();
    let takeover = tokio::time::timeout(Duration::from_secs(3_600), manager.resume_session(id));
    let error = takeover.await.expect("it gives up").unwrap_err();
    assert!(matches!(error, SessionError::Contended { .. }), "{error:?}");
    assert!(!world.kinds(id).await.contains(&"interrupted"));
}

/// A recovery that read all sessions sweeps the leftovers of dead owners. A dry run sweeps nothing, and neither does a
/// recovery with an unreadable session, since that may name any owner.
#[tokio::test(start_paused = true)]
async fn a_recovery_that_read_every_session_sweeps_leftovers() {
    let (world, dead, manager) = crowded(0, None).await;
    let id = dead.id();
    let owner = manager.get_head(id).await.unwrap().responsible_process().unwrap().instance;
    manager.recover(RecoveryOptions::new(RecoveryPolicy::Pause).dry_run()).await.unwrap();
    assert_eq!(world.swept(), [], "a dry run");
    manager.recover(RecoveryOptions::new(RecoveryPolicy::Pause)).await.unwrap();
    assert_eq!(world.swept(), [HashSet::from([owner])]);

    let (world, dead, manager) = crowded(0, Some(SessionId::from_key("damaged"))).await;
    let id = dead.id();
    let report = manager.recover(RecoveryOptions::new(RecoveryPolicy::Pause)).await.unwrap();
    assert_eq!(report.recovered, [(id, RecoveryOutcome::Paused)], "the others are recovered all the same");
    assert_eq!(report.failed.len(), 1);
    assert_eq!(world.swept(), []);
}

/// Returns the outcome of recovery for a session that was started or not, whose owner is dead or of unknown liveness,
/// with a given limit of deaths.
async fn outcome(enough: u32, started: bool, dead: bool) -> Vec<RecoveryOutcome> {
    let world = World::default();
    let first = world.process().await;
    let id = first.create_session(SessionConfig::new("test")).await.unwrap();
    if started {
        let _session = first.start_session(id).await.unwrap();
    }
    let mut options = RecoveryOptions::new(RecoveryPolicy::Pause);
    if dead {
        world.declare_dead(id).await;
    } else {
        world.lose_sight_of(id).await;
        options = options.force("a person");
    }
    let manager = world.process_with(ManagerOptions::new().recovery(None).max_attempts(enough)).await;
    let report = manager.recover(options).await.unwrap();
    report.recovered.into_iter().map(|(_, outcome)| outcome).collect()
}

#[tokio::test(start_paused = true)]
async fn only_proven_deaths_of_owners_are_counted() {
    assert_eq!(outcome(1, true, true).await, [RecoveryOutcome::Failed]);
    assert_eq!(outcome(2, true, true).await, [RecoveryOutcome::Paused]);
    assert_eq!(outcome(0, true, true).await, [RecoveryOutcome::Paused], "0 never gives up");
    assert_eq!(outcome(1, true, false).await, [RecoveryOutcome::Paused], "nothing was proven");
    assert_eq!(outcome(1, false, true).await, [], "it had no owner yet");
}
