//! `input`: types at the terminal of a running session.

use std::os::unix::ffi::OsStrExt as _;

use sessionkit::runner::type_text;

use super::attach::failure;
use crate::args::Input;
use crate::context::Context;
use crate::error::Result;
use crate::ids;

pub(crate) async fn run(args: &Input, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let id = ids::resolve(context, manager, &args.id, ids::Purpose::Use).await?;
    let mut text = args.text.as_bytes().to_vec();
    if args.enter {
        // What the key sends. The terminal makes a line feed of it for a program that reads lines.
        text.push(b'\r');
    }
    type_text(id, &text).await.map_err(|error| failure(id, &error))?;
    if context.term.json {
        super::print_session(context, manager, id).await?;
    }
    Ok(0)
}
