//! Tests of delivery to observers, and of their isolation from each other.

use std::panic;
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, Sender};

use super::*;
use crate::time::Timestamp;

/// A time-out longer than any step takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn queue(events: usize) -> NonZeroUsize {
    NonZeroUsize::new(events).unwrap()
}

fn session(number: u8) -> SessionId {
    SessionId::from_bytes([number; 16])
}

fn send(dispatcher: &Dispatcher, number: u8, revision: u64) {
    let context = EventContext::new(session(number), revision, Timestamp::from_millis(0).unwrap(), 1);
    dispatcher.event(&context, &Arc::new(SessionEvent::IterationStarted { number: revision }));
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LONG, "never came: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A call that an observer received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Received {
    Event(u8, u64),
    Lag { session: u8, last: u64, missed: u64 },
    Recovery,
}

fn position(context: &EventContext) -> (u8, u64) {
    (context.session.as_bytes()[0], context.revision)
}

/// Records all calls, and runs a function in each `on_event`.
struct Recorder<F> {
    received: Arc<Mutex<Vec<Received>>>,
    then: F,
}

impl<F: Fn(u64) + Send + Sync> SessionObserver for Recorder<F> {
    fn on_event(&self, context: &EventContext, event: &SessionEvent) {
        let (session, revision) = position(context);
        assert!(matches!(event, SessionEvent::IterationStarted { number } if *number == revision));
        self.received.lock().unwrap().push(Received::Event(session, revision));
        (self.then)(revision);
    }

    fn on_lagged(&self, context: &EventContext, missed: u64) {
        let (session, last) = position(context);
        self.received.lock().unwrap().push(Received::Lag { session, last, missed });
    }

    fn on_recovery(&self, _: &RecoveryReport) {
        self.received.lock().unwrap().push(Received::Recovery);
    }
}

type Log = Arc<Mutex<Vec<Received>>>;

fn recorder(then: impl Fn(u64) + Send + Sync + 'static) -> (Arc<dyn SessionObserver>, Log) {
    let received = Log::default();
    (Arc::new(Recorder { received: Arc::clone(&received), then }), received)
}

/// Creates an observer that blocks in its first event until the gate opens.
fn gated() -> (Arc<dyn SessionObserver>, Log, Gate) {
    let (open, opened) = mpsc::channel();
    let (arrive, arrived) = mpsc::channel();
    let ends = Mutex::new(Some((arrive, opened)));
    let (observer, received) = recorder(move |_| {
        let ends: Option<(Sender<()>, Receiver<()>)> = ends.lock().unwrap().take();
        if let Some((arrive, opened)) = ends {
            arrive.send(()).unwrap();
            let _ = opened.recv();
        }
    });
    (observer, received, Gate { open, arrived })
}

struct Gate {
    open: Sender<()>,
    arrived: Receiver<()>,
}

impl Gate {
    fn wait_for_observer(&self) {
        self.arrived.recv_timeout(LONG).unwrap();
    }

    fn open(self) {
        self.open.send(()).unwrap();
    }
}

