//! What users of a manager rely on, over the memory storage.

#![cfg(test)]

mod around;
mod common;
mod cost;
mod defects;
mod faults;
mod given;
mod ownership;
mod recovery;
mod run;
mod told;
