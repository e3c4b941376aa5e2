//! Counts that test programs print, summed up by name.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// Prefix of a line with counts: `tally: images=1200 plays=3`.
const PREFIX: &str = "tally: ";

/// Counts by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally(BTreeMap<String, u64>);

impl Tally {
    /// Reads the counts from the output of a program.
    pub(super) fn parse(output: &str) -> Self {
        let mut tally = Self::default();
        // The harness prints the name of a test in front of its first line.
        let lines = output.lines().filter_map(|line| line.split_once(PREFIX));
        let counts = lines.flat_map(|(_, counts)| counts.split(' '));
        for (name, count) in counts.filter_map(|count| count.split_once('=')) {
            *tally.0.entry(name.to_owned()).or_default() += count.parse::<u64>().unwrap_or(0);
        }
        tally
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            *self.0.entry(name.clone()).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (name, count) in &self.0 {
            write!(text, "{}{count} {name}", if text.is_empty() { "" } else { ", " })?;
        }
        f.write_str(if text.is_empty() { "no counts" } else { &text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_several_tests_are_added_up() {
        let output = "running 1 test\ntest a ... tally: images=7 plays=2\nok\nnoise=9\ntally: images=3\n";
        assert_eq!(Tally::parse(output).to_string(), "10 images, 2 plays");
        assert_eq!(Tally::default().to_string(), "no counts");
    }
}
