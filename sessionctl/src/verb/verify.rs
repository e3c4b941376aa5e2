//! `verify`: checks the stored data of sessions, and repairs it.

use serde::Serialize;
use sessionkit::{
    Condition, ErrorCode, LossPolicy, SessionError, SessionHealth, SessionId, StorageMaintenance, Store,
};

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
}

/// The result for one session, after the repair if there was one.
#[derive(Debug, Serialize)]
struct Checked {
    id: SessionId,
    /// `healthy`, `torn`, `degraded`, `corrupt`, `invalid`, `unsupported`; `unlisted` for an active session that lists
    /// do not show; `unknown` for a session that could not be checked.
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
}

const UNLISTED: &str = "unlisted";
const UNKNOWN: &str = "unknown";

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
        }
    }

    fn unknown(id: SessionId, error: &SessionError) -> Self {
        let problem = Some(error.to_string());
        let nothing = (None, None, None);
        let (readable, flushed, bytes_behind) = nothing;
        Self { id, verdict: UNKNOWN, before: None, readable, flushed, bytes_behind, problem }
    }

    /// Returns `true` if nothing has to be done. The next write repairs a torn log.
    fn is_ok(&self) -> bool {
        self.verdict == Condition::Healthy.as_str() || self.verdict == Condition::Torn.as_str()
    }
}

pub(crate) async fn run(args: &Verify, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let Some(storage) = store.maintenance() else {
        return Err(Failure::invalid(format!("{} does not support verification", store.url())));
    };
    let storage = &**storage;
    let mut report =
        Report { schema: SCHEMA, sessions: Vec::new(), foreign: Vec::new(), problems: Vec::new() };
    if args.ids.is_empty() {
        verify_all(&store, storage, args, &mut report).await?;
    } else {
        for text in &args.ids {
            let id = ids::resolve(&**store.manager(), text).await?;
            let found = storage.verify(id).await.map_err(|error| Failure::from(error).about(id))?;
            report.sessions.push(verify_one(&store, storage, args, &found).await);
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
    let Some(worst) = unhealthy.iter().max_by_key(|checked| checked.verdict == Condition::Corrupt.as_str())
    else {
        return Ok(0);
    };
    let id = worst.id.to_string();
    let failure = Failure::new(
        ErrorCode::Corrupt,
        format!("{} of {} sessions failed verification", unhealthy.len(), report.sessions.len()),
    )
    .about(worst.id);
    // A repair never discards flushed records, so it is safe to suggest. What it cannot repair needs a decision.
    Err(match (args.repair, args.accept_loss) {
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
    if args.repair {
        storage.reconcile().await?;
    }
    let found = storage.verify_all().await?;
    for session in &found.sessions {
        let mut checked = verify_one(store, storage, args, session).await;
        if checked.is_ok() && found.unmarked.contains(&session.id) {
            checked.verdict = UNLISTED;
        }
        report.sessions.push(checked);
    }
    report.sessions.extend(found.failed.into_iter().map(|(id, error)| Checked::unknown(id, &error.into())));
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
        Ok(repaired) if repaired.tip.is_none() => {
            checked.problem = Some("nothing was readable: moved to quarantine".to_owned());
            checked
        }
        Ok(repaired) => match storage.verify(found.id).await {
            Ok(after) => Checked { before: Some(repaired.before.as_str()), ..Checked::new(&after) },
            Err(error) => Checked::unknown(found.id, &error.into()),
        },
        Err(error) => {
            let failure: Vec<String> =
                std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
                    .map(ToString::to_string)
                    .collect();
            checked.problem = Some(failure.join(": "));
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
            (checked.problem.clone().unwrap_or_default(), ""),
        ]);
    }
    context.term.print(&table.render(&context.term))?;
    for name in &report.foreign {
        context.hint(&format!("unexpected entry in sessions/: {name}"), &[], &["ls", "--all"]);
    }
    Ok(())
}
