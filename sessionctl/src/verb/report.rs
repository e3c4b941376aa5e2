//! `report`: reports progress from inside a session, to the session's owner and not to the log.

use std::path::PathBuf;

use sessionkit::backend::blocking;
use sessionkit::log::ProgressReport;
use sessionkit::runner::{ReportError, SOCKET_VARIABLE, report};

use crate::args::Report;
use crate::context::Context;
use crate::error::{Failure, Result};

pub(crate) async fn run(args: &Report, context: &Context) -> Result<u8> {
    let mut update = ProgressReport::new();
    update.percent = args.progress;
    update.step.clone_from(&args.step);
    update.phase.clone_from(&args.phase);
    update.check().map_err(sessionkit::SessionError::from)?;
    let socket = std::env::var_os(SOCKET_VARIABLE).filter(|socket| !socket.is_empty()).map(PathBuf::from);
    let Some(socket) = socket else {
        return Err(Failure::invalid(format!("{SOCKET_VARIABLE} is not set: not inside a session"))
            .next(&["run", "--", "CMD"]));
    };
    blocking(move || report(&socket, update)).await.map_err(|error: ReportError| {
        let failure = Failure::chain(error.code(), &error);
        let session = std::env::var("SESSIONCTL_SESSION").ok().and_then(|id| id.parse().ok());
        session.map_or_else(|| Failure::chain(error.code(), &error), |id| failure.about(id))
    })?;
    if context.term.json {
        context
            .term
            .print(&format!("{}\n", crate::json::line(&serde_json::json!({ "schema": 1, "ok": true }))))?;
    }
    Ok(0)
}
