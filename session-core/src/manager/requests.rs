//! Changes to a session by its id: the appended events depend on the owner of the session.

use std::sync::Arc;

use super::engine::Engine;
use super::finish::finish;
use super::locked_session::LockedSession;
use super::ownership::OwnerStatus;
use super::request_handling::RequestHandling;
use super::session::Session;
use super::work_events::{check_work_event, durability_of};
use crate::error::{Result, SessionError};
use crate::event::{EventKind, Role, SessionEvent};
use crate::head::Head;
use crate::id::SessionId;
use crate::machine::{CancelRequest, Lifecycle, SessionState, StateName, TransitionError};
use crate::presence::Liveness;
use crate::reason::{Failure, PauseReason, SessionSummary};
use crate::record::Tip;
use crate::storage::{Durability, StorageError};
use crate::time::Timestamp;

/// Appends to a session, whichever process owns it: `here` decides if this manager owns it, else `elsewhere`, which
/// receives the owner.
async fn change(
    engine: &Engine,
    id: SessionId,
    here: impl Fn(&Head, RequestHandling) -> Result<Vec<SessionEvent>> + Send + Sync,
    elsewhere: impl Fn(&Head, &OwnerStatus) -> Result<Vec<SessionEvent>> + Send + Sync,
) -> Result<Head> {
    engine.check_open()?;
    let mut session = LockedSession::lock(engine, id).await;
    if let Some(owned) = session.owned().map(Arc::clone) {
        let request_handling = owned.request_handling();
        let result = session.append_as_owner(Durability::Flushed, |head| here(head, request_handling)).await;
        match result {
            // Another process took or ended the session in the meantime: continue as for a session that is not ours.
            Err(error) if session.owned().is_none() && !matches!(error, SessionError::Storage(_)) => {}
            result => {
                result?;
                return Ok(owned.view().borrow().clone());
            }
        }
    }
    Ok(session.append_as_claimant(elsewhere).await?.head)
}

/// Appends steps that a session takes over. They are durable with its start, without which they have no effect.
pub(super) async fn inherit(
    engine: &Engine,
    id: SessionId,
    after: Tip,
    events: Vec<SessionEvent>,
) -> Result<Tip> {
    engine.check_open()?;
    let is_inherited =
        |kind| matches!(kind, EventKind::Inherited | EventKind::StepValue | EventKind::ItemValue);
    if let Some(other) = events.iter().find(|event| !is_inherited(event.kind())) {
        return Err(SessionError::InvalidArgument { what: format!("`{}` is not inherited", other.kind()) });
    }
    let decide = |head: &Head| {
        if head.state().name() == StateName::Created {
            // A record in between would give each part of a value to another step.
            let moved = StorageError::Conflict { id, expected: Some(after), actual: Some(head.tip) };
            return if head.tip == after { Ok(events.clone()) } else { Err(moved.into()) };
        }
        // The machine allows a `step_value` later too, but that is one of a step of the owner.
        let (state, allowed) = (Some(head.state().name()), Lifecycle::allowed(Some(&head.lifecycle)));
        let source = TransitionError::IllegalTransition { state, event: EventKind::Inherited, allowed };
        Err(SessionError::Transition { id, source })
    };
    let mut session = LockedSession::lock(engine, id).await;
    Ok(session.append(Durability::Buffered, decide).await?.head.tip)
}

/// Appends events that only the owner may append to a session that this manager does not own: fails with the error of
/// the state machine if the state does not allow the events for any process, else with `FENCED`. A note in an unowned
/// session is allowed.
async fn append_unowned(
    session: &mut LockedSession<'_>,
    durability: Durability,
    events: &[SessionEvent],
) -> Result<Tip> {
    let decide = |head: &Head| {
        let id = head.id;
        // A program's result is appended by the recovery, not by a call.
        let claimant_may_append = |event: &SessionEvent| {
            event.kind().role() == Role::OwnerOrClaimant && event.kind() != EventKind::Completed
        };
        match (&head.lifecycle.owner, head.state().name()) {
            (Some(owner), _) => Err(SessionError::Fenced { id, what: format!("{owner} owns it") }),
            (None, StateName::Paused) if !events.iter().all(claimant_may_append) => {
                Err(SessionError::Fenced { id, what: "no process owns it: resume it first".to_owned() })
            }
            (None, _) => Ok(events.to_vec()),
        }
    };
    Ok(session.append(durability, decide).await?.head.tip)
}

/// Appends an event of the work, as its handle would. Needs ownership, except for a note in an unowned session.
pub(crate) async fn record(engine: &Arc<Engine>, id: SessionId, event: SessionEvent) -> Result<Tip> {
    check_work_event(event.kind())?;
    engine.check_open()?;
    let mut locked = LockedSession::lock(engine, id).await;
    if let Some(owned) = locked.owned() {
        let session = Session::new(Arc::clone(engine), Arc::clone(owned));
        drop(locked);
        return session.record(event).await;
    }
    append_unowned(&mut locked, durability_of(&event), &[event]).await
}

/// Requests a pause.
pub(crate) async fn pause(engine: &Engine, id: SessionId, reason: String) -> Result<SessionState> {
    let request = SessionEvent::PauseRequested { reason: reason.clone(), by: engine.identity.requester() };
    let here = |_: &Head, request_handling: RequestHandling| {
        let paused = SessionEvent::Paused { reason: PauseReason::Requested(reason.clone()) };
        Ok(vec![if request_handling.manager_pauses() { paused } else { request.clone() }])
    };
    let head = change(engine, id, here, |_, _| Ok(vec![request.clone()])).await?;
    Ok(head.state().clone())
}

