//! Stop signals that come through the owner, and the judgement whether the end of a program is their result.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use session_core::{Evidence, OwnerLoss, ProgramEnd, Stop, StopSource};
use tokio::time::Instant;

use crate::exit::BY_SIGNAL;
use crate::supervisor::messages::Ended;

const HUP: i32 = 1;
const INT: i32 = 2;
const QUIT: i32 = 3;
const TERM: i32 = 15;

/// Time between an end by a stop signal and the same signal to the owner, in either order, within which one stop caused
/// both: a shutdown sends it to every process.
pub(crate) const SAME_STOP: Duration = ProgramEnd::SAME_STOP;
/// Time after a stop signal in which any end of the program is its result.
const ANY_END: Duration = Duration::from_secs(10);
/// The same after TERM: what shuts a machine down waits about as long.
const ANY_END_AFTER_TERM: Duration = Duration::from_secs(120);

/// Interval of looking for a stop signal that is on its way.
const STOP_POLL: Duration = Duration::from_millis(20);

/// The stop signals that came through the owner, in order.
#[derive(Debug, Default)]
pub(crate) struct Stops {
    sent: Vec<(Stop, Instant)>,
    /// `true` once the owner ends the program.
    is_ending: bool,
}

/// The stop signals of a run, for the handlers of its connections as well.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedStops(Arc<Mutex<Stops>>);

impl SharedStops {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Stops> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `true` if an end of a command of the program, now, is the result of a stop: it may have to be waited for.
    pub(crate) async fn led_to(&self, ended: Ended, zero_completes: bool) -> bool {
        let at = Instant::now();
        loop {
            {
                let stops = self.lock();
                if stops.is_ending {
                    return true;
                }
                if let Some(stop) = stops.cause_of(ended, at, false) {
                    return !is_result(stop, ended, zero_completes);
                }
            }
            // The same signal may be on its way to the owner.
            if !may_be_stop(ended) || at.elapsed() > SAME_STOP {
                return false;
            }
            tokio::time::sleep(STOP_POLL).await;
        }
    }
}

impl Stops {
    /// Takes note that the owner ends the program.
    pub(crate) fn set_ending(&mut self) {
        self.is_ending = true;
    }

    /// Returns `true` for signals by which a person or the system stops a program.
    pub(crate) const fn is_stop(signal: i32) -> bool {
        matches!(signal, HUP | INT | QUIT | TERM)
    }

    /// Adds a signal. Returns `true` for the first one that the log records: TERM or HUP.
    pub(crate) fn add(&mut self, signal: i32, by: StopSource, at: Instant) -> bool {
        let is_recorded = |signal| matches!(signal, TERM | HUP);
        let first = is_recorded(signal) && !self.sent.iter().any(|(sent, _)| is_recorded(sent.signal));
        // The last of each kind decides.
        self.sent.retain(|(sent, _)| sent.signal != signal);
        self.sent.push((Stop { signal, by }, at));
        first
    }

    /// Returns the time of the last signal.
    pub(crate) fn last_at(&self) -> Option<Instant> {
        self.sent.last().map(|(_, at)| *at)
    }

    /// Returns a signal that came so shortly before that the program may not have handled it. A key is none: a person
    /// sees what comes of it.
    pub(crate) fn unhandled(&self, now: Instant) -> Option<i32> {
        self.sent
            .last()
            .filter(|(stop, _)| stop.by == StopSource::Signal)
            .filter(|(_, at)| now.saturating_duration_since(*at) <= SAME_STOP)
            .map(|(stop, _)| stop.signal)
    }

    /// Returns the stop that led to an end of the program at `at`. `foreground` is `true` if the program had the terminal, so
    /// that keys reached it and not the owner.
    pub(crate) fn cause_of(&self, ended: Ended, at: Instant, foreground: bool) -> Option<Stop> {
        let window = |signal| if signal == TERM { ANY_END_AFTER_TERM } else { ANY_END };
        let same = self.sent.iter().rev().find(|(stop, sent)| {
            is_by(ended, stop.signal) && sent.saturating_duration_since(at) <= SAME_STOP
        });
        let recent =
            self.sent.iter().rev().find(|(stop, sent)| *sent <= at && at - *sent <= window(stop.signal));
        if let Some((stop, _)) = same.or(recent) {
            return Some(*stop);
        }
        let key = [INT, QUIT].into_iter().find(|signal| foreground && is_by(ended, *signal))?;
        Some(Stop { signal: key, by: StopSource::Key })
    }
}

/// Returns `true` if the same signal to the owner, shortly after this end, would show that it is the result of a stop.
pub(crate) fn may_be_stop(ended: Ended) -> bool {
    [HUP, INT, QUIT, TERM].into_iter().any(|signal| is_by(ended, signal))
}

/// Returns `true` if an end that a stop led to is nevertheless the result of the session: exit code 0 after a person's
/// stop, or after any if the program means it so.
pub(crate) const fn is_result(stop: Stop, ended: Ended, zero_completes: bool) -> bool {
    ended.is_success() && (zero_completes || matches!(stop.loss(), OwnerLoss::Stopped))
}

