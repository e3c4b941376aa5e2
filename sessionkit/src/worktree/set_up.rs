//! The set-up of a worktree, as a step of its session.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use session_core::async_trait::async_trait;
use session_core::backend::blocking;
use session_core::{ErrorCode, Session, StepFailure};
use session_runner::{SetUp, SetUpEnd, WorkplaceError, signal_name};
use session_workflow::{BegunStep, Fingerprint, OpenStep, StepRequest, Steps};
use session_worktree::{Worktree, WorktreeError};

use super::error::chain;

/// The name of its step.
const STEP: &str = "setup";
/// Characters of a mark that distinguish the steps of several worktrees.
const KEY_CHARS: usize = 8;

/// A command that prepares a worktree: it runs until it has succeeded there once.
#[derive(Debug)]
pub(super) struct WorktreeSetUp {
    worktree: Worktree,
    command: String,
    /// Set while it runs.
    open: Mutex<Option<OpenStep>>,
}

impl WorktreeSetUp {
    pub(super) fn new(worktree: Worktree, command: String) -> Self {
        Self { worktree, command, open: Mutex::default() }
    }

    async fn set_done(&self) -> Result<(), WorktreeError> {
        let (worktree, command) = (self.worktree.clone(), self.command.clone());
        blocking(move || worktree.set_up_by(&command)).await
    }

    fn request(&self) -> StepRequest {
        let mark = self.worktree.record().mark;
        let argv: [&[u8]; 3] = [b"sh", b"-c", self.command.as_bytes()];
        let mut request = StepRequest::new(STEP, Fingerprint::of_command(argv, None));
        request.key = Some(format!("worktree {}", mark.chars().take(KEY_CHARS).collect::<String>()));
        request.command = Some(self.command.clone());
        request.on_change = session_workflow::OnChange::Rerun;
        request
    }

    /// Creates the error of a set-up that ended in this way.
    fn failed(&self, how: &str) -> WorkplaceError {
        let message = format!("the set-up `{}` failed: {how}", self.command);
        WorkplaceError { code: ErrorCode::WorkFailed, message, may_return: false }
    }
}

#[async_trait]
impl SetUp for WorktreeSetUp {
    fn command(&self) -> &str {
        &self.command
    }

    fn directory(&self) -> &Path {
        self.worktree.path()
    }

    async fn begin(&self, session: &Session) -> Result<bool, WorkplaceError> {
        if self.worktree.is_set_up_by(&self.command).map_err(|error| of_worktree(&error))? {
            return Ok(false);
        }
        match Steps::of(session).begin(session, self.request()).await {
            Ok(BegunStep::Run(open)) => {
                *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(open);
                Ok(true)
            }
            Ok(BegunStep::Replay(_)) => {
                // It had been recorded in the log, and not in the worktree yet.
                self.set_done().await.map_err(|error| of_worktree(&error))?;
                Ok(false)
            }
            Err(error) => {
                Err(WorkplaceError { code: error.code(), message: chain(&error), may_return: false })
            }
        }
    }

    async fn end(&self, _session: &Session, end: SetUpEnd) -> Result<(), WorkplaceError> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(open) = open else { return Ok(()) };
        let SetUpEnd { exit_code, signal, error } = end;
        let recorded = if exit_code == Some(0) {
            open.complete(0).await.map(drop)
        } else {
            let unknown = exit_code.is_none() && signal.is_none();
            open.fail(StepFailure {
                exit_code,
                signal,
                unknown,
                error: error.clone(),
                ..StepFailure::default()
            })
            .await
        };
        recorded.map_err(|error| self.failed(&chain(&error)))?;
        match (exit_code, signal, error) {
            (Some(0), ..) => self.set_done().await.map_err(|error| of_worktree(&error)),
            (Some(code), ..) => Err(self.failed(&format!("exited with code {code}"))),
            (None, Some(signal), _) => Err(self.failed(&format!("ended by signal {}", signal_name(signal)))),
            (None, None, Some(error)) => Err(self.failed(&error)),
            // It was stopped, for a reason that the session has.
            (None, None, None) => Ok(()),
        }
    }
}

fn of_worktree(error: &WorktreeError) -> WorkplaceError {
    WorkplaceError { code: error.code(), message: chain(error), may_return: true }
}
