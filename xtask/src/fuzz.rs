//! `cargo xtask fuzz`: random inputs for everything that parses foreign data, on a stable compiler. The targets and their
//! assertions are in `session-fuzz`, whose binary parses the arguments.

use crate::args::Args;
use crate::console::Outcome;
use crate::soak::{Program, Proof, Seed, Target};
use crate::subcommand::Subcommand;
use crate::workspace::cargo;

/// Cases of each target without `--cases` and `--minutes`.
pub(crate) const CASES: u64 = 20_000;
/// Cases of each target in one round of `cargo xtask proofs --full`.
pub(crate) const ROUND: u64 = 5_000;

pub(crate) const COMMAND: Subcommand = Subcommand {
    name: "fuzz",
    usage: "[TARGET…] [--cases N] [--minutes M] [--seed S] [--input FILE] [--corpus]",
    summary: "Fuzz the parsers: records, logs, slots, exports, names, reports, older stores",
    about: "\
Mutates valid inputs of each target and checks its assertions, in release. A case follows from its
seed alone. A failure prints the command that repeats it, and keeps the input in target/fuzz. The
same targets run under libFuzzer with `cargo +nightly fuzz run TARGET`.",
    options: &[
        (
            "TARGET…",
            "record_line, whole_log, slot, export_stream, names, report_socket or legacy_store\n(default: all)",
        ),
        ("--cases N", "cases of each target (default: 20000; with --minutes as many as fit)"),
        ("--minutes M", "stop after this time (default: after the cases)"),
        ("--seed S", "seed of the first case (default: random)"),
        ("--input FILE", "run one input of one target"),
        ("--corpus", "write valid inputs to fuzz/corpus, for libFuzzer"),
    ],
    examples: &[
        ("cargo xtask fuzz whole_log slot --minutes 30", "two targets for half an hour"),
        ("cargo xtask fuzz slot --seed 1210 --cases 1", "one case, such as a failure names"),
    ],
    run,
};

fn run(args: Args) -> Outcome {
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", "session-fuzz", "--"]).args(args.rest());
    if command.status()?.success() {
        Ok(())
    } else {
        Err("fuzzing failed; the command that repeats it is printed above".into())
    }
}

/// Creates the proof that runs all targets in the development build.
pub(crate) fn proof(cases: u64) -> Proof {
    let binary = Program::test("session-fuzz", "session-fuzz", Seed::Option("--seed"));
    let binary = Program { target: Target::Binary("session-fuzz"), ..binary };
    Proof {
        command: "fuzz".into(),
        programs: vec![binary.arg(&"--cases").arg(&cases)],
        size: format!("--cases {cases}"),
        failure: "an input broke an assertion",
    }
}
