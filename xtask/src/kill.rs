//! `cargo xtask kill [--cycles N] [--trees N] [--minutes M] [--seed S]`: real processes, ended by `kill -9`, stopped and
//! raced: writers on one store, and trees of programs with whoever watches over them.

use crate::Outcome;
use crate::args::Args;
use crate::soak::{self, Program, Proof};

/// How many writers CI kills, and a third as many on each embedded database; two thirds as many races, and a thirtieth as
/// many rushes for places.
const CYCLES: u64 = 300;
/// How many owners of trees; a quarter as many supervisors, an eighth as many of both at once, and three times as many
/// short sessions.
const TREES: u64 = 300;
/// Writers and trees of one round of many: less than a minute.
const ROUND: (u64, u64) = (60, 32);

pub(crate) fn run(mut args: Args) -> Outcome {
    let cycles: Option<u64> = args.option("--cycles")?;
    let trees: Option<u64> = args.option("--trees")?;
    let seed: Option<u64> = args.option("--seed")?;
    let time = soak::minutes(&mut args)?;
    args.finish()?;
    match time {
        Some(time) => proof(cycles.unwrap_or(ROUND.0), trees.unwrap_or(ROUND.1)).soak(time, seed),
        None => proof(cycles.unwrap_or(CYCLES), trees.unwrap_or(TREES)).once(seed),
    }
}

/// Everything follows from the two numbers, so that with them and the seed a round can be had again.
fn proof(cycles: u64, trees: u64) -> Proof {
    Proof {
        name: "kill",
        programs: vec![
            Program {
                package: "session-storage-file",
                test: "kill",
                features: "fault-disk",
                seed: "SESSION_KILL_SEED",
                env: vec![
                    ("SESSION_KILL_CYCLES", cycles.to_string()),
                    ("SESSION_KILL_RACES", (cycles * 2 / 3).max(1).to_string()),
                    ("SESSION_KILL_PLACES", (cycles / 30).max(1).to_string()),
                ],
            },
            Program {
                package: "session-storage-sqlite",
                test: "kill",
                features: "",
                seed: "SESSION_KILL_SEED",
                env: vec![("SESSION_KILL_CYCLES", (cycles / 3).max(1).to_string())],
            },
            Program {
                package: "session-storage-sled",
                test: "kill",
                features: "",
                seed: "SESSION_KILL_SEED",
                env: vec![("SESSION_KILL_CYCLES", (cycles / 3).max(1).to_string())],
            },
            Program {
                package: "sessionctl",
                test: "trees",
                features: "",
                seed: "SESSION_TREE_SEED",
                env: vec![
                    ("SESSION_TREE_ROUNDS", trees.to_string()),
                    ("SESSION_MANY", (trees * 10 / 3).max(1).to_string()),
                ],
            },
        ],
        size: format!("--cycles {cycles} --trees {trees}"),
        harm: "a death did harm",
    }
}
