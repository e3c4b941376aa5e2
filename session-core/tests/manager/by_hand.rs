//! Sessions that a program drives by hand: its tasks hold them, and calls with their ids come from anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{World, until};
use crate::wrapper::{Overrides, Wrapped};
use async_trait::async_trait;
use session_core::backend::*;
use session_core::*;

fn config() -> SessionConfig {
    SessionConfig::new("test")
}

async fn started(manager: &InMemorySessionManager) -> Session {
    let id = manager.create_session(config()).await.unwrap();
    manager.start_session(id).await.unwrap()
}

/// Records what an observer receives.
#[derive(Debug, Default)]
struct Recorder {
    recovered: Mutex<Vec<(SessionId, RecoveryOutcome)>>,
    deleted: Mutex<Vec<SessionId>>,
}

impl SessionObserver for Recorder {
    fn on_event(&self, _: &EventContext, _: &SessionEvent) {}

    fn on_recovery(&self, report: &RecoveryReport) {
        self.recovered.lock().unwrap().extend(report.recovered.clone());
    }

    fn on_deleted(&self, id: SessionId) {
        self.deleted.lock().unwrap().push(id);
    }
}

#[tokio::test]
async fn observers_added_after_opening_get_its_recovery() {
    let world = World::default();
    let first = world.process().await;
    let session = started(&first).await;
    world.declare_dead(session.id()).await;
    let manager = world.process_with(ManagerOptions::new()).await;
    let recorder = Arc::new(Recorder::default());
    let observed = ObservableSessionManager::new(Arc::new(manager.clone()))
        .observe("late", Arc::clone(&recorder) as Arc<dyn SessionObserver>);
    observed.shutdown().await.unwrap();
    assert_eq!(*recorder.recovered.lock().unwrap(), [(session.id(), RecoveryOutcome::Paused)]);
    assert_eq!(observed.opening_recovery().unwrap().recovered.len(), 1);
}

#[tokio::test]
async fn a_deletion_reaches_observers() {
    let manager = InMemorySessionManager::new();
    let recorder = Arc::new(Recorder::default());
    let observed = ObservableSessionManager::new(Arc::new(manager))
        .observe("recorder", Arc::clone(&recorder) as Arc<dyn SessionObserver>);
    let id = observed.run(config(), async |_| Ok(())).await.unwrap().id;
    observed.delete_session(id).await.unwrap();
    let old = observed.run(config(), async |_| Ok(())).await.unwrap().id;
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(observed.cleanup(Some(Duration::ZERO)).await.unwrap(), [old]);
    observed.shutdown().await.unwrap();
    assert_eq!(*recorder.deleted.lock().unwrap(), [id, old]);
}

