//! `cargo xtask codegen`: the docs that are made from the code. With `--check` it writes nothing and fails where one is
//! stale; an ordinary test does the same.

mod errors;
mod machine;

use std::error::Error;
use std::fs;

use crate::Outcome;
use crate::args::Args;
use crate::workspace;

/// A file, from the root, and what belongs into it.
type Page = (&'static str, String);

pub(crate) fn run(mut args: Args) -> Outcome {
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
    Err(format!("{files} {are} not what the code says: run `cargo xtask codegen` and commit what it wrote")
        .into())
}

/// A table row.
fn row<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> String {
    let cells: Vec<String> = cells.into_iter().map(|cell| cell.as_ref().to_owned()).collect();
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generated_docs_are_what_the_code_says() {
        if let Err(error) = stale(&pages().unwrap()) {
            panic!("{error}");
        }
    }

    #[test]
    fn a_stale_page_is_named_with_the_way_to_repair_it() {
        let pages = [("docs/errors.md", "something else".to_owned()), ("docs/none.md", String::new())];
        let message = stale(&pages).unwrap_err().to_string();
        assert!(message.contains("docs/errors.md and docs/none.md"), "{message}");
        assert!(message.contains("cargo xtask codegen"), "{message}");
    }
}
