//! Tests of programs as sessions, with real processes.

#![expect(clippy::unwrap_used, reason = "a missing value fails the test")]

use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use session_core::backend::{LocalPresence, MemoryStorage, ProcessPresence};
use session_core::{
    CancelRequest, ErrorCode, Evidence, FailureCause, Head, InMemorySessionManager, ManagerOptions,
    PersistentSessionManager, ProgressReport, SessionConfig, SessionError, SessionEvent, SessionFilter,
    SessionId, SessionManager, SessionState, StateName,
};
use session_runner::{
    ChildState, Command, Ended, FileOutput, OutputStorage, OutputStream, RunError, Runner, Running,
    SOCKET_VARIABLE, supervise_test,
};
use tokio::sync::watch;

/// Not a test: the entry point of the supervisor. The test binary, started again with the hidden verb, runs only this.
#[test]
fn __supervise() {
    supervise_test(module_path!(), "__supervise");
}

/// Not a test unless it runs as a session's program: reports the progress given in its environment.
#[test]
fn __report() {
    let Some(socket) = std::env::var_os(SOCKET_VARIABLE) else { return };
    let percent = std::env::var("REPORT_PERCENT").unwrap().parse().unwrap();
    let result = session_runner::report(
        &PathBuf::from(socket),
        ProgressReport::new().percent(percent).step("linking"),
    );
    // To a file, because the test harness prints to the output.
    let response = result.map_or_else(|error| error.code().as_str().to_owned(), |()| "ok".to_owned());
    std::fs::write(std::env::var_os("REPORT_RESPONSE").unwrap(), response).unwrap();
}

struct Fixture {
    folder: tempfile::TempDir,
    manager: InMemorySessionManager,
    storage: Arc<MemoryStorage>,
    output: Arc<FileOutput>,
    locks: LocalPresence,
    runner: Runner,
}

impl Fixture {
    async fn new() -> Self {
        supervise_test(module_path!(), "__supervise");
        let folder = tempfile::tempdir().unwrap();
        let storage = Arc::new(MemoryStorage::default());
        let manager = manager(&storage, ProcessPresence::default()).await;
        let output = Arc::new(FileOutput::new(folder.path().join("output")));
        let locks = LocalPresence::new(folder.path().join("owners"));
        let runner = Runner::new(&manager)
            .output(Arc::clone(&output) as Arc<dyn OutputStorage>)
            .locks(locks.clone())
            .store("file:/some/store");
        Self { folder, manager, storage, output, locks, runner }
    }

    async fn spawn(&self, command: Command) -> Running {
        self.runner.spawn(SessionConfig::new("run"), command).await.unwrap()
    }

    async fn events(&self, id: SessionId) -> Vec<SessionEvent> {
        let records = self.manager.read_log(id, 0, 10_000).await.unwrap();
        records.iter().map(|record| record.decode().unwrap().event).collect()
    }

    /// Returns the kinds of the events, without progress and notes.
    async fn event_kinds(&self, id: SessionId) -> Vec<&'static str> {
        let is_counted = |event: &SessionEvent| {
            !matches!(event, SessionEvent::ProgressReported { .. } | SessionEvent::Noted { .. })
        };
        self.events(id)
            .await
            .iter()
            .filter(|event| is_counted(event))
            .map(|event| event.kind().name())
            .collect()
    }

    fn printed(&self, id: SessionId) -> String {
        let chunks = self.output.read(id, 0, usize::MAX).unwrap().chunks;
        String::from_utf8(chunks.into_iter().flat_map(|chunk| chunk.bytes).collect()).unwrap()
    }

    /// Waits until the program has printed a text.
    async fn until_printed(&self, id: SessionId, text: &str) {
        eventually(text, async || self.printed(id).contains(text)).await;
    }
}

async fn manager(storage: &Arc<MemoryStorage>, presence: ProcessPresence) -> InMemorySessionManager {
    let options = ManagerOptions::new().recovery(None).poll_interval(Duration::from_millis(20));
    PersistentSessionManager::open(Arc::clone(storage), Arc::new(presence), options).await.unwrap()
}

