//! The states of a session and their names. Transitions between them are in `table`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::reason::{Failure, PauseReason, SessionSummary};

/// The state of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Created, not yet started.
    Created,
    /// Run by an owner.
    Running {
        /// The highest iteration that was started; 0 before the first.
        iteration: u64,
    },
    /// Paused.
    Paused {
        /// The reason.
        reason: PauseReason,
    },
    /// Ended successfully.
    Completed {
        /// The summary.
        summary: SessionSummary,
    },
    /// Ended with a failure.
    Failed {
        /// The failure.
        error: Failure,
    },
    /// Ended on request.
    Cancelled {
        /// The reason.
        reason: String,
    },
}

/// The name of a state, without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StateName {
    /// Created, not yet started.
    Created,
    /// Run by an owner.
    Running,
    /// Paused.
    Paused,
    /// Ended successfully.
    Completed,
    /// Ended with a failure.
    Failed,
    /// Ended on request.
    Cancelled,
}

impl StateName {
    /// Every state.
    pub const ALL: &[Self] =
        &[Self::Created, Self::Running, Self::Paused, Self::Completed, Self::Failed, Self::Cancelled];

    /// Returns the name, as written in logs and by `--json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Returns `true` if no session ever leaves this state.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Created | Self::Running | Self::Paused => false,
            Self::Completed | Self::Failed | Self::Cancelled => true,
        }
    }

    /// Returns the state with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.name() == name)
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl SessionState {
    /// Returns the name of the state.
    #[must_use]
    pub const fn name(&self) -> StateName {
        match self {
            Self::Created => StateName::Created,
            Self::Running { .. } => StateName::Running,
            Self::Paused { .. } => StateName::Paused,
            Self::Completed { .. } => StateName::Completed,
            Self::Failed { .. } => StateName::Failed,
            Self::Cancelled { .. } => StateName::Cancelled,
        }
    }

    /// Returns `true` if the session has ended.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        self.name().is_final()
    }
}
