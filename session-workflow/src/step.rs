//! Steps of Rust code: closures that run once, and whose values are recorded.

use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use session_core::{Session, StepFailure, Timestamp, WorkError};

use crate::ask::Ask;
use crate::backoff::backoffs;
use crate::decisions::{OnChange, OnUnknown};
use crate::each_work::{Each, Item};
use crate::error::StepError;
use crate::fingerprint::Fingerprint;
use crate::sleep::{Sleep, WakeUp};
use crate::steps::{BegunStep, OpenStep, RecordedEnd, StepRequest, Steps};

/// Steps of the work of a session.
///
/// ```
/// use session_core::{InMemorySessionManager, SessionConfig, SessionManagerExt as _};
/// use session_workflow::SessionSteps as _;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), session_core::SessionError> {
/// let manager = InMemorySessionManager::new();
/// let report = manager.run(SessionConfig::new("release"), async |session| {
///     // Runs once. After a crash, the next attempt gets the recorded value.
///     let version: String = session.step("version", async || Ok("1.4.0".to_owned())).await?;
///     session.step("publish", async || Ok(println!("publishing {version}"))).retries(3).await?;
///     let sizes: Vec<usize> = session.each("check", ["a.md", "b.md"], async |item| Ok(item.text.len())).jobs(4).await?;
///     assert_eq!(sizes, [4, 4]);
///     Ok(version)
/// }).await?;
/// assert_eq!(report.state.name().name(), "completed");
/// # Ok(()) }
/// ```
pub trait SessionSteps {
    /// Creates a step that runs when it is awaited: once, and never again in a later attempt. Its value is recorded as JSON.
    ///
    /// A step whose future is dropped, or whose work panics, has an unknown end: it is run again by default.
    fn step<F, Fut, T>(&self, name: impl Into<String>, work: F) -> Step<'_, F>
    where
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = Result<T, WorkError>> + Send,
        T: Serialize + DeserializeOwned + Send;

    /// Creates work that runs when it is awaited: once for each of the items, and never again for one that is recorded as done.
    /// Its values are recorded as JSON, up to 16 MiB together, and returned in the order of the items.
    ///
    /// After a crash at most as many items are unknown as run concurrently; they are run again by default. Equal items differ by
    /// their order.
    fn each<F, Fut, T>(
        &self,
        name: impl Into<String>,
        items: impl IntoIterator<Item = impl Into<String>>,
        work: F,
    ) -> Each<'_, F, T>
    where
        F: FnMut(Item) -> Fut + Send,
        Fut: Future<Output = Result<T, WorkError>> + Send,
        T: Serialize + DeserializeOwned + Send;

    /// Creates a question that is asked when it is awaited, once: the answer, from any process, is recorded, and later attempts
    /// get it. The session stays running meanwhile, and its deadline is suspended while nothing else runs.
    /// [`answer`](crate::answer) answers it.
    fn ask(&self, name: impl Into<String>, question: impl Into<String>) -> Ask<'_>;

    /// Creates a sleep that begins when it is awaited: its wake-up time, by the clock of the wall, is recorded once, and later
    /// attempts sleep for the rest of it. It never ends early.
    fn sleep(&self, name: impl Into<String>, duration: Duration) -> Sleep<'_>;

    /// Creates a sleep until a time. See [`sleep`](Self::sleep).
    fn sleep_until(&self, name: impl Into<String>, until: Timestamp) -> Sleep<'_>;
}

impl SessionSteps for Session {
    fn each<F, Fut, T>(
        &self,
        name: impl Into<String>,
        items: impl IntoIterator<Item = impl Into<String>>,
        work: F,
    ) -> Each<'_, F, T>
    where
        F: FnMut(Item) -> Fut + Send,
        Fut: Future<Output = Result<T, WorkError>> + Send,
        T: Serialize + DeserializeOwned + Send,
    {
        Each::new(self, name.into(), items.into_iter().map(Into::into).collect(), work)
    }

    fn ask(&self, name: impl Into<String>, question: impl Into<String>) -> Ask<'_> {
        Ask::new(self, name.into(), question.into())
    }

    fn sleep(&self, name: impl Into<String>, duration: Duration) -> Sleep<'_> {
        Sleep::new(self, name.into(), WakeUp::After(duration))
    }

    fn sleep_until(&self, name: impl Into<String>, until: Timestamp) -> Sleep<'_> {
        Sleep::new(self, name.into(), WakeUp::At(until))
    }

    fn step<F, Fut, T>(&self, name: impl Into<String>, work: F) -> Step<'_, F>
    where
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = Result<T, WorkError>> + Send,
        T: Serialize + DeserializeOwned + Send,
    {
        Step {
            session: self,
            work,
            request: StepRequest::new(name, Fingerprint::default()),
            invalid_fingerprint: None,
            retries: 0,
            backoff: Duration::from_secs(1),
        }
    }
}

