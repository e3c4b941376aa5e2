//! `cargo xtask damage [--cases N] [--minutes M] [--seed S]`: damage in every file of random stores: told or harmless,
//! never silent.

use crate::Outcome;
use crate::args::Args;
use crate::soak::{self, Program, Proof};

/// What CI damages; a twentieth as many on sled, where each case is a process.
const CASES: u64 = 20_000;
/// Cases of one round of many: some seconds.
const ROUND: u64 = 5_000;

pub(crate) fn run(mut args: Args) -> Outcome {
    let cases: Option<u64> = args.option("--cases")?;
    let seed: Option<u64> = args.option("--seed")?;
    let time = soak::minutes(&mut args)?;
    args.finish()?;
    match time {
        Some(time) => proof(cases.unwrap_or(ROUND)).soak(time, seed),
        None => proof(cases.unwrap_or(CASES)).once(Some(seed.unwrap_or(1))),
    }
}

fn proof(cases: u64) -> Proof {
    Proof {
        name: "damage",
        programs: vec![
            Program {
                package: "session-storage-file",
                test: "damage",
                features: "fault-disk",
                seed: "SESSION_DAMAGE_SEED",
                env: vec![("SESSION_DAMAGE_CASES", cases.to_string())],
            },
            Program {
                package: "session-storage-sled",
                test: "damage",
                features: "",
                seed: "SESSION_DAMAGE_SEED",
                env: vec![("SESSION_DAMAGE_CASES", (cases / 20).max(1).to_string())],
            },
        ],
        size: format!("--cases {cases}"),
        harm: "damage was silent, or spread",
    }
}
