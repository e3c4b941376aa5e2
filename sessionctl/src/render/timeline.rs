//! Timeline of a session in sentences. Events of the work itself are left out: `events` prints those.

use serde::Serialize;
use serde_json::Value;
use sessionkit::SessionEvent;
use sessionkit::log::{StoredRecord, Timestamp};
use sessionkit::runner::signal_name;

/// An entry of a timeline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TimelineItem {
    pub(crate) at: Timestamp,
    pub(crate) revision: u64,
    pub(crate) what: String,
}

/// Returns the timeline item of a record; `None` for an event of the work itself.
pub(crate) fn timeline_item(record: &StoredRecord) -> Option<TimelineItem> {
    let record = record.decode().ok()?;
    let what = describe(&record.event)?;
    Some(TimelineItem { at: record.envelope.at, revision: record.envelope.seq, what })
}

fn describe(event: &SessionEvent) -> Option<String> {
    Some(match event {
        SessionEvent::Created { creator, .. } => format!("created by {creator}"),
        SessionEvent::Started { owner } => format!("started by {owner}"),
        SessionEvent::Resumed { owner } => format!("resumed by {owner}"),
        SessionEvent::PauseRequested { reason, by } => format!("{by} requested a pause: {reason}"),
        SessionEvent::ResumeRequested { by } => format!("{by} requested a resume"),
        SessionEvent::CancelRequested { reason, by, force } => {
            let kind = if *force { "immediate cancellation" } else { "cancellation" };
            format!("{by} requested {kind}: {reason}")
        }
        SessionEvent::StopRequested { signal } => {
            format!("signal {} reached its owner", signal_name(*signal))
        }
        SessionEvent::InputProvided { by, .. } => format!("{by} provided input"),
        SessionEvent::Paused { reason } => format!("paused ({reason})"),
        SessionEvent::Interrupted { evidence } => format!("interrupted: {evidence}"),
        SessionEvent::CommandExecuted { exit_code, signal, .. } => match (exit_code, signal) {
            (Some(code), _) => format!("program exited with code {code}"),
            (None, Some(signal)) => format!("program ended by signal {}", signal_name(*signal)),
            (None, None) => "program ended".to_owned(),
        },
        SessionEvent::StepRefused { name, code, message } => {
            format!("step {name} was refused: {message} ({code})")
        }
        SessionEvent::StepFailed { start, failure } if failure.unknown => {
            let how = match (failure.exit_code, failure.signal) {
                (Some(code), _) => format!(" (exit code {code})"),
                (None, Some(signal)) => format!(" (signal {})", signal_name(signal)),
                (None, None) => String::new(),
            };
            format!("the end of the step started at revision {start} is unknown{how}")
        }
        SessionEvent::Asked { question } => format!("asked `{}`: {}", question.identity, question.text),
        SessionEvent::Answered { answer, default: true, .. } => {
            format!("question `{}` got its default: {}", answer.identity, answer.value)
        }
        SessionEvent::Answered { answer, by, .. } => {
            format!("{by} answered `{}`: {}", answer.identity, answer.value)
        }
        SessionEvent::QuestionWithdrawn { asked } => {
            format!("the question at revision {asked} was withdrawn: its client has gone")
        }
        SessionEvent::SleepStarted { step, until } => format!("sleeps until {until} (`{step}`)"),
        SessionEvent::WorktreeIntended { plan } => {
            format!("creates the worktree {}", plan.path.display())
        }
        SessionEvent::WorktreeMade { worktree } => {
            format!("has the worktree {} on branch {}", worktree.plan.path.display(), worktree.plan.branch)
        }
        SessionEvent::SleepEnded { passed: true, .. } => "woke up".to_owned(),
        SessionEvent::SleepEnded { passed: false, .. } => "stopped sleeping: its client has gone".to_owned(),
        SessionEvent::Completed { .. } => "completed".to_owned(),
        SessionEvent::Failed { error } => format!("failed: {error}"),
        SessionEvent::Cancelled { reason } => format!("cancelled: {reason}"),
        SessionEvent::Noted { kind, data } => describe_note(kind, data)?,
        SessionEvent::IterationStarted { .. }
        | SessionEvent::IterationCompleted { .. }
        | SessionEvent::AnalysisCompleted { .. }
        | SessionEvent::CheckpointSaved { .. }
        | SessionEvent::ProgressReported { .. }
        | SessionEvent::Inherited { .. }
        | SessionEvent::StepStarted { .. }
        | SessionEvent::StepValue { .. }
        | SessionEvent::StepCompleted { .. }
        | SessionEvent::StepFailed { .. }
        | SessionEvent::EachStarted { .. }
        | SessionEvent::ItemsMoved { .. }
        | SessionEvent::ItemValue { .. }
        | _ => return None,
    })
}

