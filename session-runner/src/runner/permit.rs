//! The start of a program in its two parts: a wait that may be long and can be abandoned, and a start that cannot.

use session_core::backend::HeldSessionLock;
use session_core::{ErrorCode, Evidence, Failure, FailureCause, RequestHandling, Session, SessionError};

use super::{Runner, check_supervisor};
use crate::command::Command;
use crate::exit::launch_failure;
use crate::prepared::PreparedCommand;
use crate::run_error::RunError;
use crate::running::Running;
use crate::supervisor::leftovers;
use crate::workplace::{Place, WorkplaceError};

/// A session whose program can start: no process of a former run is left, and none can begin while this is held.
#[derive(Debug)]
pub struct RunPermit {
    session: Session,
    lock: Option<HeldSessionLock>,
    place: Option<Place>,
}

impl RunPermit {
    /// Returns what a person should know of the place in which the program will run, a sentence each.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        self.place.as_ref().map_or(&[], |place| &place.notices)
    }
}

impl Runner {
    /// Waits until no process of a former run of this session is left, which may take long, and prepares the place in which
    /// the program runs. Dropping the future is harmless: nothing was started.
    ///
    /// # Errors
    /// `FENCED` if another process owns the session now; `CANCELLED`; errors of the lock, after which the session has
    /// failed; [`RunError::Place`].
    pub async fn permit(&self, session: Session) -> Result<RunPermit, RunError> {
        session.set_request_handling(RequestHandling::External);
        let lock = match &self.locks {
            Some(locks) => {
                let lock = locks.session_lock(session.id());
                tokio::select! {
                    held = lock.acquire() => match held {
                        Ok(held) => Some(held),
                        Err(error) => {
                            let error = SessionError::from(error);
                            let message = format!("cannot take its lock: {}", crate::chain(&error));
                            session.fail(Failure::new(FailureCause::Spawn, message)).await?;
                            return Err(error.into());
                        }
                    },
                    error = session.fenced() => return Err(error.into()),
                    reason = cancelled(&session) => {
                        session.cancel(reason.clone()).await?;
                        return Err(SessionError::Cancelled { reason }.into());
                    }
                }
            }
            None => None,
        };
        if lock.is_some() && session.attempt() > 1 {
            let ended = leftovers::end_former_runs(session.id()).await?;
            if ended > 0 {
                tracing::info!(session = %session.id(), ended, "ended leftover processes of a former run");
            }
        }
        let place = self.place(&session).await?;
        Ok(RunPermit { session, lock, place })
    }

    /// Runs the set-up of the place, if it has one that has not succeeded there, with the output and the umask of the program's
    /// command. Dropping the future ends it.
    ///
    /// # Errors
    /// [`RunError::Place`] if it fails; then the session has failed. `CANCELLED`; `FENCED`.
    pub async fn set_up(&self, permit: RunPermit, command: &Command) -> Result<RunPermit, RunError> {
        let RunPermit { session, lock, place } = &permit;
        if let Some(place) = place {
            self.set_up_place(session, lock.as_ref(), place, command).await?;
        }
        Ok(permit)
    }

    async fn place(&self, session: &Session) -> Result<Option<Place>, RunError> {
        let prepared = match &self.workplace {
            Some(workplace) => tokio::select! {
                prepared = workplace.prepare(session) => prepared,
                error = session.fenced() => return Err(error.into()),
                reason = cancelled(session) => {
                    session.cancel(reason.clone()).await?;
                    return Err(SessionError::Cancelled { reason }.into());
                }
            },
            // It would run in the directory of its caller, where it may change what is not its own.
            None if session.config().worktree.is_some() => Err(WorkplaceError {
                code: ErrorCode::InvalidArgument,
                message: "it has a worktree, and this runner cannot create one".to_owned(),
                may_return: true,
            }),
            None => Ok(None),
        };
        match prepared {
            Ok(place) => Ok(place),
            Err(error) => Err(self.refuse(session, error).await?),
        }
    }

    /// Records that a place cannot be used, and returns the error of the run. A cancellation comes first: it may be why.
    pub(super) async fn refuse(
        &self,
        session: &Session,
        error: WorkplaceError,
    ) -> Result<RunError, SessionError> {
        if let Some(reason) = session.cancellation().reason() {
            session.cancel(reason.clone()).await?;
            return Ok(SessionError::Cancelled { reason }.into());
        }
        if error.may_return {
            session.interrupt(Evidence::Shutdown).await?;
        } else {
            session.fail(Failure::new(FailureCause::Spawn, error.to_string())).await?;
        }
        Ok(RunError::Place { session: session.id(), error })
    }

    /// Runs a program like [`run`](Self::run), without a wait for former runs.
    ///
    /// # Errors
    /// If the program cannot be started; then the session has failed.
    ///
    /// # Panics
    /// If the runtime is shut down meanwhile.
    pub async fn run_with(
        &self,
        permit: RunPermit,
        command: impl Into<PreparedCommand>,
    ) -> Result<Running, RunError> {
        let (runner, command) = (self.clone(), command.into());
        // A task, so that the end of a program whose start was abandoned is waited for and recorded.
        match tokio::spawn(async move { runner.start_program(permit, command).await }).await {
            Ok(started) => started,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => panic!("the runtime shut down before the program started: {error}"),
            },
        }
    }

    async fn start_program(&self, permit: RunPermit, command: PreparedCommand) -> Result<Running, RunError> {
        let RunPermit { session, lock, place } = permit;
        let PreparedCommand { mut command, supervisor } = command;
        check_supervisor(&command)?;
        if let Some(place) = &place {
            command = command.cwd(&place.directory);
        }
        match self.launch(&session, &command, place, supervisor, lock).await {
            Ok(run_loop) => Ok(Running::new(run_loop, self.output.clone())),
            Err(error) => {
                session.fail(launch_failure(&command.shown_program(), &error)).await?;
                let program = command.shown_program();
                Err(RunError::Launch { program, session: Some(session.id()), error })
            }
        }
    }
}

pub(super) async fn cancelled(session: &Session) -> String {
    let token = session.cancellation();
    token.cancelled().await;
    token.reason().unwrap_or_default()
}
