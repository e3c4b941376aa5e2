//! The result type of commands, and their output.

use std::error::Error;
use std::io::{self, Write as _};

/// The result of a command. Any error ends `xtask` with exit code 1, a [`Usage`](crate::args::Usage) error with 2; `main`
/// prints the error with its causes.
pub(crate) type Outcome = Result<(), Box<dyn Error>>;

/// Writes to stdout. A reader that has closed it, such as a pager, is no error.
///
/// # Errors
/// Any other failed write.
pub(crate) fn print(text: &str) -> Outcome {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
