//! Errors of steps.

use session_core::limits::LimitError;
use session_core::{ErrorCode, SessionError, StorageError};

/// The reason why a step has no result.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The step was refused before anything ran. No further step of the attempt starts.
    #[error("{message}")]
    Refused {
        /// The stable error code: `STEP_UNKNOWN`, `STEP_CHANGED` or `STEP_OPEN`.
        code: ErrorCode,
        /// The reason.
        message: String,
    },
    /// An earlier step of the attempt was refused.
    #[error("no step starts any more in this attempt: {message}")]
    AfterRefusal {
        /// The code of the refusal.
        code: ErrorCode,
        /// Its reason.
        message: String,
    },
    /// The name, the key or the fingerprint exceeds a limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// No other process can open the store of the session while it runs, so that nobody can answer the question.
    #[error(
        "question `{question}` cannot be answered: no other process can open a {store} store while its session runs; \
         answer it before the session runs, or give it a default"
    )]
    Unanswerable {
        /// The name of the question.
        question: String,
        /// The kind of store.
        store: &'static str,
    },
    /// The session has ended, or the storage failed. The step did not start, or its end is not recorded.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The work of the step failed.
    #[error("step `{step}` failed: {message}")]
    Failed {
        /// The step.
        step: String,
        /// The error of the work.
        message: String,
    },
    /// The recorded value of the step cannot be read as the type that is asked for, or the value cannot be recorded.
    #[error("the value of step `{step}` {problem}")]
    Value {
        /// The step.
        step: String,
        /// The problem.
        problem: String,
    },
}

impl StepError {
    /// Returns the stable error code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused { code, .. } | Self::AfterRefusal { code, .. } => *code,
            Self::Limit(error) => StorageError::from(error.clone()).code(),
            Self::Session(error) => error.code(),
            Self::Failed { .. } => ErrorCode::WorkFailed,
            Self::Value { .. } | Self::Unanswerable { .. } => ErrorCode::InvalidArgument,
        }
    }
}
