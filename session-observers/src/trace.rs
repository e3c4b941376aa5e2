//! An observer that logs each event through `tracing`.

use session_core::text::visible;
use session_core::{
    EventContext, EventKind, InheritedItem, ItemMoves, RecoveryReport, SessionEvent, SessionObserver,
    StepEnd, StepFailure, StepOutcome, WorktreePlan,
};
use tracing::{Level, debug, error, info, trace, warn};

/// An observer that logs one `tracing` event for each session event, with the target `session` and the fields
/// `session`, `revision`, `attempt`, `kind` and, if the event has a readable text or a significant number, `detail`. The
/// message is the kind in words: `session failed`.
///
/// | level | events |
/// |---|---|
/// | error | `failed` |
/// | warn | `interrupted`; refused steps; missed events; sessions that could not be recovered |
/// | info | all other state changes and requests for them; questions and answers; recoveries |
/// | debug | iterations, steps, sleeps, commands, analyses, checkpoints, notes, kinds of a newer version |
/// | trace | progress, items, parts of values |
///
/// Control characters in texts are escaped. Command lines, values (checkpoints, results, answers, notes, values of
/// steps) and the reasons of refusals, which quote command lines, are not logged, because they may hold secrets; they are in the session's log, which only its user can read.
#[derive(Debug, Clone, Copy, Default)]
pub struct TracingObserver(());

impl TracingObserver {
    /// Creates an observer that logs to the subscriber of the program.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl SessionObserver for TracingObserver {
    fn on_event(&self, context: &EventContext, event: &SessionEvent) {
        // The level of a `tracing` event is part of its static metadata: one call site per level.
        macro_rules! log {
            ($level:ident) => {{
                $level!(
                    target: "session",
                    session = %context.session,
                    revision = context.revision,
                    attempt = context.attempt,
                    kind = event.kind().name(),
                    detail = detail(event).as_deref(),
                    "{}", message(event.kind())
                )
            }};
        }
        match level(event.kind()) {
            Level::ERROR => log!(error),
            Level::WARN => log!(warn),
            Level::INFO => log!(info),
            Level::DEBUG => log!(debug),
            Level::TRACE => log!(trace),
        }
    }

    fn on_lagged(&self, context: &EventContext, missed: u64) {
        warn!(
            target: "session",
            session = %context.session,
            revision = context.revision,
            missed,
            "missed events that are only in the session's log"
        );
    }

    fn on_recovery(&self, report: &RecoveryReport) {
        info!(target: "session", recovered = report.recovered.len(), failed = report.failed.len(), "recovery finished");
        for (session, error) in &report.failed {
            let reason = error.to_string();
            warn!(target: "session", %session, code = %error.code(), error = %visible(&reason), "could not recover the session");
        }
    }
}

fn level(kind: EventKind) -> Level {
    match kind {
        EventKind::Failed => Level::ERROR,
        EventKind::Interrupted | EventKind::StepRefused => Level::WARN,
        EventKind::Created
        | EventKind::Started
        | EventKind::PauseRequested
        | EventKind::ResumeRequested
        | EventKind::CancelRequested
        | EventKind::InputProvided
        | EventKind::Asked
        | EventKind::Answered
        | EventKind::QuestionWithdrawn
        | EventKind::StopRequested
        | EventKind::Paused
        | EventKind::Resumed
        | EventKind::Completed
        | EventKind::Cancelled => Level::INFO,
        EventKind::ProgressReported | EventKind::StepValue | EventKind::ItemValue | EventKind::ItemsMoved => {
            Level::TRACE
        }
        EventKind::IterationStarted
        | EventKind::IterationCompleted
        | EventKind::CommandExecuted
        | EventKind::AnalysisCompleted
        | EventKind::CheckpointSaved
        | EventKind::Noted
        | EventKind::Inherited
        | EventKind::StepStarted
        | EventKind::StepCompleted
        | EventKind::StepFailed
        | EventKind::EachStarted
        | EventKind::SleepStarted
        | EventKind::SleepEnded
        | EventKind::WorktreeIntended
        | EventKind::WorktreeMade
        | _ => Level::DEBUG,
    }
}

/// Returns the message: the kind in words.
fn message(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Created => "session created",
        EventKind::Started => "session started",
        EventKind::IterationStarted => "iteration started",
        EventKind::IterationCompleted => "iteration completed",
        EventKind::CommandExecuted => "command executed",
        EventKind::AnalysisCompleted => "analysis completed",
        EventKind::ProgressReported => "progress reported",
        EventKind::CheckpointSaved => "checkpoint saved",
        EventKind::Noted => "note recorded",
        EventKind::Inherited => "step taken over",
        EventKind::StepStarted => "step started",
        EventKind::StepValue => "part of a step's value recorded",
        EventKind::StepCompleted => "step completed",
        EventKind::StepFailed => "step failed",
        EventKind::StepRefused => "step refused",
        EventKind::EachStarted => "each started",
        EventKind::ItemsMoved => "items ended or begun",
        EventKind::ItemValue => "part of an item's value recorded",
        EventKind::Asked => "question asked",
        EventKind::Answered => "question answered",
        EventKind::QuestionWithdrawn => "question withdrawn",
        EventKind::SleepStarted => "sleep started",
        EventKind::SleepEnded => "sleep ended",
        EventKind::WorktreeIntended => "worktree planned",
        EventKind::WorktreeMade => "worktree created",
        EventKind::PauseRequested => "pause requested",
        EventKind::ResumeRequested => "resume requested",
        EventKind::CancelRequested => "cancellation requested",
        EventKind::InputProvided => "input provided",
        EventKind::StopRequested => "stop requested",
        EventKind::Paused => "session paused",
        EventKind::Interrupted => "session interrupted",
        EventKind::Resumed => "session resumed",
        EventKind::Completed => "session completed",
        EventKind::Failed => "session failed",
        EventKind::Cancelled => "session cancelled",
        // A kind of a newer version.
        other => other.name(),
    }
}

