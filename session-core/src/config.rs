//! The configuration of a session. Given at creation, stored in record 1, never changed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::SessionId;
use crate::limits::{self, LimitError};
use crate::os_text;
use crate::text::has_unsafe_char;

/// The place in which the work runs.
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

/// The worktree to be created for a session. What was created, and from which commit, is in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct WorktreeConfig {
    /// A directory of the repository.
    #[serde(with = "os_text::path")]
    pub repository: PathBuf,
    /// The revision that it starts at, or `default` for the default branch; the commit that is checked out if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The mark of the worktree to share, whose other sessions have ended; `None` for a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// The directory inside it in which the program runs.
    #[serde(skip_serializing_if = "Option::is_none", with = "os_text::optional_path")]
    pub dir: Option<PathBuf>,
    /// The command that prepares it, for `sh -c`, before the program starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup: Option<String>,
    /// The settings of the repository that name programs for git (filters, drivers, helpers) and were approved: `key=value`, one
    /// per line. Other ones are not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs: Option<String>,
}

impl WorktreeConfig {
    /// Describes a worktree of the repository of a directory, at the commit that is checked out there.
    #[must_use]
    pub fn new(repository: impl Into<PathBuf>) -> Self {
        Self { repository: repository.into(), ..Self::default() }
    }
}

/// Switches for the work; the session only stores them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "four independent switches that the work reads by name")]
#[non_exhaustive]
pub struct SessionOptions {
    /// Stop at the first failed step.
    pub fail_fast: bool,
    /// Merge the result automatically.
    pub auto_merge: bool,
    /// Collect metrics of the work.
    pub collect_metrics: bool,
    /// Print more.
    pub verbose: bool,
}

