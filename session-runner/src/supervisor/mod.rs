//! The supervisor: the small process between an owner and its program, which outlives a killed owner and then ends the
//! whole tree.
//!
//! `process` is that process, the same binary started with the hidden verb that `entry` recognises. `client` is the
//! owner's side, `waiting` its beginning, `messages` the protocol between the two, and `leftovers` finds the trees of killed supervisors.

pub(crate) mod client;
pub(crate) mod entry;
pub(crate) mod leftovers;
pub(crate) mod messages;
mod process;
pub(crate) mod program_marker;
pub(crate) mod waiting;