async fn eventually(condition: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(20), "not reached in time: {condition}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

fn failure(head: &Head) -> (FailureCause, Option<i32>, Option<i32>) {
    let SessionState::Failed { error } = head.state() else { panic!("not failed: {:?}", head.state()) };
    (error.cause, error.exit_code, error.signal)
}

/// Returns every process that has this session in its environment.
fn tree(id: SessionId) -> Vec<u32> {
    let mark = format!("SESSIONCTL_SESSION={id}\0").into_bytes();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|entry| {
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            environ.windows(mark.len()).any(|window| window == mark)
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn state_of(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('-')
}

#[tokio::test]
async fn endings_map_to_states_and_exit_codes() {
    let fixture = Fixture::new().await;
    for (script, state, ended, code) in [
        ("exit 0", StateName::Completed, Ended::Exited(0), 0),
        ("exit 3", StateName::Failed, Ended::Exited(3), 3),
        ("kill -9 $$", StateName::Failed, Ended::Signalled(9), 137),
        ("kill -SEGV $$", StateName::Failed, Ended::Signalled(11), 139),
    ] {
        let mut running = fixture.spawn(sh(script)).await;
        let report = running.wait().await.unwrap();
        assert_eq!(report.ended, Some(ended), "{script}");
        assert_eq!(report.head.state().name(), state, "{script}");
        assert_eq!(report.exit_code(), code, "{script}");
        let last = state.name();
        assert_eq!(
            fixture.event_kinds(running.id()).await,
            ["created", "started", "command_executed", last],
            "{script}"
        );
        assert_eq!(running.wait().await.unwrap(), report, "waiting again returns the same report");
        if state == StateName::Failed {
            assert_eq!(failure(&report.head), (FailureCause::Work, ended.exit_code(), ended.signal()));
        }
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_started_fails_its_session() {
    let fixture = Fixture::new().await;
    for (program, code) in [("/nonexistent/program", 127), ("/", 126)] {
        let error = fixture.runner.spawn(SessionConfig::new("run"), Command::new(program)).await.unwrap_err();
        assert_eq!((error.code(), error.exit_code()), (ErrorCode::SpawnFailed, code), "{error:?}");
        let RunError::Launch { session: Some(id), .. } = error else { panic!("{error:?}") };
        let head = fixture.manager.get_head(id).await.unwrap();
        assert_eq!(failure(&head), (FailureCause::Spawn, Some(code), None));
        assert_eq!(session_runner::exit_code(&head), Some(code));
        let lock = fixture.locks.session_lock(id).try_acquire().unwrap();
        assert!(lock.is_some(), "the lock is free again");
    }
}

#[tokio::test]
async fn environment_names_the_session_and_log_names_the_program() {
    let fixture = Fixture::new().await;
    let script = "echo $SESSIONCTL_SESSION $SESSIONCTL_ATTEMPT $SESSIONCTL_STORE $MODE; test -S $SESSIONCTL_SOCKET; pwd";
    let mut running = fixture.spawn(sh(script).env("MODE", "fast").cwd(fixture.folder.path())).await;
    let report = running.wait().await.unwrap();
    assert_eq!(report.exit_code(), 0);
    let id = running.id();
    let directory = fixture.folder.path().canonicalize().unwrap();
    assert_eq!(fixture.printed(id), format!("{id} 1 file:/some/store fast\n{}\n", directory.display()));
    let events = fixture.events(id).await;
    let SessionEvent::Created { origin: Some(origin), .. } = &events[0] else { panic!("{events:?}") };
    assert_eq!(origin.argv, ["sh", "-c", script]);
    assert_eq!(origin.env.iter().collect::<Vec<_>>(), [(&"MODE".to_owned(), &"fast".into())]);
    assert!(origin.inherited.contains(&"PATH".to_owned()));
    let SessionEvent::CommandExecuted { command, output_bytes, exit_code, .. } = &events[2] else {
        panic!("{events:?}")
    };
    assert!(command.starts_with("sh -c 'echo $SESSIONCTL_SESSION"), "{command}");
    assert_eq!((*output_bytes, *exit_code), (fixture.printed(id).len() as u64, Some(0)));
}

#[tokio::test]
async fn a_cancel_in_the_log_ends_the_whole_tree() {
    let fixture = Fixture::new().await;
    let script = "sh -c 'trap \"\" TERM; echo deaf; while :; do sleep 60; done' & \
                  trap 'exit 0' TERM; echo ready; while :; do sleep 60 & wait $!; done";
    let command = sh(script).grace(Duration::from_millis(200));
    let mut running = fixture.spawn(command).await;
    let id = running.id();
    fixture.until_printed(id, "ready").await;
    fixture.until_printed(id, "deaf").await;
    fixture.manager.cancel_session(id, CancelRequest::new("enough", "a test")).await.unwrap();
    let report = running.wait().await.unwrap();
    assert!(
        matches!(report.head.state(), SessionState::Cancelled { reason } if reason == "enough"),
        "{report:?}"
    );
    assert_eq!(report.ended, Some(Ended::Exited(0)));
    assert_eq!(report.exit_code(), 143, "a cancelled session does not exit with 0");
    assert_eq!(tree(id), [0; 0]);
    assert_eq!(
        fixture.event_kinds(id).await,
        ["created", "started", "cancel_requested", "command_executed", "cancelled"]
    );
    let signals: Vec<i64> = fixture
        .events(id)
        .await
        .iter()
        .filter_map(|event| {
            let SessionEvent::Noted { kind, data } = event else { return None };
            (kind == "session.signal").then(|| data["signal"].as_i64())?
        })
        .collect();
    assert_eq!(signals, [18, 15, 9], "each signal is noted");
}

#[tokio::test]
async fn a_forced_cancel_kills_immediately() {
    for first in [false, true] {
        let fixture = Fixture::new().await;
        let script = "trap 'echo asked' TERM; echo ready; while :; do sleep 60 & wait $!; done";
        // Longer than the timeout of the test: only force can end it in time.
        let mut running = fixture.spawn(sh(script).grace(Duration::from_secs(600))).await;
        let id = running.id();
        fixture.until_printed(id, "ready").await;
        if first {
            fixture.manager.cancel_session(id, CancelRequest::new("please", "a test")).await.unwrap();
            fixture.until_printed(id, "asked").await;
        }
        fixture.manager.cancel_session(id, CancelRequest::new("now", "a test").force()).await.unwrap();
        let report = running.wait().await.unwrap();
        assert_eq!(report.ended, Some(Ended::Signalled(9)));
        assert_eq!(report.head.state().name(), StateName::Cancelled);
        assert_eq!(report.exit_code(), 137);
        assert_eq!(fixture.printed(id).contains("asked"), first);
    }
}

/// Regression: a pause stopped only the first process, and a child's reports were refused from then on.
#[tokio::test]
async fn a_tree_is_stopped_while_paused_and_can_report_after() {
    let fixture = Fixture::new().await;
    let response = fixture.folder.path().join("response");
    let marker = fixture.folder.path().join("go");
    let script = format!(
        "sh -c 'while :; do sleep 0.01; done' & echo ready; until test -e {marker}; do sleep 0.01; done; \
         /proc/$PPID/exe __report; kill %1 2>/dev/null; kill $!; exit 0",
        marker = marker.display()
    );
    let command = sh(&script).env("REPORT_RESPONSE", response.to_str().unwrap()).env("REPORT_PERCENT", "42");
    let mut running = fixture.spawn(command).await;
    let id = running.id();
    fixture.until_printed(id, "ready").await;
    for _ in 0..3 {
        fixture.manager.pause_session(id, "lunch".to_owned()).await.unwrap();
        eventually("paused", async || {
            fixture.manager.get_state(id).await.unwrap().name() == StateName::Paused
        })
        .await;
        let stopped = tree(id);
        assert!(stopped.len() >= 2, "{stopped:?}");
        for pid in stopped {
            // A shell that waits in `vfork` for its stopped child is not stopped itself.
            assert!(['T', 'D'].contains(&state_of(pid)), "{pid} is {}", state_of(pid));
        }
        fixture.manager.request_resume(id).await.unwrap();
        eventually("running", async || {
            fixture.manager.get_state(id).await.unwrap().name() == StateName::Running
        })
        .await;
        eventually("all continue", async || tree(id).into_iter().all(|pid| state_of(pid) != 'T')).await;
    }
    std::fs::write(&marker, "").unwrap();
    let report = running.wait().await.unwrap();
    assert_eq!(report.exit_code(), 0, "{report:?} {}", fixture.printed(id));
    assert_eq!(std::fs::read_to_string(&response).unwrap(), "ok");
    assert_eq!(report.head.progress.percent, Some(42.0));
    let pause = ["pause_requested", "paused", "resume_requested", "resumed"];
    let expected =
        [&["created", "started"][..], &pause, &pause, &pause, &["command_executed", "completed"]].concat();
    assert_eq!(fixture.event_kinds(id).await, expected);
    assert_eq!(report.attempt, 1, "a pause is no new attempt");
}

/// The signal may come before, during and after the pause.
#[tokio::test]
async fn a_stop_next_to_a_pause_ends_the_program() {
    let fixture = Fixture::new().await;
    for script in
        ["echo ready; exec sleep 600", "trap 'exit 0' TERM INT; echo ready; while :; do sleep 0.01; done"]
    {
        for signal in [15, 2].repeat(5) {
            let mut running = fixture.spawn(sh(script)).await;
            fixture.until_printed(running.id(), "ready").await;
            running.pause("lunch");
            running.signal(signal).await;
            let report = tokio::time::timeout(std::time::Duration::from_secs(60), running.wait()).await;
            let head = report.expect("it waits for a program that is stopped").unwrap().head;
            let paused = head.state().name() == StateName::Paused;
            assert!(paused || signal == 2 && head.exit_code == Some(0), "{head:?}");
            // A stop that ended a paused program leaves no result for a recovery.
            assert!(!paused || head.lifecycle.result_of_program().is_none(), "{head:?}");
        }
    }
}

#[tokio::test]
async fn a_paused_session_is_continued_before_it_is_cancelled() {
    let fixture = Fixture::new().await;
    let script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 60 & wait $!; done";
    let mut running = fixture.spawn(sh(script)).await;
    let id = running.id();
    fixture.until_printed(id, "ready").await;
    fixture.manager.pause_session(id, "lunch".to_owned()).await.unwrap();
    eventually("paused", async || fixture.manager.get_state(id).await.unwrap().name() == StateName::Paused)
        .await;
    fixture.manager.cancel_session(id, CancelRequest::new("enough", "a test")).await.unwrap();
    let report = running.wait().await.unwrap();
    assert!(fixture.printed(id).contains("bye"), "it could run its own cleanup");
    assert_eq!(report.head.state().name(), StateName::Cancelled);
    assert_eq!(report.exit_code(), 5);
    let kinds = fixture.event_kinds(id).await;
    assert_eq!(
        kinds[2..],
        ["pause_requested", "paused", "cancel_requested", "command_executed", "cancelled"]
    );
}

#[tokio::test]
async fn a_deadline_ends_the_tree() {
    let fixture = Fixture::new().await;
    let config = SessionConfig::new("run").deadline(Duration::from_millis(300));
    let mut running = fixture.runner.spawn(config, sh("sleep 60 & sleep 60; :")).await.unwrap();
    let report = running.wait().await.unwrap();
    assert_eq!(failure(&report.head).0, FailureCause::Timeout);
    assert_eq!(report.exit_code(), 124);
    assert_eq!(tree(running.id()), [0; 0]);
}

#[tokio::test]
async fn a_fenced_owner_ends_its_tree_without_writing() {
    let fixture = Fixture::new().await;
    let mut running = fixture.spawn(sh("trap '' TERM; echo ready; while :; do sleep 60; done")).await;
    let id = running.id();
    fixture.until_printed(id, "ready").await;
    // To the other manager's presence the owner is dead, as if it were another machine.
    let other = manager(&fixture.storage, ProcessPresence::default()).await;
    let taken = other.resume_session(id).await.unwrap();
    assert_eq!(taken.attempt(), 2);
    let revision = other.get_head(id).await.unwrap().tip.revision;
    let error = running.wait().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Fenced, "{error}");
    assert_eq!(tree(id), [0; 0]);
    assert_eq!(other.get_head(id).await.unwrap().tip.revision, revision, "nothing was appended");
}

#[tokio::test]
async fn dropping_the_handle_ends_the_tree_and_releases_ownership() {
    let fixture = Fixture::new().await;
    let running = fixture.spawn(sh("echo ready; sleep 60; :")).await;
    let id = running.id();
    fixture.until_printed(id, "ready").await;
    drop(running);
    eventually("no owner", async || fixture.manager.get_head(id).await.unwrap().lifecycle.owner.is_none())
        .await;
    assert_eq!(tree(id), [0; 0]);
    let events = fixture.events(id).await;
    assert!(
        matches!(events.last(), Some(SessionEvent::Interrupted { evidence: Evidence::Dropped })),
        "{events:?}"
    );

    // The next attempt runs the same program and appends to the output.
    let mut running = fixture.runner.resume(id, |command| command.env("AGAIN", "yes")).await.unwrap();
    assert_eq!(running.session().attempt(), 2);
    eventually("printed again", async || fixture.printed(id) == "ready\nready\n").await;
    running.signal(15).await;
    assert_eq!(running.wait().await.unwrap().exit_code(), 143);
    let attempts: Vec<u32> =
        fixture.output.read(id, 0, 1000).unwrap().chunks.iter().map(|chunk| chunk.attempt).collect();
    assert_eq!(attempts, [1, 2]);
}

/// Polls a future this often, each time once it is woken; `None` if it is not complete by then.
async fn poll_times<F: Future>(mut future: Pin<&mut F>, times: usize) -> Option<F::Output> {
    let mut polls = 0;
    poll_fn(|context| {
        polls += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polls == times => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Regression: the program ran on for a moment, and its session had an owner for as long as this process lived. A start is abandoned
/// at each point at which it waits.
#[tokio::test]
async fn an_abandoned_start_ends_the_program_and_releases_the_session() {
    for polls in 1..100 {
        let fixture = Fixture::new().await;
        let id = fixture.runner.create(SessionConfig::new("run"), &sh("sleep 60")).await.unwrap();
        let session = fixture.manager.start_session(id).await.unwrap();
        let permit = fixture.runner.permit(session).await.unwrap();
        let started = {
            let start = std::pin::pin!(fixture.runner.run_with(permit, sh("sleep 60")));
            poll_times(start, polls).await
        };
        if let Some(started) = started {
            drop(started);
            assert!(polls > 1, "started in one step");
            return;
        }
        eventually("the session has no owner", async || {
            fixture.manager.get_head(id).await.unwrap().lifecycle.owner.is_none()
        })
        .await;
        assert_eq!(fixture.event_kinds(id).await, ["created", "started", "interrupted"], "{polls}");
        assert!(
            fixture.locks.session_lock(id).try_acquire().unwrap().is_some(),
            "{polls}: a process is left"
        );
    }
    panic!("it never started");
}

#[tokio::test]
async fn a_session_without_a_program_cannot_be_resumed() {
    let fixture = Fixture::new().await;
    let id = fixture.manager.create_session(SessionConfig::new("work")).await.unwrap();
    let error = fixture.runner.resume(id, |command| command).await.unwrap_err();
    assert!(matches!(error, RunError::NoProgram { .. }), "{error:?}");
    assert_eq!(
        fixture.manager.get_state(id).await.unwrap().name(),
        StateName::Created,
        "it was not taken over"
    );
    let mut running = fixture.spawn(sh("sleep 60")).await;
    let other = manager(&fixture.storage, ProcessPresence::default()).await;
    drop(other);
    fixture.manager.cancel_session(running.id(), CancelRequest::new("over", "a test").force()).await.unwrap();
    running.wait().await.unwrap();
    let error = fixture.runner.resume(running.id(), |command| command).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::IllegalTransition, "{error:?}");
}

#[tokio::test]
async fn a_run_waits_until_the_former_run_is_gone() {
    let fixture = Fixture::new().await;
    let id = {
        let origin = session_core::Origin::new(vec!["true".to_owned()], "/".into());
        fixture.manager.create_session_from(SessionConfig::new("run"), Some(origin)).await.unwrap()
    };
    let held = fixture.locks.session_lock(id).try_acquire().unwrap().unwrap();
    let runner = fixture.runner.clone();
    let resumed = tokio::spawn(async move { runner.resume(id, |command| command).await });
    eventually("started", async || fixture.manager.get_state(id).await.unwrap().name() == StateName::Running)
        .await;
    assert!(!resumed.is_finished());
    held.release();
    let mut running = resumed.await.unwrap().unwrap();
    assert_eq!(running.wait().await.unwrap().exit_code(), 0);
    // A cancel while it waits: no program was started, so none has to be ended.
    let origin = session_core::Origin::new(vec!["true".to_owned()], "/".into());
    let id = fixture.manager.create_session_from(SessionConfig::new("run"), Some(origin)).await.unwrap();
    let _held = fixture.locks.session_lock(id).try_acquire().unwrap().unwrap();
    let runner = fixture.runner.clone();
    let resumed = tokio::spawn(async move { runner.resume(id, |command| command).await });
    eventually("started", async || fixture.manager.get_state(id).await.unwrap().name() == StateName::Running)
        .await;
    fixture.manager.cancel_session(id, CancelRequest::new("never mind", "a test")).await.unwrap();
    let error = resumed.await.unwrap().unwrap_err();
    assert!(matches!(error, RunError::Session(SessionError::Cancelled { .. })), "{error:?}");
    assert_eq!(fixture.event_kinds(id).await, ["created", "started", "cancel_requested", "cancelled"]);
}

#[tokio::test]
async fn following_returns_every_chunk_to_the_end() {
    let fixture = Fixture::new().await;
    let script = "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; sleep 0.02; done; printf end";
    let mut running = fixture.spawn(sh(script)).await;
    let mut output = running.output().unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut next = 0;
    while let Some(chunk) = output.next().await.unwrap() {
        assert_eq!(chunk.offset, next);
        next = chunk.end();
        match chunk.stream {
            OutputStream::Stdout => out.extend(chunk.bytes),
            OutputStream::Stderr => err.extend(chunk.bytes),
            OutputStream::Terminal => panic!("it has no terminal"),
        }
    }
    assert_eq!(out, b"out 1\nout 2\nout 3\nout 4\nout 5\nend");
    assert_eq!(err, b"err 1\nerr 2\nerr 3\nerr 4\nerr 5\n");
    assert_eq!(running.wait().await.unwrap().output_bytes, next);
}

/// Late readers, by the handle and by the storage alone as in another process, get all output in order.
#[tokio::test]
async fn a_late_reader_gets_all_output() {
    let fixture = Fixture::new().await;
    let marker = fixture.folder.path().join("go");
    let wait = format!("until test -e {}; do sleep 0.01; done", marker.display());
    let script = format!("seq 1 30000; echo side >&2; {wait}; seq 30001 60000; kill -9 $$");
    let mut running = fixture.spawn(sh(&script)).await;
    let id = running.id();
    fixture.until_printed(id, "side").await;
    let everything: String = (1..=60_000).flat_map(|n| [n.to_string(), "\n".to_owned()]).collect();
    let elsewhere = FileOutput::new(fixture.folder.path().join("output"));
    let mut late = running.output().unwrap();
    // Also from the middle of a chunk.
    let middle = elsewhere.length(id).unwrap().bytes - 3;
    let rest = elsewhere.read(id, middle, 1).unwrap().chunks;
    assert_eq!((rest[0].offset, rest[0].bytes.len()), (middle, 3));
    std::fs::write(&marker, "").unwrap();
    let mut followed = Vec::new();
    while let Some(chunk) = late.next().await.unwrap() {
        followed.push(chunk);
    }
    assert_eq!(running.wait().await.unwrap().exit_code(), 137);
    assert!(late.next().await.unwrap().is_none(), "the end is final");
    let mut after = running.output().unwrap();
    let (mut stored, mut from) = (Vec::new(), 0);
    while from < elsewhere.length(id).unwrap().bytes {
        stored.extend(elsewhere.read(id, from, 10_000).unwrap().chunks);
        from = stored.last().map_or(0, session_runner::Chunk::end);
    }
    let mut again = Vec::new();
    while let Some(chunk) = after.next().await.unwrap() {
        again.push(chunk);
    }
    for chunks in [&followed, &again, &stored] {
        let mut next = 0;
        for chunk in chunks {
            assert_eq!((chunk.offset, chunk.attempt, chunk.after_gap), (next, 1, false));
            next = chunk.end();
        }
        let out = chunks.iter().filter(|chunk| chunk.stream == OutputStream::Stdout);
        let out: Vec<u8> = out.flat_map(|chunk| chunk.bytes.clone()).collect();
        assert!(out == everything.as_bytes(), "{} of {} bytes", out.len(), everything.len());
    }
}

#[tokio::test]
async fn progress_comes_from_output_and_from_reports() {
    let fixture = Fixture::new().await;
    let response = fixture.folder.path().join("response");
    let script = "printf '\\033]9;4;1;17\\007'; cat; /proc/$PPID/exe __report";
    let command = sh(script).env("REPORT_RESPONSE", response.to_str().unwrap()).env("REPORT_PERCENT", "60");
    let mut running = fixture.spawn(command).await;
    let report = running.wait().await.unwrap();
    assert_eq!(std::fs::read_to_string(&response).unwrap(), "ok");
    assert_eq!(report.head.progress.percent, Some(60.0));
    assert_eq!(report.head.progress.step.as_deref(), Some("linking"));
    let percents: Vec<f64> = fixture
        .events(running.id())
        .await
        .iter()
        .filter_map(|event| {
            let SessionEvent::ProgressReported { report } = event else { return None };
            report.percent
        })
        .collect();
    assert!(percents.is_sorted() && percents.last() == Some(&60.0), "{percents:?}");

    let mut running = fixture
        .spawn(sh(script).env("REPORT_RESPONSE", response.to_str().unwrap()).env("REPORT_PERCENT", "101"))
        .await;
    running.wait().await.unwrap();
    assert_eq!(std::fs::read_to_string(&response).unwrap(), "INVALID_ARGUMENT");
}

#[tokio::test]
async fn killing_the_supervisor_ends_the_tree_and_fails_the_session() {
    let fixture = Fixture::new().await;
    let script = "setsid sh -c 'trap \"\" TERM; echo deaf; while :; do sleep 60; done' & echo ready; while :; do sleep 60; done";
    let mut running = fixture.spawn(sh(script)).await;
    let id = running.id();
    fixture.until_printed(id, "ready").await;
    fixture.until_printed(id, "deaf").await;
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap();
    let supervisor: i32 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(supervisor).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let report = running.wait().await.unwrap();
    assert_eq!(failure(&report.head), (FailureCause::Crash, None, None));
    assert_eq!((report.ended, report.exit_code()), (None, 1));
    assert_eq!(tree(id), [0; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_programs_end_with_their_own_codes() {
    let fixture = Fixture::new().await;
    let mut running = Vec::new();
    for n in 0..30 {
        running.push((n, fixture.spawn(sh(&format!("echo {n}; exit {n}"))).await));
    }
    for (n, running) in &mut running {
        let report = running.wait().await.unwrap();
        assert_eq!(report.exit_code(), *n);
        assert_eq!(fixture.printed(running.id()), format!("{n}\n"));
    }
    assert_eq!(fixture.manager.list_active_sessions().await.unwrap().heads.len(), 0);
    assert_eq!(fixture.manager.list_sessions(SessionFilter::all()).await.unwrap().heads.len(), 30);
    // Locks are removed with their sessions, except those of which a program that was just starting held a copy.
    session_core::backend::Presence::sweep(&fixture.locks, &std::collections::HashSet::new()).await.unwrap();
    let left: Vec<_> = std::fs::read_dir(fixture.folder.path().join("owners")).unwrap().flatten().collect();
    assert_eq!(left.len(), 0, "{left:?}");
}

/// Regression: a program that was stopped for reading its terminal stayed stopped, and its owner was not notified.
#[tokio::test]
async fn an_external_stop_is_left_to_the_owner() {
    let fixture = Fixture::new().await;
    // A script that forks nothing meanwhile: a shell that waits in `vfork` for its stopped child is not stopped itself.
    let script = "trap 'kill $!; exit 6' USR1; sleep 60 & echo ready; while :; do wait $!; done";
    let mut running = fixture.spawn(sh(script)).await;
    let (id, pid) = (running.id(), running.pid());
    let mut child_state = running.child_state();
    fixture.until_printed(id, "ready").await;
    assert_eq!(*child_state.borrow(), ChildState::Running);
    // A stop from outside and the wake after it are not logged.
    for signal in [Signal::TTIN, Signal::TSTP, Signal::STOP] {
        rustix::process::kill_process_group(group(pid), signal).unwrap();
        until(&mut child_state, |now| *now == ChildState::Stopped { signal: signal.as_raw() }).await;
        running.wake().await;
        until(&mut child_state, |now| *now == ChildState::Running).await;
    }
    assert_eq!(fixture.events(id).await.len(), 2);
    // Alternatively, the owner pauses the session.
    rustix::process::kill_process_group(group(pid), Signal::TSTP).unwrap();
    until(&mut child_state, |now| matches!(now, ChildState::Stopped { .. })).await;
    running.pause("a key");
    until(&mut child_state, |now| *now == ChildState::Paused).await;
    let SessionState::Paused { reason } = fixture.manager.get_state(id).await.unwrap() else { panic!() };
    assert_eq!(reason.to_string(), "requested: a key");
    assert!(tree(id).into_iter().all(|pid| ['T', 'D'].contains(&state_of(pid))));
    running.resume();
    until(&mut child_state, |now| *now == ChildState::Running).await;
    // A pause that a logged request ends, and a resume without a pause.
    running.pause("again");
    until(&mut child_state, |now| *now == ChildState::Paused).await;
    fixture.manager.request_resume(id).await.unwrap();
    until(&mut child_state, |now| *now == ChildState::Running).await;
    running.resume();
    running.signal(Signal::USR1.as_raw()).await;
    assert_eq!(running.wait().await.unwrap().exit_code(), 6);
    let expected = ["created", "started", "paused", "resumed", "paused", "resume_requested", "resumed"];
    assert_eq!(fixture.event_kinds(id).await, [&expected[..], &["command_executed", "failed"]].concat());
}

#[tokio::test]
async fn cancelling_a_local_pause_ends_as_cancelled() {
    let fixture = Fixture::new().await;
    let mut running =
        fixture.spawn(sh("trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.01; done")).await;
    let id = running.id();
    let mut child_state = running.child_state();
    fixture.until_printed(id, "ready").await;
    running.pause("a key");
    until(&mut child_state, |now| *now == ChildState::Paused).await;
    fixture.manager.cancel_session(id, CancelRequest::new("enough", "a test")).await.unwrap();
    // It may need its terminal for cleanup.
    until(&mut child_state, |now| *now == ChildState::Running).await;
    let report = running.wait().await.unwrap();
    assert_eq!((report.head.state().name(), report.exit_code()), (StateName::Cancelled, 5));
    assert!(fixture.printed(id).contains("bye"));
}

/// Regression: an owner that blocked signals for itself started programs that no key could stop.
#[tokio::test]
async fn a_program_starts_with_no_signal_blocked() {
    use nix::sys::signal::{SigSet, Signal};
    let fixture = Fixture::new().await;
    let blocked = SigSet::from_iter([Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGINT]);
    blocked.thread_block().unwrap();
    // Not through a shell, which may change its signal mask.
    let mut running = fixture.spawn(Command::new("grep").args(["SigBlk", "/proc/self/status"])).await;
    blocked.thread_unblock().unwrap();
    running.wait().await.unwrap();
    let printed = fixture.printed(running.id());
    assert_eq!(printed.split_whitespace().last(), Some("0000000000000000"), "{printed}");
}

async fn until(child_state: &mut watch::Receiver<ChildState>, holds: impl FnMut(&ChildState) -> bool) {
    let found = tokio::time::timeout(Duration::from_secs(20), child_state.wait_for(holds)).await;
    found.expect("the state was not reached in time").unwrap();
}

fn group(pid: u32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}
