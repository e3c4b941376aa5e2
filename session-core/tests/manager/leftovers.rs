//! The end of a session that lost its owner is recorded, and its log deleted, only once nothing of its work is left.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::World;
use async_trait::async_trait;
use session_core::backend::{Leftovers, SessionStorage as _};
use session_core::*;

/// Processes of sessions that end only if the test lets them. Keeps the last event of the log at each call.
#[derive(Debug, Default)]
struct Processes {
    world: World,
    end: AtomicBool,
    last_events: Mutex<Vec<&'static str>>,
}

impl Processes {
    fn last_events(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.last_events.lock().unwrap())
    }
}

#[async_trait]
impl Leftovers for Processes {
    async fn end(&self, id: SessionId) -> Result<()> {
        let last = self.world.kinds(id).await.pop().unwrap();
        self.last_events.lock().unwrap().push(last);
        let error = SessionError::StillRunning { id, processes: vec![4711] };
        if self.end.load(Ordering::SeqCst) { Ok(()) } else { Err(error) }
    }
}

/// A call that ends a session without an owner, or deletes it.
#[derive(Debug, Clone, Copy)]
enum Call {
    Cancel,
    CancelLost,
    Fail,
    Recover,
    Delete,
}

impl Call {
    const ALL: [Self; 5] = [Self::Cancel, Self::CancelLost, Self::Fail, Self::Recover, Self::Delete];

    async fn make(self, manager: &InMemorySessionManager, id: SessionId) -> Result<()> {
        let request = || CancelRequest::new("enough", "me");
        match self {
            Self::Cancel => manager.cancel_session(id, request()).await.map(drop),
            Self::CancelLost => {
                let later = Timestamp::from_millis(32_503_680_000_000).expect("the year 3000");
                manager.cancel_lost_session(id, later, request()).await.map(drop)
            }
            Self::Fail => manager.fail_session(id, Failure::new(FailureCause::Work, "no")).await,
            Self::Recover => {
                let options = RecoveryOptions::new(RecoveryPolicy::Fail).only(id);
                let failed = manager.recover(options).await?.failed.into_iter().next();
                failed.map_or(Ok(()), |(_, error)| Err(error))
            }
            Self::Delete => manager.delete_session(id).await,
        }
    }
}

async fn world() -> (World, Arc<Processes>, InMemorySessionManager) {
    let world = World::default();
    let processes = Arc::new(Processes { world: world.clone(), ..Processes::default() });
    let leftovers = Arc::<Processes>::clone(&processes);
    let manager = world.process_with(ManagerOptions::new().recovery(None).leftovers(leftovers)).await;
    (world, processes, manager)
}

async fn running(world: &World) -> Session {
    let owner = world.process().await;
    let id = owner.create_session(SessionConfig::new("test")).await.unwrap();
    owner.start_session(id).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_end_is_recorded_when_nothing_is_left() {
    for call in Call::ALL {
        let (world, processes, manager) = world().await;
        let session = running(&world).await;
        world.declare_dead(session.id()).await;
        let before = world.log(session.id()).await;

        let error = call.make(&manager, session.id()).await.expect_err("processes are left");
        assert_eq!(error.code(), ErrorCode::Conflict, "{call:?}");
        assert!(error.to_string().ends_with("could not be ended: pid 4711"), "{call:?}: {error}");
        assert_eq!(world.log(session.id()).await, before, "{call:?}");
        assert_eq!(processes.last_events(), ["started"], "{call:?}");

        processes.end.store(true, Ordering::SeqCst);
        call.make(&manager, session.id()).await.unwrap();
        assert_eq!(processes.last_events(), ["started"], "{call:?}: before anything is recorded");
        let head = world.storage.head(session.id()).await.unwrap();
        assert!(head.is_none_or(|head| head.state().is_final()), "{call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_with_a_living_owner_keeps_its_processes() {
    for call in Call::ALL {
        let (world, processes, manager) = world().await;
        let session = running(&world).await;
        let _ = call.make(&manager, session.id()).await;
        assert_eq!(processes.last_events(), [""; 0], "{call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_orphan_may_have_processes_a_new_session_none() {
    for call in [Call::Cancel, Call::CancelLost, Call::Fail, Call::Delete] {
        let (world, processes, manager) = world().await;
        processes.end.store(true, Ordering::SeqCst);
        let session = running(&world).await;
        world.declare_dead(session.id()).await;
        manager.recover(RecoveryOptions::new(RecoveryPolicy::Pause)).await.unwrap();
        assert_eq!(processes.last_events(), [""; 0], "{call:?}: a pause is no end");
        call.make(&manager, session.id()).await.unwrap();
        assert_eq!(processes.last_events(), ["interrupted"], "{call:?}");
        let id = manager.create_session(SessionConfig::new("new")).await.unwrap();
        let _ = call.make(&manager, id).await;
        assert_eq!(processes.last_events(), [""; 0], "{call:?}: it never ran");
    }
}
