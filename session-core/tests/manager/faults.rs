//! The engine over a failing storage: each append of a session's life fails once, in each way. Acknowledged events are
//! in the log exactly once, refused ones are not, and the session can be ended afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::World;
use crate::wrapper::{Overrides, Wrapped};
use async_trait::async_trait;
use session_core::backend::*;
use session_core::*;

/// The failure of one append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing was added, and the error says so.
    Refused,
    /// Nothing was added; the outcome is unknown.
    LostUnknown,
    /// It was added; the outcome is unknown.
    KeptUnknown,
    /// Another process appended first, with everything that any process may append.
    Overtaken,
    /// The caller dropped the future before it was added.
    DroppedBefore,
    /// The caller dropped the future after it was added.
    DroppedAfter,
}

const FAULTS: [Fault; 6] = [
    Fault::Refused,
    Fault::LostUnknown,
    Fault::KeptUnknown,
    Fault::Overtaken,
    Fault::DroppedBefore,
    Fault::DroppedAfter,
];

#[derive(Debug)]
struct Failing {
    inner: MemoryStorage,
    fault: Fault,
    /// Number of appends before the failing one.
    left: AtomicUsize,
    /// The process that takes the session over, if the rival does that.
    rival: Option<Owner>,
}

#[async_trait]
impl Overrides for Failing {
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
        if batch.is_empty() || self.left.fetch_sub(1, Ordering::SeqCst) != 1 {
            return self.inner.append(id, expected, batch, durability).await;
        }
        let source: Arc<dyn std::error::Error + Send + Sync> =
            Arc::new(std::io::Error::other("the disk is odd"));
        match self.fault {
            Fault::Refused => Err(StorageError::Io { what: "cannot write".to_owned(), source }),
            Fault::LostUnknown => Err(StorageError::OutcomeUnknown { id, source }),
            Fault::KeptUnknown => {
                self.inner.append(id, expected, batch, durability).await?;
                Err(StorageError::OutcomeUnknown { id, source })
            }
            Fault::Overtaken => {
                overtake(&self.inner, id, self.rival.as_ref()).await;
                self.inner.append(id, expected, batch, durability).await
            }
            Fault::DroppedBefore => std::future::pending().await,
            Fault::DroppedAfter => {
                self.inner.append(id, expected, batch, durability).await?;
                std::future::pending().await
            }
        }
    }
}

/// Appends, as another process would, everything that any process may append in the current state.
pub(crate) async fn overtake(storage: &MemoryStorage, id: SessionId, rival: Option<&Owner>) {
    let Some(head) = storage.head(id).await.unwrap() else { return };
    if let Some(rival) = rival {
        let interrupted = SessionEvent::Interrupted { evidence: Evidence::LockReleased };
        append(storage, &head, interrupted).await;
        let head = storage.head(id).await.unwrap().unwrap();
        return append(storage, &head, SessionEvent::Resumed { owner: rival.clone() }).await;
    }
    let by = "a stranger".to_owned();
    let event = match head.state() {
        SessionState::Running { .. } => SessionEvent::PauseRequested { reason: "later".to_owned(), by },
        SessionState::Paused { .. } => SessionEvent::ResumeRequested { by },
        SessionState::Created => SessionEvent::Noted { kind: "stranger.note".to_owned(), data: 1.into() },
        SessionState::Completed { .. } | SessionState::Failed { .. } | SessionState::Cancelled { .. } => {
            return;
        }
    };
    append(storage, &head, event).await;
}

/// Appends an event directly to the storage.
pub(crate) async fn append(storage: &MemoryStorage, head: &Head, event: SessionEvent) {
    let attempt = head.lifecycle.attempt_for(event.kind());
    let draft = UnsealedRecord { at: head.updated_at, attempt, flushed: head.flushed, event };
    let (stored, record) = Chain::at(head.id, head.tip).seal(draft).unwrap();
    let mut next = head.clone();
    next.apply(&record).unwrap();
    let batch = Batch::new(vec![stored], next);
    storage.append(head.id, Expected::At(head.tip), batch, Durability::Flushed).await.unwrap();
}

