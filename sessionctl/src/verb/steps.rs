//! `steps`: lists the steps of a session, and its eaches, questions and sleeps.

pub(crate) mod rows;

use std::time::Duration;

use serde::Serialize;
use sessionkit::log::StepIdentity;
use sessionkit::workflow::{StepState, StepStatus, WorkflowState};
use sessionkit::{SessionId, SessionManager};

use self::rows::{EachRow, Identity, QuestionRow, SleepRow, one_line};
use crate::args::Steps;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::render::{self, Table};
use crate::{ids, json};

pub(crate) async fn run(args: &Steps, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let id = ids::resolve(context, manager, &args.id, ids::Purpose::Use).await?;
    let failed = |error| Failure::from(error).about(id);
    let state = WorkflowState::read(manager, id).await.map_err(failed)?;
    let mut rows = Vec::new();
    for (step, status) in state.steps().in_order() {
        rows.push(Row::new(manager, id, step, status).await.map_err(failed)?);
    }
    let eaches: Vec<_> =
        state.eaches().in_order().into_iter().map(|(each, status)| EachRow::new(each, status)).collect();
    let questions = QuestionRow::all(state.questions());
    let sleeps = SleepRow::all(state.sleeps());
    if context.term.json {
        let steps = serde_json::json!({
            "schema": json::SCHEMA,
            "session": id,
            "steps": rows,
            "eaches": eaches,
            "questions": questions,
            "sleeps": sleeps,
        });
        context.term.print(&format!("{}\n", json::line(&steps)))?;
        return Ok(0);
    }
    let steps = if rows.is_empty() { None } else { Some(render(&rows, context)) };
    let tables = [
        steps,
        rows::eaches(&eaches, context),
        rows::questions(&questions, context),
        rows::sleeps(&sleeps, context),
    ];
    let tables: Vec<String> = tables.into_iter().flatten().collect();
    if tables.is_empty() {
        context.hint("the session has no steps", &[id], &["show", &id.to_string()]);
    } else {
        context.term.print(&tables.join("\n"))?;
    }
    Ok(0)
}

/// A step, for people and programs.
#[derive(Debug, Serialize)]
struct Row {
    step: String,
    #[serde(flatten)]
    identity: Identity,
    /// `completed`, `skipped`, `running`, `failed`, `timed-out` or `unknown`.
    state: &'static str,
    /// The number of its starts in this session.
    starts: u64,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_bytes: Option<u64>,
    /// The beginning of the value, on one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    /// The reason why a later attempt would run it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    runs_again: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inherited_from: Option<SessionId>,
}

impl Row {
    async fn new(
        manager: &dyn SessionManager,
        id: SessionId,
        step: &StepIdentity,
        status: &StepStatus,
    ) -> std::result::Result<Self, sessionkit::SessionError> {
        let mut row = Self {
            step: step.to_string(),
            identity: Identity::of(step),
            state: "running",
            starts: status.starts,
            attempt: status.attempt,
            exit_code: None,
            signal: None,
            duration_ms: None,
            value_bytes: None,
            value: None,
            error: None,
            command: status.command.clone(),
            runs_again: None,
            inherited_from: status.inherited_from,
        };
        match &status.state {
            StepState::Open => {}
            StepState::Completed { end, .. } => {
                row.state = if end.skipped { "skipped" } else { "completed" };
                row.exit_code = Some(end.exit_code);
                row.duration_ms = Some(end.duration_ms);
                row.value_bytes = end.value_bytes;
                row.value = status.value_beginning(manager, id).await?.map(|value| one_line(&value));
            }
            StepState::Failed(failure) => {
                row.state = if failure.timed_out { "timed-out" } else { "failed" };
                (row.exit_code, row.signal) = (failure.exit_code, failure.signal);
                row.duration_ms = Some(failure.duration_ms);
                row.error.clone_from(&failure.error);
                row.runs_again = Some("failed");
            }
            StepState::Unknown => {
                row.state = "unknown";
                row.runs_again = Some("unknown");
            }
        }
        Ok(row)
    }

    /// Returns the result, for people.
    fn result(&self) -> String {
        if let Some(error) = &self.error {
            return error.clone();
        }
        match (self.state, self.exit_code, self.signal, &self.value) {
            ("unknown", ..) => "may have happened".to_owned(),
            (_, Some(0), _, Some(value)) => value.clone(),
            (_, Some(0) | None, None, _) => String::new(),
            (_, Some(code), ..) => format!("exit code {code}"),
            (_, None, Some(signal), _) => format!("signal {}", sessionkit::runner::signal_name(signal)),
        }
    }
}

fn render(rows: &[Row], context: &Context) -> String {
    let mut table = Table::new(&["STEP", "STATE", "STARTS", "TOOK", "RESULT"]);
    for row in rows {
        let took = row.duration_ms.map_or_else(String::new, |ms| render::duration(Duration::from_millis(ms)));
        let (state, starts) = match row.inherited_from {
            Some(_) if row.starts == 0 => (format!("{} (inherited)", row.state), "-".to_owned()),
            _ => (row.state.to_owned(), row.starts.to_string()),
        };
        let colour = match row.state {
            "failed" | "timed-out" => "31",
            "unknown" => "33",
            "running" => "36",
            _ => "",
        };
        let cells =
            vec![(row.step.clone(), ""), (state, colour), (starts, ""), (took, ""), (row.result(), "")];
        table.row(cells);
    }
    table.render(&context.term)
}
