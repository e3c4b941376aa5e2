//! `cargo xtask fuzz [TARGET…] [--cases N] [--minutes M] [--seed S]`: inputs that nobody should send, by chance, on
//! stable. What they are held against is in `session-fuzz`, which looks at the arguments.

use crate::Outcome;
use crate::args::Args;
use crate::workspace::cargo;

pub(crate) fn run(args: Args) -> Outcome {
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", "session-fuzz", "--"]).args(args.rest());
    if command.status()?.success() {
        Ok(())
    } else {
        Err("see above for what to type to have it again".into())
    }
}
