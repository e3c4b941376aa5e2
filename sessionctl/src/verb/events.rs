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
    let mut after = args.after;
    loop {
        let page = manager.read_log(id, after, PAGE).await.map_err(|error| Failure::from(error).about(id))?;
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