/// A call in a session's life, by the data that marks it in the log.
type Step = (&'static str, &'static [&'static str]);

const LIFE: [Step; 7] = [
    ("create", &["created"]),
    ("start", &["started"]),
    ("checkpoint", &["checkpoint_saved"]),
    ("pause", &["paused"]),
    ("resume", &["resumed"]),
    ("iterate", &["iteration_started"]),
    ("complete", &["completed"]),
];

async fn step(
    manager: &PersistentSessionManager<Wrapped<Failing>>,
    name: &str,
    id: SessionId,
    kept: &mut Vec<Session>,
) -> Result<(), SessionError> {
    match name {
        "create" => drop(manager.create_session(SessionConfig::new("test").idempotency_key("life")).await?),
        "start" => kept.push(immediate(manager.start_session(id).await?)),
        "checkpoint" => drop(manager.save_checkpoint(id, 1.into()).await?),
        "pause" => drop(manager.pause_session(id, "now".to_owned()).await?),
        "resume" => kept.push(immediate(manager.resume_session(id).await?)),
        "iterate" => drop(manager.record_event(id, SessionEvent::IterationStarted { number: 1 }).await?),
        "complete" => manager.complete_session(id, SessionSummary::new()).await?,
        other => unreachable!("{other}"),
    }
    Ok(())
}

fn immediate(session: Session) -> Session {
    session.set_request_handling(RequestHandling::Immediate);
    session
}

#[tokio::test(start_paused = true)]
async fn each_append_of_a_life_fails_once_in_each_way() {
    for fault in FAULTS {
        for nth in 1..=LIFE.len() {
            let case = format!("{fault:?} at append {nth}");
            let world = World::default();
            let storage = Arc::new(Wrapped(Failing {
                inner: world.storage.clone(),
                fault,
                left: AtomicUsize::new(nth),
                rival: None,
            }));
            // No poll and no progress: only the calls below append.
            let options =
                ManagerOptions::new().recovery(None).poll_interval(std::time::Duration::from_secs(3600));
            let manager =
                PersistentSessionManager::open(storage, Arc::new(world.clone()), options).await.unwrap();
            let id = SessionId::from_key("life");
            let mut kept = Vec::new();
            for (index, (name, kinds)) in LIFE.iter().enumerate() {
                let before = world.storage.head(id).await.unwrap().map_or(0, |head| head.tip.revision);
                let patience = std::time::Duration::from_secs(60);
                let result = tokio::time::timeout(patience, step(&manager, name, id, &mut kept)).await;
                let log: Vec<_> = if world.storage.head(id).await.unwrap().is_some() {
                    world.kinds(id).await.into_iter().skip(usize::try_from(before).unwrap()).collect()
                } else {
                    Vec::new()
                };
                let added = log.iter().filter(|kind| kinds.contains(kind)).count();
                match &result {
                    Ok(Ok(())) => assert_eq!(added, 1, "{case}: `{name}` was acknowledged: {log:?}"),
                    Ok(Err(error)) if error.code() == ErrorCode::OutcomeUnknown => {}
                    Ok(Err(error)) => {
                        assert_eq!(added, 0, "{case}: `{name}` was refused with {error}: {log:?}");
                    }
                    Err(_) => assert_eq!(
                        added,
                        usize::from(fault == Fault::DroppedAfter),
                        "{case}: `{name}` dropped"
                    ),
                }
                let failed = !matches!(result, Ok(Ok(())));
                assert!(
                    !failed || index + 1 >= nth,
                    "{case}: `{name}` failed before anything was wrong: {result:?}"
                );
                if fault == Fault::KeptUnknown || fault == Fault::LostUnknown {
                    let unsettled = index + 1 == nth && *name == "create" && fault == Fault::LostUnknown;
                    assert!(
                        !failed || unsettled || before == 0,
                        "{case}: `{name}` can be settled by a look: {result:?}"
                    );
                }
                // Repeat what was not done, as a caller would that checks first.
                if failed && added == 0 {
                    let again = step(&manager, name, id, &mut kept).await;
                    assert!(again.is_ok(), "{case}: `{name}` cannot be made good: {again:?}");
                } else if failed && *name == "start" {
                    // Started, and its caller is gone: the session is resumed.
                    let session = manager.resume_session(id).await;
                    kept.push(immediate(session.unwrap_or_else(|error| panic!("{case}: {error}"))));
                }
            }
            let head = world.storage.head(id).await.unwrap().unwrap();
            assert_eq!(head.state().name(), StateName::Completed, "{case}");
            let mut replayed = None;
            for stored in world.storage.records_after(id, 0).await.unwrap() {
                Head::fold(&mut replayed, id, &stored.decode().unwrap()).unwrap();
            }
            assert_eq!(replayed.unwrap(), head, "{case}");
        }
    }
}

/// A process resumed an orphan, lost the race to a rival, and the rival died immediately. The process took the orphan over
/// after all, and then treated the rival's `interrupted`, read on the way, as the loss of its own session. Records before
/// the takeover say nothing about it.
#[tokio::test(start_paused = true)]
async fn a_rival_that_took_over_and_died_does_not_cost_the_session() {
    let world = World::default();
    let dead = world.process().await;
    let id = dead.create_session(SessionConfig::new("test")).await.unwrap();
    let _session = dead.start_session(id).await.unwrap();
    world.declare_dead(id).await;
    // Never announced: its liveness is dead.
    let rival = Some(world.identify().unwrap());
    let storage =
        Failing { inner: world.storage.clone(), fault: Fault::Overtaken, left: AtomicUsize::new(1), rival };
    let options = ManagerOptions::new().recovery(None);
    let manager =
        PersistentSessionManager::open(Arc::new(Wrapped(storage)), Arc::new(world.clone()), options)
            .await
            .unwrap();
    let session = manager.resume_session(id).await.unwrap();
    assert_eq!(session.attempt(), 3, "the rival had the second");
    session.checkpoint(&1).await.unwrap();
    session.refresh().await.unwrap();
    session.checkpoint(&2).await.unwrap();
    session.complete(SessionSummary::new()).await.unwrap();
}

/// The same rival, alive. The owner was determined before the rival appended, and has to be determined again: an orphan
/// that was taken over is not an orphan.
#[tokio::test(start_paused = true)]
async fn a_rival_that_took_over_and_lives_keeps_the_session() {
    let world = World::default();
    let dead = world.process().await;
    let id = dead.create_session(SessionConfig::new("test")).await.unwrap();
    let _session = dead.start_session(id).await.unwrap();
    world.declare_dead(id).await;
    let mut rival = world.identify().unwrap();
    let _alive = world.announce(&mut rival).await.unwrap();
    let storage = Failing {
        inner: world.storage.clone(),
        fault: Fault::Overtaken,
        left: AtomicUsize::new(1),
        rival: Some(rival.clone()),
    };
    let options = ManagerOptions::new().recovery(None);
    let manager =
        PersistentSessionManager::open(Arc::new(Wrapped(storage)), Arc::new(world.clone()), options)
            .await
            .unwrap();
    assert_eq!(manager.resume_session(id).await.unwrap_err().code(), ErrorCode::Conflict);
    let head = world.storage.head(id).await.unwrap().unwrap();
    assert_eq!(head.lifecycle.owner.unwrap().instance, rival.instance);
    assert_eq!(world.kinds(id).await, ["created", "started", "interrupted", "resumed"]);
}
