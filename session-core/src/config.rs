//! What a session is made with. Given once, kept whole in record 1, never changed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::SessionId;
use crate::limits::{self, LimitError};
use crate::text::has_unsafe_char;

/// Where the work happens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExecutionMode {
    /// In the project itself.
    #[default]
    Direct,
    /// In a git worktree of its own.
    Worktree {
        /// The worktree's name.
        name: String,
    },
}

/// Switches for the work; the session only keeps them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "four independent switches that the work reads by name")]
#[non_exhaustive]
pub struct SessionOptions {
    /// Stop at the first failed step.
    pub fail_fast: bool,
    /// Merge the result by itself.
    pub auto_merge: bool,
    /// Collect metrics of the work.
    pub collect_metrics: bool,
    /// Say more.
    pub verbose: bool,
}

/// What a session is made with.
///
/// ```
/// use session_core::SessionConfig;
/// let config = SessionConfig::new("import").name("nightly-import").label("team", "data");
/// assert!(config.check().is_ok());
/// assert!(SessionConfig::new("import").name("--help").check().is_err());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SessionConfig {
    /// The name, not unique. `None` only before the session exists: then one is made, `feature-YYYY-MM-DD-NNN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What kind of work this is.
    pub operation: String,
    /// The project that the work is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_path: Option<PathBuf>,
    /// The workflow that the work follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// Where the work happens.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: ExecutionMode,
    /// How many iterations there are at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_iterations: Option<u64>,
    /// What the work should look at first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub focus: Option<String>,
    /// Switches for the work.
    #[serde(skip_serializing_if = "is_default")]
    pub options: SessionOptions,
    /// Labels to find it by: at most 16, and 1 KiB of them in total.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Whatever the work needs to go on.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub metadata: Value,
    /// How long one attempt may run, in milliseconds, measured by a clock that does not jump.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The session inside which this one was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<SessionId>,
    /// The ended session that this one tries again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<SessionId>,
    /// The same key means the same session: its id is made from the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// How many sessions were made for the key before this one; see [`SessionId::from_key_try`].
    #[serde(skip_serializing_if = "is_default")]
    pub retries: u64,
    /// What becomes of it if its owner dies, unless whoever recovers it decides otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoveryPolicy>,
    /// Whether it waits for somebody else to start it. Otherwise its creator's death makes it an orphan.
    #[serde(skip_serializing_if = "is_default")]
    pub queued: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl SessionConfig {
    /// A session of this kind of work, with nothing else said.
    #[must_use]
    pub fn new(operation: impl Into<String>) -> Self {
        Self { operation: operation.into(), ..Self::default() }
    }

    /// The name: at most 128 characters, none of them a control or bidirectional one, the first no `-` or `@`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The project that the work is about.
    #[must_use]
    pub fn project_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.project_path = Some(path.into());
        self
    }

    /// The workflow that the work follows.
    #[must_use]
    pub fn workflow(mut self, workflow: impl Into<String>) -> Self {
        self.workflow = Some(workflow.into());
        self
    }

    /// Where the work happens.
    #[must_use]
    pub fn mode(mut self, mode: ExecutionMode) -> Self {
        self.mode = mode;
        self
    }

    /// How many iterations there are at most.
    #[must_use]
    pub fn max_iterations(mut self, iterations: u64) -> Self {
        self.max_iterations = Some(iterations);
        self
    }

    /// What the work should look at first.
    #[must_use]
    pub fn focus(mut self, focus: impl Into<String>) -> Self {
        self.focus = Some(focus.into());
        self
    }

    /// Switches for the work.
    #[must_use]
    pub fn options(mut self, options: SessionOptions) -> Self {
        self.options = options;
        self
    }

    /// One more label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Whatever the work needs to go on.
    #[must_use]
    pub fn metadata(mut self, metadata: Value) -> Self {
        self.metadata = metadata;
        self
    }

    /// How long one attempt may run.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline_ms = Some(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// The session inside which this one is made.
    #[must_use]
    pub fn parent(mut self, parent: SessionId) -> Self {
        self.parent = Some(parent);
        self
    }

    /// The ended session that this one tries again.
    #[must_use]
    pub fn retry_of(mut self, ended: SessionId) -> Self {
        self.retry_of = Some(ended);
        self
    }

    /// The same key means the same session.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// What becomes of the session if its owner dies, unless whoever recovers it decides otherwise.
    #[must_use]
    pub fn recovery(mut self, policy: RecoveryPolicy) -> Self {
        self.recovery = Some(policy);
        self
    }

    /// Leaves the session for others to start.
    #[must_use]
    pub fn queued(mut self) -> Self {
        self.queued = true;
        self
    }

    /// Whether a session can be made with this.
    ///
    /// # Errors
    /// The first limit that it exceeds or rule that it breaks.
    pub fn check(&self) -> Result<(), LimitError> {
        if let Some(name) = &self.name {
            check_name(name)?;
        }
        if self.operation.is_empty() {
            return Err(LimitError::invalid("operation", "is empty"));
        }
        plain("operation", &self.operation)?;
        limits::at_most("operation (characters)", self.operation.chars().count(), limits::NAME_CHARS)?;
        if let ExecutionMode::Worktree { name } = &self.mode {
            check_name(name)?;
        }
        limits::at_most("labels", self.labels.len(), limits::LABELS)?;
        for (key, value) in &self.labels {
            if key.is_empty() || key.contains('=') {
                return Err(LimitError::invalid("label", "needs a key without `=`"));
            }
            plain("label", key)?;
            plain("label", value)?;
        }
        let encoded = serde_json::to_string(&self.labels).map_or(usize::MAX, |json| json.len());
        limits::at_most("labels (bytes as JSON)", encoded, limits::LABEL_BYTES)?;
        match &self.idempotency_key {
            Some(key) if key.is_empty() => Err(LimitError::invalid("idempotency key", "is empty")),
            Some(key) => plain("idempotency key", key),
            None => Ok(()),
        }
    }

    /// The id that a session with this config gets.
    pub(crate) fn id(&self) -> SessionId {
        match &self.idempotency_key {
            Some(key) => SessionId::from_key_try(key, self.retries.saturating_add(1)),
            None => SessionId::random(),
        }
    }
}

/// Whether a session can have this name.
///
/// # Errors
/// [`LimitError`] where it is empty, too long, holds a dangerous character or starts with `-` or `@`.
pub fn check_name(name: &str) -> Result<(), LimitError> {
    if name.is_empty() {
        return Err(LimitError::invalid("name", "is empty"));
    }
    if name.starts_with(['-', '@']) {
        return Err(LimitError::invalid("name", "starts with `-` or `@`"));
    }
    plain("name", name)?;
    limits::at_most("name (characters)", name.chars().count(), limits::NAME_CHARS)
}

fn plain(what: &'static str, text: &str) -> Result<(), LimitError> {
    if has_unsafe_char(text) {
        return Err(LimitError::invalid(what, "holds a control or bidirectional character"));
    }
    Ok(())
}

/// What becomes of an orphan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RecoveryPolicy {
    /// It fails, with the cause `Crash`.
    Fail,
    /// It is paused, for somebody to resume.
    #[default]
    Pause,
    /// Its work is made again where that is possible; else it is paused.
    Resume,
}
