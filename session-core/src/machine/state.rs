//! What a session is: its states and their names. How it gets from one to another is in `table`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::reason::{Failure, PauseReason, SessionSummary};

/// What a session is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// It exists and nobody has started it.
    Created,
    /// An owner runs it.
    Running {
        /// The highest iteration that was started; 0 before the first.
        iteration: u64,
    },
    /// It stands still.
    Paused {
        /// Why.
        reason: PauseReason,
    },
    /// It ended well.
    Completed {
        /// What it reports.
        summary: SessionSummary,
    },
    /// It ended badly.
    Failed {
        /// How.
        error: Failure,
    },
    /// It was ended on request.
    Cancelled {
        /// Why.
        reason: String,
    },
}

/// The name of a state, without what the state carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StateName {
    /// Nobody has started it.
    Created,
    /// An owner runs it.
    Running,
    /// It stands still.
    Paused,
    /// It ended well.
    Completed,
    /// It ended badly.
    Failed,
    /// It was ended on request.
    Cancelled,
}

impl StateName {
    /// Every state.
    pub const ALL: &[Self] =
        &[Self::Created, Self::Running, Self::Paused, Self::Completed, Self::Failed, Self::Cancelled];

    /// The name, as logs and `--json` write it.
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

    /// Whether a session in this state never lives again.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Created | Self::Running | Self::Paused => false,
            Self::Completed | Self::Failed | Self::Cancelled => true,
        }
    }

    /// The state of this name.
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
    /// The state's name.
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

    /// Whether the session never lives again.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        self.name().is_final()
    }
}