/// Regression: delivery was a loop over all observers on the appending thread. One that slept delayed every session,
/// one that panicked ended the session's task, one that never returned stopped the program. Now each affects only
/// itself.
#[test]
fn faulty_observers_do_not_affect_the_others() {
    const EVENTS: u64 = 10_000;
    const SESSIONS: u64 = 4;
    let dispatcher = Dispatcher::new();
    let roomy = queue(10_000);

    let healthy: Vec<(String, Log)> = (1..=5)
        .map(|n| (format!("healthy-{n}"), n))
        .map(|(name, _)| {
            let (observer, received) = recorder(|_| {});
            dispatcher.add(&name, observer, roomy);
            (name, received)
        })
        .collect();

    let (sent, all_sent) = mpsc::channel::<()>();
    let all_sent = Mutex::new(all_sent);
    let (sleeper, slept) = recorder(move |_| {
        // Asleep until everything was sent, and for a moment with each event after that.
        let _ = all_sent.lock().unwrap().recv();
        thread::sleep(Duration::from_millis(1));
    });
    dispatcher.add("sleeps", sleeper, queue(64));
    let (panicker, _) = recorder(|revision| panic!("no good at {revision}"));
    dispatcher.add("panics", panicker, roomy);
    let (stuck, _) = recorder(|_| {
        loop {
            thread::park();
        }
    });
    dispatcher.add("never returns", stuck, queue(64));

    let position_of = |n: u64| (u8::try_from(n % SESSIONS).unwrap(), n / SESSIONS + 1);
    for n in 0..EVENTS {
        let (session, revision) = position_of(n);
        send(&dispatcher, session, revision);
    }
    drop(sent);

    let expected: Vec<_> = (0..EVENTS).map(position_of).map(|(s, r)| Received::Event(s, r)).collect();
    let health = |name: &str| dispatcher.health().into_iter().find(|health| health.name == name).unwrap();
    for (name, received) in &healthy {
        wait_until(name, || health(name).delivered == EVENTS);
        assert_eq!(*received.lock().unwrap(), expected, "{name}");
    }
    wait_until("the panics", || health("panics").panics == EVENTS);
    // Events that the sleeper received, and those reported to it as missed.
    let accounted = |received: &Received| match received {
        Received::Lag { missed, .. } => *missed,
        Received::Event(..) => 1,
        Received::Recovery => 0,
    };
    wait_until("all events to be accounted for by the sleeper", || {
        slept.lock().unwrap().iter().map(accounted).sum::<u64>() == EVENTS
    });

    let faulty: Vec<_> = dispatcher
        .health()
        .into_iter()
        .filter(|health| health.missed > 0 || health.panics > 0 || health.queued > 0)
        .map(|health| health.name)
        .collect();
    assert_eq!(faulty, ["sleeps", "panics", "never returns"]);
    assert_eq!(health("panics").delivered, 0);
    let stuck = health("never returns");
    assert!(stuck.busy_for.is_some());
    assert_eq!((stuck.delivered, stuck.queued, stuck.missed), (0, 64, EVENTS - 65));
    wait_until("the sleeper's rest", || health("sleeps").busy_for.is_none());
    let late = dispatcher.shutdown(Duration::ZERO);
    let late = late.into_iter().find(|health| health.name == "never returns").unwrap();
    assert_eq!(late.missed, EVENTS - 1, "its queue is discarded");
}

#[test]
fn a_gap_is_reported_for_each_session_before_the_next_event() {
    let dispatcher = Dispatcher::new();
    let (observer, received, gate) = gated();
    dispatcher.add("slow", observer, queue(2));
    send(&dispatcher, 1, 1);
    gate.wait_for_observer();
    for (number, revision) in [(1, 2), (2, 1), (1, 3), (2, 2), (1, 4)] {
        send(&dispatcher, number, revision);
    }
    gate.open();
    wait_until("room", || dispatcher.health()[0].delivered == 3);
    send(&dispatcher, 3, 1);
    assert_eq!(dispatcher.shutdown(LONG), []);

    let mut received = received.lock().unwrap().clone();
    let end = received.split_off(3);
    assert_eq!(received, [Received::Event(1, 1), Received::Event(1, 2), Received::Event(2, 1)]);
    assert_eq!(end.len(), 3, "{end:?}");
    for lag in
        [Received::Lag { session: 1, last: 4, missed: 2 }, Received::Lag { session: 2, last: 2, missed: 1 }]
    {
        assert!(end[..2].contains(&lag), "{end:?}");
    }
    assert_eq!(end[2], Received::Event(3, 1));
    assert_eq!(dispatcher.health()[0].missed, 3);
}

/// Regression: when the last events of a session were missed, no later event triggered the report, and the observer
/// kept showing a completed session as running.
#[test]
fn a_gap_at_the_end_is_reported_without_a_further_event() {
    let dispatcher = Dispatcher::new();
    let (observer, received, gate) = gated();
    dispatcher.add("slow", observer, queue(1));
    send(&dispatcher, 1, 1);
    gate.wait_for_observer();
    send(&dispatcher, 1, 2);
    send(&dispatcher, 1, 3);
    send(&dispatcher, 1, 4);
    gate.open();
    let expected =
        [Received::Event(1, 1), Received::Event(1, 2), Received::Lag { session: 1, last: 4, missed: 2 }];
    wait_until("the gap", || *received.lock().unwrap() == expected);
}

#[test]
fn reported_gaps_are_bounded_and_the_rest_is_counted() {
    let dispatcher = Dispatcher::new();
    let (observer, received, gate) = gated();
    dispatcher.add("slow", observer, queue(2));
    send(&dispatcher, 1, 1);
    gate.wait_for_observer();
    for number in 1..=20 {
        send(&dispatcher, number, 2);
    }
    gate.open();
    assert_eq!(dispatcher.shutdown(LONG), []);
    let lags =
        received.lock().unwrap().iter().filter(|received| matches!(received, Received::Lag { .. })).count();
    assert_eq!(lags, 2);
    assert_eq!(dispatcher.health()[0].missed, 18);
}

