//! `cargo xtask kill [--cycles N] [--seed S]`: real processes on one store, ended by `kill -9`, stopped and raced.

use crate::Outcome;
use crate::args::Args;
use crate::workspace::cargo;

/// How many writers CI kills.
const CYCLES: u64 = 300;

pub(crate) fn run(mut args: Args) -> Outcome {
    let cycles = args.option("--cycles")?.unwrap_or(CYCLES);
    let seed: Option<u64> = args.option("--seed")?;
    args.finish()?;
    let mut command = cargo();
    command
        .args(["test", "--release", "--package", "session-storage-file", "--features", "fault-disk"])
        .args(["--test", "kill", "--", "--nocapture"])
        .env("SESSION_KILL_CYCLES", cycles.to_string())
        .env("SESSION_KILL_RACES", "200")
        .env("SESSION_KILL_PLACES", "10");
    if let Some(seed) = seed {
        command.env("SESSION_KILL_SEED", seed.to_string());
    }
    if command.status()?.success() {
        Ok(())
    } else {
        Err("a death did harm: see above for the seed that replays it".into())
    }
}