/// A step of Rust code. It runs when it is awaited.
#[derive(Debug)]
#[must_use = "a step runs when it is awaited"]
pub struct Step<'a, F> {
    session: &'a Session,
    work: F,
    request: StepRequest,
    invalid_fingerprint: Option<String>,
    retries: usize,
    backoff: Duration,
}

impl<F> Step<'_, F> {
    /// Identifies the step by a key, instead of the number of the use of its name: for steps that run concurrently or in
    /// another order in each attempt.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.request.key = Some(key.into());
        self
    }

    /// Sets the fingerprint: a recorded end holds only for an equal value.
    pub fn fingerprint<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        match Fingerprint::of_value(value) {
            Ok(fingerprint) => self.request.fingerprint = fingerprint,
            Err(error) => self.invalid_fingerprint = Some(error.to_string()),
        }
        self
    }

    /// Runs the work again after a failure, up to `retries` times.
    pub fn retries(mut self, retries: usize) -> Self {
        self.retries = retries;
        self
    }

    /// Sets the delay before the first retry, which doubles with each one up to a minute. The default is one second.
    pub fn backoff(mut self, backoff: Duration) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the treatment of an unknown end: the default is to run the step again.
    pub fn if_unknown(mut self, on_unknown: OnUnknown) -> Self {
        self.request.on_unknown = on_unknown;
        self
    }

    /// Sets the treatment of another fingerprint: the default is to refuse the step.
    pub fn on_change(mut self, on_change: OnChange) -> Self {
        self.request.on_change = on_change;
        self
    }
}

impl<'a, F, Fut, T> IntoFuture for Step<'a, F>
where
    F: FnMut() -> Fut + Send + 'a,
    Fut: Future<Output = Result<T, WorkError>> + Send + 'a,
    T: Serialize + DeserializeOwned + Send + 'a,
{
    type Output = Result<T, StepError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(run(self))
    }
}

async fn run<F, Fut, T>(step: Step<'_, F>) -> Result<T, StepError>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<T, WorkError>> + Send,
    T: Serialize + DeserializeOwned + Send,
{
    let Step { session, mut work, request, invalid_fingerprint, retries, backoff } = step;
    if let Some(problem) = invalid_fingerprint {
        return Err(StepError::Value {
            step: request.name,
            problem: format!("has no fingerprint: {problem}"),
        });
    }
    let steps = Steps::of(session);
    let mut delays = backoffs(backoff, retries);
    loop {
        let open = match steps.begin(session, request.clone()).await? {
            BegunStep::Replay(recorded) => return replayed(session, &request.name, &recorded).await,
            BegunStep::Run(open) => open,
        };
        let name = open.step().to_string();
        match work().await {
            Ok(value) => return complete(open, &name, value).await,
            Err(error) => {
                let message = error.get_ref().to_string();
                // What fails after a cancellation may have failed because of it.
                let unknown = session.cancellation().is_cancelled();
                open.fail(StepFailure { unknown, error: Some(message.clone()), ..StepFailure::default() })
                    .await?;
                let Some(delay) = delays.next().filter(|_| !unknown) else {
                    return Err(StepError::Failed { step: name, message });
                };
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    _ = session.cancellation().cancelled() => {
                        return Err(StepError::Failed { step: name, message });
                    }
                }
            }
        }
    }
}

async fn complete<T: Serialize + Send>(mut open: OpenStep, name: &str, value: T) -> Result<T, StepError> {
    let problem = |problem: String| StepError::Value { step: name.to_owned(), problem };
    let json = match serde_json::to_vec(&value) {
        Ok(json) => json,
        Err(error) => {
            let message = format!("cannot be converted to JSON: {error}");
            open.fail(StepFailure { error: Some(message.clone()), ..StepFailure::default() }).await?;
            return Err(problem(message));
        }
    };
    open.add_value(&json).await?;
    // As for a command: it is recorded as done, and each replay says the same.
    if open.complete(0).await?.end.too_long { Err(problem(TOO_LONG.to_owned())) } else { Ok(value) }
}

const TOO_LONG: &str = "is longer than 16 MiB, so that it is not recorded";

async fn replayed<T: DeserializeOwned>(
    session: &Session,
    name: &str,
    recorded: &RecordedEnd,
) -> Result<T, StepError> {
    let problem = |problem: String| StepError::Value { step: name.to_owned(), problem };
    if recorded.end.too_long {
        return Err(problem(TOO_LONG.to_owned()));
    }
    // A step that was skipped has no value: it is read as `null`.
    let json = match recorded.end.value_bytes {
        Some(_) => recorded.value().read_all(session).await?,
        None => b"null".to_vec(),
    };
    serde_json::from_slice(&json).map_err(|error| problem(format!("cannot be read: {error}")))
}
