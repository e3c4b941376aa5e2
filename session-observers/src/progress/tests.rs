//! Tests of the rendered screen of a terminal and of the lines of a file.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{InMemoryTerm, TermLike as _};
use session_core::text::is_unsafe_char;
use session_core::{
    Clock, InMemorySessionManager, ManagerOptions, ProgressReport, Session, SessionConfig,
    SessionManager as _, SessionProgress, SessionSummary, Timestamp,
};

use super::*;

/// A terminal in memory.
#[derive(Clone)]
struct TestTerminal(InMemoryTerm);

impl TestTerminal {
    fn new(columns: u16) -> Self {
        Self(InMemoryTerm::new(10, columns))
    }

    fn bar(&self) -> ProgressRenderer {
        let columns = self.0.width();
        ProgressRenderer::bar(self.clone(), move || columns)
    }

    fn shown(&self) -> String {
        self.0.contents()
    }

    fn put(&self, bytes: &[u8]) {
        // Converts line ends like the line discipline of a terminal.
        let text = std::str::from_utf8(bytes).unwrap().replace('\n', "\r\n");
        self.0.write_str(&text).unwrap();
    }
}

impl Write for TestTerminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file in memory.
#[derive(Clone, Default)]
struct SharedBuffer(Arc<Mutex<Vec<u8>>>);

impl SharedBuffer {
    fn text(&self) -> String {
        String::from_utf8(lock(&self.0).clone()).unwrap()
    }

    fn taken(&self) -> String {
        String::from_utf8(std::mem::take(&mut *lock(&self.0))).unwrap()
    }
}

impl Write for SharedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, Clone, Default)]
struct TestClock(Arc<AtomicU64>);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_795_253_400_000 + i64::try_from(self.0.load(Ordering::Relaxed)).unwrap())
            .unwrap()
    }
}

/// Starts a session with a clock that only the test advances.
async fn session() -> (InMemorySessionManager, Session, TestClock) {
    let clock = TestClock::default();
    let manager = InMemorySessionManager::with_options(ManagerOptions::new().clock(Arc::new(clock.clone())));
    let id = manager.create_session(SessionConfig::new("import")).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    (manager, session, clock)
}

async fn reported(report: ProgressReport) -> SessionProgress {
    let (_manager, session, _) = session().await;
    session.progress().report(report).unwrap();
    session.progress().snapshot()
}

#[tokio::test]
async fn a_terminal_shows_a_bar_with_steps_and_the_time_left() {
    let (_manager, session, clock) = session().await;
    let terminal = TestTerminal::new(80);
    let renderer = terminal.bar();
    renderer.show(&session.progress().snapshot());
    assert_eq!(terminal.shown(), "", "nothing was reported");
    session.progress().set_step("looking");
    renderer.show(&session.progress().snapshot());
    let spinner = terminal.shown();
    assert!(spinner.ends_with(" import looking") && spinner.len() == 16, "no percentage is known: {spinner}");
    renderer.draw(Instant::now());
    assert_ne!(terminal.shown(), spinner, "it turns");
    session.progress().start(10);
    session.progress().set_phase("build");
    for (done, shown) in [
        (1, "import [##------------------]  10% 1/10 step 1 (build)"),
        (2, "import [####----------------]  20% 2/10 step 2 (build)"),
        (3, "import [######--------------]  30% 3/10 ETA 00:00:07 step 3 (build)"),
        (4, "import [########------------]  40% 4/10 ETA 00:00:06 step 4 (build)"),
    ] {
        clock.0.fetch_add(1_000, Ordering::Relaxed);
        session.progress().complete_step(format!("step {done}"));
        renderer.show(&session.progress().snapshot());
        assert_eq!(terminal.shown(), shown);
    }
    renderer.finish();
    assert_eq!(terminal.shown(), "", "a bar is removed at the end");
    session.progress().complete_step("late");
    renderer.show(&session.progress().snapshot());
    assert_eq!(terminal.shown(), "");
}