/// The configuration of a session.
///
/// ```
/// use std::time::Duration;
/// use session_core::{RecoveryPolicy, SessionConfig};
///
/// let config = SessionConfig::new("import")
///     .name("nightly-import")
///     .label("team", "data")
///     .project_path("/srv/import")
///     .metadata(serde_json::json!({ "source": "s3" }))
///     .deadline(Duration::from_secs(3600))        // counts while it works, not while it is paused or waits
///     .idempotency_key("import-2026-11-21")       // a second creation returns the same session
///     .recovery(RecoveryPolicy::Resume);
/// assert!(config.check().is_ok());
/// assert!(SessionConfig::new("import").name("--help").check().is_err());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SessionConfig {
    /// The name, not unique. `None` only before creation, which then assigns `feature-YYYY-MM-DD-NNN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The kind of work.
    pub operation: String,
    /// The project that the work is about.
    #[serde(skip_serializing_if = "Option::is_none", with = "os_text::optional_path")]
    pub project_path: Option<PathBuf>,
    /// The workflow that the work follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// The place in which the work runs.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: ExecutionMode,
    /// The worktree to be created for the session, or shared with an ended one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worktree: Option<WorktreeConfig>,
    /// The maximum number of iterations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_iterations: Option<u64>,
    /// The topic that the work should focus on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub focus: Option<String>,
    /// Switches for the work.
    #[serde(skip_serializing_if = "is_default")]
    pub options: SessionOptions,
    /// Labels to search by: at most 16, and at most 1 KiB in total.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Data for the work.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub metadata: Value,
    /// The maximum run time of one attempt in milliseconds, measured by a monotonic clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The session inside which this one was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<SessionId>,
    /// The ended session that this one retries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<SessionId>,
    /// The first session of the line of retries that this one continues; `None` for the first one itself. The idempotency keys
    /// of its steps are derived from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<SessionId>,
    /// The idempotency key. The same key means the same session: the id is derived from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The number of sessions created for the key before this one; see [`SessionId::from_key_try`].
    #[serde(skip_serializing_if = "is_default")]
    pub retries: u64,
    /// The recovery policy if the owner dies, unless a recovery overrules it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoveryPolicy>,
    /// `true` if the session waits for another process to start it. Otherwise the death of its creator makes it an
    /// orphan.
    #[serde(skip_serializing_if = "is_default")]
    pub queued: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl SessionConfig {
    /// Creates a configuration for this kind of work, with defaults for everything else.
    #[must_use]
    pub fn new(operation: impl Into<String>) -> Self {
        Self { operation: operation.into(), ..Self::default() }
    }

    /// Sets the name: at most 128 characters, no control or bidirectional characters, not starting with `-` or `@`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the project that the work is about.
    #[must_use]
    pub fn project_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.project_path = Some(path.into());
        self
    }

    /// Sets the workflow that the work follows.
    #[must_use]
    pub fn workflow(mut self, workflow: impl Into<String>) -> Self {
        self.workflow = Some(workflow.into());
        self
    }

    /// Sets the place in which the work runs.
    #[must_use]
    pub fn mode(mut self, mode: ExecutionMode) -> Self {
        self.mode = mode;
        self
    }

    /// Lets the session run in a git worktree of this name, which is created for it.
    #[must_use]
    pub fn worktree(mut self, name: impl Into<String>, worktree: WorktreeConfig) -> Self {
        self.mode = ExecutionMode::Worktree { name: name.into() };
        self.worktree = Some(worktree);
        self
    }

    /// Sets the maximum number of iterations.
    #[must_use]
    pub fn max_iterations(mut self, iterations: u64) -> Self {
        self.max_iterations = Some(iterations);
        self
    }

    /// Sets the topic that the work should focus on.
    #[must_use]
    pub fn focus(mut self, focus: impl Into<String>) -> Self {
        self.focus = Some(focus.into());
        self
    }

    /// Sets the switches for the work.
    #[must_use]
    pub fn options(mut self, options: SessionOptions) -> Self {
        self.options = options;
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Sets the data for the work.
    #[must_use]
    pub fn metadata(mut self, metadata: Value) -> Self {
        self.metadata = metadata;
        self
    }

    /// Sets the maximum run time of one attempt.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline_ms = Some(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Sets the session inside which this one is created.
    #[must_use]
    pub fn parent(mut self, parent: SessionId) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Sets the ended session that this one retries.
    #[must_use]
    pub fn retry_of(mut self, ended: SessionId) -> Self {
        self.retry_of = Some(ended);
        self
    }

    /// Sets the idempotency key. The same key means the same session.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Sets the recovery policy if the owner dies. A recovery may overrule it.
    #[must_use]
    pub fn recovery(mut self, policy: RecoveryPolicy) -> Self {
        self.recovery = Some(policy);
        self
    }

    /// Leaves the session for another process to start.
    #[must_use]
    pub fn queued(mut self) -> Self {
        self.queued = true;
        self
    }

    /// Checks the limits of a configuration.
    ///
    /// # Errors
    /// The first limit or rule that it violates.
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
        if let Some(WorktreeConfig { base: Some(base), .. }) = &self.worktree {
            plain("base of the worktree", base)?;
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

    /// Returns the id of a session with this configuration.
    pub(crate) fn id(&self) -> SessionId {
        match &self.idempotency_key {
            Some(key) => SessionId::from_key_try(key, self.retries.saturating_add(1)),
            None => SessionId::random(),
        }
    }
}

/// Checks that a session can have this name.
///
/// # Errors
/// [`LimitError`] if the name is empty, too long, contains a dangerous character or starts with `-` or `@`.
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
        return Err(LimitError::invalid(what, "contains a control or bidirectional character"));
    }
    Ok(())
}

/// The treatment of an orphan: a session whose responsible process is dead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RecoveryPolicy {
    /// Fail it, with the cause `Crash`.
    Fail,
    /// Pause it, to be resumed later.
    #[default]
    Pause,
    /// Resume its work if a handler for it is registered; else pause it.
    Resume,
}
