//! `show`: one session whole.

use sessionkit::SessionState;

use crate::args::Show;
use crate::context::Context;
use crate::fail::Result;
use crate::{hints, ids};

pub(crate) async fn run(args: &Show, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let id = ids::resolve(manager, &args.id).await?;
    let session = super::print_session(context, manager, id).await?;
    let id = id.to_string();
    if !context.term.json
        && let SessionState::Failed { .. } | SessionState::Cancelled { .. } = session.state
    {
        context.hint("its story is in its log", &[], &["events", &id]);
    }
    hints::crashed(context, manager, None).await?;
    Ok(0)
}
