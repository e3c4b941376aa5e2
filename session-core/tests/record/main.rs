//! What protects the records: that a line is one, that a log cannot be changed unnoticed, that every log of every
//! released format reads for ever.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what a helper of a test cannot do is a failed test"
)]

mod damage;
mod fixtures;
mod form;
mod limits;
mod stranger;
mod support;
