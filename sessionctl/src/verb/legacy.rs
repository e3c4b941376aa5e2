//! `import --format`: imports the store of an older tool, and prints the outcome of each entry.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use sessionkit::legacy::{self, Format, LegacySession, Outcome};
use sessionkit::manager::StorageError;
use sessionkit::text::visible;
use sessionkit::{ErrorCode, SessionId};

use crate::context::Context;
use crate::error::{Failure, Result};
use crate::json::{self, SCHEMA};

#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: u32,
    format: &'static str,
    dry_run: bool,
    sessions: Vec<Session<'a>>,
    unreadable: Vec<Unreadable<'a>>,
    warnings: &'a [String],
    imported: usize,
    skipped: usize,
    conflicts: usize,
}

/// A session of the old store.
#[derive(Debug, Serialize)]
struct Session<'a> {
    id: SessionId,
    legacy_id: &'a str,
    source: &'a str,
    name: &'a str,
    state: &'static str,
    /// `imported`, `skipped`, `conflict`.
    outcome: &'static str,
    mapped: &'a [String],
}

#[derive(Debug, Serialize)]
struct Unreadable<'a> {
    source: &'a str,
    reason: &'a str,
}

impl<'a> Unreadable<'a> {
    fn new(entry: &'a legacy::Unreadable) -> Self {
        Self { source: &entry.source, reason: &entry.reason }
    }
}

pub(super) async fn run(format: Format, path: &Path, dry_run: bool, context: &Context) -> Result<u8> {
    let found = legacy::read(format, path).map_err(|error| Failure::chain(error.code(), &error))?;
    let store = context.open().await?;
    let mut report = Report {
        schema: SCHEMA,
        format: format.name(),
        dry_run,
        sessions: Vec::new(),
        unreadable: found.unreadable().map(Unreadable::new).collect(),
        warnings: &found.warnings,
        imported: 0,
        skipped: 0,
        conflicts: 0,
    };
    for warning in &found.warnings {
        context.hint(warning, &[], &["import", "--help"]);
    }
    let mut stopped = None;
    for session in found.sessions() {
        match import_or_preview(session, dry_run, &**store.storage()).await {
            Ok(outcome) => report.session(session, outcome),
            // A failure of our own store affects all further sessions, too.
            Err(error) => {
                stopped = Some(Failure::from(error).about(session.id()));
                break;
            }
        }
    }
    if context.term.json {
        context.term.print(&format!("{}\n", json::line(&report)))?;
    } else {
        context.term.print(&report.text(path))?;
    }
    match stopped.or_else(|| report.failure()) {
        Some(failure) => Err(failure),
        None => Ok(0),
    }
}

async fn import_or_preview(
    session: &LegacySession,
    dry_run: bool,
    storage: &dyn sessionkit::backend::SessionStorage,
) -> Result<Outcome, StorageError> {
    if dry_run { session.preview(storage).await } else { session.import(storage).await }
}

impl<'a> Report<'a> {
    fn session(&mut self, session: &'a LegacySession, outcome: Outcome) {
        let (outcome, count) = match outcome {
            Outcome::Imported => ("imported", &mut self.imported),
            Outcome::Skipped => ("skipped", &mut self.skipped),
            Outcome::Conflict | _ => ("conflict", &mut self.conflicts),
        };
        *count += 1;
        self.sessions.push(Session {
            id: session.id(),
            legacy_id: session.legacy_id(),
            source: session.source(),
            name: &session.head().name,
            state: session.head().state().name().name(),
            outcome,
            mapped: session.mapped(),
        });
    }

    /// Formats the report for people: each entry with its mappings or the reason of its failure, then the counts.
    fn text(&self, path: &Path) -> String {
        let mut text = String::new();
        for Session { id, source, name, state, outcome, mapped, .. } in &self.sessions {
            let outcome = match (*outcome, self.dry_run) {
                ("imported", true) => "would be imported",
                ("imported", false) => "imported",
                ("skipped", _) => "already there",
                _ => "conflicts with a different log",
            };
            let _ = writeln!(text, "{id}  {outcome}, {state}: {} from {}", visible(name), visible(source));
            if mapped.is_empty() {
                text.push_str("  kept\n");
            }
            for note in *mapped {
                let _ = writeln!(text, "  mapped: {}", visible(note));
            }
        }
        for Unreadable { source, reason } in &self.unreadable {
            let _ = writeln!(text, "{}\n  unreadable: {}", visible(source), visible(reason));
        }
        let kept = self.sessions.iter().filter(|session| session.mapped.is_empty()).count();
        let _ = writeln!(
            text,
            "{}: {} {}, {} already there, {} in conflict; {kept} kept, {} mapped, {} unreadable",
            visible(&path.to_string_lossy()),
            self.imported,
            if self.dry_run { "would be imported" } else { "imported" },
            self.skipped,
            self.conflicts,
            self.sessions.len() - kept,
            self.unreadable.len(),
        );
        text
    }

    /// Returns the failure of the import, if any. Unreadable entries take precedence over conflicts, which lose
    /// nothing.
    fn failure(&self) -> Option<Failure> {
        let label = format!("imported-from={}", self.format);
        let next = ["ls", "--all", "--label", &label];
        let format = self.format;
        if !self.unreadable.is_empty() {
            let rest = if self.dry_run { "" } else { " (the rest was imported)" };
            let message =
                format!("unreadable entries in the {format} store{rest}: {}", self.unreadable.len());
            return Some(Failure::new(ErrorCode::Corrupt, message).next(&next));
        }
        (self.conflicts > 0).then(|| {
            let message = format!(
                "sessions of the {format} store that exist here with a different log, and were not changed: {}",
                self.conflicts
            );
            Failure::new(ErrorCode::Conflict, message).next(&next)
        })
    }
}
