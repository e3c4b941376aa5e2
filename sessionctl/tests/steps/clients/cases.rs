//! The cases that every client passes.

mod questions;
mod steps;
mod unknown;

use super::case::Case;

pub(super) fn cases() -> Vec<Case> {
    [steps::cases(), unknown::cases(), questions::cases()].into_iter().flatten().collect()
}
