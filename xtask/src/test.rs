//! `cargo xtask test`: all tests of the repository. Requires Rust, git and a C linker, nothing else.

use crate::args::Args;
use crate::console::Outcome;
use crate::steps::{self, AfterFailure, Step};
use crate::subcommand::Subcommand;

pub(crate) const COMMAND: Subcommand = Subcommand {
    name: "test",
    usage: "",
    summary: "Run all tests, the examples in the docs and the laws of the example backend",
    about: "\
Runs the tests of every crate with all features, the examples in the docs, and the laws of the
backend in examples/own-backend. The proofs (power cuts, damage, failing calls, kills, fuzzing) run
with it at a small scale; `cargo xtask proofs` runs them at full length. A failed step does not end
it. Requires Rust, git and a C linker; tests that need tmux, zsh, fish or strace are reported as not
run if it is missing. Takes less than six minutes on two cores once everything is built.",
    options: &[],
    examples: &[("cargo xtask test", "before a push, and in CI")],
    run,
};

fn run(args: Args) -> Outcome {
    args.finish()?;
    steps::run(&steps(), AfterFailure::Continue)
}

fn steps() -> [Step; 2] {
    [
        Step::cargo(
            "tests and examples in docs",
            &["test", "--locked", "--workspace", "--all-features", "--no-fail-fast"],
        ),
        own_backend(),
    ]
}

/// Creates the step that tests the example backend, which is a workspace of its own.
pub(crate) fn own_backend() -> Step {
    let args = ["test", "--locked", "--manifest-path", "examples/own-backend/Cargo.toml"];
    Step::cargo("the example backend: all laws", &args).env("CARGO_TARGET_DIR", "target/own-backend")
}
