//! The sizes that the format allows, in one place, and the error for what is beyond.

/// Bytes of one record with its line end.
pub const RECORD_BYTES: usize = 1024 * 1024;
/// Nested arrays and objects in one record.
pub const NESTING: usize = 32;
/// Characters of a name.
pub const NAME_CHARS: usize = 128;
/// Labels of one session.
pub const LABELS: usize = 16;
/// Bytes of all labels of one session, as JSON.
pub const LABEL_BYTES: usize = 1024;
/// Bytes of a step or a phase.
pub const STEP_BYTES: usize = 256;
/// Bytes of a head as JSON.
pub const HEAD_BYTES: usize = 4096;
/// Bytes that a head keeps of a text.
pub(crate) const HEAD_TEXT: usize = 128;
/// Bytes that a head keeps of what names a person or a machine.
pub(crate) const HEAD_ID: usize = 64;

/// An argument that the format has no room for. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// Too large.
    #[error("{what} is {actual}, at most {limit} is allowed")]
    Exceeded {
        /// What was measured.
        what: &'static str,
        /// What it measured.
        actual: usize,
        /// What is allowed.
        limit: usize,
    },
    /// Of the wrong form.
    #[error("{what} {problem}")]
    Invalid {
        /// What was looked at.
        what: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl LimitError {
    pub(crate) const fn invalid(what: &'static str, problem: &'static str) -> Self {
        Self::Invalid { what, problem }
    }
}

pub(crate) const fn at_most(what: &'static str, actual: usize, limit: usize) -> Result<(), LimitError> {
    if actual > limit { Err(LimitError::Exceeded { what, actual, limit }) } else { Ok(()) }
}
