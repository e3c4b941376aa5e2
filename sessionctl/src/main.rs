//! The command `sessionctl`. All of it is in the library, so that a program with backends of its own is one, too.

use std::process::ExitCode;

fn main() -> ExitCode {
    sessionctl::main()
}
