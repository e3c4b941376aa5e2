//! `cargo xtask test`: everything that shows that the product works. It needs Rust, git and a C linker, nothing else.

use crate::Outcome;
use crate::args::Args;
use crate::steps::{self, AfterFailure, Step};

/// In order. A check that is too heavy for the ordinary profile is a step of its own here, in release.
fn steps() -> Vec<Step> {
    vec![
        Step::cargo(
            "tests and examples in docs",
            &["test", "--workspace", "--all-features", "--no-fail-fast"],
        ),
        Step::cargo(
            "a backend that somebody else wrote: all laws",
            &["test", "--locked", "--manifest-path", "examples/own-backend/Cargo.toml"],
        )
        .env("CARGO_TARGET_DIR", "target/own-backend"),
        Step::cargo(
            "machine: 10 million random sequences",
            &["test", "--release", "--package", "session-core", "--test", "machine", "table::"],
        )
        .env("SESSION_MACHINE_SEQUENCES", "10_000_000"),
        Step::cargo(
            "memory: 1 GiB of output without a line end, lines of 100 MB",
            &[
                "test",
                "--release",
                "--package",
                "sessionctl",
                "--test",
                "ctl",
                "memory::",
                "--",
                "--nocapture",
            ],
        )
        .env("SESSIONCTL_TEST_MIB", "1024"),
        Step::cargo("damage: 20,000 cases and every bit; 1,000 cases on sled", &["xtask", "damage"]),
        Step::cargo(
            "failing calls: every call of the disk failed, and a second one after it",
            &[
                "test",
                "--release",
                "--package",
                "session-storage-file",
                "--all-features",
                "--test",
                "failures",
                "--",
                "--nocapture",
            ],
        ),
        Step::cargo("power cuts: 100,000 images", &["xtask", "crash"]),
        Step::cargo(
            "kill -9: 300 writers, 200 races, 300 trees; 1,000 sessions in a row",
            &["xtask", "kill"],
        ),
    ]
}

pub(crate) fn run(args: Args) -> Outcome {
    args.finish()?;
    steps::run(&steps(), AfterFailure::Continue)
}
