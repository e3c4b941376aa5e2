//! What the work calls to say how far it is. How its reports come into the log is the engine's business.

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
use crate::text::cut;
use crate::time::{Clock, Timestamp};

/// Says how far a session is. Cheap, callable from any thread, never waiting: what is said is written in the
/// background, and what is said faster than that becomes one record. Clones are the same tracker.
///
/// It begins where the log is, and neither steps nor percent ever go backwards. An attempt that takes the work up again
/// counts on from the last checkpoint, so steps that it has to do over again are not counted twice: what is shown stands
/// still until they are done. Where there is no checkpoint it counts on from the last step that is known; work that then
/// does steps over again says where it stands with [`report`](Self::report) and `completed_steps`.
///
/// After the session's end everything is refused: with an error where there is a result, silently elsewhere.
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
    /// The fold of the log, as far as the engine has told.
    head: Head,
    /// The fold of all reports, those that are not in the log yet included.
    reported: ProgressReport,
    /// Where this attempt stands: behind what was said while it does steps over again.
    steps: u64,
    samples: u64,
    /// What the log does not have, and nobody has taken to bring there.
    pending: Option<ProgressReport>,
    ended: bool,
    next_key: u64,
    callbacks: BTreeMap<u64, Callback>,
    delivery: Delivery,
}

/// One thread at a time tells of changes, so that nobody hears of an older one after a newer one.
#[derive(Default)]
struct Delivery {
    underway: bool,
    changed: bool,
    /// A new receiver has not got its first value yet.
    joined: bool,
}

impl ProgressTracker {
    /// A tracker that goes on from where a log is.
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

    /// Work of so many steps begins, or goes on: steps that are done already stay done. Any kind of number; one that
    /// is negative or 0 leaves the total unknown.
    pub fn start(&self, total: impl TryInto<u64>) {
        let total = total.try_into().ok().filter(|total| *total > 0);
        self.submit(|steps| ProgressReport {
            total_steps: total,
            completed_steps: Some(steps),
            ..ProgressReport::default()
        });
    }

    /// One more step is done; `name` is what it was, cut to 256 bytes. An empty name leaves the current step.
    pub fn complete_step(&self, name: impl Into<String>) {
        let name = name.into();
        self.submit(|steps| ProgressReport {
            completed_steps: Some(steps.saturating_add(1)),
            step: (!name.is_empty()).then(|| shorten(name)),
            ..ProgressReport::default()
        });
    }

    /// What is being done now, cut to 256 bytes.
    pub fn set_step(&self, step: impl Into<String>) {
        let step = step.into();
        self.submit(|_| ProgressReport::new().step(shorten(step)));
    }

    /// The part of the work that begins now, cut to 256 bytes.
    pub fn set_phase(&self, phase: impl Into<String>) {
        let phase = phase.into();
        self.submit(|_| ProgressReport::new().phase(shorten(phase)));
    }

    /// How much is done, 0 to 100. The step stays.
    ///
    /// # Errors
    /// A number outside 0 to 100; after the end.
    pub fn set_percent(&self, percent: f64) -> Result<(), LimitError> {
        self.report(ProgressReport::new().percent(percent))
    }

    /// How many steps there are. A number that is negative or 0 changes nothing.
    pub fn set_total(&self, total: impl TryInto<u64>) {
        let total = total.try_into().ok().filter(|total| *total > 0);
        self.submit(|_| ProgressReport { total_steps: total, ..ProgressReport::default() });
    }

    /// The time left, instead of the estimate: until the work moves on without saying it again.
    pub fn set_eta(&self, left: Duration) {
        self.submit(|_| ProgressReport::new().eta(left.as_secs() + u64::from(left.subsec_nanos() > 0)));
    }

    /// Whatever the report says; what it leaves out stays.
    ///
    /// # Errors
    /// What cannot be written (see [`ProgressReport::check`]): nothing of it is taken over. After the end.
    pub fn report(&self, report: ProgressReport) -> Result<(), LimitError> {
        report.check()?;
        if self.submit(|_| report) {
            Ok(())
        } else {
            Err(LimitError::invalid("progress", "came after the end"))
        }
    }

    /// How far the session is now.
    #[must_use]
    pub fn snapshot(&self) -> SessionProgress {
        self.shared.state().view(self.shared.clock.now())
    }

