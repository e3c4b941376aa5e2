//! `cargo xtask crash [--images N] [--seed S]`: power cuts on the fault disk, at every call boundary and in every way.

use crate::Outcome;
use crate::args::Args;
use crate::workspace::cargo;

/// What CI cuts.
const IMAGES: u64 = 100_000;

pub(crate) fn run(mut args: Args) -> Outcome {
    let images = args.option("--images")?.unwrap_or(IMAGES);
    let seed: u64 = args.option("--seed")?.unwrap_or(1);
    args.finish()?;
    let status = cargo()
        .args(["test", "--release", "--package", "session-storage-file", "--features", "fault-disk"])
        .args(["--test", "crash", "--", "--nocapture"])
        .env("SESSION_CRASH_IMAGES", images.to_string())
        .env("SESSION_CRASH_SEED", seed.to_string())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err("a power cut did harm: see above for the seed that replays it".into())
    }
}