/// Returns a readable text about the event beyond its kind.
fn detail(event: &SessionEvent) -> Option<String> {
    let text = match event {
        SessionEvent::Created { config, .. } => config.name.as_ref().unwrap_or(&config.operation).clone(),
        SessionEvent::Started { owner } | SessionEvent::Resumed { owner } => owner.to_string(),
        SessionEvent::IterationStarted { number } | SessionEvent::IterationCompleted { number, .. } => {
            number.to_string()
        }
        SessionEvent::CommandExecuted { exit_code, signal, duration_ms, .. } => match (exit_code, signal) {
            (Some(code), _) => format!("exit code {code} after {duration_ms} ms"),
            (None, Some(signal)) => format!("signal {signal} after {duration_ms} ms"),
            (None, None) => format!("{duration_ms} ms"),
        },
        SessionEvent::ProgressReported { report } => {
            // Rounded down: 100 means complete.
            let percent = report.percent.map(|percent| format!("{:.0} %", percent.floor()));
            let parts: Vec<_> = percent.into_iter().chain(report.step.clone()).collect();
            parts.join(" ")
        }
        SessionEvent::Noted { kind, .. } => kind.clone(),
        SessionEvent::Inherited { step } => {
            let outcome = match &step.outcome {
                StepOutcome::Completed(end) => step_end(*end),
                StepOutcome::Unknown { .. } => "end unknown".to_owned(),
                StepOutcome::Items { items, .. } => items_inherited(items),
                StepOutcome::Answered { by, .. } => format!("answered by {by}"),
                StepOutcome::Slept => "slept".to_owned(),
            };
            format!("{}: {outcome}", step.step)
        }
        SessionEvent::StepStarted { step, because, .. } => format!("{step} ({})", because.name()),
        SessionEvent::StepValue { part, .. } => format!("{} bytes", part.len()),
        SessionEvent::StepCompleted { end, .. } => step_end(*end),
        SessionEvent::StepFailed { failure, .. } => step_failure(failure),
        SessionEvent::StepRefused { name, code, .. } => format!("{name}: {code}"),
        SessionEvent::EachStarted { step, done, .. } => format!("{step} (done before: {done})"),
        SessionEvent::ItemsMoved { moves } => {
            let ItemMoves { done, failed, skipped, begun, .. } = moves;
            let counts =
                [("done", done.len()), ("failed", failed.len()), ("recorded as done", skipped.len())];
            let counts = counts.into_iter().chain([("begun", begun.len())]).filter(|(_, count)| *count > 0);
            counts.map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
        }
        SessionEvent::ItemValue { item, part, .. } => format!("item {item}: {} bytes", part.len()),
        SessionEvent::Asked { question } => format!("{}: {}", question.identity, question.text),
        // Answers may hold secrets, as values do.
        SessionEvent::Answered { answer, default: true, .. } => format!("{} (by default)", answer.identity),
        SessionEvent::Answered { answer, by, .. } => format!("{} (by {by})", answer.identity),
        SessionEvent::QuestionWithdrawn { asked } => format!("asked at revision {asked}"),
        SessionEvent::SleepStarted { step, until } => format!("{step} until {until}"),
        SessionEvent::WorktreeIntended { plan } => worktree(plan),
        SessionEvent::WorktreeMade { worktree: made } => worktree(&made.plan),
        SessionEvent::SleepEnded { passed: true, .. } => "its wake-up time has passed".to_owned(),
        SessionEvent::SleepEnded { passed: false, .. } => "the process that waited has gone".to_owned(),
        SessionEvent::PauseRequested { reason, by } | SessionEvent::CancelRequested { reason, by, .. } => {
            format!("{reason} (by {by})")
        }
        SessionEvent::ResumeRequested { by } | SessionEvent::InputProvided { by, .. } => format!("by {by}"),
        SessionEvent::Paused { reason } => reason.to_string(),
        SessionEvent::Interrupted { evidence } => evidence.to_string(),
        SessionEvent::Completed { summary } => summary.message.clone().unwrap_or_default(),
        SessionEvent::Failed { error } => error.to_string(),
        SessionEvent::Cancelled { reason } => reason.clone(),
        SessionEvent::AnalysisCompleted { .. } | SessionEvent::CheckpointSaved { .. } | _ => String::new(),
    };
    (!text.is_empty()).then(|| visible(&text).into_owned())
}

fn step_end(end: StepEnd) -> String {
    let StepEnd { exit_code, duration_ms, .. } = end;
    if end.skipped {
        "recorded as done".to_owned()
    } else {
        format!("exit code {exit_code} after {duration_ms} ms")
    }
}

fn worktree(plan: &WorktreePlan) -> String {
    format!("{} on branch {}", plan.path.display(), plan.branch)
}

fn items_inherited(items: &[InheritedItem]) -> String {
    let unknown = items.iter().filter(|item| item.unknown).count();
    format!("items: {} done, {unknown} unknown", items.len() - unknown)
}

fn step_failure(failure: &StepFailure) -> String {
    let how = match (failure.timed_out, failure.exit_code, failure.signal) {
        (true, ..) => "time limit passed".to_owned(),
        (false, Some(code), _) => format!("exit code {code}"),
        (false, None, Some(signal)) => format!("signal {signal}"),
        (false, None, None) => "ended".to_owned(),
    };
    let unknown = if failure.unknown { ", end unknown" } else { "" };
    format!("{how} after {} ms{unknown}", failure.duration_ms)
}

#[cfg(test)]
mod tests;
