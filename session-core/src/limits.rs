//! The limits of the format, and the error for exceeding one.

/// Maximum size of one record with its line end, in bytes.
pub const RECORD_BYTES: usize = 1024 * 1024;
/// Maximum nesting depth of arrays and objects in one record.
pub const NESTING: usize = 32;
/// Maximum length of a name, in characters.
pub const NAME_CHARS: usize = 128;
/// Maximum number of labels of one session.
pub const LABELS: usize = 16;
/// Maximum size of all labels of one session, in bytes as JSON.
pub const LABEL_BYTES: usize = 1024;
/// Maximum size of a step or a phase, in bytes.
pub const STEP_BYTES: usize = 256;
/// Maximum size of the key of a step, in bytes.
pub const STEP_KEY_BYTES: usize = 256;
/// Maximum size of the texts for people about a step (its command, an error), in bytes.
pub const STEP_TEXT_BYTES: usize = 4096;
/// Maximum number of choices of a question.
pub const CHOICES: usize = 64;
/// Maximum size of the input files of a step, their paths and digests, in bytes in all.
pub const INPUT_BYTES: usize = 128 * 1024;
/// Maximum size of one part of a step's value, in bytes: it fits into a record whatever its characters are.
pub const VALUE_PART_BYTES: usize = 128 * 1024;
/// Maximum size of the value of a step, in bytes.
pub const VALUE_BYTES: usize = 16 * 1024 * 1024;
/// Maximum number of changed files that one iteration names. All of these limits together leave room for the record,
/// whatever characters the names have.
pub const NAMED_FILES: usize = 1000;
/// Maximum size of the paths of these files, in bytes in all.
pub const NAMED_FILES_BYTES: usize = 64 * 1024;
/// Maximum number of commits that one iteration names.
pub const NAMED_COMMITS: usize = 100;
/// Maximum size of the id of a commit, in bytes.
pub const COMMIT_ID_BYTES: usize = 64;
/// Maximum size of the name of a branch, in bytes.
pub const BRANCH_BYTES: usize = 1024;
/// Maximum size of the mark of a worktree, in bytes.
pub const MARK_BYTES: usize = 32;
/// Maximum size of the subject of a commit, in bytes.
pub const SUBJECT_BYTES: usize = 256;
/// Maximum size of a head, in bytes as JSON.
pub const HEAD_BYTES: usize = 4096;
/// Number of commands that a [`WorkHistory`](crate::WorkHistory) keeps.
pub const HISTORY_COMMANDS: usize = 100;
/// Number of commits that a [`WorkHistory`](crate::WorkHistory) keeps.
pub const HISTORY_COMMITS: usize = 100;
/// Size to which a head cuts texts, in bytes.
pub(crate) const HEAD_TEXT: usize = 128;
/// Size to which a head cuts names of people and machines, in bytes.
pub(crate) const HEAD_ID: usize = 64;

/// An argument that violates a limit of the format. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// Too large.
    #[error("{what} is {actual}, at most {limit} is allowed")]
    Exceeded {
        /// The quantity, with its unit.
        what: &'static str,
        /// Its value.
        actual: usize,
        /// The maximum.
        limit: usize,
    },
    /// Invalid form.
    #[error("{what} {problem}")]
    Invalid {
        /// The argument.
        what: &'static str,
        /// The problem.
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
