//! `recover`: fails, pauses or resumes sessions whose owner died.

use std::sync::Arc;

use serde::Serialize;
use sessionkit::manager::{RecoveryOptions, RecoveryOutcome};
use sessionkit::storage::ReconcileReport;
use sessionkit::{RecoveryPolicy, SessionError, SessionId, SessionManager};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::advice::advise;
use crate::args::Recover;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::hints::{orphans, report_unknown};
use crate::json::{self, SCHEMA, SessionOutcome};
use crate::render::{Table, short};
use crate::reproduction::differences;
use crate::rerun::Rerun;
use crate::signals::Signals;
use crate::store_trust::strangers;

/// The number of paused sessions read in search of one that can be resumed from here.
const MAX_EXAMPLES: usize = 64;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    dry_run: bool,
    recovered: &'a [SessionOutcome],
    failed: &'a [SessionOutcome],
}

pub(crate) async fn run(args: &Recover, context: &Context) -> Result<u8> {
    let (rerun, mut ended) = Rerun::new(context.umask);
    let url = context.url()?;
    if args.policy.map(RecoveryPolicy::from) == Some(RecoveryPolicy::Resume) && !args.dry_run {
        super::check_trust(&url, args.trust_store, &["recover", "--trust-store", "--policy", "resume"])?;
    }
    // A policy of a session itself resumes nothing either, where others can have written it.
    let options = if args.trust_store || strangers(&url).is_none() {
        args.places.options().handler(Arc::<Rerun>::clone(&rerun))
    } else {
        args.places.options()
    };
    let store = context.open_with(options).await?;
    rerun.set_runner(store.runner()?);
    let manager = store.manager();
    let mut options = RecoveryOptions::new(args.policy.map_or_else(RecoveryPolicy::default, Into::into));
    options.overrules = args.policy.is_some();
    options.dry_run = args.dry_run;
    options.force = args.force.then(super::requester);
    let repaired = match store.maintenance() {
        // Lists may come from a cache, which is rebuilt first.
        Some(storage) if !args.dry_run => storage.reconcile().await?,
        Some(_) | None => ReconcileReport::default(),
    };
    if !args.dry_run {
        for head in orphans(&store, args.force).await? {
            // An error is met again, by the recovery of this session.
            let _ = super::end_leftovers(context, &store, head.id).await;
        }
    }
    // Before the first program starts: its session would be that of a dead owner.
    let signals = if args.dry_run { None } else { Some(Signals::catch()?) };
    let report = manager.recover(options).await?;
    let outcome =
        |(id, outcome): &(SessionId, RecoveryOutcome)| SessionOutcome::new(*id, outcome_name(outcome));
    let mut recovered: Vec<SessionOutcome> = report.recovered.iter().map(outcome).collect();
    for (outcome, (id, how)) in recovered.iter_mut().zip(&report.recovered) {
        if *how == RecoveryOutcome::Resumed
            && let Ok(stored) = manager.restore_session(*id).await
            && let Some(found) =
                stored.origin.map(|origin| differences(&origin)).filter(|found| !found.is_empty())
        {
            outcome.message = Some(found.join("; "));
        }
    }
    let mut unrecovered: Vec<(SessionId, SessionError)> =
        repaired.failed.into_iter().map(|(id, error)| (id, error.into())).collect();
    for (id, error) in report.failed {
        // A session that could not be reconciled fails to recover, too, and is reported once.
        if !unrecovered.iter().any(|(known, _)| *known == id) {
            unrecovered.push((id, error));
        }
    }
    let failed = |(id, error): &(SessionId, SessionError)| {
        SessionOutcome::failed(*id, error.code(), error.to_string())
    };
    let failed: Vec<SessionOutcome> = unrecovered.iter().map(failed).collect();
    if context.term.json {
        let report = Report { schema: SCHEMA, dry_run: args.dry_run, recovered: &recovered, failed: &failed };
        context.term.print(&format!("{}\n", json::line(&report)))?;
    } else if recovered.is_empty() {
        context.hint("no crashed sessions", &[], &["ls"]);
    } else {
        let mut table = Table::new(&["ID", if args.dry_run { "WOULD BE" } else { "IS NOW" }]);
        for SessionOutcome { id, outcome, .. } in &recovered {
            table.row(vec![(id.to_string(), ""), (outcome.clone(), "")]);
        }
        context.term.print(&table.render(&context.term))?;
        for (id, text) in recovered.iter().filter_map(|outcome| Some((outcome.id, outcome.message.as_ref()?)))
        {
            context.hint(&format!("session {}: {text}", short(id)), &[id], &["show", &id.to_string()]);
        }
    }
    if !args.force {
        report_unknown(context, &store).await?;
    }
    if !args.dry_run {
        let paused = report.recovered.iter().filter(|(_, outcome)| *outcome == RecoveryOutcome::Paused);
        hint_at_paused(context, &**manager, paused.map(|(id, _)| *id)).await;
    }
    if let Some(signals) = signals {
        let running =
            report.recovered.iter().filter(|(_, outcome)| *outcome == RecoveryOutcome::Resumed).count();
        wait_for_programs(context, running, &mut ended, signals, &rerun).await;
        manager.shutdown().await?;
    }
    let worktrees = if args.dry_run { Ok(()) } else { super::worktree::recover(context, &**manager).await };
    // A session that could not be recovered is a failure, even though all others were handled.
    match unrecovered.into_iter().next() {
        Some((id, error)) => Err(Failure::from(error).about(id)),
        None => worktrees.map(|()| 0),
    }
}

/// Prints how paused sessions continue, preferably by the example of one that can be resumed from here.
async fn hint_at_paused(
    context: &Context,
    manager: &dyn SessionManager,
    paused: impl Iterator<Item = SessionId>,
) {
    let mut chosen = None;
    for id in paused.take(MAX_EXAMPLES) {
        let advice = advise(manager, id).await;
        let found = advice.is_command();
        if found || chosen.is_none() {
            chosen = Some((id, advice));
        }
        if found {
            break;
        }
    }
    let Some((id, advice)) = chosen else { return };
    let text = match &advice.sentence {
        None => "paused sessions stay paused until they are resumed".to_owned(),
        Some(_) => advice.append_to(&format!("session {} stays paused until it is resumed", short(id))),
    };
    context.hint(&text, &[id], &advice.next());
}

/// Waits for the programs that run again in this process. They get its signals, as under `run`: a shutdown interrupts
/// their sessions, which the next `recover` resumes.
async fn wait_for_programs(
    context: &Context,
    mut running: usize,
    ended: &mut UnboundedReceiver<()>,
    mut signals: Signals,
    rerun: &Rerun,
) {
    if running > 0 {
        context.hint(&format!("waiting for resumed programs: {running}"), &[], &["ls"]);
    }
    while running > 0 {
        tokio::select! {
            _ = ended.recv() => running -= 1,
            number = signals.next() => rerun.signal(number),
        }
    }
}

const fn outcome_name(outcome: &RecoveryOutcome) -> &'static str {
    match outcome {
        RecoveryOutcome::Cancelled => "cancelled",
        RecoveryOutcome::Completed => "completed",
        RecoveryOutcome::Failed => "failed",
        RecoveryOutcome::Paused => "paused",
        RecoveryOutcome::Resumed => "running",
        _ => "recovered",
    }
}
