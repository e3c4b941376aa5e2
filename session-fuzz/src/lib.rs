//! Fuzz targets: parsers of untrusted inputs, with assertions about their results.
//!
//! A target is a function from bytes to an [`InputOutcome`]. It panics if an assertion fails. The same seven targets
//! run under libFuzzer (the folder `fuzz`) and, on stable Rust, in a seeded loop (`cargo xtask fuzz`). The loop takes
//! valid inputs from [`corpus`] and changes them at random with [`mutate`].
//!
//! The first byte of an input contains flags. With the highest bit set, the checksums in the input are corrected first,
//! so that the code behind the checksum verification is reached, too. Each target documents its other flags.

#![expect(
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a panic is how a target reports a finding"
)]

pub mod corpus;
pub mod mutate;
mod repair;
mod samples;
pub mod targets;

pub use self::targets::{TARGETS, Target};

/// The result of a target for an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputOutcome {
    /// The input was accepted completely.
    Accepted,
    /// The input was refused, completely or in part.
    Refused,
}

/// The flag in the first byte of an input that requests correction of its checksums.
pub const REPAIR: u8 = 0x80;

/// Runs a future to completion on this thread.
fn wait<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
