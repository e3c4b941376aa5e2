//! `cargo xtask bench`: builds the benchmark harness `session-bench` and `sessionctl`, and passes the arguments on.

use std::path::PathBuf;
use std::process::Command;

use crate::args::Args;
use crate::console::Outcome;
use crate::subcommand::Subcommand;
use crate::workspace::{cargo, root};

pub(crate) const COMMAND: Subcommand = Subcommand {
    name: "bench",
    usage: "[--json] [--quick] [--drop-caches] [--flush-delay MICROS] [PART…]",
    summary: "Measure sessions next to raw flushes, SQLite and a rewritten JSON file",
    about: "\
Builds session-bench and sessionctl in release and measures on the disk that holds the target
folder. All parts take ten to fifteen minutes. docs/performance.md explains the figures.",
    options: &[
        ("--json", "print the figures as JSON"),
        ("--quick", "measure a part of it in about one minute"),
        ("--drop-caches", "drop the page cache before cold reads (requires root)"),
        ("--flush-delay MICROS", "delay each flush by this time, with strace (default: no delay)"),
        ("PART…", "parts to measure, such as `backends` (default: all)"),
    ],
    examples: &[
        ("cargo xtask bench --quick", "a first impression"),
        ("cargo xtask bench backends --flush-delay 2000", "the backends on a slow disk"),
    ],
    run,
};

fn run(mut args: Args) -> Outcome {
    let delay: Option<u32> = args.option("--flush-delay")?;
    let mut build = cargo();
    build.args(["build", "--quiet", "--release", "--package", "session-bench", "--package", "sessionctl"]);
    if !build.status()?.success() {
        return Err("building the benchmark failed".into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let programs = root().join(target).join("release");
    let harness = programs.join("session-bench");
    let mut command = match delay {
        None => Command::new(harness),
        Some(micros) => {
            let mut command = with_slow_flushes(micros);
            command.arg(harness);
            command
        }
    };
    // It writes next to the build: that folder is on a disk, and ignored by git.
    command.current_dir(&programs).arg("--sessionctl").arg(programs.join("sessionctl")).args(args.rest());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("the benchmark failed".into()),
        Err(error) if delay.is_some() => {
            Err(format!("starting strace, which delays the flushes: {error}").into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns an `strace` call that delays every flush of a program and its children. The embedded databases accept no disk
/// of ours, so the delay is injected into the system calls.
fn with_slow_flushes(micros: u32) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["--follow-forks", "--seccomp-bpf", "--quiet=all", "--output=/dev/null"]);
    strace.args(["--trace=fsync,fdatasync", &format!("--inject=fsync,fdatasync:delay_exit={micros}")]);
    strace
}
