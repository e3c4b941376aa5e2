//! The tracker with which the work reports its progress. The engine writes the reports to the log.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::SessionProgress;
use crate::callback::{CallbackGuard, isolated};
use crate::event::ProgressReport;
use crate::head::Head;
use crate::limits::{LimitError, STEP_BYTES};
use crate::text::{cut, prefix};
use crate::time::{Clock, Timestamp};

/// Reports the progress of a session. Calls are cheap, work from any thread and never wait: reports are written in the
/// background, and reports that come faster are merged into one record. Clones share one tracker.
///
/// A tracker starts from the progress in the log, and neither steps nor percent ever decrease. A new attempt continues
/// to count from the last checkpoint, so that repeated steps are not counted twice: the displayed progress does not
/// change until they are done. Without a checkpoint, it continues from the last reported step; work that repeats steps
/// then has to set `completed_steps` with [`report`](Self::report).
///
/// Each method returns `true` if it changed the progress that [`snapshot`](Self::snapshot) returns. It returns `false`,
/// and no callback is called, if the progress is the same as before: a percentage below the highest one so far, or below
/// the share of completed steps; a repeated step that was counted before; a text that is set already.
///
/// After the end of the session, all reports are rejected: with an error by methods that return a result; the others
/// return `false`.
///
/// ```
/// # use session_core::{InMemorySessionManager, SessionConfig, SessionManager as _};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), session_core::SessionError> {
/// # let manager = InMemorySessionManager::new();
/// # let id = manager.create_session(SessionConfig::new("import")).await?;
/// # let session = manager.start_session(id).await?;
/// let progress = session.progress();
/// progress.start(3);
/// assert!(progress.set_percent(66.0)?);
/// assert!(!progress.set_percent(33.0)?, "less than before");
/// assert_eq!(progress.snapshot().percent, Some(66.0));
/// progress.complete_step("a.csv"); // one of three: 66 % is more
/// assert_eq!(progress.snapshot().percent, Some(66.0));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ProgressTracker {
    shared: Arc<Shared>,
}

type Callback = Arc<dyn Fn(&SessionProgress) + Send + Sync>;

struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    pending: Notify,
    watch: watch::Sender<SessionProgress>,
}

struct State {
    /// The head of the log, as of the last synchronization by the engine.
    head: Head,
    /// The merge of all reports, including those that are not in the log yet.
    reported: ProgressReport,
    /// The completed steps of this attempt; fewer than reported while it repeats steps.
    steps: u64,
    samples: u64,
    /// Reports that are not in the log and that the engine has not taken yet.
    pending: Option<ProgressReport>,
    ended: bool,
    next_key: u64,
    callbacks: BTreeMap<u64, Callback>,
    delivery: Delivery,
}

/// Notification state. One thread at a time notifies, so that no callback receives an older change after a newer one.
#[derive(Default)]
struct Delivery {
    in_progress: bool,
    changed: bool,
    /// `true` if a new receiver has not received its first value yet.
    joined: bool,
}

