//! `completions` and `man`: files generated from the definition of the command line.

use crate::args::{self, Completions, Man};
use crate::context::Context;
use crate::error::{Failure, Result};

const NAME: &str = "sessionctl";

pub(crate) fn completions(options: &Completions, context: &Context) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut args::command(), NAME, &mut script);
    context.term.print_bytes(&script)?;
    Ok(0)
}

pub(crate) fn pages(options: &Man, context: &Context) -> Result<u8> {
    let failed = |error: std::io::Error| {
        Failure::invalid(format!("cannot write the manual pages to {}: {error}", options.folder.display()))
    };
    // These files are for all users, unless the caller wants otherwise.
    rustix::process::umask(context.umask);
    std::fs::create_dir_all(&options.folder).map_err(failed)?;
    clap_mangen::generate_to(args::command(), &options.folder).map_err(failed)?;
    let page = options.folder.join(format!("{NAME}.1"));
    context.term.print(&format!("{}\n", sessionkit::text::visible(&page.to_string_lossy())))?;
    Ok(0)
}
