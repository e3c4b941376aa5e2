//! `cargo xtask bench`: how fast sessions are, beside what one would use instead. Builds the command and the harness,
//! and hands the arguments on.

use std::path::PathBuf;
use std::process::Command;

use crate::Outcome;
use crate::args::Args;
use crate::workspace::{cargo, root};

pub(crate) fn run(mut args: Args) -> Outcome {
    let delay: Option<u32> = args.option("--flush-delay")?;
    let mut build = cargo();
    build.args(["build", "--quiet", "--release", "--package", "session-bench", "--package", "sessionctl"]);
    if !build.status()?.success() {
        return Err("the benchmark cannot be built".into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let programs = root().join(target).join("release");
    let harness = programs.join("session-bench");
    let mut command = match delay {
        None => Command::new(harness),
        Some(micros) => {
            let mut command = slower(micros);
            command.arg(harness);
            command
        }
    };
    // What it writes is beside what was built: on a disk, and not in the way.
    command.current_dir(&programs).arg("--sessionctl").arg(programs.join("sessionctl")).args(args.rest());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("the measurement came to no end".into()),
        Err(error) if delay.is_some() => Err(format!("flushes are made slower with strace: {error}").into()),
        Err(error) => Err(error.into()),
    }
}

/// Runs a program whose flushes take so much longer, whoever asks for them: engines take no disk that is put below them.
fn slower(micros: u32) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["--follow-forks", "--seccomp-bpf", "--quiet=all", "--output=/dev/null"]);
    strace.args(["--trace=fsync,fdatasync", &format!("--inject=fsync,fdatasync:delay_exit={micros}")]);
    strace
}