impl ProgressTracker {
    /// Creates a tracker that continues from the progress in a head.
    #[must_use]
    pub fn new(head: &Head, now: Timestamp, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            head: head.clone(),
            reported: head.progress.clone(),
            steps: head
                .checkpoint
                .map_or(head.progress.completed_steps, |_| head.checkpoint_steps)
                .unwrap_or(0),
            samples: head.samples,
            pending: None,
            ended: head.state().is_final(),
            next_key: 0,
            callbacks: BTreeMap::new(),
            delivery: Delivery::default(),
        };
        let watch = watch::Sender::new(state.view(now));
        Self { shared: Arc::new(Shared { clock, state: Mutex::new(state), pending: Notify::new(), watch }) }
    }

    /// Sets the total at the start of the work, in the first attempt and in later ones; completed steps are kept.
    /// Accepts any integer type; a number that is negative or 0 leaves the total unknown. Returns `true` if the
    /// progress changed.
    pub fn start(&self, total: impl TryInto<u64>) -> bool {
        let total = total.try_into().ok().filter(|total| *total > 0);
        self.submit(|steps| ProgressReport {
            total_steps: total,
            completed_steps: Some(steps),
            ..ProgressReport::default()
        })
        .is_changed()
    }

    /// Completes one step named `name`, cut to 256 bytes. An empty name keeps the current step name. Returns `true` if
    /// the progress changed.
    pub fn complete_step(&self, name: impl Into<String>) -> bool {
        let name = name.into();
        self.submit(|steps| ProgressReport {
            completed_steps: Some(steps.saturating_add(1)),
            step: (!name.is_empty()).then(|| shorten(name)),
            ..ProgressReport::default()
        })
        .is_changed()
    }

    /// Sets the current step, cut to 256 bytes. Returns `true` if the progress changed.
    pub fn set_step(&self, step: impl Into<String>) -> bool {
        let step = step.into();
        self.submit(|_| ProgressReport::new().step(shorten(step))).is_changed()
    }

    /// Sets the current phase, cut to 256 bytes. Returns `true` if the progress changed.
    pub fn set_phase(&self, phase: impl Into<String>) -> bool {
        let phase = phase.into();
        self.submit(|_| ProgressReport::new().phase(shorten(phase))).is_changed()
    }

    /// Sets the share of the work that is done, 0 to 100. Keeps the current step. If steps are counted too, the larger
    /// share is shown. Returns `Ok(true)` if the progress changed.
    ///
    /// # Errors
    /// If the number is outside 0 to 100, or after the end of the session.
    pub fn set_percent(&self, percent: f64) -> Result<bool, LimitError> {
        self.report(ProgressReport::new().percent(percent))
    }

    /// Sets the total number of steps. A number that is negative or 0 changes nothing. Returns `true` if the progress
    /// changed.
    pub fn set_total(&self, total: impl TryInto<u64>) -> bool {
        let total = total.try_into().ok().filter(|total| *total > 0);
        self.submit(|_| ProgressReport { total_steps: total, ..ProgressReport::default() }).is_changed()
    }

    /// Sets the remaining time. It replaces the estimate until the work advances without setting it again. Returns
    /// `true` if the progress changed.
    #[expect(clippy::must_use_candidate, reason = "most work does not need to know")]
    pub fn set_eta(&self, left: Duration) -> bool {
        self.submit(|_| ProgressReport::new().eta(left.as_secs() + u64::from(left.subsec_nanos() > 0)))
            .is_changed()
    }

    /// Merges a report. Fields that are `None` keep their value. Returns `Ok(true)` if the progress changed.
    ///
    /// # Errors
    /// If the report violates a limit (see [`ProgressReport::check`]), or after the end of the session. Nothing is
    /// merged then.
    pub fn report(&self, report: ProgressReport) -> Result<bool, LimitError> {
        report.check()?;
        match self.submit(|_| report) {
            Submitted::Changed => Ok(true),
            Submitted::Unchanged => Ok(false),
            Submitted::Ended => {
                Err(LimitError::invalid("progress", "was reported after the end of the session"))
            }
        }
    }

    /// Returns the current progress.
    #[must_use]
    pub fn snapshot(&self) -> SessionProgress {
        self.shared.state().view(self.shared.clock.now())
    }

    /// Returns `true` once the session has ended and reports are rejected.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.shared.state().ended
    }

    /// Registers a callback that is called after each change of the progress, on the thread that caused it. Calls never overlap;
    /// changes during a call are merged into one call after it. If it panics, the other callbacks are still called.
    pub fn on_change(&self, callback: impl Fn(&SessionProgress) + Send + Sync + 'static) -> CallbackGuard {
        let mut state = self.shared.state();
        state.next_key += 1;
        let key = state.next_key;
        state.callbacks.insert(key, Arc::new(callback));
        drop(state);
        // Weak: a guard keeps nothing alive.
        let shared = Arc::downgrade(&self.shared);
        CallbackGuard::new(move || {
            let callback = shared.upgrade().and_then(|shared| shared.state().callbacks.remove(&key));
            // Dropped outside the lock: a value that the callback owns may call back here.
            drop(callback);
        })
    }

    /// Returns a receiver of the latest progress. Do not report while holding a borrowed value: that deadlocks.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<SessionProgress> {
        let receiver = self.shared.watch.subscribe();
        let mut state = self.shared.state();
        state.delivery.joined = true;
        self.shared.deliver(state);
        receiver
    }

    /// Merges a report, and notifies callbacks and receivers if that changed the progress.
    fn submit(&self, report: impl FnOnce(u64) -> ProgressReport) -> Submitted {
        let mut state = self.shared.state();
        if state.ended {
            return Submitted::Ended;
        }
        let report = report(state.steps);
        if report == ProgressReport::default() {
            return Submitted::Unchanged;
        }
        let (before, samples) = (state.reported.clone(), state.samples);
        state.accept(report);
        let changed = state.differs_from(&before, samples, self.shared.clock.now());
        state.delivery.changed |= changed;
        // Written in each case: a repeated report is a sign of life.
        self.shared.pending.notify_waiters();
        self.shared.deliver(state);
        if changed { Submitted::Changed } else { Submitted::Unchanged }
    }
}

/// The outcome of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Submitted {
    Changed,
    Unchanged,
    /// It was rejected because the session has ended.
    Ended,
}

impl Submitted {
    fn is_changed(self) -> bool {
        self == Self::Changed
    }
}

/// Methods for the engine.
impl ProgressTracker {
    /// Takes the pending reports, merged into one.
    pub(crate) fn take_pending(&self) -> Option<ProgressReport> {
        self.shared.state().pending.take()
    }

    /// Returns a taken report that could not be written. Reports submitted since then override it.
    pub(crate) fn restore_pending(&self, mut report: ProgressReport) {
        let mut state = self.shared.state();
        if let Some(newer) = state.pending.take() {
            report.advance(newer);
        }
        state.pending = Some(report);
        drop(state);
        self.shared.pending.notify_waiters();
    }

    /// Waits until a report is pending. Any number of tasks may wait; each of them is woken.
    pub(crate) async fn pending_changed(&self) {
        loop {
            // Created before the check, so that a change in between wakes it.
            let notified = self.shared.pending.notified();
            if self.shared.state().pending.is_some() {
                return;
            }
            notified.await;
        }
    }

