//! Sleeps of the work: to a wake-up time that is recorded once.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use session_core::{Durability, ErrorCode, Session, SessionEvent, StepIdentity, Timestamp};

use crate::ask::{CLOCK_INTERVAL, ended};
use crate::attempt::Attempt;
use crate::error::StepError;
use crate::fingerprint::Fingerprint;
use crate::start::start;

/// The time at which a sleep ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WakeUp {
    /// After this time.
    After(Duration),
    /// At this time.
    At(Timestamp),
}

impl WakeUp {
    fn at(self, now: Timestamp) -> Timestamp {
        match self {
            // The milliseconds of an instant are rounded down.
            Self::After(duration) => now.after(duration.saturating_add(Duration::from_millis(1))),
            Self::At(at) => at,
        }
    }
}

/// The result of beginning a sleep.
#[derive(Debug)]
pub(crate) enum Sleeping {
    /// Its wake-up time has passed, in this attempt or a former one.
    Over,
    /// It sleeps.
    Until(OpenSleep),
}

/// Begins a sleep, unless its wake-up time has passed.
pub(crate) async fn begin_sleep(
    attempt: &Arc<Attempt>,
    session: &Session,
    name: &str,
    key: Option<&str>,
    wake_up: WakeUp,
) -> Result<Sleeping, StepError> {
    attempt.load(session).await?;
    let identity = match key {
        Some(key) => StepIdentity::keyed(name, key),
        None => StepIdentity::nth(name, 1),
    };
    identity.check()?;
    attempt.wait_for_name(|state| &state.sleep_names, name, key).await;
    let reserved = {
        let mut state = attempt.state();
        state.check_refusal()?;
        if state.sleep_names.taken(name, key).is_some() {
            Err(state.refuse(ErrorCode::StepOpen, format!("sleep `{name}` is open already")))
        } else {
            let identity = match key {
                Some(_) => identity,
                None => StepIdentity::nth(name, state.sleep_names.next_number(name, &Fingerprint::default())),
            };
            let known = state.workflow.sleeps.get(&identity).copied();
            if known.is_some_and(|known| known.has_passed) {
                state.sleep_names.used(&identity, None);
                return Ok(Sleeping::Over);
            }
            state.sleep_names.open(&identity);
            Ok((identity, known))
        }
    };
    let (step, known) = match reserved {
        Ok(reserved) => reserved,
        Err(error) => return Err(attempt.record_refusal(session, name, error).await),
    };
    // The first wake-up time holds, also where the clock was set since.
    let until = known.map_or_else(|| wake_up.at(session.clock().now()), |known| known.until);
    let started = SessionEvent::SleepStarted { step: step.clone(), until };
    let open = OpenSleep {
        attempt: Arc::clone(attempt),
        session: session.clone(),
        step,
        until,
        start: 0,
        is_over: false,
    };
    let open = start(session, open, started, |open: &mut OpenSleep, start| {
        open.start = start;
        open.attempt.state().workflow.sleeps.started(&open.step, open.until, start);
    });
    Ok(Sleeping::Until(open.await?))
}

/// A sleep that is recorded. Dropped before its wake-up time, it is given up, and the next use of its name continues it.
#[derive(Debug)]
pub(crate) struct OpenSleep {
    attempt: Arc<Attempt>,
    session: Session,
    step: StepIdentity,
    until: Timestamp,
    start: u64,
    is_over: bool,
}

impl OpenSleep {
    /// Returns the wake-up time.
    pub(crate) const fn until(&self) -> Timestamp {
        self.until
    }

    /// Waits until the wake-up time has passed by the clock, and records that. The future can be dropped without loss.
    ///
    /// # Errors
    /// What ended the session; a wake-up that could not be recorded.
    pub(crate) async fn wait(&mut self) -> Result<(), StepError> {
        loop {
            let left = self.until.since(self.session.clock().now());
            if left.is_zero() {
                break;
            }
            let cancellation = self.session.cancellation();
            tokio::select! {
                // Not the whole time: a clock that was set, or a suspended machine, has to be noticed.
                () = tokio::time::sleep(left.min(CLOCK_INTERVAL)) => {}
                reason = cancellation.cancelled() => return Err(ended(&self.session, reason).await),
            }
        }
        let event = SessionEvent::SleepEnded { start: self.start, passed: true };
        let tip = match self.session.end_step(vec![event], Durability::Flushed).await {
            Ok(tip) => tip,
            Err(error) => return Err(self.attempt.lost(&self.session, &self.step, error).await),
        };
        self.attempt.state().workflow.sleeps.passed(self.start, tip.revision);
        self.has_ended(None);
        Ok(())
    }

    /// Leaves the sleep open: the session is being stopped, and the next attempt continues it.
    pub(crate) fn leave_open(mut self) {
        self.has_ended(Some(Fingerprint::default()));
    }

    fn has_ended(&mut self, unkept: Option<Fingerprint>) {
        self.is_over = true;
        let mut state = self.attempt.state();
        state.sleep_names.close(&self.step);
        if unkept.is_some() && state.workflow.sleeps.get(&self.step).is_none() {
            // Given up before it was recorded: it used no number.
            state.sleep_names.unused(&self.step);
        } else {
            state.sleep_names.used(&self.step, unkept);
        }
        drop(state);
        self.attempt.notify_names();
    }
}

impl Drop for OpenSleep {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.has_ended(Some(Fingerprint::default()));
        if self.start > 0
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (session, start) = (self.session.clone(), self.start);
            runtime.spawn(async move {
                let event = SessionEvent::SleepEnded { start, passed: false };
                if let Err(error) = session.end_step(vec![event], Durability::Flushed).await {
                    tracing::debug!(session = %session.id(), %error, "could not record that a sleep was given up");
                }
            });
        }
    }
}

/// A sleep of Rust code. It begins when it is awaited; later attempts sleep for the rest of it.
#[derive(Debug)]
#[must_use = "a sleep begins when it is awaited"]
pub struct Sleep<'a> {
    session: &'a Session,
    name: String,
    key: Option<String>,
    wake_up: WakeUp,
}

impl<'a> Sleep<'a> {
    pub(crate) const fn new(session: &'a Session, name: String, wake_up: WakeUp) -> Self {
        Self { session, name, key: None, wake_up }
    }

    /// Identifies the sleep by a key, instead of the number of the use of its name.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
}

impl<'a> IntoFuture for Sleep<'a> {
    type Output = Result<(), StepError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { session, name, key, wake_up } = self;
            match begin_sleep(&Attempt::of(session), session, &name, key.as_deref(), wake_up).await? {
                Sleeping::Over => Ok(()),
                Sleeping::Until(mut open) => open.wait().await,
            }
        })
    }
}