#[tokio::test]
async fn output_stays_intact_above_the_bar() {
    let progress = reported(ProgressReport::new().percent(40.0).step("compiling")).await;
    let bar = "import [########------------]  40% compiling";
    let terminal = TestTerminal::new(60);
    let renderer = terminal.bar();
    renderer.write_above(b"before\n", |bytes| terminal.put(bytes));
    renderer.show(&progress);
    assert_eq!(terminal.shown(), format!("before\n{bar}"));
    for (output, shown) in [
        ("one\ntwo\n", format!("one\ntwo\n{bar}")),
        // A prompt keeps its line to itself until the line ends.
        ("name? ", "one\ntwo\nname?".to_owned()),
        ("Ada\n", format!("one\ntwo\nname? Ada\n{bar}")),
        ("\u{1b}[31mred\u{1b}[0m\u{1b}]9;4;1;50\u{7}\n", format!("one\ntwo\nname? Ada\nred\n{bar}")),
        // A bar of the program.
        ("50%\r", "one\ntwo\nname? Ada\nred\n50%".to_owned()),
        ("done\n", format!("one\ntwo\nname? Ada\nred\ndone\n{bar}")),
        // From here on the screen belongs to the program.
        ("\u{1b}[2Aup\n", "one\ntwo\nname? Ada\nupd\ndone".to_owned()),
        ("\n", "one\ntwo\nname? Ada\nupd\ndone".to_owned()),
    ] {
        renderer.write_above(output.as_bytes(), |bytes| terminal.put(bytes));
        assert_eq!(terminal.shown(), format!("before\n{shown}"), "{output:?}");
        renderer.show(&progress);
        assert_eq!(terminal.shown(), format!("before\n{shown}"), "{output:?}");
    }
    renderer.finish();
    assert_eq!(terminal.shown(), "before\none\ntwo\nname? Ada\nupd\ndone");
}

#[tokio::test]
async fn an_own_line_starts_after_an_unfinished_one() {
    let terminal = TestTerminal::new(60);
    let renderer = terminal.bar();
    let put = |bytes: &[u8]| terminal.put(bytes);
    renderer.write_line_above("first", put);
    renderer.show(&reported(ProgressReport::new().percent(40.0)).await);
    renderer.write_line_above("second", put);
    let bar = "import [########------------]  40%";
    assert_eq!(terminal.shown(), format!("first\nsecond\n{bar}"));
    renderer.write_above(b"name? ", put);
    renderer.write_line_above("third", put);
    assert_eq!(terminal.shown(), format!("first\nsecond\nname?\nthird\n{bar}"));
}

/// Several threads share one terminal: no byte of the output is lost, and no two lines mix.
#[tokio::test]
async fn concurrent_output_and_progress_do_not_mix() {
    let (_manager, session, _) = session().await;
    session.progress().start(1_000);
    let buffer = SharedBuffer::default();
    let renderer = ProgressRenderer::bar(buffer.clone(), || 60);
    std::thread::scope(|scope| {
        for name in ["out", "err"] {
            let (renderer, buffer) = (&renderer, &buffer);
            scope.spawn(move || {
                for n in 0..500 {
                    let line = format!("{name} {n}\n");
                    renderer.write_above(line.as_bytes(), |bytes| lock(&buffer.0).extend_from_slice(bytes));
                }
            });
        }
        for _ in 0..1_000 {
            session.progress().complete_step("a step");
            renderer.show(&session.progress().snapshot());
        }
    });
    renderer.finish();
    let text = buffer.text();
    assert!(text.contains("a step"));
    // Removes everything that a bar wrote: from the start of its line to where the line is cleared.
    let mut lines: Vec<&str> = text.lines().map(|line| line.rsplit("\r\u{1b}[2K").next().unwrap()).collect();
    assert_eq!(lines.pop(), Some(""), "the last bar is removed");
    for name in ["out", "err"] {
        let own: Vec<_> = lines.iter().filter(|line| line.starts_with(name)).collect();
        assert!((0..500).map(|n| format!("{name} {n}")).eq(own.iter().map(ToString::to_string)));
    }
    assert_eq!(lines.len(), 1_000);
}

