//! `verify`: checks the stored data of sessions, and repairs it.

use serde::Serialize;
use sessionkit::manager::StorageError;
use sessionkit::storage::{Condition, Loss, LossPolicy, SessionHealth, StorageMaintenance};
use sessionkit::{ErrorCode, SessionError, SessionId, Store};

use crate::args::Verify;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::ids;
use crate::json::{self, SCHEMA};
use crate::render::Table;

#[derive(Serialize)]
struct Report {
    schema: u32,
    sessions: Vec<Checked>,
    /// Names of unexpected entries among the sessions.
    foreign: Vec<String>,
    /// Problems of the store itself.
    problems: Vec<String>,
    /// Repairs of the store itself.
    repairs: Vec<String>,
}

/// The result for one session, after the repair if there was one.
#[derive(Debug, Serialize)]
struct Checked {
    id: SessionId,
    /// `healthy`, `torn`, `degraded`, `corrupt`, `invalid`, `unsupported`; `unlisted` for an active session that lists
    /// do not show; `quarantined` for a session of which nothing was readable and whose loss was accepted; `unknown` for
    /// a session that could not be checked.
    verdict: &'static str,
    /// The verdict before a repair.
    before: Option<&'static str>,
    /// Records that can be read.
    readable: Option<u64>,
    /// The highest revision known to be flushed.
    flushed: Option<u64>,
    /// Bytes after the readable records.
    bytes_behind: Option<u64>,
    /// The problem found.
    problem: Option<String>,
    /// The accepted loss.
    lost: Option<Lost>,
    /// The reason why the session could not be checked or repaired.
    #[serde(skip)]
    error: Option<SessionError>,
}

/// Records that were given up.
#[derive(Debug, Serialize)]
struct Lost {
    /// The last revision that is left; 0 if the whole session was given up.
    readable: u64,
    /// The last revision that was known to be flushed.
    flushed: u64,
    /// Bytes found in place of the lost records.
    bytes: u64,
    /// The file or folder that keeps these bytes.
    kept: String,
}

impl Lost {
    fn new(loss: &Loss) -> Self {
        let Loss { readable, flushed, bytes, .. } = *loss;
        Self { readable, flushed, bytes, kept: loss.kept.display().to_string() }
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { readable, flushed, bytes, kept } = self;
        match (*readable, flushed.saturating_sub(*readable)) {
            (0, 0) => write!(f, "gave up the whole session, of which nothing was readable")?,
            (0, lost) => write!(f, "gave up the whole session, with {lost} flushed records")?,
            (_, 0) => write!(f, "gave up what followed record {readable}")?,
            (_, 1) => write!(f, "gave up 1 flushed record after record {readable}")?,
            (_, lost) => write!(f, "gave up {lost} flushed records after record {readable}")?,
        }
        write!(f, "; {bytes} bytes are kept in {kept}")
    }
}

const UNLISTED: &str = "unlisted";
const UNKNOWN: &str = "unknown";
const QUARANTINED: &str = "quarantined";

impl Checked {
    fn new(health: &SessionHealth) -> Self {
        Self {
            id: health.id,
            verdict: health.condition.as_str(),
            before: None,
            readable: Some(health.readable()),
            flushed: Some(health.flushed),
            bytes_behind: Some(health.behind),
            problem: health.problem.as_ref().map(ToString::to_string),
            lost: None,
            error: None,
        }
    }

    fn unknown(id: SessionId, error: SessionError) -> Self {
        let problem = Some(error.to_string());
        let nothing = (None, None, None);
        let (readable, flushed, bytes_behind) = nothing;
        Self {
            id,
            verdict: UNKNOWN,
            before: None,
            readable,
            flushed,
            bytes_behind,
            problem,
            lost: None,
            error: Some(error),
        }
    }

