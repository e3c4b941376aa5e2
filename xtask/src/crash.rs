//! `cargo xtask crash [--images N | --plays N] [--minutes M] [--seed S]`: power cuts on the fault disk, at every call
//! boundary and in every way.

use crate::Outcome;
use crate::args::Args;
use crate::soak::{self, Program, Proof};

/// What CI cuts.
const IMAGES: u64 = 100_000;
/// Plays of one round of many: some seconds.
const PLAYS: u64 = 4;

pub(crate) fn run(mut args: Args) -> Outcome {
    let images = args.option("--images")?.unwrap_or(IMAGES);
    let plays: Option<u64> = args.option("--plays")?;
    let seed: Option<u64> = args.option("--seed")?;
    let time = soak::minutes(&mut args)?;
    args.finish()?;
    match time {
        Some(time) => proof(images, Some(plays.unwrap_or(PLAYS))).soak(time, seed),
        None => proof(images, plays).once(Some(seed.unwrap_or(1))),
    }
}

/// How many images there are depends on which thread is faster; how many plays does not.
fn proof(images: u64, plays: Option<u64>) -> Proof {
    let (variable, count, option) = match plays {
        Some(plays) => ("SESSION_CRASH_PLAYS", plays, "--plays"),
        None => ("SESSION_CRASH_IMAGES", images, "--images"),
    };
    Proof {
        name: "crash",
        programs: vec![Program {
            package: "session-storage-file",
            test: "crash",
            features: "fault-disk",
            seed: "SESSION_CRASH_SEED",
            env: vec![(variable, count.to_string())],
        }],
        size: format!("{option} {count}"),
        harm: "a power cut did harm",
    }
}