#[tokio::test]
async fn lines_are_written_every_ten_percent_or_ten_seconds() {
    let (_manager, session, _) = session().await;
    let buffer = SharedBuffer::default();
    let renderer = ProgressRenderer::lines(buffer.clone());
    let begin = Instant::now();
    let at = |seconds: u64| {
        let mut latest = lock(&renderer.latest);
        let now = session.progress().snapshot();
        if latest.view.is_some() || view::is_reported(&now) {
            (latest.view, latest.stale) = (Some(View::one(&now, &now.operation)), true);
        }
        drop(latest);
        renderer.draw(begin + Duration::from_secs(seconds));
        buffer.taken()
    };
    assert_eq!(at(0), "", "nothing was reported");
    let percent = |percent: f64| assert!(session.progress().set_percent(percent).unwrap());
    percent(3.0);
    assert_eq!(at(0), "import [----------] 3%\n");
    percent(7.0);
    assert_eq!(at(1), "");
    percent(9.9);
    assert_eq!(at(9), "");
    assert!(renderer.needs_ticks(), "a line is pending");
    assert_eq!(at(10), "import [----------] 9% ETA 0s\n");
    assert_eq!(at(30), "", "nothing changed");
    assert!(!renderer.needs_ticks());
    percent(10.0);
    assert_eq!(at(30), "import [#---------] 10% ETA 0s\n");
    percent(47.0);
    assert_eq!(at(31), "import [####------] 47% ETA 0s\n");
    session.progress().set_step("linking");
    assert_eq!(at(32), "");
    // Not into an unfinished line of other output.
    renderer.write_above(b"name? ", |bytes| drop(buffer.clone().write(bytes)));
    percent(60.0);
    assert_eq!(at(33), "name? ");
    renderer.write_above(b"Ada\n", |bytes| drop(buffer.clone().write(bytes)));
    assert_eq!(at(33), "Ada\nimport [######----] 60% linking ETA 0s\n");
    percent(61.0);
    session.complete(SessionSummary::new()).await.unwrap();
    renderer.show(&session.progress().snapshot());
    renderer.finish();
    assert_eq!(buffer.taken(), "import [##########] 100% linking completed\n");
    renderer.finish();
    assert_eq!(at(99), "", "the end is written once");
}

#[tokio::test]
async fn several_sessions_have_a_line_each_above_output() {
    let manager = InMemorySessionManager::with_options(ManagerOptions::new());
    let mut sessions = Vec::new();
    for name in ["monday", "tuesday", "日曜日"] {
        let id = manager.create_session(SessionConfig::new("import").name(name)).await.unwrap();
        sessions.push(manager.start_session(id).await.unwrap());
    }
    let progress = || -> Vec<SessionProgress> {
        let mut all: Vec<_> = sessions.iter().map(|session| session.progress().snapshot()).collect();
        // Created within the same millisecond: by name.
        all.sort_by(|one, other| other.name.cmp(&one.name));
        for (progress, age) in all.iter_mut().zip(0..) {
            progress.created_at = Timestamp::from_millis(1_795_253_400_000 - age).unwrap();
        }
        all
    };
    let terminal = TestTerminal::new(60);
    let renderer = terminal.bar();
    renderer.show_sessions(&[]);
    assert_eq!(terminal.shown(), "");
    renderer.show_sessions(&progress());
    let first = "import 日曜日  [..........] --%\n\
                 import tuesday [..........] --%\n\
                 import monday  [..........] --%";
    assert_eq!(terminal.shown(), first);
    sessions[0].progress().start(4);
    sessions[0].progress().complete_step("a.csv");
    renderer.write_above(b"output\n", |bytes| terminal.put(bytes));
    assert_eq!(terminal.shown(), format!("output\n{first}"));
    renderer.show_sessions(&progress());
    let second = "import 日曜日  [..........] --%\n\
                  import tuesday [..........] --%\n\
                  import monday  [##--------] 25% 1/4 a.csv";
    assert_eq!(terminal.shown(), format!("output\n{second}"));
    renderer.show_sessions(&progress()[2..]);
    assert_eq!(terminal.shown(), "output\nimport monday [##--------] 25% 1/4 a.csv");
    renderer.show_sessions(&progress());
    renderer.show(&progress()[2]);
    assert_eq!(terminal.shown(), "output\nimport [#####---------------]  25% 1/4 a.csv");
    renderer.show_sessions(&progress());
    renderer.show_sessions(&[]);
    assert_eq!(terminal.shown(), "output", "all lines are removed");
    renderer.show_sessions(&progress());
    assert_eq!(terminal.shown(), format!("output\n{second}"));
    renderer.finish();
    assert_eq!(terminal.shown(), "output", "all lines are removed");

    let buffer = SharedBuffer::default();
    let lines = ProgressRenderer::lines(buffer.clone());
    lines.show_sessions(&progress());
    assert_eq!(buffer.taken(), format!("{second}\n"));
    lines.show_sessions(&progress());
    assert_eq!(buffer.taken(), "", "nothing changed");
}

