//! Delivery to observers of a real manager: each fact once, in order, after its flush, regardless of other observers.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::World;
use crate::wrapper::{Overrides, Wrapped};
use async_trait::async_trait;
use session_core::backend::*;
use session_core::*;

/// A storage that records up to where each log was flushed, and which records claim more than that.
#[derive(Debug, Clone, Default)]
struct Flushes {
    inner: MemoryStorage,
    flushed: Arc<Mutex<HashMap<SessionId, u64>>>,
    claimed: Arc<Mutex<Vec<(SessionId, u64)>>>,
}

impl Flushes {
    fn upto(&self, id: SessionId) -> u64 {
        self.flushed.lock().unwrap().get(&id).copied().unwrap_or(0)
    }
}

#[async_trait]
impl Overrides for Flushes {
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
        let upto = self.upto(id);
        let beyond = |record: &&StoredRecord| record.decode().unwrap().envelope.flushed > upto;
        let claims: Vec<u64> =
            batch.load()?.iter().filter(beyond).map(session_core::StoredRecord::revision).collect();
        let tip = self.inner.append(id, expected, batch, durability).await?;
        self.claimed.lock().unwrap().extend(claims.into_iter().map(|revision| (id, revision)));
        if durability == Durability::Flushed {
            self.flushed.lock().unwrap().insert(id, tip.revision);
        }
        Ok(tip)
    }
}

/// A sink that records what it receives, and whether that was flushed by then.
#[derive(Debug, Default)]
struct Recorder {
    flushed: Arc<Mutex<HashMap<SessionId, u64>>>,
    received: Mutex<Vec<(SessionId, u64, EventKind)>>,
    early: Mutex<Vec<(SessionId, u64)>>,
    recoveries: Mutex<usize>,
    deleted: Mutex<Vec<SessionId>>,
}

impl EventSink for Recorder {
    fn event(&self, context: &EventContext, event: &Arc<SessionEvent>) {
        let flushed = self.flushed.lock().unwrap().get(&context.session).copied().unwrap_or(0);
        if context.revision > flushed {
            self.early.lock().unwrap().push((context.session, context.revision));
        }
        self.received.lock().unwrap().push((context.session, context.revision, event.kind()));
    }

    fn recovered(&self, _report: &RecoveryReport) {
        *self.recoveries.lock().unwrap() += 1;
    }

    fn deleted(&self, id: SessionId) {
        self.deleted.lock().unwrap().push(id);
    }
}

