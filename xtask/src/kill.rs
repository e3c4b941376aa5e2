//! `cargo xtask kill`: real processes that are killed, stopped and raced: writers on one store, and trees of programs
//! with their supervisors.

use crate::args::Args;
use crate::console::Outcome;
use crate::soak::{self, Program, Proof, Seed, new_seed};
use crate::subcommand::Subcommand;

/// Killed writers of a run without `--minutes`, and a third as many on each embedded database; two thirds as many races
/// for an orphan, and a thirtieth as many races for a place in a full store.
pub(crate) const CYCLES: u64 = 300;
/// Killed owners of trees; a quarter as many supervisors, an eighth as many of both together, and three times as many
/// short sessions.
pub(crate) const TREES: u64 = 300;
/// Writers and trees of one round with `--minutes`: less than a minute.
pub(crate) const ROUND: (u64, u64) = (60, 32);

pub(crate) const COMMAND: Subcommand = Subcommand {
    name: "kill",
    usage: "[--cycles N] [--trees N] [--minutes M] [--seed S]",
    summary: "Kill, stop and race real processes",
    about: "\
Kills writers on one store at random points and checks that every acknowledged record is in the log;
lets processes race for orphans and for places in a full store; kills owners and supervisors of
process trees and checks that nothing is left running. Runs on the file backend, SQLite and sled.
The seed repeats the choices (which process, after how long), not the speed of the processes: a
failure may take several tries to repeat.",
    options: &[
        ("--cycles N", "writers to kill (default: 300; each round of --minutes has 60)"),
        ("--trees N", "owners of process trees to kill (default: 300; each round of --minutes has 32)"),
        ("--minutes M", "run rounds with new seeds for this long (default: one run)"),
        ("--seed S", "seed of the run, or of all rounds with --minutes (default: random)"),
    ],
    examples: &[("cargo xtask kill --minutes 30", "for half an hour")],
    run,
};

fn run(mut args: Args) -> Outcome {
    let cycles: Option<u64> = args.option("--cycles")?;
    let trees: Option<u64> = args.option("--trees")?;
    let seed: Option<u64> = args.option("--seed")?;
    let time = soak::minutes(&mut args)?;
    args.finish()?;
    match time {
        Some(time) => proof(cycles.unwrap_or(ROUND.0), trees.unwrap_or(ROUND.1)).soak(time, seed),
        None => proof(cycles.unwrap_or(CYCLES), trees.unwrap_or(TREES)).once(seed.unwrap_or_else(new_seed)),
    }
}

/// Creates the proof. All counts follow from the two numbers, so that they and the seed repeat a round.
pub(crate) fn proof(cycles: u64, trees: u64) -> Proof {
    let writers = |package| Program::test(package, "kill", Seed::Variable("SESSION_KILL_SEED"));
    let files = writers("session-storage-file")
        .env("SESSION_KILL_CYCLES", &cycles)
        .env("SESSION_KILL_RACES", &(cycles * 2 / 3).max(1))
        .env("SESSION_KILL_PLACES", &(cycles / 30).max(1));
    let database = |package| writers(package).env("SESSION_KILL_CYCLES", &(cycles / 3).max(1));
    let programs = vec![
        files,
        database("session-storage-sqlite"),
        database("session-storage-sled"),
        Program::test("sessionctl", "trees", Seed::Variable("SESSION_TREE_SEED"))
            .env("SESSION_TREE_ROUNDS", &trees)
            .env("SESSION_MANY", &(trees * 10 / 3).max(1)),
    ];
    Proof {
        command: "kill".into(),
        programs,
        size: format!("--cycles {cycles} --trees {trees}"),
        failure: "a killed process left damage or running children",
    }
}
