//! Tests of records: the form of a line, detection of every change to a log, and readability of every released format.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what a helper of a test cannot do is a failed test"
)]

mod damage;
mod fixtures;
mod form;
mod independent_reader;
mod limits;
mod support;
mod waits;
