//! `why`: explains the state of a session, with the evidence and the command to type next.

use std::fmt::Write as _;

use serde::Serialize;
use sessionkit::log::{PersistedSession, Timestamp};
use sessionkit::manager::Liveness;
use sessionkit::{Head, SessionId, SessionManager, SessionState};

use crate::advice::{Advice, advise_loaded};
use crate::args::Why;
use crate::attachable_terminals::AttachableTerminals;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::render::{TimelineItem, page, timeline_item};
use crate::session_worktree::{self, Disk};
use crate::status::{Status, status};
use crate::step_summary::StepSummary;
use crate::waits::{OpenQuestion, open_questions};
use crate::{hints, ids, json};

/// Records read at a time.
const PAGE: usize = 512;
const UNKNOWN_LIVENESS: &str = "of unknown liveness: nothing here can prove it alive or dead";
/// Limit of timeline items; the newest are shown.
const MAX_ITEMS: usize = 20;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    id: SessionId,
    name: &'a str,
    /// The same status as in `show`.
    status: &'static str,
    /// The explanation, in sentences.
    verdict: &'a str,
    owner: Option<OwnerJson<'a>>,
    /// The timeline, limited to its newest items.
    story: &'a [TimelineItem],
    /// The command to type next.
    next: &'a str,
}

#[derive(Serialize)]
struct OwnerJson<'a> {
    host: &'a str,
    pid: u32,
    boot: &'a str,
    start_time: u64,
    liveness: &'static str,
    /// The evidence for the liveness.
    evidence: &'a str,
}

pub(crate) async fn run(args: &Why, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let id = ids::resolve(context, manager, &args.id, ids::Purpose::Use).await?;
    let session = manager.restore_session(id).await.map_err(|error| Failure::from(error).about(id))?;
    let liveness = super::liveness(manager, id).await;
    let (items, omitted) = timeline(manager, id).await?;
    let now = super::now();
    let head = &session.head;
    let status = status(head, liveness.as_ref());
    let evidence = liveness.as_ref().map(evidence).unwrap_or_default();
    let has_no_viewer = AttachableTerminals::default().viewed(head) == Some(false);
    let steps = StepSummary::read(manager, head).await.map_err(|error| Failure::from(error).about(id))?;
    let questions = open_questions(manager, head).await.map_err(|error| Failure::from(error).about(id))?;
    let advice = advice(manager, &session, liveness.as_ref(), has_no_viewer, &questions).await;
    // A living owner only continues the program.
    let restarts = advice.runs_program() && !matches!(liveness, Some(Liveness::Alive));
    let mut verdict = describe(&session, status, &evidence, steps.as_ref(), now);
    verdict.push_str(&waits(head, status, &questions));
    if let Some(worktree) = session_worktree::state(&session, Disk::Measure).await {
        let _ = write!(verdict, " Its worktree: {}.", session_worktree::sentence(&worktree, &session));
    }
    if has_no_viewer && !status.is_lost() {
        verdict.push_str(" Its terminal has no viewer.");
    }
    if let Some(sentence) = &advice.sentence {
        verdict = format!("{verdict} {}.", capitalized(sentence));
    }
    if let Some(continuation) = steps.as_ref().and_then(StepSummary::continuation).filter(|_| restarts) {
        verdict = format!("{verdict} {}.", capitalized(continuation));
    }
    let decision = steps.as_ref().and_then(StepSummary::decision).filter(|_| restarts);
    let next = [advice.next(), decision.iter().flatten().map(String::as_str).collect()].concat();
    let next = context.command(&next);
    if context.term.json {
        let owner = head.responsible_process().map(|owner| OwnerJson {
            host: &owner.host,
            pid: owner.pid,
            boot: &owner.boot,
            start_time: owner.start_time,
            liveness: match liveness {
                Some(Liveness::Alive) => "alive",
                Some(Liveness::Dead { .. }) => "dead",
                _ => "unknown",
            },
            evidence: &evidence,
        });
        let name = &head.name;
        let report = Report {
            schema: json::SCHEMA,
            id,
            name,
            status: status.name(),
            verdict: &verdict,
            owner,
            story: &items,
            next: &next,
        };
        context.term.print(&format!("{}\n", json::line(&report)))?;
    } else {
        let mut lines = vec![("id".to_owned(), id.to_string())];
        if let Some(owner) = head.responsible_process() {
            let role = if head.lifecycle.owner.is_some() { "owner" } else { "creator" };
            lines.push((role.to_owned(), format!("{owner}, boot {}", owner.boot)));
            lines.push((String::new(), evidence));
        }
        if omitted > 0 {
            lines.push(("timeline".to_owned(), format!("({omitted} earlier items: see `events`)")));
        }
        for (at, TimelineItem { at: when, what, .. }) in items.iter().enumerate() {
            let heading = if at == 0 && omitted == 0 { "timeline" } else { "" };
            lines.push((heading.to_owned(), format!("{when}  {what}")));
        }
        lines.push(("next".to_owned(), next));
        let title = (head.name.as_str(), status);
        context.term.print(&page(title, &verdict, &lines, &context.term))?;
    }
    hints::report_crashed(context, &store, Some(id)).await?;
    Ok(0)
}

/// Returns the newest items of the timeline, and the number of older ones left out.
async fn timeline(manager: &dyn SessionManager, id: SessionId) -> Result<(Vec<TimelineItem>, usize)> {
    let (mut items, mut omitted, mut after) = (std::collections::VecDeque::new(), 0, 0);
    loop {
        let records =
            manager.read_log(id, after, PAGE).await.map_err(|error| Failure::from(error).about(id))?;
        let Some(last) = records.last() else { return Ok((items.into(), omitted)) };
        after = last.revision();
        for item in records.iter().filter_map(timeline_item) {
            items.push_back(item);
            if items.len() > MAX_ITEMS {
                items.pop_front();
                omitted += 1;
            }
        }
    }
}

