//! Inputs that nobody should send, and what must hold of each: the bodies of the fuzz targets.
//!
//! A target is a function from bytes to whether they were accepted; it panics where something does not hold. The same
//! seven run under libFuzzer (the folder `fuzz`) and, on stable, in a seeded loop (`cargo xtask fuzz`) whose inputs come
//! from [`mutate`]: valid ones from [`corpus`], changed by chance.
//!
//! The first byte of an input says how it is meant. Its highest bit asks for the sums in it to be put right first, so
//! that what is behind the check of the sums is reached, too. What a target takes the other bits for, it says itself.

#![expect(
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "what is not there, and what nobody thought of, is a finding: here a panic is the way to tell one"
)]

pub mod corpus;
pub mod mutate;
mod repair;
mod samples;
pub mod targets;

pub use self::targets::{TARGETS, Target};

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputOutcome {
    /// It was taken for what it says, all of it.
    Accepted,
    /// It was refused, or some of it was.
    Refused,
}

/// Asks for the sums to be put right, in the first byte of an input.
pub const REPAIR: u8 = 0x80;

/// Drives a future to its end on this thread.
fn wait<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
