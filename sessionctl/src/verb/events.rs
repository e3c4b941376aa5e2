//! `events`: the log of a session, as it is stored or as people read it.

use crate::args::Events;
use crate::context::Context;
use crate::fail::{Failure, Result};
use crate::{ids, render};

/// Records that are read at once: a log may be larger than the memory.
const PAGE: usize = 512;

pub(crate) async fn run(args: &Events, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let id = ids::resolve(manager, &args.id).await?;
    let failed = |error| Failure::from(error).about(id);
    // Of a damaged log all that can be read is printed before the damage is told.
    let readable = manager.get_head(id).await.map_err(failed)?.tip.revision;
    let mut after = args.after;
    loop {
        let limit = match readable.checked_sub(after) {
            Some(left @ 1..) => usize::try_from(left).unwrap_or(PAGE).min(PAGE),
            // What came since; or why nothing comes.
            Some(0) | None => PAGE,
        };
        let page = manager.read_log(id, after, limit).await.map_err(failed)?;
        let Some(last) = page.last() else { return Ok(0) };
        after = last.revision();
        let text: String = page
            .iter()
            .map(
                |record| {
                    if context.term.json { format!("{}\n", record.line()) } else { render::event(record) }
                },
            )
            .collect();
        context.term.print(&text)?;
    }
}
