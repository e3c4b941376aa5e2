//! `cargo xtask codegen`: pages generated from the code. An ordinary test checks that they are up to date.

mod errors;
mod machine;
mod table;

use std::error::Error;
use std::fs;

use crate::args::Args;
use crate::console::Outcome;
use crate::subcommand::Subcommand;
use crate::workspace;

/// A path from the root, and the text that belongs there.
type Page = (&'static str, String);

pub(crate) const COMMAND: Subcommand = Subcommand {
    name: "codegen",
    usage: "[--check]",
    summary: "Generate the pages that follow from the code",
    about: "\
Writes docs/state-machine.md, by trying every event in every state on the machine, and docs/errors.md,
from the list of error codes.",
    options: &[("--check", "write nothing, and fail if a page is stale")],
    examples: &[("cargo xtask codegen", "after a change of the state machine or of the error codes")],
    run,
};

fn run(mut args: Args) -> Outcome {
    let check = args.flag("--check");
    args.finish()?;
    if check {
        return stale(&pages()?);
    }
    for (path, text) in pages()? {
        fs::write(workspace::root().join(path), text)?;
    }
    Ok(())
}

fn pages() -> Result<Vec<Page>, Box<dyn Error>> {
    Ok(vec![("docs/state-machine.md", machine::page()?), ("docs/errors.md", errors::page())])
}

fn stale(pages: &[Page]) -> Outcome {
    let stale: Vec<&str> = pages
        .iter()
        .filter(|(path, text)| !fs::read_to_string(workspace::root().join(path)).is_ok_and(|is| is == *text))
        .map(|(path, _)| *path)
        .collect();
    if stale.is_empty() {
        return Ok(());
    }
    let (files, are) = (stale.join(" and "), if stale.len() == 1 { "is" } else { "are" });
    Err(format!("{files} {are} stale: run `cargo xtask codegen` and commit the result").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generated_pages_are_up_to_date() {
        if let Err(error) = stale(&pages().unwrap()) {
            panic!("{error}");
        }
    }

    #[test]
    fn a_stale_page_is_named_with_its_repair() {
        let pages = [("docs/errors.md", "something else".to_owned()), ("docs/none.md", String::new())];
        let message = stale(&pages).unwrap_err().to_string();
        assert!(message.contains("docs/errors.md and docs/none.md"), "{message}");
        assert!(message.contains("cargo xtask codegen"), "{message}");
    }
}
