//! Items of Rust code: a closure that runs once for each, and whose values are recorded.

use std::future::{IntoFuture, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use session_core::{ItemFailure, Session, WorkError};
use uuid::Uuid;

use crate::attempt::Attempt;
use crate::decisions::{OnChange, OnUnknown};
use crate::each::{EachReport, EachRequest, ItemEnd, OpenEach};
use crate::error::StepError;
use crate::fingerprint::Fingerprint;
use crate::start::to_end;

/// An item that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Item {
    /// The item, as it was given.
    pub text: String,
    /// The idempotency key for the outside world: the same in every attempt and retry.
    pub key: Uuid,
}

/// Work that runs once for every item. It runs when it is awaited.
#[derive(Debug)]
#[must_use = "an each runs when it is awaited"]
pub struct Each<'a, F, T> {
    session: &'a Session,
    items: Vec<String>,
    work: F,
    request: EachRequest,
    invalid_fingerprint: Option<String>,
    value: PhantomData<fn() -> T>,
}

impl<'a, F, T> Each<'a, F, T> {
    pub(crate) fn new(session: &'a Session, name: String, items: Vec<String>, work: F) -> Self {
        let request = EachRequest {
            name,
            key: None,
            fingerprint: Fingerprint::default(),
            command: None,
            on_unknown: OnUnknown::default(),
            on_change: OnChange::default(),
            can_ask: true,
            jobs: 1,
            max_failures: 1,
            retries: 0,
            backoff: Duration::from_secs(1),
            questions: None,
        };
        Self { session, items, work, request, invalid_fingerprint: None, value: PhantomData }
    }

    /// Identifies it by a key, instead of the number of the use of its name.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.request.key = Some(key.into());
        self
    }

    /// Sets the fingerprint: recorded items hold only for an equal value.
    pub fn fingerprint<V: Serialize + ?Sized>(mut self, value: &V) -> Self {
        match Fingerprint::of_value(value) {
            Ok(fingerprint) => self.request.fingerprint = fingerprint,
            Err(error) => self.invalid_fingerprint = Some(error.to_string()),
        }
        self
    }

    /// Runs up to this number of items concurrently. The default is 1.
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.request.jobs = jobs.max(1);
        self
    }

    /// Begins no further item after this number of failed ones; the default is 1.
    pub fn max_failures(mut self, failures: u64) -> Self {
        self.request.max_failures = failures.max(1);
        self
    }

    /// Runs all items, however many fail.
    pub fn keep_going(self) -> Self {
        self.max_failures(u64::MAX)
    }

    /// Runs an item again after a failure, up to `retries` times.
    pub fn retries(mut self, retries: usize) -> Self {
        self.request.retries = retries;
        self
    }

    /// Sets the delay before the first retry, which doubles with each one up to a minute. The default is one second.
    pub fn backoff(mut self, backoff: Duration) -> Self {
        self.request.backoff = backoff;
        self
    }

    /// Sets the treatment of unknown ends: the default is to run these items again.
    pub fn if_unknown(mut self, on_unknown: OnUnknown) -> Self {
        self.request.on_unknown = on_unknown;
        self
    }

    /// Sets the treatment of another fingerprint: the default is to refuse it.
    pub fn on_change(mut self, on_change: OnChange) -> Self {
        self.request.on_change = on_change;
        self
    }
}

impl<'a, F, Fut, T> IntoFuture for Each<'a, F, T>
where
    F: FnMut(Item) -> Fut + Send + 'a,
    Fut: Future<Output = Result<T, WorkError>> + Send + 'a,
    T: Serialize + DeserializeOwned + Send + 'a,
{
    type Output = Result<Vec<T>, StepError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(run(self))
    }
}

/// The items that run.
struct Running<Fut> {
    futures: Vec<(u64, Pin<Box<Fut>>)>,
}

