//! Tests of what users of a manager rely on, over the memory storage.

#![cfg(test)]

mod by_hand;
mod clock;
mod common;
mod cost;
mod delivery;
mod faults;
mod leftovers;
mod log_lines;
mod losses;
mod options;
mod ownership;
mod recovery;
mod regressions;
mod run;
mod steps;
mod waits;
mod wrapper;
