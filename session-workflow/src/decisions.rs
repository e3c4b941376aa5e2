//! Decisions about steps whose recorded end does not hold as it is, or whose end is unknown.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The treatment of a step whose end is unknown: it was started, and may have happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnUnknown {
    /// Run it again.
    #[default]
    Rerun,
    /// Refuse it: `STEP_UNKNOWN`.
    Fail,
    /// Record it as done, without a value.
    Skip,
    /// Ask a person: the answer is `rerun`, `fail` or `skip`.
    Ask,
}

/// The treatment of a step that would run something else than its recorded end was recorded for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnChange {
    /// Refuse it: `STEP_CHANGED`.
    #[default]
    Refuse,
    /// Run it again.
    Rerun,
    /// Use the recorded end.
    Keep,
}

impl FromStr for OnUnknown {
    type Err = InvalidDecision;

    fn from_str(text: &str) -> Result<Self, InvalidDecision> {
        match text {
            "rerun" => Ok(Self::Rerun),
            "fail" => Ok(Self::Fail),
            "skip" => Ok(Self::Skip),
            "ask" => Ok(Self::Ask),
            _ => Err(InvalidDecision { expected: "`rerun`, `fail`, `skip` or `ask`" }),
        }
    }
}

impl FromStr for OnChange {
    type Err = InvalidDecision;

    fn from_str(text: &str) -> Result<Self, InvalidDecision> {
        match text {
            "rerun" => Ok(Self::Rerun),
            "keep" => Ok(Self::Keep),
            _ => Err(InvalidDecision { expected: "`rerun` or `keep`" }),
        }
    }
}

/// A text that is no decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct InvalidDecision {
    expected: &'static str,
}

/// Decisions of a person for one attempt, by the names of steps. They overrule the step's own.
///
/// ```
/// use session_workflow::{Decisions, OnChange, OnUnknown};
///
/// let decisions = Decisions::new().unknown("publish", OnUnknown::Skip).changed("build", OnChange::Rerun);
/// assert_eq!(decisions.for_unknown("publish"), Some(OnUnknown::Skip));
/// assert_eq!(decisions.for_changed("publish"), None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    unknown: BTreeMap<String, OnUnknown>,
    changed: BTreeMap<String, OnChange>,
}

impl Decisions {
    /// Creates an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides about a step whose end is unknown.
    #[must_use]
    pub fn unknown(mut self, name: impl Into<String>, decision: OnUnknown) -> Self {
        self.unknown.insert(name.into(), decision);
        self
    }

    /// Decides about a step that would run something else than its recorded end was recorded for.
    #[must_use]
    pub fn changed(mut self, name: impl Into<String>, decision: OnChange) -> Self {
        self.changed.insert(name.into(), decision);
        self
    }

    /// Returns the decision about a step whose end is unknown, if there is one.
    #[must_use]
    pub fn for_unknown(&self, name: &str) -> Option<OnUnknown> {
        self.unknown.get(name).copied()
    }

    /// Returns the decision about a changed step, if there is one.
    #[must_use]
    pub fn for_changed(&self, name: &str) -> Option<OnChange> {
        self.changed.get(name).copied()
    }
}
