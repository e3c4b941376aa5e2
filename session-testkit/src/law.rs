//! What a law is, and how a store is held to it. The laws themselves are in `laws`.

use std::fmt;
use std::future::Future;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use session_core::StorageError;

use crate::harness::{Harness, NotSupported};

/// Longer than any law takes on a slow machine: whatever lasts longer hangs.
const TIMEOUT: Duration = Duration::from_secs(180);

/// One testable sentence that every backend keeps.
#[derive(Clone, Copy)]
pub struct Law {
    /// The name, which begins with the number of the port's law that it belongs to.
    pub name: &'static str,
    /// What holds.
    pub sentence: &'static str,
    pub(crate) run: Run,
}

/// A law's test, on a store of its own.
pub(crate) type Run = for<'a> fn(&'a dyn Harness) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

impl fmt::Debug for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Law").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What came of holding a store to a law.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LawOutcome {
    /// It keeps the law, as far as the test goes.
    Holds,
    /// It breaks the law.
    Violated(String),
    /// The test needs what cannot be done to this store, for this reason.
    Skipped(&'static str),
}

impl Law {
    /// Holds a new, empty store to the law. A panic and a hang are violations too.
    ///
    /// Needs a tokio runtime, of several threads where races are to be races.
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
            Err(_) => LawOutcome::Violated(format!("not done after {TIMEOUT:?}")),
        }
    }
}

/// Runs one law as a test, on a store of its own: what [`storage_laws!`](crate::storage_laws) makes tests of.
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
        .expect("a runtime can be made");
    let outcome = runtime.block_on(async { law.judge(&factory().await).await });
    match outcome {
        LawOutcome::Holds => {}
        LawOutcome::Skipped(reason) => print_line(&format!("skipped {name}: {reason}")),
        LawOutcome::Violated(what) => panic!("{name} is violated.\n{}\n{what}", law.sentence),
    }
}

/// A line on stderr, not through `eprintln!`, which the test harness keeps to itself for tests that pass.
pub(crate) fn print_line(line: &str) {
    // Whoever closed it does not want to know.
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

pub(crate) type Outcome = Result<(), Finding>;

/// Why a law's test ended early.
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

    /// Adds what led to it.
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
    /// An error that the law does not expect.
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

/// An error with all its causes, on one line.
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
        .unwrap_or("without a text")
}

/// Ends the law's test unless something holds.
macro_rules! check {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err($crate::law::Finding::violated(format!($($what)+)));
        }
    };
}

/// Ends the law's test unless two values are the same.
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

/// A value as text, without the middle of what would fill the screen.
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
