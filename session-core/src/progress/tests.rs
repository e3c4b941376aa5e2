//! Tests of the tracker, of the displayed progress, and of the one-line bar.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;
use crate::config::SessionConfig;
use crate::event::{Changes, SessionEvent, StepEnd, StepIdentity, StepReason};
use crate::id::SessionId;
use crate::owner::{Evidence, Owner};
use crate::reason::SessionSummary;
use crate::record::{Chain, UnsealedRecord};
use crate::text::{columns, is_unsafe_char};
use crate::time::Clock;

/// A log with its head, in which each record is one second after the previous one.
struct Log {
    chain: Chain,
    head: Head,
    owner: Owner,
    clock: Arc<ManualClock>,
}

#[derive(Debug)]
struct ManualClock(Mutex<i64>);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(*self.0.lock().unwrap()).unwrap()
    }
}

impl Log {
    fn running() -> Self {
        let owner = Owner::new("host".into(), "machine".into(), "boot".into(), 1, 1);
        let id = SessionId::random();
        let mut chain = Chain::start(id);
        let clock = Arc::new(ManualClock(Mutex::new(1_000_000)));
        let config = SessionConfig::new("test");
        let event = SessionEvent::Created {
            format: crate::event::FORMAT,
            config: Box::new(config),
            creator: owner.clone(),
            origin: None,
            inherits: 0,
        };
        let draft = UnsealedRecord { at: clock.now(), attempt: 0, flushed: 0, event };
        let (_, record) = chain.seal(draft).unwrap();
        let head = Head::begin(id, &record).unwrap();
        let mut log = Self { chain, head, owner, clock };
        log.append(SessionEvent::Started { owner: log.owner.clone() });
        log
    }

    fn append(&mut self, event: SessionEvent) {
        self.wait(1_000);
        let attempt = match (&event, &self.head.lifecycle.owner) {
            (SessionEvent::Started { .. }, _) | (SessionEvent::Resumed { .. }, None) => {
                self.head.lifecycle.attempt + 1
            }
            _ => self.head.lifecycle.attempt,
        };
        let draft = UnsealedRecord { at: self.clock.now(), attempt, flushed: 0, event };
        let (_, record) = self.chain.seal(draft).unwrap();
        self.head.apply(&record).unwrap();
    }

    fn wait(&self, millis: i64) {
        *self.clock.0.lock().unwrap() += millis;
    }

    fn crash_and_resume(&mut self) {
        self.append(SessionEvent::Interrupted { evidence: Evidence::LockReleased });
        self.append(SessionEvent::Resumed { owner: self.owner.clone() });
    }

    fn tracker(&self) -> ProgressTracker {
        ProgressTracker::new(&self.head, self.clock.now(), Arc::clone(&self.clock) as Arc<dyn Clock>)
    }

    /// Writes pending reports to the log and updates the tracker, as the engine does.
    fn write(&mut self, tracker: &ProgressTracker) {
        if let Some(report) = tracker.take_pending() {
            self.append(SessionEvent::ProgressReported { report });
        }
        tracker.sync_from(&self.head);
    }

    fn view(&self) -> SessionProgress {
        SessionProgress::from_head(&self.head, self.clock.now())
    }
}

#[test]
fn a_hundred_percent_is_shown_only_when_all_steps_are_done() {
    // Regression: a tracker took an unknown total for the number of steps done so far, so that the first step of a
    // thousand was 100 %.
    let log = Log::running();
    let tracker = log.tracker();
    tracker.start(0);
    tracker.complete_step("first");
    let progress = tracker.snapshot();
    assert_eq!((progress.percent, progress.completed_steps, progress.total_steps), (None, Some(1), None));
    tracker.report(ProgressReport::new().total_steps(0)).unwrap();
    assert_eq!((tracker.snapshot().percent, tracker.snapshot().total_steps), (None, None));

    tracker.set_total(1_000_000_u64);
    for (done, percent) in [(2, 0.0002), (500_000, 50.0), (999_999, 99.9999), (1_000_000, 100.0)] {
        tracker.report(ProgressReport::new().completed_steps(done)).unwrap();
        assert_eq!(tracker.snapshot().percent, Some(percent));
    }
    tracker.complete_step("one more than expected");
    assert_eq!(tracker.snapshot().percent, Some(100.0));
    // So close that a quotient of floats would round to 1.
    assert!(ratio(u64::MAX - 1, u64::MAX, 100) < 100.0);
    assert_eq!(Some(ratio(3, 5, 100)), Some(60.0));
}

