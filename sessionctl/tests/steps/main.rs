//! Steps of scripts: each runs once, and never again in a later attempt or retry.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test, a missing value is a failure")]

mod attempts;
mod clients;
mod each;
mod each_rounds;
mod ends;
mod fixture;
mod inputs;
mod look;
mod names;
mod places;
#[path = "../ctl/rounds.rs"]
mod rounds;
mod step_rounds;
mod values;
mod waits;
