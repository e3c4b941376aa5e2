//! `cargo xtask test`: all tests of the repository. Requires Rust, git and a C linker, nothing else.

use crate::args::Args;
use crate::console::Outcome;
use crate::steps::{self, AfterFailure, Step};
use crate::subcommand::Subcommand;

pub(crate) const COMMAND: Subcommand = Subcommand {
    name: "test",
    usage: "",
    summary: "Run all tests, the examples in the docs and the example workspaces",
    about: "\
Runs the tests of every crate with all features, the examples in the docs, and the workspaces of
examples: the laws of the backend in examples/own-backend, and the program in examples/user. The
proofs (power cuts, damage, failing calls, kills, fuzzing) run with it at a small scale; `cargo xtask
proofs` runs them at full length. A failed step does not end it. Requires Rust, git and a C linker;
tests that need tmux, zsh, fish or strace are reported as not run if it is missing. Takes less than
six minutes on two cores once everything is built.",
    options: &[],
    examples: &[("cargo xtask test", "before a push, and in CI")],
    run,
};

fn run(args: Args) -> Outcome {
    args.finish()?;
    steps::run(&steps(), AfterFailure::Continue)
}

fn steps() -> Vec<Step> {
    let mut steps = vec![Step::cargo(
        "tests and examples in docs",
        &["test", "--locked", "--workspace", "--all-features", "--no-fail-fast"],
    )];
    steps.extend(EXAMPLES.iter().map(Example::step));
    steps
}

/// An example that is a workspace of its own, with its own `Cargo.lock`: code as others write it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Example {
    pub(crate) folder: &'static str,
    manifest: &'static str,
    title: &'static str,
}

pub(crate) static EXAMPLES: [Example; 2] = [
    Example {
        folder: "examples/own-backend",
        manifest: "examples/own-backend/Cargo.toml",
        title: "the example backend: all laws, and a command on its stores",
    },
    Example {
        folder: "examples/user",
        manifest: "examples/user/Cargo.toml",
        title: "the example program: mocks, anyhow, an own observer, an own backend",
    },
];

/// The target folder of the examples, which have most dependencies in common.
pub(crate) const EXAMPLES_TARGET: &str = "target/examples";

impl Example {
    /// Creates the step that tests it.
    pub(crate) fn step(&self) -> Step {
        let args = ["test", "--locked", "--workspace", "--manifest-path", self.manifest];
        Step::cargo(self.title, &args).env("CARGO_TARGET_DIR", EXAMPLES_TARGET)
    }
}