#[test]
fn the_larger_of_percent_and_steps_is_shown() {
    // Regression: `start(3)` hid each percentage that was reported after it, and the session stayed at 0 %.
    let mut log = Log::running();
    let tracker = log.tracker();
    tracker.start(3);
    assert_eq!(tracker.snapshot().percent, Some(0.0));
    for (percent, bar) in [(33.0, "test [###-------] 33% 0/3"), (66.0, "test [######----] 66% 0/3")] {
        assert!(tracker.set_percent(percent).unwrap());
        assert_eq!(tracker.snapshot().percent, Some(percent));
        log.write(&tracker);
        assert_eq!(log.view().percent, Some(percent), "in lists");
        assert_eq!(format_progress(&tracker.snapshot(), 80), bar);
    }
    for (step, shown) in [("a", 66.0), ("b", 66.666_666), ("c", 100.0)] {
        assert!(tracker.complete_step(step), "the number of steps is shown, too");
        assert_eq!(tracker.snapshot().percent, Some(shown), "after {step}");
    }
}

#[test]
fn a_reported_hundred_percent_is_shown_before_the_last_step() {
    // The work says so explicitly, which a quotient of steps, whose total may be a guess, does not outweigh.
    let tracker = Log::running().tracker();
    tracker.start(3);
    tracker.complete_step("a");
    assert!(tracker.set_percent(99.99).unwrap());
    assert_eq!(tracker.snapshot().whole_percent(), Some(99));
    assert!(tracker.set_percent(100.0).unwrap());
    assert_eq!((tracker.snapshot().percent, tracker.snapshot().completed_steps), (Some(100.0), Some(1)));
    for wrong in [-0.1, 100.1, f64::NAN, f64::INFINITY] {
        assert!(tracker.set_percent(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_call_that_changes_nothing_says_so() {
    type Call = fn(&ProgressTracker) -> bool;
    let tracker = Log::running().tracker();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    tracker
        .on_change(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        })
        .forget();
    let mut watch = tracker.watch();
    watch.mark_unchanged();
    let calls_and_changes: [(Call, bool); 19] = [
        (|tracker| tracker.start(3), true),
        (|tracker| tracker.start(3), false),
        (|tracker| tracker.set_total(3), false),
        (|tracker| tracker.set_total(-1), false),
        (|tracker| tracker.set_percent(66.0).unwrap(), true),
        (|tracker| tracker.set_percent(66.0).unwrap(), false),
        (|tracker| tracker.set_percent(33.0).unwrap(), false),
        (|tracker| tracker.set_step("a"), true),
        (|tracker| tracker.set_step("a"), false),
        (|tracker| tracker.set_phase("p"), true),
        (|tracker| tracker.set_phase("p"), false),
        (|tracker| tracker.complete_step("a"), true),
        (|tracker| tracker.report(ProgressReport::new().completed_steps(1)).unwrap(), false),
        (|tracker| tracker.complete_step("b"), true),
        (|tracker| tracker.complete_step("c"), true),
        // Above what was reported so far, below what the steps show.
        (|tracker| tracker.set_percent(99.0).unwrap(), false),
        (|tracker| tracker.report(ProgressReport::new()).unwrap(), false),
        (|tracker| tracker.set_eta(Duration::from_secs(5)), true),
        (|tracker| tracker.set_eta(Duration::from_secs(5)), false),
    ];
    for (at, (call, changes)) in calls_and_changes.into_iter().enumerate() {
        let (before, called) = (tracker.snapshot(), calls.load(Ordering::SeqCst));
        assert_eq!(call(&tracker), changes, "call {at}");
        assert_eq!(tracker.snapshot() != before, changes, "call {at}");
        assert_eq!(calls.load(Ordering::SeqCst) - called, usize::from(changes), "callbacks of call {at}");
        assert_eq!(watch.has_changed().unwrap(), changes, "receivers of call {at}");
        watch.mark_unchanged();
    }
}

/// A call of a tracker.
#[derive(Debug, Clone)]
enum Call {
    Start(u64),
    Total(u64),
    Step(String),
    Complete(String),
    Percent(f64),
    Steps(u64),
    Eta(u64),
    /// Written to the log, and read back by a new attempt after a crash.
    Resume,
    Write,
}

impl Call {
    fn any() -> impl Strategy<Value = Self> {
        let small = || prop_oneof![0..12_u64, Just(u64::MAX)];
        let percent = prop_oneof![0.0..=100.0_f64, Just(100.0), Just(0.0), Just(33.0)];
        prop_oneof![
            1 => small().prop_map(Self::Start),
            1 => small().prop_map(Self::Total),
            1 => "[ab]?".prop_map(Self::Step),
            3 => "[ab]?".prop_map(Self::Complete),
            4 => percent.prop_map(Self::Percent),
            1 => small().prop_map(Self::Steps),
            1 => (0..3_u64).prop_map(Self::Eta),
            1 => Just(Self::Resume),
            1 => Just(Self::Write),
        ]
    }

    /// Returns `true` if the tracker says that it changed something.
    fn make(&self, tracker: &ProgressTracker) -> bool {
        match self {
            Self::Start(total) => tracker.start(*total),
            Self::Total(total) => tracker.set_total(*total),
            Self::Step(name) => tracker.set_step(name.clone()),
            Self::Complete(name) => tracker.complete_step(name.clone()),
            Self::Percent(percent) => tracker.set_percent(*percent).unwrap(),
            Self::Steps(steps) => tracker.report(ProgressReport::new().completed_steps(*steps)).unwrap(),
            Self::Eta(seconds) => tracker.set_eta(Duration::from_secs(*seconds)),
            Self::Resume | Self::Write => false,
        }
    }
}

proptest! {
    /// The shown percentage is the larger of what was reported and what the steps say, it never decreases while the
    /// total stays or falls, 100 has a reason, and a call says if it changed something.
    #[test]
    fn progress_of_any_calls(calls in prop::collection::vec(Call::any(), 0..40)) {
        let mut log = Log::running();
        let mut tracker = log.tracker();
        let (mut percent, mut steps, mut total) = (None::<f64>, None::<u64>, None::<u64>);
        let mut last = None::<f64>;
        for call in calls {
            let before = tracker.snapshot();
            let notified = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&notified);
            let guard = tracker.on_change(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
            let changed = call.make(&tracker);
            drop(guard);
            prop_assert_eq!(tracker.snapshot() != before, changed, "{:?}", call);
            prop_assert_eq!(notified.load(Ordering::SeqCst), usize::from(changed), "{:?}", call);
            let old_total = total;
            match &call {
                Call::Start(new) | Call::Total(new) if *new > 0 => total = Some(*new),
                Call::Percent(new) => percent = Some(percent.unwrap_or(0.0).max(*new)),
                Call::Steps(new) => steps = Some(steps.unwrap_or(0).max(*new)),
                Call::Resume => {
                    log.write(&tracker);
                    log.crash_and_resume();
                    tracker = log.tracker();
                }
                Call::Write => log.write(&tracker),
                Call::Start(_) | Call::Total(_) | Call::Step(_) | Call::Complete(_) | Call::Eta(_) => {}
            }
            let shown = tracker.snapshot();
            // Counted by the tracker; the model takes the number over, and checks that it does not decrease.
            prop_assert!(shown.completed_steps >= steps, "{:?}", call);
            steps = shown.completed_steps;
            prop_assert_eq!(shown.total_steps, total);
            let share = steps.zip(total).map(|(done, total)| ratio(done, total, 100));
            let expected = match (percent, share) {
                (Some(percent), Some(share)) => Some(percent.max(share)),
                (one, other) => one.or(other),
            };
            prop_assert_eq!(shown.percent, expected, "{:?}", call);
            let complete =
                percent == Some(100.0) || steps.zip(total).is_some_and(|(done, total)| done >= total);
            prop_assert_eq!(shown.percent == Some(100.0), complete, "{:?}", call);
            if old_total.is_none_or(|old| total.is_some_and(|total| total <= old)) {
                prop_assert!(shown.percent >= last, "{:?}: from {:?} to {:?}", call, last, shown.percent);
            }
            last = shown.percent;
            log.write(&tracker);
            prop_assert_eq!(log.view().percent, last, "the log shows another percentage");
            prop_assert_eq!(log.view().completed_steps, steps);
        }
    }

    /// No line is too long, however wide its characters are, and none is unsafe.
    #[test]
    fn lines_of_any_text_fit(
        texts in prop::collection::vec(
            ("\\PC{0,30}", "\\PC{0,30}", ".{0,30}", prop::option::of(0.0..=100.0_f64), any::<Option<u64>>()),
            1..6,
        ),
        width in 0..140_usize,
        lines in 0..8_usize,
    ) {
        let log = Log::running();
        let sessions: Vec<SessionProgress> = texts
            .into_iter()
            .map(|(operation, name, step, percent, total_steps)| SessionProgress {
                operation,
                name,
                step: Some(step),
                percent,
                total_steps,
                ..log.view()
            })
            .collect();
        let list = format_sessions(&sessions, width, lines);
        prop_assert!(list.len() <= lines);
        let single = sessions.iter().map(|progress| format_progress(progress, width));
        for line in single.chain(list) {
            prop_assert!(columns(&line) <= width, "{}: {:?}", width, line);
            prop_assert!(!line.chars().any(is_unsafe_char), "{:?}", line);
        }
    }
}

#[test]
fn a_percentage_alone_keeps_the_current_step() {
    let mut log = Log::running();
    let tracker = log.tracker();
    tracker.set_step("linking");
    tracker.set_phase("build");
    log.write(&tracker);
    tracker.set_percent(30.0).unwrap();
    log.write(&tracker);
    for progress in [tracker.snapshot(), log.view()] {
        assert_eq!((progress.step.as_deref(), progress.phase.as_deref()), (Some("linking"), Some("build")));
    }
    tracker.complete_step("");
    assert_eq!(tracker.snapshot().step.as_deref(), Some("linking"));
}

#[test]
fn a_resumed_attempt_continues_from_the_last_progress() {
    // Regression: a tracker started at zero with each attempt.
    let mut log = Log::running();
    let tracker = log.tracker();
    tracker.start(5);
    for step in ["a", "b", "c"] {
        tracker.complete_step(step);
    }
    log.write(&tracker);
    log.crash_and_resume();

    let tracker = log.tracker();
    assert_eq!(tracker.snapshot().percent, Some(60.0));
    tracker.start(5);
    assert_eq!(tracker.snapshot().completed_steps, Some(3));
    assert_eq!(tracker.snapshot().step.as_deref(), Some("c"));
    tracker.complete_step("d");
    // Repeated steps with smaller numbers take effect only once they exceed the highest number.
    tracker.report(ProgressReport::new().completed_steps(2).percent(1.0)).unwrap();
    log.write(&tracker);
    assert_eq!(log.head.progress.completed_steps, Some(4));
    assert_eq!(log.view().percent, Some(80.0));
}

#[test]
fn a_percentage_never_decreases_even_after_a_resume() {
    let mut log = Log::running();
    let tracker = log.tracker();
    for (reported, shown) in [(40.0, 40.0), (25.0, 40.0), (41.0, 41.0)] {
        tracker.set_percent(reported).unwrap();
        assert_eq!(tracker.snapshot().percent, Some(shown), "{reported} was reported");
        log.write(&tracker);
        assert_eq!(log.view().percent, Some(shown), "{reported} was reported");
    }
    log.crash_and_resume();
    let tracker = log.tracker();
    tracker.set_percent(5.0).unwrap();
    log.write(&tracker);
    assert_eq!(tracker.snapshot().percent, Some(41.0));
    assert_eq!(log.view().percent, Some(41.0));
    // A report that did not come from the tracker.
    let report = ProgressReport::new().percent(1.0);
    log.append(SessionEvent::ProgressReported { report });
    assert_eq!(log.view().percent, Some(41.0));
}

#[test]
fn the_remaining_time_is_estimated_from_the_rate() {
    let mut log = Log::running();
    let tracker = log.tracker();
    tracker.start(10);
    for done in 1..=4 {
        log.wait(9_000);
        tracker.complete_step("x");
        log.write(&tracker);
        let expected = (done >= 3).then(|| (log.view().duration_ms * (10 - done)).div_ceil(done * 1_000));
        assert_eq!(tracker.snapshot().eta_seconds, expected, "after {done}");
        assert_eq!(log.view().eta_seconds, expected, "after {done}");
    }
    // 40 s for 4 of 10.
    assert_eq!(log.view().eta_seconds, Some(60));
    log.append(SessionEvent::Interrupted { evidence: Evidence::LockReleased });
    assert_eq!(log.view().eta_seconds, None, "nothing runs");
    log.wait(1_000_000);
    log.append(SessionEvent::Resumed { owner: log.owner.clone() });
    assert_eq!(log.tracker().snapshot().eta_seconds, Some(60), "the time between attempts does not count");
}

#[test]
fn the_remaining_time_is_estimated_from_percent_without_steps() {
    let log = Log::running();
    let tracker = log.tracker();
    log.wait(20_000);
    for (percent, eta) in [(10.0, None), (20.0, None), (25.0, Some(60)), (100.0, Some(0))] {
        tracker.set_percent(percent).unwrap();
        assert_eq!(tracker.snapshot().eta_seconds, eta, "at {percent}");
    }
}

#[test]
fn the_remaining_time_follows_the_larger_share() {
    let log = Log::running();
    let tracker = log.tracker();
    tracker.start(10);
    log.wait(20_000);
    for (percent, eta) in [(10.0, None), (20.0, None), (25.0, Some(60))] {
        assert!(tracker.set_percent(percent).unwrap());
        assert_eq!(tracker.snapshot().eta_seconds, eta, "at {percent}");
    }
    for (done, eta) in [(1, 60), (2, 60), (3, 47), (4, 30), (5, 20)] {
        tracker.complete_step("x");
        assert_eq!(tracker.snapshot().eta_seconds, Some(eta), "after {done} of 10");
    }
}

#[test]
fn a_reported_remaining_time_holds_until_the_work_advances() {
    for write in [false, true] {
        let mut log = Log::running();
        let tracker = log.tracker();
        tracker.start(100);
        for _ in 0..3 {
            tracker.complete_step("x");
            if write {
                log.write(&tracker);
            }
        }
        let mut step = |tracker: &ProgressTracker| {
            if write {
                log.write(tracker);
                assert_eq!(log.view().eta_seconds, tracker.snapshot().eta_seconds);
            }
        };
        step(&tracker);
        tracker.set_eta(Duration::from_millis(4_001));
        step(&tracker);
        assert_eq!(tracker.snapshot().eta_seconds, Some(5));
        tracker.set_step("another name for the same");
        step(&tracker);
        assert_eq!(tracker.snapshot().eta_seconds, Some(5));
        tracker.complete_step("x");
        step(&tracker);
        assert_ne!(tracker.snapshot().eta_seconds, Some(5));
        tracker.report(ProgressReport::new().completed_steps(50).eta(7)).unwrap();
        step(&tracker);
        assert_eq!(tracker.snapshot().eta_seconds, Some(7));
        if !write {
            log.write(&tracker);
            assert_eq!(log.view().eta_seconds, Some(7), "merged into one record");
        }
    }
}

#[test]
fn log_and_tracker_agree_however_reports_are_merged() {
    // Every sequence of five calls, written after each one, in one record, or with one append that failed.
    type Call = fn(&ProgressTracker) -> bool;
    let calls: [Call; 7] = [
        |tracker| tracker.start(4),
        |tracker| tracker.complete_step("done"),
        |tracker| tracker.set_step("doing"),
        |tracker| tracker.set_percent(40.0).unwrap(),
        |tracker| tracker.set_eta(Duration::from_secs(9)),
        |tracker| tracker.report(ProgressReport::new().completed_steps(2).eta(3)).unwrap(),
        |tracker| tracker.report(ProgressReport::new().completed_steps(1).phase("again")).unwrap(),
    ];
    for sequence in 0..calls.len().pow(4) {
        for written in 0..3 {
            let mut log = Log::running();
            let tracker = log.tracker();
            let mut rest = sequence;
            for at in 0..4 {
                calls[rest % calls.len()](&tracker);
                rest /= calls.len();
                match written {
                    0 => log.write(&tracker),
                    1 if at == 1 => {
                        let taken = tracker.take_pending().unwrap();
                        calls[(rest + at) % calls.len()](&tracker);
                        tracker.restore_pending(taken);
                    }
                    _ => {}
                }
            }
            let eta = tracker.reported_so_far().eta;
            log.write(&tracker);
            assert_eq!(tracker.take_pending(), None);
            let (shown, stored) = (tracker.snapshot(), log.view());
            let samples =
                |progress: &SessionProgress| SessionProgress { eta_seconds: None, ..progress.clone() };
            assert_eq!(samples(&shown), samples(&stored), "sequence {sequence}, written {written}");
            assert_eq!(eta, log.head.progress.eta, "sequence {sequence}, written {written}");
        }
    }
}

#[test]
fn a_report_from_another_source_is_merged() {
    let mut log = Log::running();
    let tracker = log.tracker();
    let text = "ä".repeat(120);
    tracker.set_step(text.clone());
    log.write(&tracker);
    assert_eq!(tracker.snapshot().step.as_deref(), Some(&*text), "the cut text of the head is the same text");
    log.append(SessionEvent::ProgressReported {
        report: ProgressReport::new().step("from a child").completed_steps(3).total_steps(6).phase("p"),
    });
    tracker.sync_from(&log.head);
    let progress = tracker.snapshot();
    assert_eq!((progress.step.as_deref(), progress.percent), (Some("from a child"), Some(50.0)));
    tracker.complete_step("ours");
    assert_eq!(tracker.take_pending().unwrap().completed_steps, Some(4));
    tracker.sync_from(&log.head);
    assert_eq!(tracker.snapshot().step.as_deref(), Some("ours"), "on its way into the log");
    tracker.set_step("newer");
    log.append(SessionEvent::ProgressReported { report: ProgressReport::new().step("older").phase("q") });
    tracker.sync_from(&log.head);
    let progress = tracker.snapshot();
    assert_eq!((progress.step.as_deref(), progress.phase.as_deref()), (Some("newer"), Some("q")));
    assert_eq!(tracker.snapshot().completed_steps, Some(4));
}

#[test]
fn long_texts_are_cut_by_setters_and_rejected_in_reports() {
    let tracker = Log::running().tracker();
    tracker.complete_step("é".repeat(200));
    tracker.set_phase("x".repeat(1_000));
    let progress = tracker.snapshot();
    assert_eq!(progress.step.unwrap(), "é".repeat(128));
    assert_eq!(progress.phase.unwrap().len(), 256);
    tracker.set_step(format!("x{}", "é".repeat(200)));
    assert_eq!(tracker.snapshot().step.unwrap().len(), 255, "not cut within a character");
    let before = tracker.snapshot();
    assert!(tracker.report(ProgressReport::new().percent(50.0).step("x".repeat(257))).is_err());
    assert_eq!(tracker.snapshot(), before);
    tracker.take_pending().unwrap().check().unwrap();
}

#[test]
fn reports_after_the_end_are_rejected() {
    let mut log = Log::running();
    let tracker = log.tracker();
    tracker.complete_step("last");
    tracker.end();
    assert!(tracker.is_ended());
    let before = tracker.snapshot();
    assert!(!tracker.start(7));
    assert!(!tracker.complete_step("late"));
    assert!(!tracker.set_step("late"));
    assert!(!tracker.set_total(9));
    assert!(!tracker.set_eta(Duration::ZERO));
    assert!(tracker.set_percent(10.0).is_err());
    assert!(tracker.report(ProgressReport::new().phase("late")).is_err());
    assert_eq!(tracker.snapshot(), before);
    // Reports from before the end are still written to the log.
    assert_eq!(tracker.take_pending().unwrap().step.as_deref(), Some("last"));
    log.append(SessionEvent::Completed { summary: SessionSummary::default() });
    tracker.sync_from(&log.head);
    let progress = tracker.snapshot();
    assert!(progress.state.is_final());
    assert_eq!((progress.percent, progress.eta_seconds), (Some(100.0), None));
    assert!(log.tracker().is_ended(), "a tracker of an ended session accepts no reports");
}

#[test]
fn durable_steps_are_shown_until_something_is_reported() {
    let mut log = Log::running();
    let tracker = log.tracker();
    let changes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&changes);
    let _guard = tracker.on_change(move |_| _ = counted.fetch_add(1, Ordering::Relaxed));
    let start = |log: &mut Log, n| {
        log.append(SessionEvent::StepStarted {
            step: StepIdentity::nth("build", n),
            fingerprint: String::new(),
            because: StepReason::First,
            reruns: 0,
            command: None,
            inputs: Vec::new(),
        });
        log.head.tip.revision
    };
    let first = start(&mut log, 1);
    tracker.sync_from(&log.head);
    assert_eq!(format_progress(&tracker.snapshot(), 80), "test [..........] --% 0/? build");
    log.append(SessionEvent::StepCompleted { start: first, end: StepEnd::default() });
    start(&mut log, 2);
    tracker.sync_from(&log.head);
    assert_eq!(format_progress(&tracker.snapshot(), 80), "test [..........] --% 1/? build#2");
    assert_eq!(log.view(), tracker.snapshot(), "the same for other processes");
    assert_eq!(changes.load(Ordering::Relaxed), 2);

    tracker.set_percent(30.0).unwrap();
    assert_eq!(format_progress(&tracker.snapshot(), 80), "test [###-------] 30%");
    log.write(&tracker);
    start(&mut log, 3);
    tracker.sync_from(&log.head);
    assert_eq!(changes.load(Ordering::Relaxed), 3, "steps are not shown any more");
    assert_eq!((log.view().step, log.view().completed_steps), (None, None));
}

#[test]
fn totals_of_the_log_are_shown() {
    let mut log = Log::running();
    assert_eq!(log.view().success_rate, None);
    log.append(SessionEvent::IterationStarted { number: 1 });
    for exit_code in [Some(0), Some(1), None, Some(0)] {
        log.append(SessionEvent::CommandExecuted {
            command: "make".into(),
            exit_code,
            signal: exit_code.is_none().then_some(9),
            duration_ms: 1,
            output_bytes: 0,
            main: false,
            stop: None,
        });
    }
    let changes = Changes::totals(1, 2, 3, 4);
    log.append(SessionEvent::IterationCompleted { number: 1, changes });
    let progress = log.view();
    assert_eq!((progress.commands, progress.success_rate), (4, Some(0.5)));
    assert_eq!((progress.iterations_completed, progress.total_iterations), (1, None));
    assert_eq!((progress.files_changed, progress.commits), (1, 4));
    assert_eq!((progress.lines_added, progress.lines_removed), (2, 3));
    assert_eq!(progress.duration_ms, 6_000);
    let json = serde_json::to_string(&progress).unwrap();
    assert_eq!(serde_json::from_str::<SessionProgress>(&json).unwrap(), progress);
}

#[test]
fn callbacks_receive_each_change_and_may_panic_or_reenter() {
    let tracker = Log::running().tracker();
    let received = Arc::new(Mutex::new(Vec::new()));
    let calls = Arc::clone(&received);
    tracker.on_change(|_| panic!("mine")).forget();
    let guard = tracker.on_change(move |progress| calls.lock().unwrap().push(progress.completed_steps));
    tracker.complete_step("a");
    tracker.complete_step("b");
    tracker.report(ProgressReport::new()).unwrap();
    drop(guard);
    tracker.complete_step("c");
    assert_eq!(*received.lock().unwrap(), [Some(1), Some(2)]);

    // If callbacks ran under a lock or nested, this would never end.
    let (inner, times, depth) = (tracker.clone(), AtomicUsize::new(0), AtomicUsize::new(0));
    let nested = Arc::new(AtomicUsize::new(0));
    let deepest = Arc::clone(&nested);
    tracker
        .on_change(move |progress| {
            deepest.fetch_max(depth.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
            assert_eq!(inner.snapshot().completed_steps, progress.completed_steps);
            if times.fetch_add(1, Ordering::SeqCst) < 3 {
                inner.complete_step("from within");
            }
            drop(inner.on_change(|_| {}));
            let _: bool = inner.watch().has_changed().unwrap();
            depth.fetch_sub(1, Ordering::SeqCst);
        })
        .forget();
    tracker.complete_step("d");
    assert_eq!(tracker.snapshot().completed_steps, Some(7));
    assert_eq!(nested.load(Ordering::SeqCst), 0, "nested call");
}

#[test]
fn a_watch_always_has_the_latest_progress() {
    let mut log = Log::running();
    let tracker = log.tracker();
    tracker.complete_step("before the first watch");
    let mut watch = tracker.watch();
    assert_eq!(*watch.borrow_and_update(), tracker.snapshot());
    tracker.complete_step("x");
    assert!(watch.has_changed().unwrap());
    assert_eq!(*watch.borrow_and_update(), tracker.snapshot());
    log.write(&tracker);
    let _: bool = watch.has_changed().unwrap();
    log.append(SessionEvent::Interrupted { evidence: Evidence::LockReleased });
    tracker.sync_from(&log.head);
    assert!(watch.has_changed().unwrap());
    assert_eq!(watch.borrow().state.name().name(), "paused");
}

#[test]
fn no_step_is_lost_and_callbacks_see_them_in_order() {
    const THREADS: usize = 8;
    const EACH: usize = 500;
    let log = Log::running();
    let tracker = log.tracker();
    let received = Arc::new(Mutex::new(Vec::new()));
    let calls = Arc::clone(&received);
    tracker.on_change(move |progress| calls.lock().unwrap().push(progress.completed_steps.unwrap())).forget();
    let watch = tracker.watch();
    let total = (THREADS * EACH) as u64;
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let tracker = tracker.clone();
            scope.spawn(move || (0..EACH).for_each(|_| assert!(tracker.complete_step("x"))));
        }
    });
    assert_eq!(tracker.snapshot().completed_steps, Some(total));
    assert_eq!(tracker.take_pending().unwrap().completed_steps, Some(total));
    assert_eq!(watch.borrow().completed_steps, Some(total));
    let received = received.lock().unwrap();
    assert!(received.is_sorted_by(|a, b| a < b), "an older change was delivered after a newer one");
    assert_eq!(received.last(), Some(&total));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_waiter_for_pending_reports_is_woken() {
    let log = Log::running();
    let tracker = log.tracker();
    for round in 0..500_u64 {
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let tracker = tracker.clone();
                tokio::spawn(async move { tracker.pending_changed().await })
            })
            .collect();
        let (sender, put_back) = (tracker.clone(), round % 2 == 0);
        let reporting = tokio::spawn(async move {
            if put_back {
                sender.restore_pending(ProgressReport::new().step("again"));
            } else {
                sender.complete_step("x");
            }
        });
        for waiter in waiting {
            tokio::time::timeout(Duration::from_secs(20), waiter).await.expect("a wake-up was lost").unwrap();
        }
        reporting.await.unwrap();
        tracker.take_pending().unwrap();
        assert_eq!(tracker.take_pending(), None);
    }
}