/// Returns the evidence with which an owner releases its session after a stop.
pub(crate) const fn evidence(stop: Stop) -> Evidence {
    if matches!(stop.loss(), OwnerLoss::Stopped) { Evidence::Stopped(stop) } else { Evidence::Shutdown }
}

/// Returns `true` if the process group is, or was until it ended, in the foreground of this process's terminal.
pub(crate) fn is_in_foreground(group: u32) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(terminal) = rustix::fs::open("/dev/tty", flags, Mode::empty()) else { return false };
    let foreground = rustix::termios::tcgetpgrp(terminal);
    foreground.is_ok_and(|foreground| u32::try_from(foreground.as_raw_nonzero().get()) == Ok(group))
}

/// Returns `true` if the program died of the signal, or ended with the code that shells give for it.
fn is_by(ended: Ended, signal: i32) -> bool {
    ended.code() == BY_SIGNAL + signal
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the cause of an end `after` milliseconds after a signal; negative if the signal came later.
    fn cause(signal: i32, after: i64, ended: Ended) -> Option<i32> {
        let base = Instant::now() + Duration::from_secs(1_000);
        let distance = Duration::from_millis(after.unsigned_abs());
        let end = if after < 0 { base - distance } else { base + distance };
        let mut stops = Stops::default();
        stops.add(signal, StopSource::Signal, base);
        stops.cause_of(ended, end, false).map(|stop| stop.signal)
    }

    #[test]
    fn a_death_by_the_signal_is_its_result_at_any_time_after_it() {
        for signal in [HUP, INT, QUIT, TERM] {
            for ended in [Ended::Signalled(signal), Ended::Exited(128 + signal)] {
                assert!(may_be_stop(ended));
                assert_eq!(cause(signal, 3_600_000, ended), Some(signal), "{ended:?}");
                assert_eq!(cause(signal, -1_000, ended), Some(signal), "{ended:?}");
                assert_eq!(cause(signal, -1_001, ended), None, "{ended:?}");
            }
        }
    }

    #[test]
    fn any_end_soon_after_the_signal_is_its_result() {
        for (signal, limit) in [(HUP, 10_000), (INT, 10_000), (QUIT, 10_000), (TERM, 120_000)] {
            for ended in [Ended::Exited(0), Ended::Exited(3), Ended::Signalled(9)] {
                assert!(!may_be_stop(ended));
                assert_eq!(cause(signal, limit, ended), Some(signal), "{signal} {ended:?}");
                assert_eq!(cause(signal, limit + 1, ended), None, "{signal} {ended:?}");
                assert_eq!(cause(signal, -1, ended), None, "{signal} {ended:?}");
            }
        }
    }

    #[test]
    fn keys_count_only_for_a_program_that_has_the_terminal() {
        let (stops, now) = (Stops::default(), Instant::now());
        for ended in [Ended::Signalled(INT), Ended::Exited(130), Ended::Signalled(QUIT)] {
            assert_eq!(stops.cause_of(ended, now, false), None);
            assert_eq!(stops.cause_of(ended, now, true).map(|stop| stop.by), Some(StopSource::Key));
        }
        for ended in [Ended::Signalled(TERM), Ended::Exited(0), Ended::Exited(1)] {
            assert_eq!(stops.cause_of(ended, now, true), None);
        }
    }

    #[test]
    fn success_after_a_stop_is_a_result_where_a_person_stopped_it() {
        let stop = |signal| Stop { signal, by: StopSource::Signal };
        for signal in [INT, QUIT] {
            assert!(is_result(stop(signal), Ended::Exited(0), false));
            assert!(!is_result(stop(signal), Ended::Exited(3), true));
        }
        for signal in [TERM, HUP] {
            assert!(!is_result(stop(signal), Ended::Exited(0), false));
            assert!(is_result(stop(signal), Ended::Exited(0), true));
            assert!(!is_result(stop(signal), Ended::Signalled(signal), true));
        }
    }

    #[test]
    fn the_first_term_or_hup_is_recorded() {
        let (mut stops, now) = (Stops::default(), Instant::now());
        let mut add = |signal| stops.add(signal, StopSource::Signal, now);
        assert!(!add(INT));
        assert!(add(HUP));
        assert!(!add(TERM) && !add(HUP));
    }

    #[test]
    fn a_key_is_a_stop_that_is_always_handled() {
        let (mut stops, now) = (Stops::default(), Instant::now());
        stops.add(INT, StopSource::Key, now);
        assert_eq!(stops.unhandled(now), None);
        let cause = stops.cause_of(Ended::Exited(3), now, false);
        assert_eq!(cause, Some(Stop { signal: INT, by: StopSource::Key }));
        stops.add(INT, StopSource::Signal, now);
        assert_eq!(stops.unhandled(now), Some(INT));
    }
}