impl<Fut: Future> Running<Fut> {
    /// Waits for the next one that ends. The future can be dropped without loss.
    async fn next(&mut self) -> (u64, Fut::Output) {
        poll_fn(|context| {
            let poll = |(place, (_, future)): (usize, &mut (u64, Pin<Box<Fut>>))| match future
                .as_mut()
                .poll(context)
            {
                Poll::Ready(output) => Some((place, output)),
                Poll::Pending => None,
            };
            match self.futures.iter_mut().enumerate().find_map(poll) {
                Some((place, output)) => Poll::Ready((self.futures.swap_remove(place).0, output)),
                None => Poll::Pending,
            }
        })
        .await
    }
}

async fn run<F, Fut, T>(each: Each<'_, F, T>) -> Result<Vec<T>, StepError>
where
    F: FnMut(Item) -> Fut + Send,
    Fut: Future<Output = Result<T, WorkError>> + Send,
    T: Serialize + DeserializeOwned + Send,
{
    let Each { session, items, mut work, request, invalid_fingerprint, value: _ } = each;
    if let Some(problem) = invalid_fingerprint {
        return Err(StepError::Value {
            step: request.name,
            problem: format!("has no fingerprint: {problem}"),
        });
    }
    let mut open = OpenEach::begin(&Attempt::of(session), session, request).await?;
    for item in items {
        open.add_item(item.into_bytes()).await?;
    }
    open.end_input();
    let mut running = Running { futures: Vec::new() };
    let mut first_error = None;
    while !open.has_ended() {
        if open.can_advance() {
            // A caller that stops waiting must not lose what is recorded meanwhile.
            let advanced = to_end(async move {
                let begun = open.advance().await;
                (open, begun)
            });
            let begun;
            (open, begun) = advanced.await;
            for item in begun? {
                let text = String::from_utf8_lossy(&item.arg).into_owned();
                running.futures.push((item.number, Box::pin(work(Item { text, key: item.key }))));
            }
            continue;
        }
        tokio::select! {
            (number, result) = running.next(), if !running.futures.is_empty() => {
                let end = end_of(session, number, result, &mut first_error);
                open.end_item(number, end);
            }
            changed = open.changed() => changed?,
        }
    }
    if let Some(error) = open.error() {
        return Err(error.clone());
    }
    values(&open, first_error).await
}

fn end_of<T: Serialize>(
    session: &Session,
    item: u64,
    result: Result<T, WorkError>,
    first_error: &mut Option<String>,
) -> ItemEnd {
    let failed = |unknown, error: String| {
        ItemEnd::Failed(ItemFailure { item, unknown, error: Some(error), ..ItemFailure::default() })
    };
    let (unknown, message) = match result {
        Ok(value) => match serde_json::to_vec(&value) {
            // Work without a result has no value.
            Ok(json) if json == b"null" => return ItemEnd::Done(Vec::new()),
            Ok(json) => return ItemEnd::Done(json),
            Err(error) => (false, format!("its value cannot be converted to JSON: {error}")),
        },
        // What fails after a cancellation may have failed because of it.
        Err(error) => (session.cancellation().is_cancelled(), error.get_ref().to_string()),
    };
    first_error.get_or_insert_with(|| message.clone());
    failed(unknown, message)
}

async fn values<T: DeserializeOwned>(
    open: &OpenEach,
    first_error: Option<String>,
) -> Result<Vec<T>, StepError> {
    let report = open.report();
    let step = open.identity().to_string();
    let EachReport { failed, not_run, total, too_long, .. } = report;
    if failed > 0 || not_run > 0 {
        let cause = first_error.map(|error| format!("; the first: {error}")).unwrap_or_default();
        let message = format!("{failed} of {total} items failed, {not_run} were not run{cause}");
        return Err(StepError::Failed { step, message });
    }
    if too_long {
        return Err(StepError::Value { step, problem: TOO_LONG.to_owned() });
    }
    let parse = |json: Vec<u8>| serde_json::from_slice(if json.is_empty() { b"null" } else { &json });
    let values = open.values().await?.into_iter().map(parse).collect::<Result<Vec<T>, _>>();
    values.map_err(|error| StepError::Value { step, problem: format!("cannot be read: {error}") })
}

const TOO_LONG: &str = "is longer than 16 MiB for all items together, so that it is not recorded";
