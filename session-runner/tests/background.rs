//! Tests of processes that a program leaves behind when it ends, with real processes.

#![expect(clippy::unwrap_used, reason = "a missing value fails the test")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use session_core::backend::LocalPresence;
use session_core::{
    CancelRequest, InMemorySessionManager, SessionConfig, SessionEvent, SessionId, SessionManager,
    SessionState, StateName,
};
use session_runner::{
    BackgroundProcess, Command, Ended, FileOutput, OutputStorage, RunReport, Runner, Running, supervise_test,
};

/// Not a test: the entry point of the supervisor.
#[test]
fn __supervise() {
    supervise_test(module_path!(), "__supervise");
}

struct Fixture {
    folder: tempfile::TempDir,
    manager: InMemorySessionManager,
    output: Arc<FileOutput>,
    runner: Runner,
}

impl Fixture {
    fn new() -> Self {
        supervise_test(module_path!(), "__supervise");
        let folder = tempfile::tempdir().unwrap();
        let manager = InMemorySessionManager::new();
        let output = Arc::new(FileOutput::new(folder.path().join("output")));
        let runner = Runner::new(&manager)
            .output(Arc::clone(&output) as Arc<dyn OutputStorage>)
            .locks(LocalPresence::new(folder.path().join("owners")));
        Self { folder, manager, output, runner }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn spawn(&self, command: Command) -> Running {
        let command = command.cwd(self.folder.path());
        self.runner.spawn(SessionConfig::new("run"), command).await.unwrap()
    }

    async fn run(&self, command: Command) -> (SessionId, RunReport) {
        let mut running = self.spawn(command).await;
        (running.id(), running.wait().await.unwrap())
    }

    fn printed(&self, id: SessionId) -> String {
        let chunks = self.output.read(id, 0, usize::MAX).unwrap().chunks;
        String::from_utf8(chunks.into_iter().flat_map(|chunk| chunk.bytes).collect()).unwrap()
    }

    async fn until_printed(&self, id: SessionId, text: &str) {
        eventually(text, async || self.printed(id).contains(text)).await;
    }

    /// Returns the kinds of events and notes, in their order.
    async fn log(&self, id: SessionId) -> Vec<String> {
        let records = self.manager.read_log(id, 0, 10_000).await.unwrap();
        let events = records.iter().map(|record| record.decode().unwrap().event);
        let name = |event| {
            if let SessionEvent::Noted { kind, .. } = event { kind } else { event.kind().name().to_owned() }
        };
        events.map(name).collect()
    }
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

fn is_alive(process: &BackgroundProcess) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap_or_default();
    let rest = stat.rsplit_once(") ").map_or("Z", |(_, rest)| rest);
    let start_time = rest.split(' ').nth(19).and_then(|time| time.parse().ok());
    !rest.starts_with('Z') && start_time == Some(process.start_time)
}

fn kill(processes: &[BackgroundProcess]) {
    for process in processes {
        let _ = kill_process(Pid::from_raw(i32::try_from(process.pid).unwrap()).unwrap(), Signal::KILL);
    }
}

/// Regression: a process substitution was killed with its script, and its output was lost behind exit code 0.
#[tokio::test]
async fn output_of_a_process_substitution_is_complete() {
    let fixture = Fixture::new();
    let script = "exec > >(while read -r line; do echo \"> $line\"; done | tee build.log) 2>&1; seq 1 500";
    let (id, report) = fixture.run(Command::new("bash").args(["-c", script])).await;
    assert_eq!(report.exit_code(), 0);
    let expected: String =
        (1..=500).flat_map(|n| ["> ".to_owned(), n.to_string(), "\n".to_owned()]).collect();
    assert_eq!(fixture.printed(id), expected);
    assert_eq!(std::fs::read_to_string(fixture.file("build.log")).unwrap(), expected);
}

#[tokio::test]
async fn output_after_the_end_of_the_program_is_complete() {
    let fixture = Fixture::new();
    let (id, report) = fixture.run(sh("(sleep 0.5; echo late) & echo main; exit 3")).await;
    assert_eq!((report.exit_code(), fixture.printed(id)), (3, "main\nlate\n".to_owned()));
    assert_eq!((report.left_running, report.ended_background), (vec![], vec![]));
    assert_eq!(fixture.log(id).await, ["created", "started", "command_executed", "failed"]);
}

#[tokio::test]
async fn separate_background_processes_are_left_running() {
    for wrapper in ["setsid", "nohup"] {
        let fixture = Fixture::new();
        let script = format!("{wrapper} sh -c 'echo $$ >pid; sleep 60; :' >/dev/null 2>&1 & echo main");
        let started = Instant::now();
        let (id, report) = fixture.run(sh(&script)).await;
        assert!(started.elapsed() < Duration::from_secs(5), "{wrapper}: {:?}", started.elapsed());
        assert_eq!(report.exit_code(), 0);
        assert_eq!(report.left_running.len(), 1, "{wrapper}: {report:?}");
        assert!(report.left_running.iter().all(is_alive), "{wrapper}");
        assert!(fixture.log(id).await.contains(&"session.left_running".to_owned()), "{wrapper}");
        assert!(report.ended_background.is_empty(), "{wrapper}: {report:?}");
        kill(&report.left_running);
    }
}

#[tokio::test]
async fn attached_background_processes_are_ended_after_silence() {
    let fixture = Fixture::new();
    let script = "sleep 60 >/dev/null 2>&1 & (echo late; sleep 0.2; echo later; sleep 60; :) & echo main";
    let (id, report) = fixture.run(sh(script).linger(Duration::from_millis(1500))).await;
    let printed = fixture.printed(id);
    assert!(printed.contains("main") && printed.contains("late\n") && printed.contains("later"), "{printed}");
    assert_eq!((report.exit_code(), report.left_running), (0, vec![]));
    assert_eq!(report.ended_background.len(), 2, "{:?}", report.ended_background);
    assert!(!report.ended_background.iter().any(is_alive));
    // In the order in which it happened.
    let log = fixture.log(id).await;
    assert_eq!(log, ["created", "started", "command_executed", "session.background_ended", "completed"]);
}

#[tokio::test]
async fn keep_background_leaves_everything_running() {
    let fixture = Fixture::new();
    let (_, report) = fixture.run(sh("sleep 60 & echo main").keep_background()).await;
    assert_eq!(report.exit_code(), 0);
    assert_eq!(report.left_running.len(), 1, "{report:?}");
    assert!(report.left_running.iter().all(is_alive));
    kill(&report.left_running);
}

#[tokio::test]
async fn a_process_left_running_can_print_more_than_a_pipe_holds() {
    let fixture = Fixture::new();
    let script = "(until [ -e go ]; do sleep 0.01; done; seq 1 100000; touch done) & echo main";
    let (id, report) = fixture.run(sh(script).keep_background()).await;
    assert_eq!(report.left_running.len(), 1, "{report:?}");
    std::fs::write(fixture.file("go"), "").unwrap();
    eventually("it has printed", async || fixture.file("done").exists()).await;
    assert_eq!(fixture.printed(id), "main\n");
}

#[tokio::test]
async fn a_stop_signal_ends_the_wait_for_background_processes() {
    let fixture = Fixture::new();
    let mut running = fixture.spawn(sh("sleep 60 & echo main").linger(Duration::from_secs(600))).await;
    let mut lingering = running.lingering();
    let waited_for = tokio::time::timeout(Duration::from_secs(20), lingering.wait_for(Option::is_some));
    let processes = waited_for.await.unwrap().unwrap().clone().unwrap();
    assert_eq!(processes.iter().map(|process| process.name.as_str()).collect::<Vec<_>>(), ["sleep"]);
    running.signal(Signal::INT.as_raw()).await;
    let report = running.wait().await.unwrap();
    assert_eq!((report.ended, report.exit_code()), (Some(Ended::Exited(0)), 0));
    assert_eq!(report.ended_background, processes);
}

#[tokio::test]
async fn a_cancel_ends_separate_background_processes_by_name() {
    for keep in [false, true] {
        let fixture = Fixture::new();
        let command = sh("setsid sh -c 'echo apart; sleep 60; :' & echo ready; while :; do sleep 60; done");
        let command = if keep { command.keep_background() } else { command };
        let mut running = fixture.spawn(command.grace(Duration::from_millis(200))).await;
        let id = running.id();
        fixture.until_printed(id, "ready").await;
        fixture.until_printed(id, "apart").await;
        fixture.manager.cancel_session(id, CancelRequest::new("enough", "a test")).await.unwrap();
        let report = running.wait().await.unwrap();
        assert_eq!(report.head.state().name(), StateName::Cancelled);
        let (left, ended) = (report.left_running.len(), report.ended_background.len());
        assert_eq!((left, ended), if keep { (1, 0) } else { (0, 1) }, "{report:?}");
        kill(&report.left_running);
    }
}

#[tokio::test]
async fn a_cancel_during_the_wait_keeps_the_outcome_of_the_program() {
    let fixture = Fixture::new();
    let mut running = fixture.spawn(sh("sleep 60 & echo main").linger(Duration::from_secs(600))).await;
    let id = running.id();
    let mut lingering = running.lingering();
    let waited_for = tokio::time::timeout(Duration::from_secs(20), lingering.wait_for(Option::is_some));
    waited_for.await.unwrap().unwrap();
    fixture.manager.cancel_session(id, CancelRequest::new("enough", "a test")).await.unwrap();
    let report = running.wait().await.unwrap();
    assert!(matches!(report.head.state(), SessionState::Completed { .. }), "{report:?}");
    assert_eq!(report.ended_background.len(), 1);
}