#[test]
fn the_line_is_cut_to_the_width() {
    let log = Log::running();
    let tracker = log.tracker();
    tracker.start(5);
    tracker.set_phase("build");
    for step in ["a", "b", "compiling"] {
        tracker.complete_step(step);
    }
    tracker.set_eta(Duration::from_secs(130));
    let progress = tracker.snapshot();
    for (width, line) in [
        (80, "test [######----] 60% 3/5 compiling (build) ETA 2m 10s"),
        (54, "test [######----] 60% 3/5 compiling (build) ETA 2m 10s"),
        (53, "test [######----] 60% 3/5 compiling (buil… ETA 2m 10s"),
        (41, "test [######----] 60% 3/5 com… ETA 2m 10s"),
        (40, "test [######----] 60% 3/5 ETA 2m 10s"),
        (35, "test [######----] 60% 3/5 compilin…"),
        (25, "test [######----] 60% 3/5"),
        (24, "test 60% 3/5 ETA 2m 10s"),
        (15, "test 60% 3/5"),
        (12, "test 60% 3/5"),
        (11, "test 60%"),
        (7, "60% 3/5"),
        (6, "60%"),
        (2, ""),
        (0, ""),
    ] {
        assert_eq!(format_progress(&progress, width), line, "{width}");
    }
    for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m 0s"), (3_700, "1h 1m"), (90_000, "1d 1h")] {
        let line = format_progress(&SessionProgress { eta_seconds: Some(seconds), ..progress.clone() }, 80);
        assert!(line.ends_with(&format!("ETA {text}")), "{line}");
    }
}

