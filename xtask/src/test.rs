//! `cargo xtask test`: everything that shows that the product works. It needs Rust, git and a C linker, nothing else.

use crate::Outcome;
use crate::args::Args;
use crate::steps::{self, AfterFailure, Step};

/// In order. A check that is too heavy for the ordinary profile is a line of its own here, in release.
fn steps() -> Vec<Step> {
    vec![Step::cargo(
        "tests and examples in docs",
        &["test", "--workspace", "--all-features", "--no-fail-fast"],
    )]
}

pub(crate) fn run(args: Args) -> Outcome {
    args.finish()?;
    steps::run(&steps(), AfterFailure::GoOn)
}
