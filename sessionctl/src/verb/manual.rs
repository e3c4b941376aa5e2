//! `completions` and `man`: files generated from the definition of the command line.

use clap::CommandFactory as _;

use crate::args::{Cli, Completions, Man};
use crate::context::Context;
use crate::error::{Failure, Result};

const NAME: &str = "sessionctl";

pub(crate) fn completions(args: &Completions, context: &Context) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    context.term.print_bytes(&script)?;
    Ok(0)
}

pub(crate) fn pages(args: &Man, context: &Context) -> Result<u8> {
    let failed = |error: std::io::Error| {
        Failure::invalid(format!("cannot write the manual pages to {}: {error}", args.folder.display()))
    };
    std::fs::create_dir_all(&args.folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &args.folder).map_err(failed)?;
    let page = args.folder.join(format!("{NAME}.1"));
    context.term.print(&format!("{}\n", sessionkit::text::visible(&page.to_string_lossy())))?;
    Ok(0)
}
