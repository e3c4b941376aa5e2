//! The format `prodigy`: one JSON file for each session, which is a workflow or a map-reduce job.

use serde_json::Value;
use session_core::{
    Changes, ExecutionMode, PauseReason, ProgressReport, SessionConfig, SessionEvent, Timestamp,
};

use super::{failure, id, members, parse, unknown};
use crate::Format;
use crate::fields::{Fields, Notes};
use crate::log::{FinalState, LogBuilder, importer};
use crate::origin::{Origin, cut_bytes, name_of, plain};
use crate::store::LegacyEntry;

/// Maximum iterations, each of which becomes two events. A greater number is not plausible.
const MOST_ITERATIONS: u64 = 1000;

type Steps = Vec<(Option<Timestamp>, SessionEvent)>;

/// Converts the text of a file to a session.
pub(crate) fn entry(file: &str, raw: &str) -> LegacyEntry {
    read(file, raw).unwrap_or_else(|reason| LegacyEntry::unreadable(file, reason))
}

fn read(file: &str, raw: &str) -> Result<LegacyEntry, String> {
    let value = parse(raw)?;
    let (record, mut notes) = (Fields::new(members(&value)?), Notes::new());
    let origin = Origin::new(Format::Prodigy, id(record, file, &mut notes)?, "session-", file, &mut notes);
    let workflow = record.object("workflow_data", "workflow_data.", &mut notes);
    let job = record.object("mapreduce_data", "mapreduce_data.", &mut notes);
    let operation = match record.text("session_type", &mut notes) {
        Some("Workflow") => Some("workflow"),
        Some("MapReduce") => Some("mapreduce"),
        other => other,
    };
    let config = config(&origin, workflow, operation, &mut notes);
    let created = record.time("started_at", &mut notes);
    let changed = record.time("updated_at", &mut notes);
    let ended = record.time("completed_at", &mut notes);
    let status = record.text("status", &mut notes).ok_or("has no status")?;
    let end = end(status, &origin, record, &mut notes)?;
    let mut steps = Steps::new();
    if end != FinalState::NotStarted {
        checkpoints(record, &mut steps, &mut notes);
        iterations(workflow, changed, &mut steps, &mut notes);
        progress(workflow, job, changed, &mut steps, &mut notes);
    }
    let over = matches!(end, FinalState::Completed | FinalState::Failed(_) | FinalState::Cancelled(_));
    let updated = if over { ended.or(changed) } else { changed };
    let started = created.filter(|_| end != FinalState::NotStarted);
    Ok(LogBuilder { origin, config, raw, value: &value, created, started, steps, updated, end }.build(notes))
}

fn config(
    origin: &Origin,
    workflow: Fields<'_>,
    operation: Option<&str>,
    notes: &mut Notes,
) -> SessionConfig {
    let name = workflow.text("workflow_name", notes).filter(|name| !name.is_empty());
    let id = workflow.text("workflow_id", notes);
    let mut config = origin.config(name, operation, notes);
    if let Some(workflow) = name.or(id).and_then(|text| plain(text, 128, "the workflow", notes)) {
        config = config.workflow(workflow);
    }
    let worktree = workflow.text("worktree_name", notes).unwrap_or_default();
    match name_of(worktree, "the worktree's name", notes) {
        Some(name) => config.mode(ExecutionMode::Worktree { name }),
        None => config,
    }
}

fn end(status: &str, origin: &Origin, record: Fields<'_>, notes: &mut Notes) -> Result<FinalState, String> {
    Ok(match status {
        "Initializing" => FinalState::NotStarted,
        "Running" => {
            notes.push(
                "it is not known if its process is alive: it is paused, `interrupted` without proof".into(),
            );
            FinalState::Interrupted { by: importer(origin) }
        }
        "Paused" => FinalState::Paused(PauseReason::Requested("paused in the old store".to_owned())),
        "Completed" => FinalState::Completed,
        "Failed" => FinalState::Failed(failure(record.value("error"), status, notes)),
        "Cancelled" => FinalState::Cancelled("cancelled in the old store".to_owned()),
        other => return Err(unknown(other, "")),
    })
}

fn checkpoints(record: Fields<'_>, steps: &mut Steps, notes: &mut Notes) {
    let mut saved = Vec::new();
    for checkpoint in record.list("checkpoints", notes).unwrap_or_default() {
        let Some(members) = checkpoint.as_object() else {
            notes.push("a checkpoint is not an object and is treated as missing".to_owned());
            continue;
        };
        let at = Fields::new(members).time("created_at", notes);
        let state = members.get("state").unwrap_or(checkpoint).clone();
        saved.push((at, SessionEvent::CheckpointSaved { state, resumable: true }));
    }
    // A checkpoint without a time stays in its position, after those that the tool wrote before it.
    let mut latest = None;
    for (at, _) in &mut saved {
        latest = latest.max(*at);
        *at = at.or(latest);
    }
    saved.sort_by_key(|(at, _)| *at);
    steps.extend(saved);
}

/// Adds the iterations. The tool recorded their number and the total of their changes, but not the changes of each.
fn iterations(workflow: Fields<'_>, at: Option<Timestamp>, steps: &mut Steps, notes: &mut Notes) {
    let count = workflow.count("iterations_completed", notes).unwrap_or(0);
    let files = workflow.count("files_changed", notes).unwrap_or(0);
    if count > MOST_ITERATIONS {
        notes.push(format!(
            "its number of iterations, {count}, is not plausible: it is only in the old record"
        ));
        return;
    }
    if files > 0 {
        notes.push(if count == 0 {
            format!("its {files} changed files belong to no iteration: they are only in the old record")
        } else {
            format!(
                "its {files} changed files are recorded with its last iteration: which one changed them is not known"
            )
        });
    }
    if count > 0 {
        notes.push(
            "the times of its iterations are not known: the time of its last change is used".to_owned(),
        );
    }
    for number in 1..=count {
        let changes = if number == count { Changes::totals(files, 0, 0, 0) } else { Changes::default() };
        steps.push((at, SessionEvent::IterationStarted { number }));
        steps.push((at, SessionEvent::IterationCompleted { number, changes }));
    }
}

fn progress(
    workflow: Fields<'_>,
    job: Fields<'_>,
    at: Option<Timestamp>,
    steps: &mut Steps,
    notes: &mut Notes,
) {
    let mut report = ProgressReport::new();
    // A list of the steps, of which only the number is used.
    let done = workflow.value("completed_steps").and_then(Value::as_array).map(Vec::len);
    report.completed_steps = match done {
        Some(done) => u64::try_from(done).ok(),
        None => workflow.count("completed_steps", notes),
    };
    report.total_steps = workflow.count("total_steps", notes).filter(|total| *total > 0);
    if job.is_there() {
        report.completed_steps = job.count("processed_items", notes).or(report.completed_steps);
        report.total_steps = job.count("total_items", notes).or(report.total_steps);
        let phase = job.text("phase", notes).filter(|phase| !phase.is_empty());
        let limit = session_core::limits::STEP_BYTES;
        report.phase = phase.map(|phase| cut_bytes(phase, limit, "its phase", notes).to_owned());
    }
    // Zero of an unknown total is no progress.
    let has_steps = report.completed_steps.is_some_and(|done| done > 0) || report.total_steps.is_some();
    if has_steps || report.phase.is_some() {
        steps.push((at, SessionEvent::ProgressReported { report }));
    }
}
