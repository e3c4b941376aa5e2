//! Running a closure as a session: maps every outcome (value, error, panic, timeout, cancellation, drop) to an event.

use std::error::Error;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::pin;

use super::report::SessionReport;
use super::request_handling::RequestHandling;
use super::session::Session;
use crate::error::{Result, SessionError};
use crate::owner::Evidence;
use crate::reason::{Failure, FailureCause, SessionSummary};
use crate::storage::StorageError;
use serde::Serialize;

/// The error of failed work. Everything that converts to `Box<dyn Error + Send + Sync>` converts to it with `?`: every
/// error type, boxed errors, texts, and the errors of `anyhow` and `eyre`.
///
/// It does not implement [`Error`] itself, since that would conflict with this conversion.
///
/// ```
/// use session_core::WorkError;
///
/// fn rows(text: &str) -> Result<u32, WorkError> {
///     let rows: u32 = text.parse()?; // a `ParseIntError`
///     if rows == 0 {
///         return Err("the file has no rows".into());
///     }
///     Ok(rows)
/// }
/// assert_eq!(rows("0").unwrap_err().get_ref().to_string(), "the file has no rows");
/// ```
pub struct WorkError(Box<dyn Error + Send + Sync>);

impl WorkError {
    /// Creates an error from a message.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into().into())
    }

    /// Returns the error.
    #[must_use]
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0
    }

    /// Returns the error and all its causes on one line.
    fn chain(&self) -> String {
        let mut text = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for WorkError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Debug for WorkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The outcome of the work.
enum Outcome<T> {
    Returned(Result<T, WorkError>),
    Panicked(String),
    /// Something else ended the session: a call with its id, its deadline, another process.
    Lost(SessionError),
}

/// Runs the work of a session to its end.
pub(crate) async fn run_work<F, Fut, T>(session: Session, work: F) -> Result<SessionReport>
where
    F: FnOnce(Session) -> Fut + Send,
    Fut: Future<Output = Result<T, WorkError>> + Send,
    T: Serialize + Send,
{
    session.set_request_handling(RequestHandling::Cooperative);
    let mut guard = InterruptOnDrop { session: Some(session.clone()) };
    let outcome = {
        let mut work = pin!(catch_panics(work, session.clone()));
        tokio::select! {
            biased;
            error = session.fenced() => Outcome::Lost(error),
            outcome = &mut work => outcome,
        }
    };
    let ending = record_outcome(&session, outcome).await;
    if session.head().state().is_final() || ending.is_err() {
        // Ended; or the storage failed, and then `interrupted` would fail as well.
        guard.session = None;
    }
    match ending {
        Err(error) if !error.is_outcome() => Err(error),
        // The end is in the log, whichever caller wrote it.
        Ok(()) | Err(_) => Ok(session.restore().await?.into()),
    }
}

async fn record_outcome<T: Serialize>(session: &Session, outcome: Outcome<T>) -> Result<()> {
    match outcome {
        Outcome::Lost(error) => Err(error),
        // The work may have ended its session itself.
        _ if session.head().state().is_final() => Ok(()),
        Outcome::Returned(Ok(value)) => match serde_json::to_value(&value) {
            Ok(serde_json::Value::Null) => session.complete(SessionSummary::new()).await,
            Ok(value) => match session.complete(SessionSummary::new().result(value)).await {
                Err(SessionError::Storage(StorageError::Limit(error))) => {
                    let message = format!("the work completed, but its result cannot be stored: {error}");
                    session.fail(Failure::new(FailureCause::Work, message)).await
                }
                result => result,
            },
            Err(error) => {
                let message = format!("the work completed, but its result cannot be stored: {error}");
                session.fail(Failure::new(FailureCause::Work, message)).await
            }
        },
        Outcome::Returned(Err(error)) => match session.cancellation().reason() {
            Some(reason) => session.cancel(reason).await,
            None => session.fail(failure(FailureCause::Work, error.chain())).await,
        },
        Outcome::Panicked(message) => session.fail(failure(FailureCause::Panic, message)).await,
    }
}

/// Creates a failure whose message is cut to fit into a record, so that the session can end in any case.
fn failure(cause: FailureCause, mut message: String) -> Failure {
    const LONGEST: usize = 64 * 1024;
    if message.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
    }
    Failure::new(cause, message)
}

/// Runs the work and catches its panics, both in the closure itself and in each poll.
async fn catch_panics<F, Fut, T>(work: F, session: Session) -> Outcome<T>
where
    F: FnOnce(Session) -> Fut,
    Fut: Future<Output = Result<T, WorkError>>,
{
    let panicked = |panic: Box<dyn std::any::Any + Send>| {
        let text =
            panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref().cloned());
        Outcome::Panicked(text.unwrap_or_else(|| "panicked with a value that is not text".to_owned()))
    };
    // Unwind safe: the work is not accessed again after a panic.
    let future = match std::panic::catch_unwind(AssertUnwindSafe(|| work(session))) {
        Ok(future) => future,
        Err(panic) => return panicked(panic),
    };
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Outcome::Returned),
        Err(panic) => std::task::Poll::Ready(panicked(panic)),
    })
    .await
}

/// Interrupts the session when the future that runs it is dropped.
struct InterruptOnDrop {
    session: Option<Session>,
}

impl Drop for InterruptOnDrop {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        // Without a runtime, the process is about to end, and its death has the same effect.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                match session.interrupt(Evidence::Dropped).await {
                    // It ended in between.
                    Ok(()) => {}
                    Err(error) if error.is_outcome() => {}
                    Err(error) => {
                        tracing::warn!(session = %session.id(), %error, "could not interrupt the session of dropped work");
                    }
                }
            });
        }
    }
}