    /// Returns `true` if nothing has to be done. The next write repairs a torn log, and an accepted loss is settled.
    fn is_ok(&self) -> bool {
        self.error.is_none()
            && [Condition::Healthy.as_str(), Condition::Torn.as_str(), QUARANTINED].contains(&self.verdict)
    }

    /// Returns `true` if it is damaged, and nothing else than that was in the way of its repair.
    fn is_damaged(&self) -> bool {
        self.verdict != UNKNOWN
            && !self.is_ok()
            && match &self.error {
                // The system refused something, or failed.
                Some(SessionError::Storage(
                    StorageError::Full { .. }
                    | StorageError::Io { .. }
                    | StorageError::Unavailable { source: Some(_), .. },
                )) => false,
                Some(_) | None => true,
            }
    }

    /// Sets the reason why it could not be repaired.
    fn not_repaired(&mut self, error: SessionError) {
        (self.problem, self.error) = (Some(error.to_string()), Some(error));
    }
}

pub(crate) async fn run(args: &Verify, context: &Context) -> Result<u8> {
    let (store, damage) = context.open_to_verify().await?;
    let Some(storage) = store.maintenance() else {
        return Err(Failure::invalid(format!("{} does not support verification", store.url())));
    };
    let storage = &**storage;
    let mut report = Report {
        schema: SCHEMA,
        sessions: Vec::new(),
        foreign: Vec::new(),
        problems: Vec::new(),
        repairs: Vec::new(),
    };
    let mut not_repaired = Vec::new();
    if args.repair && (args.ids.is_empty() || damage.is_some()) {
        // Nothing can be repaired before the store itself is.
        let reconciled = storage.reconcile().await.map_err(|error| {
            let failure = Failure::from(error);
            if damage.is_some() { failure.next(&["verify"]) } else { failure }
        })?;
        (report.repairs, not_repaired) = (reconciled.store, reconciled.failed);
    } else if !args.ids.is_empty() {
        report.problems.extend(damage);
    }
    if args.ids.is_empty() {
        verify_all(&store, storage, args, &mut report).await?;
    } else {
        for text in &args.ids {
            let id = ids::resolve(context, &**store.manager(), text, ids::Purpose::Use).await?;
            let found = storage.verify(id).await.map_err(|error| Failure::from(error).about(id))?;
            report.sessions.push(verify_one(&store, storage, args, &found).await);
        }
    }
    for (id, error) in not_repaired {
        match report.sessions.iter_mut().find(|checked| checked.id == id) {
            // Repaired since, or the reason is known.
            Some(checked) if checked.before.is_some() || checked.error.is_some() => {}
            Some(checked) => checked.not_repaired(error.into()),
            None => report.sessions.push(Checked::unknown(id, error.into())),
        }
    }
    print(context, &report)?;
    let unhealthy: Vec<&Checked> = report.sessions.iter().filter(|checked| !checked.is_ok()).collect();
    if unhealthy.is_empty()
        && let Some(problem) = report.problems.first()
    {
        let message = format!("store check failed (all sessions are healthy): {problem}");
        let failure = Failure::new(ErrorCode::Corrupt, message);
        return Err(if args.repair {
            failure.next(&["ls", "--all"])
        } else {
            failure.next(&["verify", "--repair"])
        });
    }
    let severity =
        |checked: &&&Checked| (checked.is_damaged(), checked.verdict == Condition::Corrupt.as_str());
    let Some(worst) = unhealthy.iter().max_by_key(severity) else { return Ok(0) };
    let id = worst.id.to_string();
    if let Some(error) = worst.error.as_ref().filter(|_| !worst.is_damaged()) {
        let done = if args.repair && worst.verdict != UNKNOWN { "repaired" } else { "checked" };
        let text = format!("{} of {} sessions could not be {done}", unhealthy.len(), report.sessions.len());
        return Err(Failure::new(error.code(), format!("{text}: {error}")).about(worst.id).denied_if(error));
    }
    let failure = Failure::new(
        ErrorCode::Corrupt,
        format!("{} of {} sessions failed verification", unhealthy.len(), report.sessions.len()),
    )
    .about(worst.id);
    // A repair never discards flushed records, so it is safe to suggest. What it cannot repair needs a decision.
    Err(match (args.repair, args.accept_loss) {
        (false, _) if !report.problems.is_empty() => failure.next(&["verify", "--repair"]),
        (false, _) => failure.next(&["verify", "--repair", &id]),
        (true, false) if worst.verdict == Condition::Corrupt.as_str() => {
            failure.next(&["verify", "--repair", "--accept-loss", &id])
        }
        (true, _) => failure.next(&["events", &id]),
    })
}

