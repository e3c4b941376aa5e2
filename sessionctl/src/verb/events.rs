//! `events`: prints the log of a session, as stored or formatted for people.

use sessionkit::backend::SessionStorageExt as _;
use sessionkit::log::{EventKind, StoredRecord};
use sessionkit::{SessionId, Store};

use crate::args::Events;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::follow::{Follower, POLL};
use crate::{hints, ids, render};

/// Records read at a time: a log may be larger than the memory.
const PAGE: usize = 512;

pub(crate) async fn run(args: &Events, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let id = ids::resolve(context, manager, &args.id, ids::Purpose::Use).await?;
    if args.follow {
        return follow(&store, id, args.after, context).await;
    }
    let failed = |error| Failure::from(error).about(id);
    // Prints all that can be read of a damaged log before it reports the damage.
    let readable = manager.get_head(id).await.map_err(failed)?.tip.revision;
    let mut after = args.after;
    loop {
        let limit = match readable.checked_sub(after) {
            Some(left @ 1..) => usize::try_from(left).unwrap_or(PAGE).min(PAGE),
            // Reads records appended since, or gets the error that follows the readable ones.
            Some(0) | None => PAGE,
        };
        let page = manager.read_log(id, after, limit).await.map_err(failed)?;
        let Some(last) = page.last() else { break };
        after = last.revision();
        print(context, &page)?;
    }
    hints::report_crashed(context, &store, None).await?;
    Ok(0)
}

async fn follow(store: &Store, id: SessionId, after: u64, context: &Context) -> Result<u8> {
    let (storage, manager) = (store.storage(), &**store.manager());
    let failed = |error: sessionkit::manager::StorageError| Failure::from(error).about(id);
    let head = manager.get_head(id).await.map_err(|error| Failure::from(error).about(id))?;
    // A revision beyond the end of the log is awaited, unless the session has ended.
    let mut printed = after.min(head.tip.revision);
    if after >= head.tip.revision && head.state().is_final() {
        storage.flushed_head(id).await.map_err(failed)?;
        return Ok(0);
    }
    let mut follower = Follower::new(context, manager, id);
    let mut log = storage.watch(id, printed, POLL);
    loop {
        let page = follower.wait(log.next()).await?.map_err(failed)?;
        let ending = page.iter().find(|record| ends(record));
        if let Some(ending) = ending {
            // The record may be read before it is flushed, and is lost again if that flush fails.
            let flushed = storage.flushed_head(id).await.map_err(failed)?;
            if flushed.tip.revision < ending.revision() || !flushed.state().is_final() {
                log = storage.watch(id, printed, POLL);
                continue;
            }
        }
        let ended = ending.is_some();
        printed = page.last().map_or(printed, StoredRecord::revision);
        let new: Vec<StoredRecord> = page.into_iter().filter(|record| record.revision() > after).collect();
        print(context, &new)?;
        if ended {
            return Ok(0);
        }
    }
}

/// Returns `true` if a record ends its session. A record that cannot be decoded is of a newer version: not an end.
fn ends(record: &StoredRecord) -> bool {
    let kind = record.decode().ok().map(|record| record.event.kind());
    matches!(kind, Some(EventKind::Completed | EventKind::Failed | EventKind::Cancelled))
}

fn print(context: &Context, page: &[StoredRecord]) -> Result<()> {
    let line = |record: &StoredRecord| {
        if context.term.json { format!("{}\n", record.line()) } else { render::event(record) }
    };
    context.term.print(&page.iter().map(line).collect::<String>())
}