#[tokio::test]
async fn the_operation_can_be_left_out() {
    let progress = reported(ProgressReport::new().percent(40.0)).await;
    let (terminal, buffer) = (TestTerminal::new(60), SharedBuffer::default());
    for renderer in [terminal.bar(), ProgressRenderer::lines(buffer.clone())] {
        renderer.without_operation().show(&progress);
    }
    assert_eq!(terminal.shown(), "[########------------]  40%");
    assert_eq!(buffer.text(), "[####------] 40%\n");
}

#[tokio::test]
async fn a_session_without_reports_is_never_shown() {
    let (_manager, session, _) = session().await;
    session.complete(SessionSummary::new()).await.unwrap();
    let progress = session.progress().snapshot();
    assert_eq!(progress.percent, Some(100.0));
    let (terminal, buffer) = (TestTerminal::new(60), SharedBuffer::default());
    for renderer in [terminal.bar(), ProgressRenderer::lines(buffer.clone())] {
        renderer.show(&progress);
        renderer.finish();
    }
    assert_eq!((terminal.shown(), buffer.text()), (String::new(), String::new()));
}

#[tokio::test]
async fn reported_text_cannot_control_the_terminal() {
    let hostile = "\u{1b}]0;title\u{7}\u{1b}[2J\r\u{8}\u{9b}31m\u{202e}\u{7f}\ttab {msg} end";
    for (percent, columns) in [(None, 120), (Some(40.0), 120), (Some(40.0), 40), (None, 5), (Some(1.0), 1)] {
        let mut report = ProgressReport::new().step(hostile).phase(hostile);
        report.percent = percent;
        let progress = reported(report).await;
        let (drawn, written) = (SharedBuffer::default(), SharedBuffer::default());
        let bar = ProgressRenderer::bar(drawn.clone(), move || columns);
        let lines = ProgressRenderer::lines(written.clone());
        for renderer in [&bar, &lines] {
            renderer.show(&progress);
        }
        // A bar clears its own line first.
        let drawn = drawn.text().replace("\r\u{1b}[2K", "");
        for text in [&drawn, written.text().trim_end_matches('\n')] {
            assert!(!text.contains(is_unsafe_char), "{text:?}");
            assert!(columns < 100 || text.contains(r"\u{1b}]0;title\u{7}"), "{text:?}");
        }
    }
}

#[tokio::test]
async fn following_a_session_finishes_at_its_end() {
    let (_manager, session, _) = session().await;
    let buffer = SharedBuffer::default();
    let renderer = ProgressRenderer::lines(buffer.clone());
    let progress = session.progress().watch();
    let work = async {
        for tenth in 1..=5 {
            session.progress().set_percent(f64::from(tenth * 10)).unwrap();
            while !buffer.text().contains(&format!("{}%", tenth * 10)) {
                tokio::task::yield_now().await;
            }
        }
        session.complete(SessionSummary::new()).await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(renderer.follow(progress), work) })
        .await
        .expect("following ends with the session");
    assert_eq!(buffer.text().lines().count(), 6, "{}", buffer.text());
    assert!(buffer.text().ends_with("100% completed\n"), "{}", buffer.text());
}