async fn verify_all(
    store: &Store,
    storage: &dyn StorageMaintenance,
    args: &Verify,
    report: &mut Report,
) -> Result<()> {
    let found = storage.verify_all().await?;
    for session in &found.sessions {
        let mut checked = verify_one(store, storage, args, session).await;
        if checked.is_ok() && found.unmarked.contains(&session.id) {
            checked.verdict = UNLISTED;
        }
        report.sessions.push(checked);
    }
    report.sessions.extend(found.failed.into_iter().map(|(id, error)| Checked::unknown(id, error.into())));
    report.foreign = found.foreign;
    report.problems = found.problems;
    Ok(())
}

async fn verify_one(
    store: &Store,
    storage: &dyn StorageMaintenance,
    args: &Verify,
    found: &SessionHealth,
) -> Checked {
    let mut checked = Checked::new(found);
    if !args.repair || found.condition == Condition::Healthy {
        return checked;
    }
    let loss_policy = if args.accept_loss { LossPolicy::Accept } else { LossPolicy::Refuse };
    match store.repair(found.id, loss_policy).await {
        Ok(repaired) => {
            let (before, lost) = (Some(repaired.before.as_str()), repaired.loss.as_ref().map(Lost::new));
            if repaired.tip.is_none() {
                return Checked { verdict: QUARANTINED, before, problem: None, lost, ..checked };
            }
            match storage.verify(found.id).await {
                Ok(after) => Checked { before, lost, ..Checked::new(&after) },
                Err(error) => Checked { lost, ..Checked::unknown(found.id, error.into()) },
            }
        }
        Err(error) => {
            checked.not_repaired(error);
            checked
        }
    }
}

fn print(context: &Context, report: &Report) -> Result<()> {
    if context.term.json {
        return context.term.print(&format!("{}\n", json::line(report)));
    }
    for problem in &report.problems {
        context.hint(&format!("store check failed: {problem}"), &[], &["verify", "--repair"]);
    }
    for repair in &report.repairs {
        context.hint(&format!("store repaired: {repair}"), &[], &["ls", "--all"]);
    }
    if report.sessions.is_empty() {
        context.hint("no sessions yet", &[], &["run", "--", "true"]);
        return Ok(());
    }
    let mut table = Table::new(&["ID", "CONDITION", "RECORDS", "PROBLEM"]);
    for checked in &report.sessions {
        let verdict = match checked.before {
            Some(before) if before != checked.verdict => format!("{} (was {before})", checked.verdict),
            _ => checked.verdict.to_owned(),
        };
        let colour = if checked.is_ok() { "32" } else { "31" };
        table.row(vec![
            (checked.id.to_string(), ""),
            (verdict, colour),
            (checked.readable.map(|readable| readable.to_string()).unwrap_or_default(), ""),
            (
                checked
                    .lost
                    .as_ref()
                    .map(ToString::to_string)
                    .or(checked.problem.clone())
                    .unwrap_or_default(),
                "",
            ),
        ]);
    }
    context.term.print(&table.render(&context.term))?;
    for name in &report.foreign {
        context.hint(&format!("unexpected entry in sessions/: {name}"), &[], &["ls", "--all"]);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