/// Describes a note of this project; the meaning of other notes is not known here.
fn describe_note(kind: &str, data: &Value) -> Option<String> {
    match kind {
        "session.signal" => {
            let name = data.get("name").and_then(Value::as_str).unwrap_or("?");
            Some(format!("sent signal {name} to the program"))
        }
        "session.escaped" => {
            let count = data.get("processes").and_then(Value::as_array).map_or(0, Vec::len);
            Some(format!("processes that could not be ended: {count}"))
        }
        "session.left_running" => Some(format!("left running: {}", processes(data))),
        "session.background_ended" => Some(format!("ended background processes: {}", processes(data))),
        "session.loss" => Some("loss of flushed records accepted".to_owned()),
        "session.output_truncated" => {
            let bytes = data.get("bytes").and_then(Value::as_u64).map_or("some".to_owned(), super::size);
            Some(format!("{bytes} of the output not kept"))
        }
        "session.clock_jumped" => {
            let by = data.get("by_ms").and_then(Value::as_i64)?;
            let way = if by < 0 { "back" } else { "forward" };
            let time = super::duration(std::time::Duration::from_millis(by.unsigned_abs()));
            Some(format!("the clock jumped {way} by {time}"))
        }
        "session.ask_hook_failed" => {
            let text = |name| data.get(name).and_then(Value::as_str).unwrap_or("?");
            Some(format!("the hook for question `{}` failed: {}", text("question"), text("problem")))
        }
        "session.output_lost" => Some("some output could not be stored".to_owned()),
        _ => None,
    }
}

/// Names the processes of a note.
fn processes(data: &Value) -> String {
    let name = |process: &Value| {
        let name = process.get("name").and_then(Value::as_str).unwrap_or("?");
        let pid = process.get("pid").and_then(Value::as_u64).unwrap_or_default();
        format!("{name} (pid {pid})")
    };
    let processes = data.get("processes").and_then(Value::as_array);
    processes.into_iter().flatten().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use sessionkit::log::{Answer, ItemMoves, Question, StepEnd, StepFailure, StepIdentity};

    use super::*;

    #[test]
    fn questions_and_sleeps_are_in_the_timeline() {
        let deploy = || StepIdentity::nth("deploy", 1);
        let answered = |default| SessionEvent::Answered {
            answer: Box::new(Answer { identity: deploy(), value: "yes".to_owned(), asked: Some(3) }),
            by: "ada".to_owned(),
            default,
        };
        let until = sessionkit::log::Timestamp::from_millis(0).unwrap();
        for (event, text) in [
            (
                SessionEvent::Asked { question: Box::new(Question::new(deploy(), "Deploy 1.4.0?")) },
                "asked `deploy`: Deploy 1.4.0?",
            ),
            (answered(false), "ada answered `deploy`: yes"),
            (answered(true), "question `deploy` got its default: yes"),
            (
                SessionEvent::QuestionWithdrawn { asked: 3 },
                "the question at revision 3 was withdrawn: its client has gone",
            ),
            (
                SessionEvent::SleepStarted { step: StepIdentity::nth("night", 2), until },
                "sleeps until 1970-01-01T00:00:00.000Z (`night#2`)",
            ),
            (SessionEvent::SleepEnded { start: 3, passed: true }, "woke up"),
            (SessionEvent::SleepEnded { start: 3, passed: false }, "stopped sleeping: its client has gone"),
        ] {
            assert_eq!(describe(&event).as_deref(), Some(text));
        }
        let moves = ItemMoves { done: vec![1], ..ItemMoves::default() };
        assert_eq!(
            describe(&SessionEvent::ItemsMoved { moves }),
            None,
            "an `each` may have millions of items"
        );
    }

    #[test]
    fn refused_steps_and_unknown_ends_are_in_the_timeline() {
        let failed = |failure| describe(&SessionEvent::StepFailed { start: 7, failure });
        let unknown = StepFailure { unknown: true, ..StepFailure::default() };
        let unknown_end = "the end of the step started at revision 7 is unknown";
        assert_eq!(failed(unknown.clone()).as_deref(), Some(unknown_end));
        let by_signal = failed(StepFailure { signal: Some(15), ..unknown });
        assert_eq!(by_signal, Some(format!("{unknown_end} (signal 15 (TERM))")));
        let (name, code, message) = ("build".to_owned(), "STEP_OPEN".to_owned(), "it runs".to_owned());
        let refused = describe(&SessionEvent::StepRefused { name, code, message });
        assert_eq!(refused.as_deref(), Some("step build was refused: it runs (STEP_OPEN)"));
        // All other ends are the work's own.
        assert_eq!(failed(StepFailure { exit_code: Some(2), ..StepFailure::default() }), None);
        assert_eq!(describe(&SessionEvent::StepCompleted { start: 7, end: StepEnd::default() }), None);
    }
}
