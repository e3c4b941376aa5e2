//! Proofs of `sessionctl` as a whole, which `cargo xtask proofs` runs: failing system calls, power cuts of real file
//! systems, and crowds of processes on one store.

mod calls;
mod chaos;
mod command;
mod cuts;
mod outcome;
mod processes;

use std::process::ExitCode;

use self::outcome::{End, print};

/// The exit code of a proof that cannot run here, as test harnesses use it. The reason is on stdout.
const NOT_RUN: u8 = 77;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let (proof, probe, seed) = match *words {
        [proof, "--probe"] => (proof, true, 0),
        [proof, "--seed", seed] => (proof, false, seed.parse().unwrap_or(0)),
        _ => {
            print("usage: session-proofs calls|chaos|ext4|xfs|btrfs --probe|--seed N");
            return ExitCode::from(2);
        }
    };
    let end = match proof {
        "calls" => calls::run(seed, probe),
        "chaos" => chaos::run(seed, probe),
        "ext4" | "xfs" | "btrfs" => cuts::run(proof, seed, probe),
        other => Err(format!("there is no proof `{other}`").into()),
    };
    match end {
        Ok(End::Passed) => ExitCode::SUCCESS,
        Ok(End::NotRun(reason)) => {
            print(&reason);
            ExitCode::from(NOT_RUN)
        }
        Err(error) => {
            print(&error.to_string());
            ExitCode::FAILURE
        }
    }
}