#[tokio::test(start_paused = true)]
async fn facts_are_delivered_once_in_order_after_their_flush() {
    let storage = Wrapped::<Flushes>::default();
    let mut world = World::default();
    world.storage = storage.inner.clone();
    let presence = Arc::new(world.clone());
    let options = ManagerOptions::new().progress_interval(Duration::from_millis(1));
    let manager = PersistentSessionManager::open(
        Arc::new(storage.clone()),
        Arc::clone(&presence) as Arc<dyn Presence>,
        options,
    )
    .await
    .unwrap();
    let recorder = Arc::new(Recorder { flushed: Arc::clone(&storage.flushed), ..Recorder::default() });
    manager.add_sink(Arc::clone(&recorder) as Arc<dyn EventSink>);
    assert_eq!(*recorder.recoveries.lock().unwrap(), 1, "the recovery on open is delivered as well");
    let other = PersistentSessionManager::open(Arc::new(storage.clone()), presence, ManagerOptions::new())
        .await
        .unwrap();

    let report = manager
        .run(SessionConfig::new("test"), async |session| {
            for step in 0..50 {
                session.progress().complete_step(format!("step {step}"));
                tokio::time::sleep(Duration::from_millis(2)).await;
                if step % 10 == 0 {
                    session.checkpoint(&step).await?;
                    other.pause_session(session.id(), "breathe".to_owned()).await?;
                    let resume = other.clone();
                    let id = session.id();
                    tokio::spawn(async move {
                        while resume.get_state(id).await.is_ok_and(|state| state.name() != StateName::Paused)
                        {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        resume.request_resume(id).await
                    });
                    session.checkpoint(&step).await?;
                }
            }
            Ok(())
        })
        .await
        .unwrap();
    let id = report.id;
    assert!(report.is_completed());
    let log: Vec<_> = storage
        .records_after(id, 0)
        .await
        .unwrap()
        .iter()
        .map(|stored| stored.decode().unwrap())
        .map(|record| (id, record.envelope.seq, record.event.kind()))
        .collect();
    assert!(log.iter().any(|(_, _, kind)| *kind == EventKind::ProgressReported), "{log:?}");
    assert!(log.iter().any(|(_, _, kind)| *kind == EventKind::ResumeRequested), "{log:?}");
    assert_eq!(*recorder.received.lock().unwrap(), log);
    assert_eq!(*recorder.early.lock().unwrap(), []);
    assert_eq!(*storage.claimed.lock().unwrap(), [], "no record says that more is flushed than is");
}

/// A caller may rely on an acknowledged call after power loss; progress alone is only buffered.
#[tokio::test(start_paused = true)]
async fn acknowledged_calls_are_flushed() {
    let storage = Wrapped::<Flushes>::default();
    let mut world = World::default();
    world.storage = storage.inner.clone();
    let manager =
        PersistentSessionManager::open(Arc::new(storage.clone()), Arc::new(world), ManagerOptions::new())
            .await
            .unwrap();
    let id = manager.create_session(SessionConfig::new("test")).await.unwrap();
    let flushed = async |what: &str| {
        assert_eq!(storage.upto(id), manager.get_head(id).await.unwrap().tip.revision, "{what}");
    };
    flushed("created").await;
    let session = manager.start_session(id).await.unwrap();
    flushed("started").await;
    session.start_iteration().await.unwrap();
    flushed("an iteration started").await;
    session.complete_iteration(Changes::default()).await.unwrap();
    flushed("an iteration completed").await;
    session.checkpoint(&7).await.unwrap();
    flushed("a checkpoint").await;
    manager.save_checkpoint(id, 8.into()).await.unwrap();
    flushed("a checkpoint by the id").await;
    session.note("test.note", 1.into(), Durability::Flushed).await.unwrap();
    flushed("a note that was to be").await;
    manager.pause_session(id, "wait".to_owned()).await.unwrap();
    flushed("a pause was requested").await;
    session.paused().await.unwrap();
    flushed("paused").await;
    let _session = manager.resume_session(id).await.unwrap();
    flushed("resumed").await;
    let report = ProgressReport::new().percent(50.0);
    session.record(SessionEvent::ProgressReported { report }).await.unwrap();
    assert!(storage.upto(id) < manager.get_head(id).await.unwrap().tip.revision, "progress is buffered");
    session.complete(SessionSummary::new()).await.unwrap();
    flushed("completed").await;
}

#[tokio::test(start_paused = true)]
async fn buffered_progress_is_delivered_within_the_autosave_interval() {
    let storage = Wrapped::<Flushes>::default();
    let mut world = World::default();
    world.storage = storage.inner.clone();
    let manager =
        PersistentSessionManager::open(Arc::new(storage.clone()), Arc::new(world), ManagerOptions::new())
            .await
            .unwrap();
    let recorder = Arc::new(Recorder { flushed: Arc::clone(&storage.flushed), ..Recorder::default() });
    manager.add_sink(Arc::clone(&recorder) as Arc<dyn EventSink>);
    let id = manager.create_session(SessionConfig::new("test")).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    session.progress().complete_step("only");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        manager.get_head(id).await.unwrap().progress.completed_steps,
        Some(1),
        "it is in the log immediately"
    );
    assert_eq!(recorder.received.lock().unwrap().len(), 2, "and nothing is delivered before its flush");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(recorder.received.lock().unwrap().last().unwrap().2, EventKind::ProgressReported);
    assert_eq!(*recorder.early.lock().unwrap(), []);
}

struct Noting {
    received: Mutex<Vec<u64>>,
    harm: fn(),
}

impl SessionObserver for Noting {
    fn on_event(&self, context: &EventContext, _event: &SessionEvent) {
        (self.harm)();
        self.received.lock().unwrap().push(context.revision);
    }
}

/// 10,000 events through eight observers, of which one is slow, one always panics and one never returns.
#[tokio::test]
async fn bad_observers_are_named_and_harm_no_other() {
    let manager = InMemorySessionManager::new();
    let noting = |harm: fn()| Arc::new(Noting { received: Mutex::default(), harm });
    let healthy: Vec<_> = (0..5).map(|_| noting(|| {})).collect();
    let slow = noting(|| std::thread::sleep(Duration::from_millis(1)));
    let panicking = noting(|| panic!("an observer that panics"));
    let stuck = noting(|| {
        loop {
            std::thread::park();
        }
    });
    let mut observed = ObservableSessionManager::new(manager.to_shared())
        .queue(NonZeroUsize::new(16_384).unwrap())
        .grace(Duration::from_millis(100));
    for (index, observer) in healthy.iter().enumerate() {
        observed =
            observed.observe(&format!("healthy-{index}"), Arc::clone(observer) as Arc<dyn SessionObserver>);
    }
    observed = observed
        .queue(NonZeroUsize::new(64).unwrap())
        .observe("slow", slow)
        .observe("panicking", panicking)
        .observe("stuck", stuck);

    let id = observed.create_session(SessionConfig::new("test")).await.unwrap();
    let session = observed.start_session(id).await.unwrap();
    for number in 0..9_997u64 {
        session.note("test.event", number.into(), Durability::Flushed).await.unwrap();
    }
    session.complete(SessionSummary::new()).await.unwrap();
    observed.shutdown().await.unwrap();

    let expected: Vec<u64> = (1..=10_000).collect();
    // Each thread has its own pace: the bound only ends a test that would never pass.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    for observer in &healthy {
        while observer.received.lock().unwrap().len() < expected.len() && std::time::Instant::now() < deadline
        {
            std::thread::yield_now();
        }
        assert_eq!(*observer.received.lock().unwrap(), expected);
    }
    for report in observed.health() {
        let bad = ["slow", "panicking", "stuck"].contains(&report.name.as_str());
        let harmed = report.missed > 0 || report.panics > 0;
        assert_eq!(harmed, bad, "{report:?}");
    }
}