/// Says for what a session waits, in sentences.
fn waits(head: &Head, status: Status, questions: &[OpenQuestion]) -> String {
    let mut awake = head.clone();
    if status != Status::Waiting {
        // One that has lost its owner sleeps no more, and one that runs does other things, too.
        awake.waits.until = None;
    }
    crate::waits::sentence(&awake, questions).map(|sentence| format!(" It {sentence}.")).unwrap_or_default()
}

/// Formats the liveness of the responsible process with its evidence.
fn evidence(liveness: &Liveness) -> String {
    match liveness {
        Liveness::Alive => "alive: it holds its lock".to_owned(),
        Liveness::Dead { evidence } => format!("dead: {evidence}"),
        Liveness::Unknown { last_seen: Some(at) } => format!("{UNKNOWN_LIVENESS}; last seen {at}"),
        Liveness::Unknown { last_seen: None } | _ => UNKNOWN_LIVENESS.to_owned(),
    }
}

/// Explains the state of a session in sentences.
fn describe(
    session: &PersistedSession,
    status: Status,
    evidence: &str,
    steps: Option<&StepSummary>,
    now: Timestamp,
) -> String {
    let is_over = status.is_lost() || session.state.is_final();
    let (inside, running) = match steps.and_then(StepSummary::open) {
        Some(open) if is_over => (format!(" inside {open}, which may have happened"), Vec::new()),
        Some(open) => (String::new(), vec![format!("It is inside {open}.")]),
        None => (String::new(), Vec::new()),
    };
    let explained = explanation(session, status, evidence, &inside, now);
    let sentences = steps.map(|steps| steps.sentences(&session.state)).unwrap_or_default();
    [vec![explained], running, sentences].concat().join(" ")
}

fn explanation(
    session: &PersistedSession,
    status: Status,
    evidence: &str,
    inside: &str,
    now: Timestamp,
) -> String {
    let PersistedSession { head, state, .. } = session;
    let ago = |at: Timestamp| crate::render::duration(now.since(at));
    let process = head.responsible_process().map(ToString::to_string).unwrap_or_default();
    let requested = match (&head.lifecycle.requests.cancel, &head.lifecycle.requests.pause) {
        (Some(request), _) => format!(" Its cancellation was requested: {}.", request.reason),
        (None, Some(request)) => format!(" A pause was requested: {}.", request.reason),
        (None, None) => String::new(),
    };
    let lost = if status == Status::Stopped {
        "was stopped by a person"
    } else if status == Status::Interrupted {
        "was interrupted"
    } else if status == Status::Crashed {
        "has crashed"
    } else {
        "ended"
    };
    // In a log that says how the session lost its owner, that is the reason of the pause.
    if status.is_lost() && head.responsible_process().is_some() {
        return format!(
            "It {lost}{inside}: {process} is {evidence}. It has not been resumed since.{requested}"
        );
    }
    let ended_inside = if inside.is_empty() { String::new() } else { format!(" It {lost}{inside}.") };
    match state {
        SessionState::Created if head.creator.is_none() => {
            "It is queued: no process has started it yet.".to_owned()
        }
        SessionState::Created => format!("It is created but not started yet: {process} is {evidence}."),
        SessionState::Running { .. } => {
            let word = if status == Status::Waiting { "waiting" } else { "running" };
            let stalled = if status == Status::Stalled {
                " Its owner is stopped by a signal and does nothing until it is continued."
            } else {
                ""
            };
            format!(
                "It is {word}, attempt {}: {process} is {evidence}. Its last event was {} ago.{stalled}{requested}",
                head.lifecycle.attempt,
                ago(head.updated_at)
            )
        }
        SessionState::Paused { reason } => {
            let owner = if head.lifecycle.owner.is_some() {
                format!("Its owner, {process}, is {evidence}.")
            } else {
                "It has no owner: it stays paused until it is resumed.".to_owned()
            };
            let since = ago(head.updated_at);
            format!(
                "It is paused ({reason}). Its last event was {since} ago. {owner}{requested}{ended_inside}"
            )
        }
        SessionState::Completed { .. } => "It completed.".to_owned(),
        SessionState::Failed { error } => format!("It failed: {error}.{ended_inside}"),
        SessionState::Cancelled { reason } => format!("It was cancelled: {reason}.{ended_inside}"),
    }
}

/// Returns the advice on what to do next.
async fn advice(
    manager: &dyn SessionManager,
    session: &PersistedSession,
    liveness: Option<&Liveness>,
    has_no_viewer: bool,
    questions: &[OpenQuestion],
) -> Advice {
    let id = session.head.id;
    if let (false, Some(Liveness::Unknown { .. })) = (session.state.is_final(), liveness) {
        let sentence = "if you are sure that it is dead, declare it dead with `recover --force`".to_owned();
        return Advice::declare_dead(sentence);
    }
    if session.state.is_final() || !matches!(liveness, Some(Liveness::Alive)) {
        // The command that explains it is this one.
        return advise_loaded(manager, session).await.or_else("events");
    }
    if let (SessionState::Running { .. }, Some(question)) = (&session.state, questions.first()) {
        return Advice::words(question.answer(id));
    }
    let asks_owner = matches!(session.state, SessionState::Paused { .. });
    Advice::command(
        match (asks_owner, session.origin.is_some()) {
            (true, _) => "resume",
            (false, true) if has_no_viewer => "attach",
            (false, true) => "logs",
            (false, false) => "events",
        },
        id,
    )
}

fn capitalized(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