#[test]
fn the_line_shows_unknown_values_and_the_state() {
    let mut log = Log::running();
    let tracker = log.tracker();
    assert_eq!(format_progress(&tracker.snapshot(), 80), "test [..........] --%");
    tracker.complete_step("crawling");
    assert_eq!(format_progress(&tracker.snapshot(), 80), "test [..........] --% 1/? crawling");
    tracker.report(ProgressReport::new().percent(99.99)).unwrap();
    assert_eq!(format_progress(&tracker.snapshot(), 80), "test [#########-] 99% 1/? crawling");
    log.write(&tracker);
    log.append(SessionEvent::Interrupted { evidence: Evidence::LockReleased });
    assert_eq!(format_progress(&log.view(), 80), "test [#########-] 99% 1/? crawling paused");
}

#[test]
fn the_line_is_safe_to_print_and_never_too_long() {
    let log = Log::running();
    let tracker = log.tracker();
    for text in ["\u{1b}[2J\u{202e}evil\r\nline\u{9b}m", "日本語のとても長いテキスト", "   ", "", "\u{7f}"]
    {
        tracker.set_step(text);
        tracker.set_phase(text);
        for percent in [None, Some(0.0), Some(100.0)] {
            for eta_seconds in [None, Some(0), Some(u64::MAX)] {
                let progress = SessionProgress { percent, eta_seconds, ..tracker.snapshot() };
                for width in (0..140).chain([usize::MAX]) {
                    let line = format_progress(&progress, width);
                    assert!(columns(&line) <= width, "{width}: {line}");
                    assert!(!line.chars().any(is_unsafe_char), "{line:?}");
                    assert_eq!(line.trim(), line);
                }
            }
        }
    }
}

