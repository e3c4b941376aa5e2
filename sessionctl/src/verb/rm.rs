//! `rm`: removes sessions, independently of each other.

use serde::Serialize;
use sessionkit::{ErrorCode, SessionError, SessionId};

use crate::args::Rm;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::ids;
use crate::json::{self, SCHEMA, SessionOutcome};

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    removed: &'a [SessionId],
    failed: &'a [SessionOutcome],
}

pub(crate) async fn run(args: &Rm, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let mut ids = Vec::new();
    for id in &args.ids {
        ids.push(ids::resolve(context, manager, id, ids::Purpose::Remove).await?);
    }
    let (mut removed, mut failed, mut first) = (Vec::new(), Vec::new(), None);
    for id in ids {
        if let Err(failure) = super::worktree::remove_with(context, manager, id).await {
            let (code, message) = (failure.code().unwrap_or(ErrorCode::GitFailed), failure.message());
            failed.push(SessionOutcome::failed(id, code, message.unwrap_or_default()));
            first.get_or_insert(failure.about(id));
            continue;
        }
        match manager.delete_session(id).await {
            Ok(()) => removed.push(id),
            Err(error) => {
                failed.push(SessionOutcome::failed(id, error.code(), error.to_string()));
                let may_be_dead = matches!(error, SessionError::Owned { proven: false, .. });
                let mut failure = Failure::from(error).about(id);
                if !may_be_dead {
                    failure = failure.next(&["cancel", &id.to_string()]);
                }
                first.get_or_insert(failure);
            }
        }
    }
    if context.term.json {
        let report = Report { schema: SCHEMA, removed: &removed, failed: &failed };
        context.term.print(&format!("{}\n", json::line(&report)))?;
    } else {
        for id in &removed {
            context.term.print(&format!("{id}\n"))?;
        }
    }
    first.map_or(Ok(0), Err)
}
