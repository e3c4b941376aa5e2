//! `recover`: what becomes of sessions whose owner died.

use serde::Serialize;
use sessionkit::{RecoveryOptions, RecoveryOutcome, RecoveryPolicy};

use crate::args::{Policy, Recover};
use crate::context::Context;
use crate::fail::{Failure, Result};
use crate::json::{self, Outcome, SCHEMA};
use crate::render::Table;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    dry_run: bool,
    recovered: &'a [Outcome],
    failed: &'a [Outcome],
}

pub(crate) async fn run(args: &Recover, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = store.manager();
    let policy = match args.policy {
        Policy::Fail => RecoveryPolicy::Fail,
        Policy::Pause => RecoveryPolicy::Pause,
        Policy::Resume => RecoveryPolicy::Resume,
    };
    let mut options = RecoveryOptions::new(policy);
    options.dry_run = args.dry_run;
    options.force = args.force.then(super::by);
    let report = manager.recover(options).await?;
    let recovered: Vec<Outcome> =
        report.recovered.iter().map(|(id, outcome)| Outcome::new(*id, word(outcome))).collect();
    let failed: Vec<Outcome> =
        report.failed.iter().map(|(id, error)| Outcome::failed(*id, error.code(), error.to_string())).collect();
    if context.term.json {
        let report = Report { schema: SCHEMA, dry_run: args.dry_run, recovered: &recovered, failed: &failed };
        context.term.print(&format!("{}\n", json::line(&report)))?;
    } else if recovered.is_empty() {
        context.hint("no session has lost its owner", &[], &["ls"]);
    } else {
        let mut table = Table::new(&["ID", if args.dry_run { "WOULD BE" } else { "IS NOW" }]);
        for Outcome { id, what, .. } in &recovered {
            table.row(vec![(id.to_string(), ""), (what.clone(), "")]);
        }
        context.term.print(&table.render(&context.term))?;
    }
    if !args.dry_run
        && let Some((id, _)) =
            report.recovered.iter().find(|(_, outcome)| matches!(outcome, RecoveryOutcome::Paused))
    {
        context.hint("paused sessions wait for somebody", &[*id], &["resume", &id.to_string()]);
    }
    // One that could not be recovered kept no other from it, and is no success.
    match report.failed.into_iter().next() {
        Some((id, error)) => Err(Failure::from(error).about(id)),
        None => Ok(0),
    }
}

const fn word(outcome: &RecoveryOutcome) -> &'static str {
    match outcome {
        RecoveryOutcome::Cancelled => "cancelled",
        RecoveryOutcome::Failed => "failed",
        RecoveryOutcome::Paused => "paused",
        RecoveryOutcome::Resumed => "running",
        _ => "recovered",
    }
}
