//! `migrate`: copies all sessions into another store, and reads them back to compare.

use std::time::{Duration, Instant};

use serde::Serialize;
use sessionkit::ErrorCode;
use sessionkit::storage::{MigratedSession, MigrationOutcome, Output};

use super::export::failure;
use crate::args::Migrate;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::json::{self, SCHEMA, SessionOutcome};
use crate::render::Table;

/// Interval of progress messages.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Counts of the migration, and the sessions that were not copied.
#[derive(Debug, Default, Serialize)]
struct Report {
    schema: u32,
    /// Sessions copied into the other store.
    copied: usize,
    /// Sessions that existed there with the same log.
    already_there: usize,
    /// Records of copied and existing sessions, each read back and compared.
    records: u64,
    /// Bytes of output of copied and existing sessions, read back and compared.
    output_bytes: u64,
    /// Sessions that were not copied.
    left: Vec<SessionOutcome>,
    #[serde(skip)]
    first_failure: Option<Failure>,
}

impl Report {
    fn add(&mut self, moved: MigratedSession) {
        let id = moved.id;
        let mut count = |records, output| {
            self.records += records;
            self.output_bytes += output;
        };
        let failure = match moved.outcome {
            Ok(MigrationOutcome::Copied { records, output }) => {
                count(records, output);
                self.copied += 1;
                return;
            }
            Ok(MigrationOutcome::AlreadyThere { records, output }) => {
                count(records, output);
                self.already_there += 1;
                return;
            }
            Ok(MigrationOutcome::OwnerMayBeAlive | _) => {
                let message = "its owner is, or may be, alive: migrate it after it has ended";
                self.left.push(SessionOutcome::failed(id, ErrorCode::Conflict, message));
                Failure::new(ErrorCode::Conflict, format!("session {id} was not copied: {message}"))
                    .next(&["wait", &id.to_string()])
            }
            Err(error) => {
                self.left.push(SessionOutcome::failed(id, error.code(), error.to_string()));
                failure(&error).next(&["verify", &id.to_string()])
            }
        };
        self.first_failure.get_or_insert(failure.about(id));
    }
}

pub(crate) async fn run(args: &Migrate, context: &Context) -> Result<u8> {
    let from = context.open().await?;
    let to = Context::open_other(&args.to).await?;
    let output = if args.no_output { Output::LeftOut } else { Output::Included };
    let mut migration = from.migrate(&to, output).await.map_err(|error| failure(&error))?;
    let (total, mut last_report) = (migration.total(), Instant::now());
    let (mut report, mut done) = (Report { schema: SCHEMA, ..Report::default() }, 0);
    while let Some(moved) = migration.next().await {
        done += 1;
        report.add(moved);
        if last_report.elapsed() >= REPORT_EVERY && !context.term.json {
            last_report = Instant::now();
            context.term.print_stderr(&format!("migrated {done} of {total} sessions"));
        }
    }
    let first_failure = report.first_failure.take();
    if context.term.json {
        context.term.print(&format!("{}\n", json::line(&report)))?;
    } else if total == 0 {
        context.hint("no sessions to copy", &[], &["run", "--", "true"]);
    } else {
        let mut table = Table::new(&["COPIED", "ALREADY THERE", "NOT COPIED", "RECORDS", "OUTPUT BYTES"]);
        let counts =
            [report.copied as u64, report.already_there as u64, report.left.len() as u64, report.records];
        let mut row: Vec<_> = counts.iter().map(|count| (count.to_string(), "")).collect();
        row.push((report.output_bytes.to_string(), ""));
        table.row(row);
        context.term.print(&table.render(&context.term))?;
        for left in report.left.iter().skip(1) {
            let message = left.message.as_deref().unwrap_or_default();
            let next = ["verify", &left.id.to_string()];
            context.hint(&format!("session {} was not copied: {message}", left.id), &[left.id], &next);
        }
    }
    match first_failure {
        Some(failure) => Err(failure),
        None => Ok(0),
    }
}