#[tokio::test(start_paused = true)]
async fn crashed_sessions_are_found_until_they_are_resumed() {
    let world = World::default();
    let first = world.process().await;
    let (crashed, asking, paused, limited) =
        (started(&first).await, started(&first).await, started(&first).await, started(&first).await);
    asking.pause(PauseReason::AwaitingInput("which?".to_owned())).await.unwrap();
    paused.pause(PauseReason::Requested("lunch".to_owned())).await.unwrap();
    limited.pause(PauseReason::Limit("budget".to_owned())).await.unwrap();
    let released = started(&first).await;
    released.interrupt(Evidence::Shutdown).await.unwrap();
    world.declare_dead(crashed.id()).await;

    // By id: sessions that were created within a millisecond have no other order.
    let found = |found: CrashedSessions| -> BTreeMap<SessionId, CrashedSession> {
        found.sessions.into_iter().map(|session| (session.head.id, session)).collect()
    };
    let expected = BTreeSet::from([crashed.id(), asking.id(), released.id()]);
    let unopened = world.process().await;
    let before = found(unopened.find_crashed_sessions().await.unwrap());
    assert_eq!(before.keys().copied().collect::<BTreeSet<_>>(), expected, "the others wait for a person");
    assert!(before[&crashed.id()].is_orphaned() && before[&asking.id()].is_orphaned());
    assert!(!before[&released.id()].is_orphaned());

    let manager = world.process_with(ManagerOptions::new()).await;
    let after = found(manager.find_crashed_sessions().await.unwrap());
    assert_eq!(
        after.keys().copied().collect::<BTreeSet<_>>(),
        expected,
        "opening has paused them, not resumed"
    );
    for (session, evidence, outcome) in [
        (&crashed, Evidence::LockReleased, Some(RecoveryOutcome::Paused)),
        (&asking, Evidence::LockReleased, Some(RecoveryOutcome::Paused)),
        (&released, Evidence::Shutdown, None),
    ] {
        let found = &after[&session.id()];
        assert_eq!((&found.evidence, &found.outcome), (&evidence, &outcome));
    }

    let _resumed = manager.resume_session(crashed.id()).await.unwrap();
    assert!(!found(manager.find_crashed_sessions().await.unwrap()).contains_key(&crashed.id()));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_session_is_interrupted() {
    let world = World::default();
    let manager = world.process().await;
    let session = started(&manager).await;
    let (id, token, clone) = (session.id(), session.cancellation(), session.clone());
    drop(session);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(manager.get_state(id).await.unwrap().name(), StateName::Running, "a handle is left");
    drop(clone);
    let head = until(&world, id, |head| head.lifecycle.owner.is_none()).await;
    assert_eq!((head.state().name(), head.deaths), (StateName::Paused, 0));
    assert!(token.is_cancelled());
    assert_eq!(manager.resume_session(id).await.unwrap().attempt(), 2);
}

/// The handle that a resume returned is as good as the first one.
#[tokio::test(start_paused = true)]
async fn a_handle_taken_while_the_last_is_dropped_keeps_it() {
    let world = World::default();
    let manager = world.process().await;
    let session = started(&manager).await;
    session.pause(PauseReason::Requested("wait".to_owned())).await.unwrap();
    let again = manager.resume_session(session.id()).await.unwrap();
    drop(session);
    tokio::time::sleep(Duration::from_secs(1)).await;
    again.checkpoint(&1).await.unwrap();
    again.complete(SessionSummary::new()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_pending_until_the_work_meets_it() {
    let world = World::default();
    let manager = world.process().await;
    let session = started(&manager).await;
    let id = session.id();
    let state = manager.pause_session(id, "lunch".to_owned()).await.unwrap();
    assert_eq!(state.name(), StateName::Running, "the work has not stopped yet");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(manager.get_state(id).await.unwrap().name(), StateName::Running);
    session.paused().await.unwrap();
    assert_eq!(manager.get_state(id).await.unwrap().name(), StateName::Paused);
    let waits = tokio::time::timeout(Duration::from_secs(60), session.resumed()).await;
    assert!(waits.is_err(), "nobody resumed it");
    manager.request_resume(id).await.unwrap();
    session.resumed().await.unwrap();
    assert_eq!(world.kinds(id).await[2..], ["pause_requested", "paused", "resume_requested", "resumed"]);
}

/// A program was stopped by a key and paused by a request at the same time: the record had the reason of the key, so the
/// program went on as soon as its job did.
#[tokio::test(start_paused = true)]
async fn a_pause_has_the_reason_of_a_pending_request() {
    let world = World::default();
    let session = started(&world.process().await).await;
    let other = world.process().await;
    other.pause_session(session.id(), "lunch".to_owned()).await.unwrap();
    session.pause(PauseReason::Requested("stopped from the terminal".to_owned())).await.unwrap();
    let requested = PauseReason::Requested("lunch".to_owned());
    assert_eq!(other.get_state(session.id()).await.unwrap(), SessionState::Paused { reason: requested });
}

/// Work that says late that it never makes a session call.
#[tokio::test(start_paused = true)]
async fn a_pending_request_follows_the_new_handling() {
    let world = World::default();
    let manager = world.process().await;
    let session = started(&manager).await;
    manager.pause_session(session.id(), "lunch".to_owned()).await.unwrap();
    session.set_request_handling(RequestHandling::Immediate);
    until(&world, session.id(), |head| head.state().name() == StateName::Paused).await;
}

#[tokio::test(start_paused = true)]
async fn calls_by_id_wait_and_end_like_those_by_handle() {
    let world = World::default();
    let manager = world.process().await;
    let session = started(&manager).await;
    let id = session.id();
    session.pause(PauseReason::Requested("wait".to_owned())).await.unwrap();
    let by_id = manager.record_event(id, SessionEvent::IterationStarted { number: 1 });
    let waiting = tokio::time::timeout(Duration::from_secs(60), by_id).await;
    assert!(waiting.is_err(), "as the handle, it waits for the resume");
    manager.complete_session(id, SessionSummary::new()).await.unwrap();
    assert_eq!(world.kinds(id).await[2..], ["paused", "resumed", "completed"]);
    assert_eq!(session.checkpoint(&1).await.unwrap_err().code(), ErrorCode::IllegalTransition);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_by_id_is_the_last_checkpoint() {
    let manager = InMemorySessionManager::new();
    let session = started(&manager).await;
    manager.save_checkpoint(session.id(), 3.into()).await.unwrap();
    assert_eq!(session.last_checkpoint().unwrap(), Some(3));
}

#[tokio::test(start_paused = true)]
async fn an_iteration_beyond_the_maximum_is_refused() {
    let manager = InMemorySessionManager::new();
    let id = manager.create_session(config().max_iterations(2)).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    for _ in 0..2 {
        session.start_iteration().await.unwrap();
        session.complete_iteration(Changes::default()).await.unwrap();
    }
    for error in [
        session.start_iteration().await.unwrap_err(),
        manager.record_event(id, SessionEvent::IterationStarted { number: 3 }).await.unwrap_err(),
    ] {
        assert_eq!(error.code(), ErrorCode::LimitExceeded, "{error}");
        assert!(error.to_string().contains("at most 2"), "{error}");
    }
    session.complete(SessionSummary::new()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn progress_of_all_owned_sessions_is_live() {
    let world = World::default();
    let manager = world.process().await;
    let first = started(&manager).await;
    first.progress().start(4);
    let mut changes = manager.watch_progress();
    let second = started(&manager).await;
    second.progress().start(2);
    second.progress().complete_step("half");
    let other = world.process().await;
    assert!(manager.progress(first.id()).is_some() && other.progress(first.id()).is_none());
    assert_eq!(manager.get_progress(second.id()).await.unwrap().percent, Some(50.0), "not yet in the log");
    assert_eq!(world.kinds(second.id()).await, ["created", "started"]);

    second.complete(SessionSummary::new()).await.unwrap();
    let mut last = BTreeMap::new();
    manager.shutdown().await.unwrap();
    while let Some((id, progress)) = changes.next().await {
        last.insert(id, (progress.state.name(), progress.total_steps));
    }
    assert_eq!(last[&second.id()], (StateName::Completed, Some(2)));
    assert_eq!(last[&first.id()].1, Some(4));
    assert!(manager.progress(first.id()).is_none());
}

#[tokio::test(start_paused = true)]
async fn events_end_after_the_final_record() {
    let world = World::default();
    let (manager, other) = (world.process().await, world.process().await);
    let session = started(&manager).await;
    let id = session.id();
    let follow = async {
        let (mut events, mut kinds) = (other.events(id, 1), Vec::new());
        while let Some(record) = events.next().await.unwrap() {
            kinds.push(record.event.kind().name());
        }
        assert!(events.next().await.unwrap().is_none(), "and stays at the end");
        kinds
    };
    let work = async {
        session.checkpoint(&1).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        session.complete(SessionSummary::new()).await.unwrap();
    };
    let (kinds, ()) = tokio::join!(follow, work);
    assert_eq!(kinds, ["started", "checkpoint_saved", "completed"]);
    let mut beyond = other.events(id, 99);
    assert_eq!(beyond.next().await.unwrap_err().code(), ErrorCode::Conflict);
}

#[tokio::test]
async fn sessions_are_listed_by_creation() {
    let manager = InMemorySessionManager::new();
    let mut created = Vec::new();
    for _ in 0..20 {
        created.push(manager.create_session(config()).await.unwrap());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let ids = |list: SessionList| list.heads.iter().map(|head| head.id).collect::<Vec<_>>();
    assert_eq!(ids(manager.list_active_sessions().await.unwrap()), created);
    assert_eq!(ids(manager.list_sessions(SessionFilter::all()).await.unwrap()), created);
    created.sort();
    let by_id = SessionFilter::all().order(ListOrder::Id);
    assert_eq!(ids(manager.list_sessions(by_id).await.unwrap()), created);
}

/// A counter as the file storage has one.
#[derive(Debug, Default)]
struct Counter(AtomicUsize);

#[async_trait]
impl NameCounter for Counter {
    async fn next(&self, _: &str) -> Option<u64> {
        Some(self.0.fetch_add(1, Ordering::SeqCst) as u64 + 1)
    }

    async fn counted(&self, _: &str, _: &BTreeMap<String, u64>) -> u64 {
        unreachable!("it always knows the next number")
    }

    async fn unused(&self, _: &str, number: u64) {
        let _ = self.0.compare_exchange(
            usize::try_from(number).unwrap(),
            usize::try_from(number).unwrap() - 1,
            Ordering::SeqCst,
            Ordering::SeqCst,
        );
    }

    async fn used(&self, _: &str, _: u64) {}
}

#[tokio::test]
async fn a_refused_creation_uses_up_no_name() {
    let options = ManagerOptions::new()
        .max_sessions(NonZeroUsize::MIN)
        .names(Arc::new(Counter::default()))
        .recovery(None);
    let manager = InMemorySessionManager::with_options(options);
    let id = manager.create_session(config().idempotency_key("one")).await.unwrap();
    for _ in 0..3 {
        assert_eq!(manager.create_session(config()).await.unwrap_err().code(), ErrorCode::MaxSessions);
    }
    assert_eq!(manager.create_session(config().idempotency_key("one")).await.unwrap(), id);
    manager.fail_session(id, Failure::new(FailureCause::Work, "free a place")).await.unwrap();
    let id = manager.create_session(config()).await.unwrap();
    let name = manager.get_head(id).await.unwrap().name;
    assert!(name.ends_with("-002"), "{name}");
}

#[tokio::test(start_paused = true)]
async fn a_second_call_with_a_running_key_says_who_runs_it() {
    let manager = InMemorySessionManager::new();
    let report = manager
        .run_or_resume("key", config(), async |_| {
            let error = manager.run_or_resume("key", config(), async |_| Ok(())).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::Conflict);
            assert!(error.to_string().contains("already run by this process"), "{error}");
            Ok(())
        })
        .await
        .unwrap();
    assert!(report.is_completed());
}

/// A storage that fails while a switch is on.
#[derive(Debug, Default)]
struct Unplugged {
    inner: MemoryStorage,
    gone: Arc<AtomicBool>,
}

#[async_trait]
impl Overrides for Unplugged {
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
        if self.gone.load(Ordering::SeqCst) {
            let source = Arc::new(std::io::Error::other("unplugged"));
            return Err(StorageError::Io { what: "cannot write".to_owned(), source });
        }
        self.inner.append(id, expected, batch, durability).await
    }
}

/// A refusal of a step that cannot be recorded when it happens is recorded with the end of the session, which fails.
#[tokio::test(start_paused = true)]
async fn a_refusal_that_was_not_recorded_fails_the_session() {
    let storage = Unplugged::default();
    let (gone, memory) = (Arc::clone(&storage.gone), storage.inner.clone());
    let options = ManagerOptions::new().recovery(None);
    let presence = Arc::new(ProcessPresence::default());
    let manager =
        PersistentSessionManager::open(Arc::new(Wrapped(storage)), presence, options).await.unwrap();
    let id = manager.create_session(config()).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    gone.store(true, Ordering::SeqCst);
    let refused = session.refuse_step("build", ErrorCode::StepChanged, "it changed").await;
    assert_eq!(refused.unwrap_err().code(), ErrorCode::StorageIo);
    gone.store(false, Ordering::SeqCst);
    session.complete(SessionSummary::new()).await.unwrap();
    assert_eq!(manager.get_state(id).await.unwrap().name(), StateName::Failed);
    let records = memory.records_after(id, 2).await.unwrap();
    let kinds: Vec<_> = records.iter().map(|record| record.decode().unwrap().event.kind()).collect();
    assert_eq!(kinds, [EventKind::StepRefused, EventKind::Failed]);
}

/// A storage that is lost ends nothing: each call says so, and the work continues once the storage is back.
#[tokio::test(start_paused = true)]
async fn lost_storage_is_an_error_of_the_call_only() {
    let storage = Unplugged::default();
    let gone = Arc::clone(&storage.gone);
    let options = ManagerOptions::new().recovery(None);
    let presence = Arc::new(ProcessPresence::default());
    let manager =
        PersistentSessionManager::open(Arc::new(Wrapped(storage)), presence, options).await.unwrap();
    let id = manager.create_session(config()).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    gone.store(true, Ordering::SeqCst);
    for error in [
        session.checkpoint(&1).await.unwrap_err(),
        session.complete(SessionSummary::new()).await.unwrap_err(),
        manager.cancel_session(id, CancelRequest::new("enough", "test")).await.map(drop).unwrap_err(),
    ] {
        assert_eq!(error.code(), ErrorCode::StorageIo, "{error}");
    }
    assert!(!session.cancellation().is_cancelled());
    gone.store(false, Ordering::SeqCst);
    session.checkpoint(&2).await.unwrap();
    session.complete(SessionSummary::new()).await.unwrap();
}

/// A release that fails is repeated: otherwise the session would look alive until its process ends.
#[tokio::test(start_paused = true)]
async fn a_dropped_session_is_interrupted_once_the_storage_is_back() {
    let storage = Unplugged::default();
    let gone = Arc::clone(&storage.gone);
    let options = ManagerOptions::new().recovery(None);
    let presence = Arc::new(ProcessPresence::default());
    let manager =
        PersistentSessionManager::open(Arc::new(Wrapped(storage)), presence, options).await.unwrap();
    let id = manager.create_session(config()).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    gone.store(true, Ordering::SeqCst);
    drop(session);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(manager.get_state(id).await.unwrap().name(), StateName::Running, "it cannot be written");
    gone.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let head = manager.get_head(id).await.unwrap();
    assert_eq!((head.state().name(), head.lifecycle.owner), (StateName::Paused, None));
}

/// A storage without a change feed, like that of files.
#[derive(Debug, Clone, Default)]
struct Silent(MemoryStorage);

impl Overrides for Silent {
    fn memory(&self) -> &MemoryStorage {
        &self.0
    }

    fn change_feed(&self) -> Option<Arc<dyn ChangeFeed>> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_by_another_manager_of_the_process_wakes_the_owner() {
    let (storage, presence) = (Silent::default(), Arc::new(ProcessPresence::default()));
    let open = async || {
        let options = ManagerOptions::new().recovery(None).poll_interval(Duration::from_secs(3600));
        let storage = Arc::new(Wrapped(storage.clone()));
        PersistentSessionManager::open(storage, Arc::clone(&presence) as Arc<dyn Presence>, options)
            .await
            .unwrap()
    };
    let (owner, other) = (open().await, open().await);
    let id = owner.create_session(config()).await.unwrap();
    let session = owner.start_session(id).await.unwrap();
    let began = tokio::time::Instant::now();
    other.cancel_session(id, CancelRequest::new("enough", "test")).await.unwrap();
    assert_eq!(session.cancellation().cancelled().await, "enough");
    assert!(began.elapsed() < Duration::from_secs(1), "it waited for the poll");
}