/// A panic payload that panics when it is dropped.
struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("and again");
    }
}

#[test]
fn no_panic_ends_delivery() {
    let dispatcher = Dispatcher::new();
    let (observer, received) = recorder(|revision| match revision {
        1 => panic!("a constant text"),
        2 => panic!("a text made for {revision}"),
        3 => panic::panic_any(7),
        4 => panic::panic_any(PanicsOnDrop),
        _ => {}
    });
    dispatcher.add("panics", observer, queue(8));
    (1..=5).for_each(|revision| send(&dispatcher, 1, revision));
    assert_eq!(dispatcher.shutdown(LONG), []);
    assert_eq!(received.lock().unwrap().len(), 5);
    let health = dispatcher.health().remove(0);
    assert_eq!((health.delivered, health.panics, health.missed), (1, 4, 0));
}

#[test]
fn an_observer_may_call_back() {
    let dispatcher = Arc::new(Dispatcher::new());
    let (back, late) = (Arc::new(OnceLock::<Arc<Dispatcher>>::new()), Arc::new(Mutex::new(None)));
    let (observer, received) = recorder({
        let (back, late) = (Arc::clone(&back), Arc::clone(&late));
        move |revision| {
            let dispatcher = back.wait();
            match revision {
                1 => {
                    send(dispatcher, 1, 2);
                    dispatcher.add("late", Arc::new(Silent), Dispatcher::QUEUE);
                    assert_eq!(dispatcher.health().len(), 2);
                }
                _ => *late.lock().unwrap() = Some(dispatcher.shutdown(LONG)),
            }
        }
    });
    dispatcher.add("calls back", observer, queue(8));
    back.set(Arc::clone(&dispatcher)).unwrap();
    send(&dispatcher, 1, 1);
    wait_until("the end of the shutdown", || late.lock().unwrap().is_some());
    assert_eq!(*late.lock().unwrap(), Some(vec![]), "it waits for the others, not for itself");
    assert_eq!(*received.lock().unwrap(), [Received::Event(1, 1), Received::Event(1, 2)]);
}

struct Silent;

impl SessionObserver for Silent {
    fn on_event(&self, _: &EventContext, _: &SessionEvent) {}
}

#[test]
fn shutdown_delivers_queued_events_and_rejects_later_ones() {
    let dispatcher = Dispatcher::new();
    let (observer, received, gate) = gated();
    dispatcher.add("early", observer, queue(100));
    dispatcher.recovered(&RecoveryReport::default());
    (1..=50).for_each(|revision| send(&dispatcher, 1, revision));
    gate.wait_for_observer();
    gate.open();
    assert_eq!(dispatcher.shutdown(LONG), []);
    send(&dispatcher, 1, 51);
    let (late, nothing) = recorder(|_| {});
    dispatcher.add("late", late, queue(100));
    send(&dispatcher, 1, 52);
    assert_eq!(dispatcher.shutdown(LONG), []);

    let received = received.lock().unwrap();
    assert_eq!(received[0], Received::Recovery);
    let events: Vec<_> = (1..=50).map(|revision| Received::Event(1, revision)).collect();
    assert_eq!(received[1..], events[..]);
    assert!(nothing.lock().unwrap().is_empty());
    let missed: Vec<_> = dispatcher.health().iter().map(|health| health.missed).collect();
    assert_eq!(missed, [2, 1]);
}

#[test]
fn a_dropped_dispatcher_delivers_the_queued_events() {
    let dispatcher = Dispatcher::new();
    let (observer, received, gate) = gated();
    dispatcher.add("slow", observer, queue(8));
    (1..=3).for_each(|revision| send(&dispatcher, 1, revision));
    gate.wait_for_observer();
    drop(dispatcher);
    gate.open();
    wait_until("the rest", || received.lock().unwrap().len() == 3);
    // The thread drops the observer, which holds the log.
    wait_until("the thread's end", || Arc::strong_count(&received) == 1);
}

#[test]
fn a_name_with_control_characters_is_escaped() {
    let dispatcher = Dispatcher::new();
    dispatcher.add("a\0b\u{1b}[2J", Arc::new(Silent), Dispatcher::QUEUE);
    send(&dispatcher, 1, 1);
    assert_eq!(dispatcher.shutdown(LONG), []);
    let health = dispatcher.health().remove(0);
    assert_eq!(health.delivered, 1);
    assert_eq!(health.to_string(), r"observer `a\u{0}b\u{1b}[2J`: 1 delivered, 0 missed, 0 panics, 0 queued");
}
