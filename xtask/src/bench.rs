//! `cargo xtask bench [--json]`: what the command costs a user who waits for it.

use crate::Outcome;
use crate::args::Args;
use crate::workspace::cargo;

pub(crate) fn run(mut args: Args) -> Outcome {
    let json = args.flag("--json");
    args.finish()?;
    let mut command = cargo();
    command.args(["bench", "--quiet", "--package", "sessionctl", "--bench", "cost", "--"]);
    if json {
        command.arg("--json");
    }
    if command.status()?.success() { Ok(()) } else { Err("the measurement came to no end".into()) }
}