#[test]
fn several_sessions_are_aligned_and_sorted() {
    let session = |operation: &str, name: &str, age: i64| {
        let log = Log::running();
        log.wait(age);
        let mut progress = log.view();
        progress.created_at = log.clock.now();
        (progress.operation, progress.name) = (operation.to_owned(), name.to_owned());
        progress
    };
    let mut import = session("import", "monday", 1);
    (import.percent, import.completed_steps, import.total_steps) = (Some(5.0), Some(1), Some(20));
    (import.step, import.eta_seconds) = (Some("a.csv".into()), Some(130));
    let mut build = session("建てる", "feature-2026-11-26-00001-long", 2);
    (build.percent, build.step) = (Some(100.0), Some("linking".into()));
    let mut crawl = session("crawl", "", 3);
    crawl.state = SessionState::Paused { reason: crate::reason::PauseReason::Requested("lunch".into()) };
    let mut old = session("crawl", "old", 0);
    old.state = SessionState::Cancelled { reason: String::new() };
    let all = [old, crawl, import, build];
    assert_eq!(
        format_sessions(&all, 100, 9),
        [
            "建てる feature-2026-11-26-0000… [##########] 100%      linking",
            "import monday                   [----------]   5% 1/20 a.csv   ETA 2m 10s",
            "crawl                           [..........]  --%              paused",
            "crawl  old                      [..........]  --%              cancelled",
        ]
    );
    assert_eq!(
        format_sessions(&all, 30, 3),
        ["建てる feature… 100%      lin…", "import monday     5% 1/20 a.c…", "and 2 more"],
    );
    assert_eq!(format_sessions(&all, 30, 1), ["4 sessions"]);
    assert_eq!(format_sessions(&all, 5, 1), ["4 se…"]);
    assert_eq!(format_sessions(&all, 80, 0), [""; 0]);
    assert_eq!(format_sessions(&[], 80, 3), [""; 0]);
}
