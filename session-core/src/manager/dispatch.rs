//! Delivery of events to observers: a bounded queue and a thread for each, so that no observer can delay, stop or
//! reorder anything for the engine or for another observer. The engine decides which events are delivered, and when.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::event::SessionEvent;
use crate::id::SessionId;
use crate::manager::EventSink;
use crate::observer::{EventContext, SessionObserver};
use crate::recovery_report::RecoveryReport;
use crate::text::visible;

/// Delivery statistics of one observer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObserverHealth {
    /// The name of the observer.
    pub name: String,
    /// Events that it handled without a panic.
    pub delivered: u64,
    /// Events, deletions and recovery reports that were not delivered, because its queue was full or delivery had ended.
    pub missed: u64,
    /// Calls in which it panicked.
    pub panics: u64,
    /// Events in its queue.
    pub queued: usize,
    /// The duration of the call in progress, if there is one. It reveals an observer that never returns.
    pub busy_for: Option<Duration>,
}

impl fmt::Display for ObserverHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, delivered, missed, panics, queued, busy_for } = self;
        let name = visible(name);
        write!(
            f,
            "observer `{name}`: {delivered} delivered, {missed} missed, {panics} panics, {queued} queued"
        )?;
        match busy_for {
            Some(busy) => write!(f, ", in a call for {} ms", busy.as_millis()),
            None => Ok(()),
        }
    }
}

/// Receives events from an engine and delivers them to observers, to each in order and on a thread of its own.
///
/// - [`event`](EventSink::event) never waits for an observer. If the queue of an observer is full, the event is
///   recorded as missed. [`on_lagged`](SessionObserver::on_lagged) then reports the gap, once for each session, before
///   the next event that fits, or when the queue is empty. It reports at most as many sessions as the queue is long;
///   gaps of further sessions are included only in [`ObserverHealth`].
/// - A panic ends only the call in which it occurred. It is counted, and logged when the count reaches a power of two.
///   (If panics abort the process, there is nothing to isolate.)
/// - An observer that never returns costs one thread and one queue.
#[derive(Debug, Default)]
pub struct Dispatcher {
    queues: RwLock<Queues>,
}

#[derive(Debug, Default)]
struct Queues {
    closed: bool,
    all: Vec<Arc<ObserverQueue>>,
}

impl Dispatcher {
    /// Default length of an observer's queue.
    pub const QUEUE: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");

    /// Creates a dispatcher without observers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an observer, which receives every event from now on, with a queue of at most `queue` events. The name is
    /// for people: for its thread, in logs and in [`health`](Self::health).
    ///
    /// If no thread can be started, that is logged and the observer misses everything.
    pub fn add(&self, name: &str, observer: Arc<dyn SessionObserver>, queue: NonZeroUsize) {
        self.add_after(None, name, observer, queue);
    }

    /// Adds an observer like [`add`](Self::add), which first receives the report of an earlier recovery.
    pub(crate) fn add_after(
        &self,
        opening: Option<RecoveryReport>,
        name: &str,
        observer: Arc<dyn SessionObserver>,
        queue: NonZeroUsize,
    ) {
        let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
        let queue = Arc::new(ObserverQueue::new(name, queue, queues.closed));
        let spawned = thread::Builder::new().name(format!("session-observer-{}", visible(name))).spawn({
            let queue = Arc::clone(&queue);
            move || queue.run(observer)
        });
        if let Err(error) = spawned {
            tracing::error!(observer = %visible(name), %error, "could not start the observer's thread");
            queue.end();
        }
        if let Some(report) = opening {
            queue.push(Item::Recovered(Arc::new(report)));
        }
        queues.all.push(queue);
    }

    /// Returns the delivery statistics of each observer, in the order in which they were added.
    #[must_use]
    pub fn health(&self) -> Vec<ObserverHealth> {
        self.queues().iter().map(|queue| queue.health()).collect()
    }

    /// Stops accepting events and waits until all queues are empty, for at most `within`. Events that are still queued
    /// then are discarded and added to the missed ones. Observers still in a call are abandoned, logged and returned.
    /// Blocks. An observer may call it, and is not waited for.
    pub fn shutdown(&self, within: Duration) -> Vec<ObserverHealth> {
        self.shutdown_for(thread::current().id(), within)
    }

    /// Performs [`shutdown`](Self::shutdown) on behalf of another thread, which may be an observer's.
    pub(crate) fn shutdown_for(&self, caller: ThreadId, within: Duration) -> Vec<ObserverHealth> {
        let queues = self.close();
        let deadline = Instant::now().checked_add(within);
        let late: Vec<_> =
            queues.iter().filter(|queue| !queue.wait(caller, deadline)).map(|queue| queue.health()).collect();
        for health in &late {
            tracing::error!("abandoned at shutdown: {health}");
        }
        late
    }

    fn close(&self) -> Vec<Arc<ObserverQueue>> {
        self.queues.write().unwrap_or_else(PoisonError::into_inner).closed = true;
        let queues = self.queues();
        for queue in &queues {
            queue.close();
        }
        queues
    }

    fn queues(&self) -> Vec<Arc<ObserverQueue>> {
        self.queues.read().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    fn send(&self, what: impl Fn() -> Item) {
        for queue in &self.queues.read().unwrap_or_else(PoisonError::into_inner).all {
            queue.push(what());
        }
    }
}

impl EventSink for Dispatcher {
    fn event(&self, context: &EventContext, event: &Arc<SessionEvent>) {
        self.send(|| Item::Event(*context, Arc::clone(event)));
    }

    fn recovered(&self, report: &RecoveryReport) {
        let report = Arc::new(report.clone());
        self.send(|| Item::Recovered(Arc::clone(&report)));
    }

