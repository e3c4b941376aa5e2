//! `cargo xtask kill [--cycles N] [--trees N] [--seed S]`: real processes, ended by `kill -9`, stopped and raced: writers
//! on one store, and trees of programs with whoever watches over them.

use std::process::Command;

use crate::Outcome;
use crate::args::Args;
use crate::workspace::cargo;

/// How many writers CI kills.
const CYCLES: u64 = 300;
/// How many owners of trees; a quarter as many supervisors, and an eighth as many of both at once.
const TREES: u64 = 300;

pub(crate) fn run(mut args: Args) -> Outcome {
    let cycles = args.option("--cycles")?.unwrap_or(CYCLES);
    let trees = args.option("--trees")?.unwrap_or(TREES);
    let seed: Option<u64> = args.option("--seed")?;
    args.finish()?;
    let mut writers = cargo();
    writers
        .args(["test", "--release", "--package", "session-storage-file", "--features", "fault-disk"])
        .args(["--test", "kill", "--", "--nocapture"])
        .env("SESSION_KILL_CYCLES", cycles.to_string())
        .env("SESSION_KILL_RACES", "200")
        .env("SESSION_KILL_PLACES", "10");
    let mut programs = cargo();
    programs
        .args(["test", "--release", "--package", "sessionctl", "--test", "trees", "--", "--nocapture"])
        .env("SESSION_TREE_ROUNDS", trees.to_string())
        .env("SESSION_MANY", "1000");
    if let Some(seed) = seed {
        writers.env("SESSION_KILL_SEED", seed.to_string());
        programs.env("SESSION_TREE_SEED", seed.to_string());
    }
    run_to_its_end(writers)?;
    run_to_its_end(programs)
}

fn run_to_its_end(mut command: Command) -> Outcome {
    if command.status()?.success() {
        Ok(())
    } else {
        Err("a death did harm: see above for the seed that replays it".into())
    }
}
