//! What observers hear, and that none of them harms another.

use std::panic;
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, Sender};

use super::*;
use crate::time::Timestamp;

/// Longer than anything here takes on a busy machine: a test that waits this long has failed.
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

fn until(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LONG, "never came: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// What an observer heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Event(u8, u64),
    Lag { session: u8, last: u64, missed: u64 },
    Recovery,
}

fn place(context: &EventContext) -> (u8, u64) {
    (context.session.as_bytes()[0], context.revision)
}

/// Writes down everything, and runs something in each `on_event`.
struct Recorder<F> {
    heard: Arc<Mutex<Vec<Heard>>>,
    then: F,
}

impl<F: Fn(u64) + Send + Sync> SessionObserver for Recorder<F> {
    fn on_event(&self, context: &EventContext, event: &SessionEvent) {
        let (session, revision) = place(context);
        assert!(matches!(event, SessionEvent::IterationStarted { number } if *number == revision));
        self.heard.lock().unwrap().push(Heard::Event(session, revision));
        (self.then)(revision);
    }

    fn on_lagged(&self, context: &EventContext, missed: u64) {
        let (session, last) = place(context);
        self.heard.lock().unwrap().push(Heard::Lag { session, last, missed });
    }

    fn on_recovery(&self, _: &RecoveryReport) {
        self.heard.lock().unwrap().push(Heard::Recovery);
    }
}

type Log = Arc<Mutex<Vec<Heard>>>;

fn recorder(then: impl Fn(u64) + Send + Sync + 'static) -> (Arc<dyn SessionObserver>, Log) {
    let heard = Log::default();
    (Arc::new(Recorder { heard: Arc::clone(&heard), then }), heard)
}