    /// Whether the session ended: nothing more is taken.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.shared.state().ended
    }

    /// Calls `callback` after each change, on the thread that makes it. It is never called twice at once; changes that
    /// come while it runs become one call after it. If it panics, the others are called all the same.
    pub fn on_change(&self, callback: impl Fn(&SessionProgress) + Send + Sync + 'static) -> CallbackGuard {
        let mut state = self.shared.state();
        state.next_key += 1;
        let key = state.next_key;
        state.callbacks.insert(key, Arc::new(callback));
        drop(state);
        // Weak: what only waits to be taken back keeps nothing alive.
        let shared = Arc::downgrade(&self.shared);
        CallbackGuard::new(move || {
            let taken = shared.upgrade().and_then(|shared| shared.state().callbacks.remove(&key));
            // What the callback holds is dropped outside the lock: it may come back here.
            drop(taken);
        })
    }

    /// Always the latest value. A borrowed value must not be held while reporting: the two wait for each other.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<SessionProgress> {
        let receiver = self.shared.watch.subscribe();
        let mut state = self.shared.state();
        state.delivery.joined = true;
        self.shared.deliver(state);
        receiver
    }

    /// Takes a report over, and returns whether it was: not after the end.
    fn submit(&self, report: impl FnOnce(u64) -> ProgressReport) -> bool {
        let mut state = self.shared.state();
        if state.ended {
            return false;
        }
        let report = report(state.steps);
        if report == ProgressReport::default() {
            return true;
        }
        state.accept(report);
        state.delivery.changed = true;
        self.shared.pending.notify_waiters();
        self.shared.deliver(state);
        true
    }
}

/// The engine's side.
impl ProgressTracker {
    /// What the log should be told and nobody took yet, as one report.
    pub(crate) fn take_pending(&self) -> Option<ProgressReport> {
        self.shared.state().pending.take()
    }

    /// A report that was taken did not come into the log; whatever was said since is newer.
    pub(crate) fn restore_pending(&self, mut report: ProgressReport) {
        let mut state = self.shared.state();
        if let Some(newer) = state.pending.take() {
            report.advance(newer);
        }
        state.pending = Some(report);
        drop(state);
        self.shared.pending.notify_waiters();
    }

    /// Waits until there is something to take. Any number may wait; none misses it.
    pub(crate) async fn pending_changed(&self) {
        loop {
            // Made before the look: a change between the two wakes it.
            let notified = self.shared.pending.notified();
            if self.shared.state().pending.is_some() {
                return;
            }
            notified.await;
        }
    }

    /// The log's fold moved on.
    pub(crate) fn sync_from(&self, head: &Head) {
        let mut state = self.shared.state();
        state.delivery.changed |= state.merge_head(head);
        self.shared.deliver(state);
    }

    /// Nothing more is taken. What is pending can still be taken over into the log.
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

    /// Tells of what changed, outside the lock. If a thread is at it already, or this one is, further down its stack,
    /// that one goes round once more.
    fn deliver<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        if state.delivery.underway {
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
            state.delivery.underway = true;
            drop(state);
            for callback in callbacks {
                isolated("progress", || callback(&progress));
            }
            if watched {
                self.watch.send_replace(progress);
            }
            state = self.state();
            state.delivery.underway = false;
        }
    }
}

impl State {
    fn view(&self, now: Timestamp) -> SessionProgress {
        SessionProgress::of(&self.head, &self.reported, self.samples, now)
    }

    fn accept(&mut self, report: ProgressReport) {
        self.steps = report.completed_steps.unwrap_or(self.steps);
        let advanced = self.reported.advance(report.clone());
        self.samples += u64::from(advanced);
        let pending = self.pending.get_or_insert_default();
        let eta = report.eta;
        pending.merge(ProgressReport {
            // What goes into the log is where the work is, not where a step that is done over again is.
            completed_steps: report.completed_steps.and(self.reported.completed_steps),
            percent: report.percent.and(self.reported.percent),
            ..report
        });
        if advanced {
            pending.eta = eta;
        }
    }

    /// Takes over what the log says and nobody said here: reports that did not come through this tracker. Returns
    /// whether anything changed that can be seen.
    fn merge_head(&mut self, head: &Head) -> bool {
        let (old, new) = (&self.head, &head.progress);
        let pending = self.pending.clone().unwrap_or_default();
        let before = self.reported.clone();
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
        // A head's texts are cut: one that is the start of ours is ours.
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
        let changed = self.reported != before
            || old.lifecycle.state != head.lifecycle.state
            || old.lifecycle.iterations_completed != head.lifecycle.iterations_completed
            || old.totals != head.totals;
        self.head.clone_from(head);
        changed
    }
}

impl fmt::Debug for ProgressTracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state();
        f.debug_struct("ProgressTracker")
            .field("said", &state.reported)
            .field("pending", &state.pending)
            .field("ended", &state.ended)
            .finish_non_exhaustive()
    }
}

/// A progress call never fails the work for a long text.
fn shorten(mut text: String) -> String {
    if text.len() > STEP_BYTES {
        let end = (0..=STEP_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