    fn deleted(&self, id: SessionId) {
        self.send(|| Item::Deleted(id));
    }
}

/// Closes all queues. The threads deliver the queued events and end; dropping does not wait for them.
impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.close();
    }
}

/// The queue and the statistics of one observer. The lock is never held while the observer is called.
#[derive(Debug)]
struct ObserverQueue {
    name: String,
    capacity: usize,
    state: Mutex<State>,
    /// Signalled when an event is queued, delivery is closed, or the thread has ended.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Queued>,
    /// The gaps since the last event that fitted.
    gaps: HashMap<SessionId, Gap>,
    delivered: u64,
    missed: u64,
    panics: u64,
    busy_since: Option<Instant>,
    thread: Option<ThreadId>,
    closed: bool,
    ended: bool,
}

/// An entry of the queue: the gaps before an item, and the item.
#[derive(Debug)]
struct Queued {
    gaps: Vec<Gap>,
    item: Option<Item>,
}

#[derive(Debug)]
enum Item {
    Event(EventContext, Arc<SessionEvent>),
    Recovered(Arc<RecoveryReport>),
    Deleted(SessionId),
}

/// Events of one session that were not delivered; the last of them is the one at `last`.
#[derive(Debug)]
struct Gap {
    last: EventContext,
    missed: u64,
}

impl ObserverQueue {
    fn new(name: &str, queue: NonZeroUsize, closed: bool) -> Self {
        let state = Mutex::new(State { closed, ..State::default() });
        Self { name: name.to_owned(), capacity: queue.get(), state, changed: Condvar::new() }
    }

    fn push(&self, item: Item) {
        let mut state = self.lock();
        if !state.closed && state.queue.len() < self.capacity {
            let gaps = state.take_gaps();
            state.queue.push_back(Queued { gaps, item: Some(item) });
            self.changed.notify_all();
            return;
        }
        let lags = !state.closed && state.missed == 0;
        state.miss(&item, self.capacity);
        drop(state);
        if lags {
            tracing::warn!(observer = %visible(&self.name), "the observer's queue is full: events are dropped");
        }
    }

    fn run(&self, observer: Arc<dyn SessionObserver>) {
        self.lock().thread = Some(thread::current().id());
        while let Some(Queued { gaps, item }) = self.next() {
            for Gap { last, missed } in gaps {
                self.call(|| observer.on_lagged(&last, missed));
            }
            let event = matches!(item, Some(Item::Event(..)));
            let taken = self.call(|| match &item {
                Some(Item::Event(context, event)) => observer.on_event(context, event),
                Some(Item::Recovered(report)) => observer.on_recovery(report),
                Some(Item::Deleted(id)) => observer.on_deleted(*id),
                None => {}
            });
            let mut state = self.lock();
            state.delivered += u64::from(event && taken);
            state.busy_since = None;
        }
        // Dropping the observer may run its own code, so it happens after waiters have been notified.
        self.end();
        self.call(|| drop(observer));
    }

    /// Waits for the next entry; `None` once delivery has ended.
    fn next(&self) -> Option<Queued> {
        let mut state = self.lock();
        loop {
            let queued = match state.queue.pop_front() {
                None if !state.gaps.is_empty() => Some(Queued { gaps: state.take_gaps(), item: None }),
                queued => queued,
            };
            if queued.is_some() {
                state.busy_since = Some(Instant::now());
                return queued;
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Calls the observer. Returns `true` if it did not panic.
    fn call(&self, observer: impl FnOnce()) -> bool {
        let Err(panic) = catch_unwind(AssertUnwindSafe(observer)) else { return true };
        let panics = {
            let mut state = self.lock();
            state.panics += 1;
            state.panics
        };
        if panics.is_power_of_two() {
            let message = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("a panic without a message");
            tracing::error!(observer = %visible(&self.name), panics, "the observer panicked: {}", visible(message));
        }
        // Dropping the payload of a panic may itself panic.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            std::mem::forget(again);
        }
        false
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn end(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.ended = true;
        state.discard_queue();
        self.changed.notify_all();
    }

    /// Waits until the thread has ended, and returns `true` if it has. Discards the queue if the deadline passes
    /// before; `None` means no deadline.
    fn wait(&self, caller: ThreadId, deadline: Option<Instant>) -> bool {
        let mut state = self.lock();
        while !state.ended {
            if state.thread == Some(caller) {
                // An observer that shuts down its manager would wait for itself. Its queue is delivered after the call.
                return true;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                state.discard_queue();
                return false;
            }
            let left = left.unwrap_or(Duration::MAX);
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    fn health(&self) -> ObserverHealth {
        let state = self.lock();
        ObserverHealth {
            name: self.name.clone(),
            delivered: state.delivered,
            missed: state.missed,
            panics: state.panics,
            queued: state.queue.len(),
            busy_for: state.busy_since.map(|since| since.elapsed()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn miss(&mut self, item: &Item, sessions: usize) {
        self.missed += 1;
        let Item::Event(context, _) = item else { return };
        if let Some(gap) = self.gaps.get_mut(&context.session) {
            *gap = Gap { last: *context, missed: gap.missed + 1 };
        } else if !self.closed && self.gaps.len() < sessions {
            self.gaps.insert(context.session, Gap { last: *context, missed: 1 });
        }
    }

    fn take_gaps(&mut self) -> Vec<Gap> {
        self.gaps.drain().map(|(_, gap)| gap).collect()
    }

    fn discard_queue(&mut self) {
        let given_up = self.queue.drain(..).filter(|queued| queued.item.is_some()).count();
        self.missed += u64::try_from(given_up).unwrap_or(u64::MAX);
        self.gaps.clear();
    }
}

#[cfg(test)]
mod tests;
