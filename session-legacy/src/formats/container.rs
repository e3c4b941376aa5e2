//! The format `container`: all sessions in one JSON file; without a usable file, one session for each git worktree.

use std::path::Path;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use session_core::{ExecutionMode, PauseReason, ProgressReport, SessionEvent};
use session_worktree::{Git, WorktreeError, WorktreeHistory};

use super::{failure, members, parse, unknown};
use crate::Format;
use crate::fields::{Fields, Notes};
use crate::log::{FinalState, LogBuilder, importer};
use crate::origin::{Origin, cut_bytes, name_of, with_label};
use crate::store::LegacyEntry;

/// Maximum bytes of a path.
const PATH_BYTES: usize = 4096;
/// The known version of the file.
const VERSION: &str = "1.0";

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    version: serde_json::Value,
    sessions: Vec<Box<RawValue>>,
}

/// Reads the sessions of a file.
///
/// # Errors
/// The reason why the whole file is unusable.
pub(crate) fn sessions(raw: &str, warnings: &mut Vec<String>) -> Result<Vec<LegacyEntry>, String> {
    let file: File = serde_json::from_str(raw)
        .map_err(|error| format!("does not have the format of that tool: {error}"))?;
    if file.version != VERSION {
        warnings.push(format!("the file has version {}; it is read as {VERSION}", file.version));
    }
    let entry = |(at, raw): (usize, &RawValue)| {
        let source = format!("sessions[{at}]");
        read(&source, raw.get()).unwrap_or_else(|reason| LegacyEntry::unreadable(source, reason))
    };
    Ok(file.sessions.iter().map(|raw| &**raw).enumerate().map(entry).collect())
}

fn read(source: &str, raw: &str) -> Result<LegacyEntry, String> {
    let value = parse(raw)?;
    let (record, mut notes) = (Fields::new(members(&value)?), Notes::new());
    let id = record.text("id", &mut notes).filter(|id| !id.is_empty()).ok_or("has no id")?;
    let origin = Origin::new(Format::Container, id, "", source, &mut notes);
    let name = record.text("name", &mut notes);
    let mut config = origin.config(name, Some("container"), &mut notes);
    let path = record.text("worktreePath", &mut notes).filter(|path| !path.is_empty());
    if let Some(path) = path.filter(|path| path.len() <= PATH_BYTES) {
        config = config.project_path(path);
        let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        if let Some(name) = name_of(last, "the worktree's name", &mut notes) {
            config = config.mode(ExecutionMode::Worktree { name });
        }
    } else if path.is_some() {
        notes.push(format!("its path is longer than {PATH_BYTES} bytes: it is only in the old record"));
    }
    if let Some(branch) = record.text("branch", &mut notes) {
        config = with_label(config, "branch", branch, &mut notes);
    }
    let created = record.time("createdAt", &mut notes);
    let updated = record.time("lastActivity", &mut notes);
    let mut steps = Vec::new();
    if let Some(phase) = record.text("currentPhase", &mut notes).filter(|phase| !phase.is_empty()) {
        let phase = cut_bytes(phase, session_core::limits::STEP_BYTES, "its phase", &mut notes);
        let report = ProgressReport::new().phase(phase);
        steps.push((updated, SessionEvent::ProgressReported { report }));
    }
    let status = record.text("status", &mut notes).ok_or("has no status")?;
    let end = end(status, &origin, &mut notes)?;
    // It ran, but its start time is not recorded: the tool creates and starts a session in one step.
    Ok(LogBuilder { origin, config, raw, value: &value, created, started: created, steps, updated, end }
        .build(notes))
}

fn end(status: &str, origin: &Origin, notes: &mut Notes) -> Result<FinalState, String> {
    Ok(match status {
        "active" => {
            notes.push(
                "it is not known if its process is alive: it is paused, `interrupted` without proof".into(),
            );
            FinalState::Interrupted { by: importer(origin) }
        }
        "idle" => {
            notes.push(
                "it was idle, with or without a process: it is paused, `interrupted` without proof".into(),
            );
            FinalState::Interrupted { by: importer(origin) }
        }
        "waiting" => {
            notes.push("the input that it waited for is not known".to_owned());
            FinalState::Paused(PauseReason::AwaitingInput("the old store does not say what for".to_owned()))
        }
        "stopped" => FinalState::Paused(PauseReason::Requested("stopped in the old store".to_owned())),
        "error" => FinalState::Failed(failure(None, "error", notes)),
        other => return Err(unknown(other, "")),
    })
}

/// Converts a git worktree to a session, of which only the data of git is known.
///
/// # Errors
/// The reason why git cannot read it.
pub(crate) fn from_worktree(git: &Git, name: &str, path: &Path) -> Result<LegacyEntry, String> {
    let history = WorktreeHistory::read(git, path).map_err(|error| {
        if let WorktreeError::NotARepository { reason, .. } = error {
            return format!("is not a git worktree: {reason}");
        }
        format!("cannot be read: {error}")
    })?;
    let path = path.to_str().ok_or("has a path that is not UTF-8")?;
    let mut notes = Notes::new();
    let origin = Origin::new(Format::Container, name, "", &format!(".worktrees/{name}"), &mut notes);
    let mut config = origin.config(None, Some("container"), &mut notes).project_path(path);
    if let Some(name) = name_of(name, "the worktree's name", &mut notes) {
        config = config.mode(ExecutionMode::Worktree { name });
    }
    if let Some(branch) = &history.branch {
        config = with_label(config, "branch", branch, &mut notes);
    }
    notes.push("only its worktree is left: its progress, and if it ever ran, is not known".to_owned());
    match history.last_used {
        None => notes.push("git has no times for it".to_owned()),
        Some(_) if history.has_reflog => {}
        Some(_) => notes.push("git has no reflog of it: the time of its commit is used".to_owned()),
    }
    let WorktreeHistory { branch, first_used, last_used, .. } = history;
    let value =
        json!({ "worktree": path, "branch": branch, "created": first_used, "last_activity": last_used });
    let raw = value.to_string();
    Ok(LogBuilder {
        origin,
        config,
        raw: &raw,
        value: &value,
        created: first_used,
        started: None,
        steps: Vec::new(),
        updated: last_used,
        end: FinalState::NotStarted,
    }
    .build(notes))
}
