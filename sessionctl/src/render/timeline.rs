//! What happened to a session, in sentences. What its work did is left out: that is in the log.

use serde::Serialize;
use serde_json::Value;
use sessionkit::runner::signal_name;
use sessionkit::{SessionEvent, StoredRecord, Timestamp};

/// Something that happened to a session.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TimelineItem {
    pub(crate) at: Timestamp,
    pub(crate) revision: u64,
    pub(crate) what: String,
}

/// The fact that a record tells of; none if it is about the work.
pub(crate) fn timeline_item(record: &StoredRecord) -> Option<TimelineItem> {
    let record = record.decode().ok()?;
    let what = describe(&record.event)?;
    Some(TimelineItem { at: record.envelope.at, revision: record.envelope.seq, what })
}

fn describe(event: &SessionEvent) -> Option<String> {
    Some(match event {
        SessionEvent::Created { creator, .. } => format!("created by {creator}"),
        SessionEvent::Started { owner } => format!("started by {owner}"),
        SessionEvent::Resumed { owner } => format!("goes on, run by {owner}"),
        SessionEvent::PauseRequested { reason, by } => format!("{by} asked for a pause: {reason}"),
        SessionEvent::ResumeRequested { by } => format!("{by} asked for it to go on"),
        SessionEvent::CancelRequested { reason, by, force } => {
            let how = if *force { ", at once" } else { "" };
            format!("{by} asked for its end{how}: {reason}")
        }
        SessionEvent::InputProvided { by, .. } => format!("{by} gave an answer"),
        SessionEvent::Paused { reason } => format!("paused ({reason})"),
        SessionEvent::Interrupted { evidence } => format!("interrupted: {evidence}"),
        SessionEvent::CommandExecuted { exit_code, signal, .. } => match (exit_code, signal) {
            (Some(code), _) => format!("its program ended with exit code {code}"),
            (None, Some(signal)) => format!("its program was ended by signal {}", signal_name(*signal)),
            (None, None) => "its program ended".to_owned(),
        },
        SessionEvent::Completed { .. } => "completed".to_owned(),
        SessionEvent::Failed { error } => format!("failed: {error}"),
        SessionEvent::Cancelled { reason } => format!("cancelled: {reason}"),
        SessionEvent::Noted { kind, data } => describe_note(kind, data)?,
        SessionEvent::IterationStarted { .. }
        | SessionEvent::IterationCompleted { .. }
        | SessionEvent::AnalysisCompleted { .. }
        | SessionEvent::CheckpointSaved { .. }
        | SessionEvent::ProgressReported { .. }
        | _ => return None,
    })
}

/// What our own notes say; what those of others mean is not known here.
fn describe_note(kind: &str, data: &Value) -> Option<String> {
    match kind {
        "session.signal" => {
            let name = data.get("name").and_then(Value::as_str).unwrap_or("?");
            Some(format!("its program was sent signal {name}"))
        }
        "session.escaped" => {
            let count = data.get("processes").and_then(Value::as_array).map_or(0, Vec::len);
            Some(format!("{count} of its processes could not be ended"))
        }
        "session.loss" => Some("flushed records were lost, and that was accepted".to_owned()),
        "session.output_truncated" => Some("it printed more than is kept".to_owned()),
        "session.output_lost" => Some("some of what it printed could not be stored".to_owned()),
        _ => None,
    }
}