    /// Updates the tracker after the head has changed.
    pub(crate) fn sync_from(&self, head: &Head) {
        let mut state = self.shared.state();
        let now = self.shared.clock.now();
        state.delivery.changed |= state.merge_head(head, now);
        self.shared.deliver(state);
    }

    /// Rejects further reports. Pending ones can still be taken and written to the log.
    pub(crate) fn end(&self) {
        self.shared.state().ended = true;
    }
}

#[cfg(test)]
impl ProgressTracker {
    pub(super) fn reported_so_far(&self) -> ProgressReport {
        self.shared.state().reported.clone()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notifies callbacks and receivers of changes, outside the lock. If a notification is already in progress, on
    /// another thread or further up this stack, the running one repeats its loop instead.
    fn deliver<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        if state.delivery.in_progress {
            return;
        }
        while state.delivery.changed || state.delivery.joined {
            let changed = std::mem::take(&mut state.delivery.changed);
            state.delivery.joined = false;
            let callbacks: Vec<Callback> =
                if changed { state.callbacks.values().cloned().collect() } else { Vec::new() };
            let watched = self.watch.receiver_count() > 0;
            if callbacks.is_empty() && !watched {
                continue;
            }
            let progress = state.view(self.clock.now());
            state.delivery.in_progress = true;
            drop(state);
            for callback in callbacks {
                isolated("progress", || callback(&progress));
            }
            if watched {
                self.watch.send_replace(progress);
            }
            state = self.state();
            state.delivery.in_progress = false;
        }
    }
}

impl State {
    fn view(&self, now: Timestamp) -> SessionProgress {
        SessionProgress::of(&self.head, &self.reported, self.samples, now)
    }

    /// Returns `true` if the displayed progress differs from that of `earlier` reports. Most reports that change nothing
    /// are equal to earlier ones; a percentage below the share of the steps is not, and is not displayed.
    fn differs_from(&self, earlier: &ProgressReport, samples: u64, now: Timestamp) -> bool {
        (*earlier != self.reported || samples != self.samples)
            && SessionProgress::of(&self.head, earlier, samples, now) != self.view(now)
    }

    fn accept(&mut self, report: ProgressReport) {
        self.steps = report.completed_steps.unwrap_or(self.steps);
        let advanced = self.reported.advance(report.clone());
        self.samples += u64::from(advanced);
        let pending = self.pending.get_or_insert_default();
        let eta = report.eta;
        pending.merge(ProgressReport {
            // The log gets the overall progress, not the smaller numbers of repeated steps.
            completed_steps: report.completed_steps.and(self.reported.completed_steps),
            percent: report.percent.and(self.reported.percent),
            ..report
        });
        if advanced {
            pending.eta = eta;
        }
    }

    /// Merges the changes in a new head that did not come from this tracker. Returns `true` if the visible progress
    /// changed.
    fn merge_head(&mut self, head: &Head, now: Timestamp) -> bool {
        let (old, new) = (&self.head, &head.progress);
        let pending = self.pending.clone().unwrap_or_default();
        let (before, samples) = (self.reported.clone(), self.samples);
        let later = ProgressReport {
            completed_steps: new.completed_steps,
            percent: new.percent,
            ..ProgressReport::default()
        };
        let eta = self.reported.eta;
        if new.completed_steps > old.progress.completed_steps {
            self.steps = self.steps.max(new.completed_steps.unwrap_or(0));
        }
        self.reported.advance(later);
        self.reported.eta = if new.eta != old.progress.eta && self.pending.is_none() { new.eta } else { eta };
        // Texts in a head are cut: compare them with our texts in cut form.
        let text =
            |reported: &mut Option<String>, new: &Option<String>, old: &Option<String>, pending: bool| {
                let ours = reported.as_deref().map(|text| cut(text, crate::limits::HEAD_TEXT));
                if new != old && *new != ours && !pending {
                    reported.clone_from(new);
                }
            };
        text(&mut self.reported.step, &new.step, &old.progress.step, pending.step.is_some());
        text(&mut self.reported.phase, &new.phase, &old.progress.phase, pending.phase.is_some());
        if new.total_steps != old.progress.total_steps && pending.total_steps.is_none() {
            self.reported.total_steps = new.total_steps;
        }
        self.samples = self.samples.max(head.samples);
        let changed = old.lifecycle.state != head.lifecycle.state
            || old.lifecycle.iterations_completed != head.lifecycle.iterations_completed
            || old.totals != head.totals
            || super::of_steps(old, &self.reported) != super::of_steps(head, &self.reported);
        self.head.clone_from(head);
        changed || self.differs_from(&before, samples, now)
    }
}

impl fmt::Debug for ProgressTracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state();
        f.debug_struct("ProgressTracker")
            .field("reported", &state.reported)
            .field("pending", &state.pending)
            .field("ended", &state.ended)
            .finish_non_exhaustive()
    }
}

/// Cuts a long text: a progress call must not fail the work for it.
fn shorten(mut text: String) -> String {
    text.truncate(prefix(&text, STEP_BYTES).len());
    text
}
