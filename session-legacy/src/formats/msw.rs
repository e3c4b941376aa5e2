//! The format `msw`: one JSON file for each session, with an outer status and an inner one in its progress.

use session_core::{ProgressReport, SessionEvent};

use super::{failure, id, members, parse, unknown};
use crate::Format;
use crate::fields::{Fields, Notes};
use crate::log::{FinalState, LogBuilder, importer};
use crate::origin::{Origin, cut_bytes};
use crate::store::LegacyEntry;

/// Maximum bytes of a step.
const STEP_BYTES: usize = session_core::limits::STEP_BYTES;

/// Converts the text of a file to a session.
pub(crate) fn entry(file: &str, raw: &str) -> LegacyEntry {
    read(file, raw).unwrap_or_else(|reason| LegacyEntry::unreadable(file, reason))
}

fn read(file: &str, raw: &str) -> Result<LegacyEntry, String> {
    let value = parse(raw)?;
    let (record, mut notes) = (Fields::new(members(&value)?), Notes::new());
    let progress = record.object("progress", "progress.", &mut notes);
    let origin = Origin::new(Format::Msw, id(record, file, &mut notes)?, "", file, &mut notes);
    let outer = record.text("status", &mut notes);
    let inner = progress.text("status", &mut notes);
    let state = state(outer, inner, &mut notes)?;
    let operation = record.text("operation", &mut notes).or_else(|| progress.text("operation", &mut notes));
    let config = origin.config(None, operation, &mut notes);
    let created = record.time("createdAt", &mut notes);
    let started = progress.time("startedAt", &mut notes);
    let mut updated = record.time("updatedAt", &mut notes).max(progress.time("updatedAt", &mut notes));
    let mut steps = Vec::new();
    if state != State::Pending {
        let report = report(progress, &mut notes);
        if report != ProgressReport::new() {
            steps.push((
                progress.time("updatedAt", &mut Notes::new()),
                SessionEvent::ProgressReported { report },
            ));
        }
        // The state from which the tool resumes.
        if let Some(context) = record.value("context").filter(|context| has_members(context)) {
            let saved = SessionEvent::CheckpointSaved { state: context.clone(), resumable: true };
            steps.push((updated, saved));
        }
    }
    let end = match state {
        State::Pending => FinalState::NotStarted,
        State::Running => {
            notes.push(
                "it is not known if its process is alive: it is paused, `interrupted` without proof".into(),
            );
            FinalState::Interrupted { by: importer(&origin) }
        }
        State::Crashed => {
            notes.push(
                "that tool marks a session as crashed by its age: it is paused, `interrupted` without proof"
                    .into(),
            );
            updated = updated.max(record.time("crashedAt", &mut notes));
            FinalState::Interrupted { by: Format::Msw.name().to_owned() }
        }
        State::Completed => FinalState::Completed,
        State::Failed => FinalState::Failed(failure(
            progress.value("error").or_else(|| record.value("error")),
            "failed",
            &mut notes,
        )),
        State::Cancelled => FinalState::Cancelled("cancelled in the old store".to_owned()),
    };
    let started = started.filter(|_| state != State::Pending);
    Ok(LogBuilder { origin, config, raw, value: &value, created, started, steps, updated, end }.build(notes))
}

/// The state of a session, from both of its statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Running,
    Crashed,
    Completed,
    Failed,
    Cancelled,
}

/// Determines the state from both statuses. The inner one is correct. The outer one is `completed` for every session
/// that ended, and even for some that have not started. It is used if it is the only one, and for `crashed`, which only
/// it has.
fn state(outer: Option<&str>, inner: Option<&str>, notes: &mut Notes) -> Result<State, String> {
    let state = match (inner, outer) {
        (Some("pending"), _) => State::Pending,
        (Some("running") | None, Some("crashed")) => State::Crashed,
        (Some("running"), _) | (None, Some("active")) => State::Running,
        (Some("completed"), _) => State::Completed,
        (Some("failed"), _) | (None, Some("failed")) => State::Failed,
        (Some("cancelled"), _) => State::Cancelled,
        (Some(inner), _) => return Err(unknown(inner, " in its progress")),
        (None, Some("completed")) => {
            return Err("has no status in its progress, and its outer status `completed` is ambiguous".into());
        }
        (None, Some(outer)) => return Err(unknown(outer, "")),
        (None, None) => return Err("has no status".to_owned()),
    };
    let usual = match state {
        State::Pending | State::Running => "active",
        State::Crashed => "crashed",
        State::Completed => "completed",
        State::Failed => "failed",
        // The outer status has no value for it.
        State::Cancelled => "",
    };
    match (outer, inner) {
        (Some(outer), None) => {
            notes.push(format!("its progress has no status: the outer one, `{outer}`, is used"));
        }
        (Some(outer), Some(inner)) if outer != usual => notes.push(format!(
            "its outer status `{}` is ignored: the inner one, `{inner}`, is used",
            outer.chars().take(32).collect::<String>()
        )),
        (Some(_) | None, Some(_)) | (None, None) => {}
    }
    Ok(state)
}

fn report(progress: Fields<'_>, notes: &mut Notes) -> ProgressReport {
    let mut report = ProgressReport::new();
    report.percent = progress.number("progress", notes).filter(|percent| {
        let fits = (0.0..=100.0).contains(percent);
        if !fits {
            notes.push("its percentage is not between 0 and 100 and is left out".to_owned());
        }
        fits
    });
    let step = progress.text("currentStep", notes).filter(|step| !step.is_empty());
    report.step = step.map(|step| cut_bytes(step, STEP_BYTES, "its step", notes).to_owned());
    report.completed_steps = progress.count("completedSteps", notes);
    report.total_steps = progress.count("totalSteps", notes);
    report
}

fn has_members(value: &serde_json::Value) -> bool {
    value.as_object().is_none_or(|members| !members.is_empty())
}