/// Appends a request that its owner answers, whichever process that is.
pub(crate) async fn request(engine: &Engine, id: SessionId, request: SessionEvent) -> Result<Head> {
    let request = || Ok(vec![request.clone()]);
    change(engine, id, |_, _| request(), |_, _| request()).await
}

/// Appends an answer, if no question or answer came after the revision `known`.
pub(super) async fn answer(
    engine: &Engine,
    id: SessionId,
    known: u64,
    answered: SessionEvent,
) -> Result<Tip> {
    let decide = |head: &Head| {
        if head.waits.changed == known || head.state().is_final() {
            return Ok(vec![answered.clone()]);
        }
        Err(StorageError::Conflict { id, expected: None, actual: Some(head.tip) }.into())
    };
    Ok(change(engine, id, |head, _| decide(head), |head, _| decide(head)).await?.tip)
}

/// Cancels a session, or requests it.
pub(crate) async fn cancel(engine: &Engine, id: SessionId, request: CancelRequest) -> Result<SessionState> {
    let force = request.force;
    let [asked, cancelled] = cancel_events(engine, request);
    let here = |_: &Head, request_handling: RequestHandling| {
        let answer = request_handling.manager_cancels(force).then(|| cancelled.clone());
        Ok([asked.clone()].into_iter().chain(answer).collect())
    };
    let elsewhere = |head: &Head, owner_status: &OwnerStatus| {
        Ok(match owner_status {
            OwnerStatus::Foreign { .. } => vec![asked.clone()],
            OwnerStatus::Unowned | OwnerStatus::Mine | OwnerStatus::Orphaned(_) => {
                cancel_unowned(head, &asked, &cancelled)
            }
        })
    };
    engine.end_leftovers(id).await?;
    let head = change(engine, id, here, elsewhere).await?;
    Ok(head.state().clone())
}

/// Returns the request of a cancellation, and its effect.
fn cancel_events(engine: &Engine, request: CancelRequest) -> [SessionEvent; 2] {
    let CancelRequest { reason, by, force } = request;
    let by = if by.is_empty() { engine.identity.requester() } else { by };
    let asked = SessionEvent::CancelRequested { reason: reason.clone(), by, force };
    [asked, SessionEvent::Cancelled { reason }]
}

/// Returns the events that cancel a session without an owner. A program that had ended before keeps its own result.
fn cancel_unowned(head: &Head, asked: &SessionEvent, cancelled: &SessionEvent) -> Vec<SessionEvent> {
    match head.lifecycle.ending_of_program() {
        Some(result) => vec![result],
        None => vec![asked.clone(), cancelled.clone()],
    }
}

/// Cancels a session that has lost its owner and got no event since `before`. Returns `None` if it is not such a
/// session.
pub(crate) async fn cancel_lost(
    engine: &Engine,
    id: SessionId,
    before: Timestamp,
    request: CancelRequest,
) -> Result<Option<SessionState>> {
    engine.check_open()?;
    let [asked, cancelled] = cancel_events(engine, request);
    engine.end_leftovers(id).await?;
    let mut session = LockedSession::lock(engine, id).await;
    if session.owned().is_some() {
        return Ok(None);
    }
    // The death of a process is final, so this holds for every later head that names it.
    let dead_creator = match engine.writer.head(id).await?.creator {
        Some(creator) if matches!(engine.identity.liveness(&creator).await?, Liveness::Dead { .. }) => {
            Some(creator.instance)
        }
        _ => None,
    };
    let mut is_lost = false;
    let decide = |head: &Head, owner_status: &OwnerStatus| {
        is_lost = head.updated_at < before
            && match head.state() {
                SessionState::Created => {
                    head.creator.as_ref().is_some_and(|creator| Some(creator.instance) == dead_creator)
                }
                SessionState::Running { .. } => matches!(owner_status, OwnerStatus::Orphaned(_)),
                SessionState::Paused { reason } => matches!(reason, PauseReason::Interrupted(_)),
                SessionState::Completed { .. }
                | SessionState::Failed { .. }
                | SessionState::Cancelled { .. } => false,
            };
        Ok(if is_lost { cancel_unowned(head, &asked, &cancelled) } else { Vec::new() })
    };
    let tail = session.append_as_claimant(decide).await?;
    Ok(is_lost.then(|| tail.head.state().clone()))
}

/// Ends a session as failed.
pub(crate) async fn fail(engine: &Engine, id: SessionId, error: Failure) -> Result<()> {
    let failed = || Ok(vec![SessionEvent::Failed { error: error.clone() }]);
    let elsewhere = |head: &Head, owner_status: &OwnerStatus| {
        owner_status.check_unowned(head)?;
        failed()
    };
    engine.end_leftovers(id).await?;
    change(engine, id, |_, _| failed(), elsewhere).await?;
    Ok(())
}

/// Ends a session as completed, as its handle would. Needs ownership.
pub(crate) async fn complete(engine: &Engine, id: SessionId, summary: SessionSummary) -> Result<()> {
    engine.check_open()?;
    let completed = [SessionEvent::Completed { summary }];
    let mut locked = LockedSession::lock(engine, id).await;
    if locked.owned().is_some() {
        return finish(engine, &mut locked, &completed).await;
    }
    append_unowned(&mut locked, Durability::Flushed, &completed).await?;
    Ok(())
}
