//! `cargo xtask bench`: how fast sessions are, beside what one would use instead. Builds the command and the harness,
//! and hands the arguments on.

use std::path::PathBuf;
use std::process::Command;

use crate::Outcome;
use crate::args::Args;
use crate::workspace::{cargo, root};

pub(crate) fn run(args: Args) -> Outcome {
    let mut build = cargo();
    build.args(["build", "--quiet", "--release", "--package", "session-bench", "--package", "sessionctl"]);
    if !build.status()?.success() {
        return Err("the benchmark cannot be built".into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let programs = root().join(target).join("release");
    let mut command = Command::new(programs.join("session-bench"));
    // What it writes is beside what was built: on a disk, and not in the way.
    command.current_dir(&programs).arg("--sessionctl").arg(programs.join("sessionctl")).args(args.rest());
    if command.status()?.success() { Ok(()) } else { Err("the measurement came to no end".into()) }
}
