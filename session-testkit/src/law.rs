//! The type of a law, and its execution against a store. The laws themselves are in `laws`.

use std::fmt;
use std::future::Future;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use session_core::StorageError;

use crate::harness::{Harness, NotSupported};

/// Longer than any law takes on a slow machine: a law that takes longer has hung.
const TIMEOUT: Duration = Duration::from_secs(180);

/// A rule for backends, with its test.
#[derive(Clone, Copy)]
pub struct Law {
    /// The name, which starts with the number of the port's law that it belongs to.
    pub name: &'static str,
    /// The rule as a sentence.
    pub sentence: &'static str,
    pub(crate) run: Run,
}

/// The test of a law, which gets a store of its own.
pub(crate) type Run = for<'a> fn(&'a dyn Harness) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

impl fmt::Debug for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Law").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The result of testing a store against a law.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LawOutcome {
    /// The store passed the test.
    Holds,
    /// The store breaks the law, as described.
    Violated(String),
    /// The test needs an operation that the harness does not support, for this reason.
    Skipped(&'static str),
}

impl Law {
    /// Tests a new, empty store against the law. A panic and a hang are violations, too.
    ///
    /// Needs a tokio runtime. Races are only tested on one with several threads.
    pub async fn judge(&self, harness: &dyn Harness) -> LawOutcome {
        let mut run = (self.run)(harness);
        let caught =
            std::future::poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(cx))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(outcome)) => Poll::Ready(outcome),
                Err(panic) => {
                    Poll::Ready(Err(Finding::Violated(format!("it panicked: {}", panic_message(&*panic)))))
                }
            });
        match tokio::time::timeout(TIMEOUT, caught).await {
            Ok(Ok(())) => LawOutcome::Holds,
            Ok(Err(Finding::Violated(what))) => LawOutcome::Violated(what),
            Ok(Err(Finding::Skipped(NotSupported(reason)))) => LawOutcome::Skipped(reason),
            Err(_) => LawOutcome::Violated(format!("timed out after {TIMEOUT:?}")),
        }
    }
}

/// Runs one law as a test, on a store of its own. The tests of [`storage_laws!`](crate::storage_laws) call it.
///
/// # Panics
/// If the law is violated.
pub fn test_law<F, S>(name: &str, factory: impl FnOnce() -> F)
where
    F: Future<Output = S>,
    S: Harness,
{
    let law = crate::LAWS.iter().find(|law| law.name == name).expect("the macro names laws of the list");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime can be created");
    let outcome = runtime.block_on(async { law.judge(&factory().await).await });
    match outcome {
        LawOutcome::Holds => {}
        LawOutcome::Skipped(reason) => print_line(&format!("skipped {name}: {reason}")),
        LawOutcome::Violated(what) => panic!("{name} is violated.\n{}\n{what}", law.sentence),
    }
}

/// Prints a line to stderr, not with `eprintln!`, whose output `cargo test` hides for tests that pass.
pub(crate) fn print_line(line: &str) {
    // An error means that stderr is closed.
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

pub(crate) type Outcome = Result<(), Finding>;

/// The reason why a law's test ended early.
#[derive(Debug, Clone)]
pub(crate) enum Finding {
    Violated(String),
    Skipped(NotSupported),
}

impl Finding {
    #[track_caller]
    pub(crate) fn violated(what: impl fmt::Display) -> Self {
        Self::Violated(format!("{what}\n  at {}", Location::caller()))
    }

    /// Adds the circumstances of a violation.
    pub(crate) fn context(self, what: impl fmt::Display) -> Self {
        match self {
            Self::Violated(finding) => Self::Violated(format!("{what}: {finding}")),
            Self::Skipped(not_supported) => Self::Skipped(not_supported),
        }
    }
}

impl From<NotSupported> for Finding {
    fn from(not_supported: NotSupported) -> Self {
        Self::Skipped(not_supported)
    }
}

impl From<StorageError> for Finding {
    /// Turns an error that the law does not expect into a violation.
    #[track_caller]
    fn from(error: StorageError) -> Self {
        Self::violated(format!("unexpected error: {}", with_causes(&error)))
    }
}

impl From<tokio::task::JoinError> for Finding {
    #[track_caller]
    fn from(error: tokio::task::JoinError) -> Self {
        match error.try_into_panic() {
            Ok(panic) => Self::violated(format!("it panicked: {}", panic_message(&*panic))),
            Err(error) => Self::violated(error),
        }
    }
}

/// Formats an error with all its causes on one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

/// Ends the law's test unless a condition holds.
macro_rules! check {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err($crate::law::Finding::violated(format!($($what)+)));
        }
    };
}

/// Ends the law's test unless two values are equal.
macro_rules! check_eq {
    ($actual:expr, $expected:expr, $($what:tt)+) => {
        match (&$actual, &$expected) {
            (actual, expected) => {
                if *actual != *expected {
                    return Err($crate::law::Finding::violated(format!(
                        "{}\n  found    {}\n  expected {}",
                        format_args!($($what)+),
                        $crate::law::abbreviate(actual),
                        $crate::law::abbreviate(expected),
                    )));
                }
            }
        }
    };
}

pub(crate) use {check, check_eq};

/// Formats a value, omitting the middle of a long text.
pub(crate) fn abbreviate(value: &dyn fmt::Debug) -> String {
    const SHOWN: usize = 600;
    let text = format!("{value:?}");
    if text.chars().count() <= 2 * SHOWN {
        return text;
    }
    let start: String = text.chars().take(SHOWN).collect();
    let end: String = text.chars().skip(text.chars().count() - SHOWN).collect();
    format!("{start} … {end}")
}
