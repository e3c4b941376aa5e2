//! Jumps of the clock while a session runs: they are noted in its log, so that the time spent running leaves them out.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

use crate::event::SessionEvent;
use crate::head::CLOCK_JUMPED;
use crate::time::{Clock, Timestamp};

/// A jump is at least this large. Clocks that are set right slowly move by less between two looks.
const MIN_JUMP: i64 = 2_000;

/// Compares the clock with the time since the boot, which no change of the clock affects.
#[derive(Debug)]
pub(crate) struct ClockJumps {
    /// The last look: the clock, and the time since the boot. `None` if the clock is not compared.
    last: Mutex<Option<(Timestamp, Duration)>>,
}

impl ClockJumps {
    pub(crate) fn new(clock: &dyn Clock) -> Self {
        Self { last: Mutex::new(look(clock)) }
    }

    /// Returns the note of a jump since the last look, if there was one.
    pub(crate) fn note(&self, clock: &dyn Clock) -> Option<SessionEvent> {
        let (last, now) = ((*self.lock())?, look(clock)?);
        let moved = now.0.as_millis().saturating_sub(last.0.as_millis());
        let passed = i64::try_from(now.1.saturating_sub(last.1).as_millis()).unwrap_or(i64::MAX);
        let by = moved.saturating_sub(passed);
        (by.saturating_abs() >= MIN_JUMP)
            .then(|| SessionEvent::Noted { kind: CLOCK_JUMPED.to_owned(), data: json!({ "by_ms": by }) })
    }

    /// Takes the present time as seen: a jump before it is in the log.
    pub(crate) fn seen(&self, clock: &dyn Clock) {
        *self.lock() = look(clock);
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Timestamp, Duration)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look(clock: &dyn Clock) -> Option<(Timestamp, Duration)> {
    Some((clock.now(), clock.since_boot()?))
}
