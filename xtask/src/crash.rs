//! `cargo xtask crash`: power cuts on the fault disk, after every call and in every way.

use crate::args::Args;
use crate::console::Outcome;
use crate::soak::{self, Program, Proof, Seed};
use crate::subcommand::Subcommand;

/// Images of a run without `--minutes`.
pub(crate) const IMAGES: u64 = 100_000;
/// Plays of one round with `--minutes`: some seconds.
pub(crate) const ROUND: u64 = 4;

pub(crate) const COMMAND: Subcommand = Subcommand {
    name: "crash",
    usage: "[--images N | --plays N] [--minutes M] [--seed S]",
    summary: "Cut the power at every call of the file backend",
    about: "\
A play is one to three processes on a disk in memory that create, write, flush and delete sessions.
The power is cut after each call of the disk in each way: unsynced data is kept, lost, torn, zeroed
or reordered. Each image is opened, recovered and checked: no flushed record may be missing, and no
record may appear that was not written. A run depends on its seed only; a failure prints the seed.",
    options: &[
        ("--images N", "check at least this many images (default: 100000)"),
        ("--plays N", "run exactly this many plays instead; each round of --minutes has 4"),
        ("--minutes M", "run rounds with new seeds for this long (default: one run)"),
        (
            "--seed S",
            "seed of the first play, or of all rounds with --minutes (default: 1; with --minutes random)",
        ),
    ],
    examples: &[
        ("cargo xtask crash --minutes 60", "for an hour"),
        ("cargo xtask crash --seed 725352 --plays 1", "one play, such as a failure names"),
    ],
    run,
};

fn run(mut args: Args) -> Outcome {
    let images = args.option("--images")?.unwrap_or(IMAGES);
    let plays: Option<u64> = args.option("--plays")?;
    let seed: Option<u64> = args.option("--seed")?;
    let time = soak::minutes(&mut args)?;
    args.finish()?;
    match time {
        Some(time) => proof(images, Some(plays.unwrap_or(ROUND))).soak(time, seed),
        None => proof(images, plays).once(seed.unwrap_or(1)),
    }
}

/// Creates the proof. The number of images depends on the speed of the threads; the number of plays does not.
pub(crate) fn proof(images: u64, plays: Option<u64>) -> Proof {
    let (variable, count, option) = match plays {
        Some(plays) => ("SESSION_CRASH_PLAYS", plays, "--plays"),
        None => ("SESSION_CRASH_IMAGES", images, "--images"),
    };
    let seed = Seed::Variable("SESSION_CRASH_SEED");
    Proof {
        command: "crash".into(),
        programs: vec![Program::test("session-storage-file", "crash", seed).env(variable, &count)],
        size: format!("{option} {count}"),
        failure: "a power cut lost or invented data",
    }
}