/// An observer that stands in its first event until the gate opens.
fn gated() -> (Arc<dyn SessionObserver>, Log, Gate) {
    let (open, opened) = mpsc::channel();
    let (arrive, arrived) = mpsc::channel();
    let ends = Mutex::new(Some((arrive, opened)));
    let (observer, heard) = recorder(move |_| {
        let ends: Option<(Sender<()>, Receiver<()>)> = ends.lock().unwrap().take();
        if let Some((arrive, opened)) = ends {
            arrive.send(()).unwrap();
            let _ = opened.recv();
        }
    });
    (observer, heard, Gate { open, arrived })
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

/// Delivery used to be a loop over all observers on the thread that appends: one that slept delayed every session, one
/// that panicked took the session's task with it, one that never returned stopped the program. Now each harms itself.
#[test]
fn of_eight_observers_the_healthy_hear_everything_and_the_bad_are_named() {
    const EVENTS: u64 = 10_000;
    const SESSIONS: u64 = 4;
    let dispatcher = Dispatcher::new();
    let roomy = queue(10_000);

    let healthy: Vec<(String, Log)> = (1..=5)
        .map(|n| (format!("healthy-{n}"), n))
        .map(|(name, _)| {
            let (observer, heard) = recorder(|_| {});
            dispatcher.add(&name, observer, roomy);
            (name, heard)
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

    let place_of = |n: u64| (u8::try_from(n % SESSIONS).unwrap(), n / SESSIONS + 1);
    for n in 0..EVENTS {
        let (session, revision) = place_of(n);
        send(&dispatcher, session, revision);
    }
    drop(sent);

    let expected: Vec<_> = (0..EVENTS).map(place_of).map(|(s, r)| Heard::Event(s, r)).collect();
    let health = |name: &str| dispatcher.health().into_iter().find(|health| health.name == name).unwrap();
    for (name, heard) in &healthy {
        until(name, || health(name).delivered == EVENTS);
        assert_eq!(*heard.lock().unwrap(), expected, "{name}");
    }
    until("the panics", || health("panics").panics == EVENTS);
    // What the sleeper heard, and what it was told that it missed.
    let told = |heard: &Heard| match heard {
        Heard::Lag { missed, .. } => *missed,
        Heard::Event(..) => 1,
        Heard::Recovery => 0,
    };
    until("all that the sleeper is told", || slept.lock().unwrap().iter().map(told).sum::<u64>() == EVENTS);

    let bad: Vec<_> = dispatcher
        .health()
        .into_iter()
        .filter(|health| health.missed > 0 || health.panics > 0 || health.queued > 0)
        .map(|health| health.name)
        .collect();
    assert_eq!(bad, ["sleeps", "panics", "never returns"]);
    assert_eq!(health("panics").delivered, 0);
    let stuck = health("never returns");
    assert!(stuck.busy_for.is_some());
    assert_eq!((stuck.delivered, stuck.queued, stuck.missed), (0, 64, EVENTS - 65));
    until("the sleeper's rest", || health("sleeps").busy_for.is_none());
    let late = dispatcher.shutdown(Duration::ZERO);
    let late = late.into_iter().find(|health| health.name == "never returns").unwrap();
    assert_eq!(late.missed, EVENTS - 1, "what waited for it is given up");
}

#[test]
fn a_gap_is_told_for_each_session_before_the_next_event_that_fits() {
    let dispatcher = Dispatcher::new();
    let (observer, heard, gate) = gated();
    dispatcher.add("slow", observer, queue(2));
    send(&dispatcher, 1, 1);
    gate.wait_for_observer();
    for (number, revision) in [(1, 2), (2, 1), (1, 3), (2, 2), (1, 4)] {
        send(&dispatcher, number, revision);
    }
    gate.open();
    until("room", || dispatcher.health()[0].delivered == 3);
    send(&dispatcher, 3, 1);
    assert_eq!(dispatcher.shutdown(LONG), []);

    let mut heard = heard.lock().unwrap().clone();
    let end = heard.split_off(3);
    assert_eq!(heard, [Heard::Event(1, 1), Heard::Event(1, 2), Heard::Event(2, 1)]);
    assert_eq!(end.len(), 3, "{end:?}");
    for lag in [Heard::Lag { session: 1, last: 4, missed: 2 }, Heard::Lag { session: 2, last: 2, missed: 1 }]
    {
        assert!(end[..2].contains(&lag), "{end:?}");
    }
    assert_eq!(end[2], Heard::Event(3, 1));
    assert_eq!(dispatcher.health()[0].missed, 3);
}

/// A session's last events were missed, nothing came after them, and so the observer was never told: it showed a session
/// as running that had long completed.
#[test]
fn a_gap_at_the_end_is_told_without_a_further_event() {
    let dispatcher = Dispatcher::new();
    let (observer, heard, gate) = gated();
    dispatcher.add("slow", observer, queue(1));
    send(&dispatcher, 1, 1);
    gate.wait_for_observer();
    send(&dispatcher, 1, 2);
    send(&dispatcher, 1, 3);
    send(&dispatcher, 1, 4);
    gate.open();
    let expected = [Heard::Event(1, 1), Heard::Event(1, 2), Heard::Lag { session: 1, last: 4, missed: 2 }];
    until("the gap", || *heard.lock().unwrap() == expected);
}

#[test]
fn gaps_are_bounded_and_what_they_leave_out_is_counted() {
    let dispatcher = Dispatcher::new();
    let (observer, heard, gate) = gated();
    dispatcher.add("slow", observer, queue(2));
    send(&dispatcher, 1, 1);
    gate.wait_for_observer();
    for number in 1..=20 {
        send(&dispatcher, number, 2);
    }
    gate.open();
    assert_eq!(dispatcher.shutdown(LONG), []);
    let lags = heard.lock().unwrap().iter().filter(|heard| matches!(heard, Heard::Lag { .. })).count();
    assert_eq!(lags, 2);
    assert_eq!(dispatcher.health()[0].missed, 18);
}

/// Drops with a panic of its own.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("and again");
    }
}

#[test]
fn no_panic_ends_delivery() {
    let dispatcher = Dispatcher::new();
    let (observer, heard) = recorder(|revision| match revision {
        1 => panic!("a constant text"),
        2 => panic!("a text made for {revision}"),
        3 => panic::panic_any(7),
        4 => panic::panic_any(Grenade),
        _ => {}
    });
    dispatcher.add("panics", observer, queue(8));
    (1..=5).for_each(|revision| send(&dispatcher, 1, revision));
    assert_eq!(dispatcher.shutdown(LONG), []);
    assert_eq!(heard.lock().unwrap().len(), 5);
    let health = dispatcher.health().remove(0);
    assert_eq!((health.delivered, health.panics, health.missed), (1, 4, 0));
}

#[test]
fn an_observer_may_call_back() {
    let dispatcher = Arc::new(Dispatcher::new());
    let (back, late) = (Arc::new(OnceLock::<Arc<Dispatcher>>::new()), Arc::new(Mutex::new(None)));
    let (observer, heard) = recorder({
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
    until("the end of the shutdown", || late.lock().unwrap().is_some());
    assert_eq!(*late.lock().unwrap(), Some(vec![]), "it waits for others, not for itself");
    assert_eq!(*heard.lock().unwrap(), [Heard::Event(1, 1), Heard::Event(1, 2)]);
}

struct Silent;

impl SessionObserver for Silent {
    fn on_event(&self, _: &EventContext, _: &SessionEvent) {}
}

#[test]
fn shutdown_delivers_what_waits_and_nothing_that_comes_after() {
    let dispatcher = Dispatcher::new();
    let (observer, heard, gate) = gated();
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

    let heard = heard.lock().unwrap();
    assert_eq!(heard[0], Heard::Recovery);
    let events: Vec<_> = (1..=50).map(|revision| Heard::Event(1, revision)).collect();
    assert_eq!(heard[1..], events[..]);
    assert!(nothing.lock().unwrap().is_empty());
    let missed: Vec<_> = dispatcher.health().iter().map(|health| health.missed).collect();
    assert_eq!(missed, [2, 1]);
}

#[test]
fn a_dropped_dispatcher_leaves_delivery_to_the_threads() {
    let dispatcher = Dispatcher::new();
    let (observer, heard, gate) = gated();
    dispatcher.add("slow", observer, queue(8));
    (1..=3).for_each(|revision| send(&dispatcher, 1, revision));
    gate.wait_for_observer();
    drop(dispatcher);
    gate.open();
    until("the rest", || heard.lock().unwrap().len() == 3);
    // The thread lets go of the observer, and with it of the log.
    until("the thread's end", || Arc::strong_count(&heard) == 1);
}

#[test]
fn a_name_harms_nobody() {
    let dispatcher = Dispatcher::new();
    dispatcher.add("a\0b\u{1b}[2J", Arc::new(Silent), Dispatcher::QUEUE);
    send(&dispatcher, 1, 1);
    assert_eq!(dispatcher.shutdown(LONG), []);
    let health = dispatcher.health().remove(0);
    assert_eq!(health.delivered, 1);
    assert_eq!(health.to_string(), r"observer `a\u{0}b\u{1b}[2J`: 1 delivered, 0 missed, 0 panics, 0 queued");
}
