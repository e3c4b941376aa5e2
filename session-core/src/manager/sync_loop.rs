//! The task that synchronizes an owned session with its log.

use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::engine::Engine;
use super::locked_session::LockedSession;
use super::owned_session::OwnedSession;
use super::request_handling::RequestHandling;
use crate::error::Result;
use crate::event::SessionEvent;
use crate::machine::SessionState;
use crate::reason::PauseReason;
use crate::storage::{Durability, SessionStorageExt as _};

/// Synchronizes an owned session with its log until it is over: writes reported progress, flushes buffered records
/// after the autosave interval, reads the records of other processes, and handles resume requests.
///
/// It keeps only weak references while it waits, so that ownership ends with the last handle of the manager.
pub(crate) async fn sync_loop(engine: Weak<Engine>, owned: Weak<OwnedSession>) {
    let mut next_progress = Instant::now();
    loop {
        let (Some(engine), Some(owned)) = (engine.upgrade(), owned.upgrade()) else { return };
        if owned.is_over() {
            return;
        }
        let seen = owned.view().borrow().tip;
        let poll = engine.intervals.poll;
        let running = matches!(owned.view().borrow().state(), SessionState::Running { .. });
        let storage = Arc::clone(engine.storage());
        let interval = engine.intervals.progress;
        let id = owned.id;
        let reported = owned.progress.clone();
        let weak_owned = Arc::downgrade(&owned);
        let weak_engine = Arc::downgrade(&engine);
        // Release both while waiting.
        drop((engine, owned));
        let tick = tokio::select! {
            () = async {
                reported.pending_changed().await;
                tokio::time::sleep_until(next_progress).await;
            }, if running => Tick::Progress,
            () = storage.changed(id, seen, poll) => Tick::Poll,
            () = woken(&weak_owned) => Tick::Poll,
        };
        drop(reported);
        let (Some(engine), Some(owned)) = (weak_engine.upgrade(), weak_owned.upgrade()) else { return };
        // Boxed, so that the future of a waiting session stays small.
        let result = Box::pin(perform(&engine, &owned, tick)).await;
        if matches!(tick, Tick::Progress) {
            next_progress = Instant::now() + interval;
        }
        if let Err(error) = result
            && !owned.is_over()
        {
            tracing::warn!(session = %id, %error, code = %error.code(), "sync with the log failed, will retry");
            drop((engine, owned));
            tokio::time::sleep(poll).await;
        }
    }
}

async fn woken(owned: &Weak<OwnedSession>) {
    // Held while waiting: after its last handle is dropped, an owned session exists only until the next poll.
    match owned.upgrade() {
        Some(owned) => owned.woken().await,
        None => std::future::pending().await,
    }
}

#[derive(Debug, Clone, Copy)]
enum Tick {
    Progress,
    Poll,
}

async fn perform(engine: &Engine, owned: &Arc<OwnedSession>, tick: Tick) -> Result<()> {
    let mut session = LockedSession::lock(engine, owned.id).await;
    if session.owned().is_none_or(|current| !Arc::ptr_eq(current, owned)) {
        return Ok(());
    }
    match tick {
        Tick::Progress => {
            session.append_as_owner(Durability::Buffered, |_| Ok(Vec::new())).await?;
        }
        Tick::Poll => session.poll().await?,
    }
    let Some(tail) = session.tail() else { return Ok(()) };
    if tail.unflushed_since.is_some_and(|since| since.elapsed() >= engine.intervals.autosave) {
        session.append_as_owner(Durability::Flushed, |_| Ok(Vec::new())).await?;
    }
    resume_if_requested(engine, &mut session).await
}

/// Resumes work that is blocked in a session call, once a resume was requested. Work that awaits input is woken by
/// the input only.
async fn resume_if_requested(engine: &Engine, session: &mut LockedSession<'_>) -> Result<()> {
    let (Some(owned), Some(tail)) = (session.owned(), session.tail()) else { return Ok(()) };
    let requested = tail.head.lifecycle.requests.resume.is_some();
    let waits = matches!(
        tail.head.state(),
        SessionState::Paused { reason } if !matches!(reason, PauseReason::AwaitingInput(_))
    );
    if !(requested && waits) || owned.request_handling() == RequestHandling::External {
        return Ok(());
    }
    let me = engine.identity.me().await?.clone();
    session
        .append_as_owner(Durability::Flushed, |head| {
            let still = matches!(head.state(), SessionState::Paused { .. });
            Ok(if still { vec![SessionEvent::Resumed { owner: me.clone() }] } else { Vec::new() })
        })
        .await?;
    Ok(())
}
