//! Fingerprints of what a step runs.

use std::fmt;

use serde::Serialize;
use session_core::Question;
use xxhash_rust::xxh3::Xxh3;

/// The fingerprint of what a step runs: its command with its input, or any value. Equal contents have equal fingerprints.
///
/// ```
/// use session_workflow::Fingerprint;
///
/// let make = |jobs: &str| Fingerprint::of_command([b"make".as_slice(), jobs.as_bytes()], None);
/// assert_eq!(make("-j8"), make("-j8"));
/// assert_ne!(make("-j8"), make("-j4"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Returns the fingerprint of a command: its arguments, and a digest of its input if it reads one.
    #[must_use]
    pub fn of_command<'a>(argv: impl IntoIterator<Item = &'a [u8]>, input: Option<&str>) -> Self {
        let mut hash = Xxh3::new();
        let mut add = |part: &[u8]| {
            // With its length, so that no two lists of arguments have the same bytes.
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        argv.into_iter().for_each(&mut add);
        if let Some(input) = input {
            add(b"input");
            add(input.as_bytes());
        }
        Self(format!("{:032x}", hash.digest128()))
    }

    /// Returns the fingerprint of a value.
    ///
    /// # Errors
    /// If the value cannot be converted to JSON.
    pub fn of_value<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        let json = serde_json::to_vec(value)?;
        Ok(Self::of_command([json.as_slice()], None))
    }

    /// Returns the fingerprint of a question: its text and its choices.
    #[must_use]
    pub fn of_question(question: &Question) -> Self {
        let choices = question.choices.iter().map(String::as_bytes);
        Self::of_command([question.text.as_bytes()].into_iter().chain(choices), None)
    }

    /// Returns a fingerprint as a log has it.
    pub(crate) fn recorded(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Returns the text that the log has.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The digest of the input of a command.
#[derive(Default)]
pub(crate) struct InputDigest(Xxh3);

impl InputDigest {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

impl fmt::Display for InputDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0.digest128())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_not_joined() {
        let of = |argv: &[&[u8]], input| Fingerprint::of_command(argv.iter().copied(), input);
        let all = [
            of(&[b"a", b"b"], None),
            of(&[b"ab"], None),
            of(&[b"a b"], None),
            of(&[b"a", b"b", b""], None),
            of(&[b"a"], Some("b")),
            of(&[b"a", b"b"], Some("")),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| other != one), "{at}");
        }
    }

    #[test]
    fn fingerprints_never_change() {
        // Recorded ends of older versions hold as long as this does.
        let found = Fingerprint::of_command([b"make".as_slice(), b"-j8"], Some("00ff"));
        assert_eq!(found.as_str(), "c27c65d7504183c9aef71cc4444cffae");
        assert_eq!(Fingerprint::default().as_str(), "");
    }
}
