//! `cargo xtask damage`: damage in every file of random stores, which must be reported or harmless.

use crate::args::Args;
use crate::console::Outcome;
use crate::soak::{self, Program, Proof, Seed};
use crate::subcommand::Subcommand;

/// Cases of a run without `--minutes`; a twentieth as many on sled, where each case is a process.
pub(crate) const CASES: u64 = 20_000;
/// Cases of one round with `--minutes`: some seconds.
pub(crate) const ROUND: u64 = 5_000;

pub(crate) const COMMAND: Subcommand = Subcommand {
    name: "damage",
    usage: "[--cases N] [--minutes M] [--seed S]",
    summary: "Damage the files of random stores and check that no damage is silent",
    about: "\
Damages one file of a healthy store in each case: bits flipped, lines dropped, doubled or swapped,
parts cut off, zeroed or removed. Each case must be reported or harmless, and must not affect another
session. A second test flips every bit of a log. A twentieth as many cases run on sled. A run depends
on its seed only; a failure prints the seed.",
    options: &[
        ("--cases N", "number of cases (default: 20000; each round of --minutes has 5000)"),
        ("--minutes M", "run rounds with new seeds for this long (default: one run)"),
        ("--seed S", "seed of the run, or of all rounds with --minutes (default: 1; with --minutes random)"),
    ],
    examples: &[("cargo xtask damage --minutes 30", "for half an hour")],
    run,
};

fn run(mut args: Args) -> Outcome {
    let cases: Option<u64> = args.option("--cases")?;
    let seed: Option<u64> = args.option("--seed")?;
    let time = soak::minutes(&mut args)?;
    args.finish()?;
    match time {
        Some(time) => proof(cases.unwrap_or(ROUND)).soak(time, seed),
        None => proof(cases.unwrap_or(CASES)).once(seed.unwrap_or(1)),
    }
}

pub(crate) fn proof(cases: u64) -> Proof {
    let variable = Seed::Variable("SESSION_DAMAGE_SEED");
    // Only without debug assertions does the test of single bits flip each of them.
    let file = Program::release_test("session-storage-file", "damage", variable);
    let sled = Program::test("session-storage-sled", "damage", variable);
    Proof {
        command: "damage".into(),
        programs: vec![
            file.env("SESSION_DAMAGE_CASES", &cases),
            sled.env("SESSION_DAMAGE_CASES", &(cases / 20).max(1)),
        ],
        size: format!("--cases {cases}"),
        failure: "damage was silent, or affected another session",
    }
}
