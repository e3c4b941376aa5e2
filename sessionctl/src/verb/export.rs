//! `export`: prints sessions as a stream to stdout.

use sessionkit::storage::{ExchangeError, Output};
use sessionkit::{SessionFilter, SessionId};

use crate::args::Export;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::ids;

pub(crate) async fn run(args: &Export, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let mut ids: Vec<SessionId> = Vec::new();
    for text in &args.ids {
        let id = ids::resolve(context, manager, text, ids::Purpose::Use).await?;
        // An import rejects a session that occurs twice.
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if args.ids.is_empty() {
        let list = manager.list_sessions(SessionFilter::all()).await?;
        ids.extend(list.heads.iter().map(|head| head.id));
        ids.extend(list.unreadable.iter().map(|(id, _)| *id));
    }
    let output = if args.no_output { Output::LeftOut } else { Output::Included };
    let mut export = store.export(ids, output);
    while let Some(chunk) = export.next().await {
        context.term.print_bytes(&chunk)?;
    }
    // The other sessions are complete in the stream, but the export as a whole has failed.
    for (id, error) in export.failed().iter().skip(1) {
        context.hint(
            &format!("session {id} is missing from the export, or incomplete: {error}"),
            &[*id],
            &["verify", &id.to_string()],
        );
    }
    match export.failed().first() {
        Some((id, error)) => Err(failure(error).about(*id).next(&["verify", &id.to_string()])),
        None => Ok(0),
    }
}

pub(crate) fn failure(error: &ExchangeError) -> Failure {
    Failure::chain(error.code(), error)
}
