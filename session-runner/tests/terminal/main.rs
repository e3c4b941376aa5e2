//! Tests of programs with a terminal of their own, and of viewers, with real processes.

#![expect(clippy::unwrap_used, reason = "a missing value fails the test")]

mod notifications;
mod viewers;

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use session_core::{
    CancelRequest, InMemorySessionManager, SessionConfig, SessionManager, SessionState, StateName, Terminal,
};
use session_runner::{
    AttachError, Command, FileOutput, OutputStorage, OutputStream, Runner, Running, TerminalEnd,
    ViewerConnection, ViewerEvent, ViewerOptions, attachable_sessions, supervise_test, type_text,
};

/// Not a test: the entry point of the supervisor. The test binary, started again with the hidden verb, runs only this.
#[test]
fn __supervise() {
    supervise_test(module_path!(), "__supervise");
}

struct Fixture {
    _folder: tempfile::TempDir,
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
        let runner = Runner::new(&manager).output(Arc::clone(&output) as Arc<dyn OutputStorage>);
        Self { _folder: folder, manager, output, runner }
    }

    /// Starts a script with a terminal for all its streams, and its first viewer.
    async fn start(&self, script: &str) -> (Running, ViewerConnection) {
        self.start_with(script, Terminal::new("vt100", 33, 101)).await
    }

    async fn start_with(&self, script: &str, terminal: Terminal) -> (Running, ViewerConnection) {
        self.start_command(Command::new("bash").args(["-c", script]).terminal(Some(terminal))).await
    }

    async fn start_command(&self, command: Command) -> (Running, ViewerConnection) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let command = command.grace(Duration::from_millis(200));
        let runner = self.runner.clone().viewer(theirs);
        let running = runner.spawn(SessionConfig::new("run"), command).await.unwrap();
        let viewer = ViewerConnection::first(ours, options()).await.unwrap().unwrap();
        assert_eq!(viewer.session(), Some(running.id()));
        (running, viewer)
    }

    fn stored(&self, running: &Running, stream: OutputStream) -> String {
        let chunks = self.output.read(running.id(), 0, usize::MAX).unwrap().chunks;
        let bytes = chunks.into_iter().filter(|chunk| chunk.stream == stream).flat_map(|chunk| chunk.bytes);
        String::from_utf8(bytes.collect()).unwrap()
    }
}

const fn options<'a>() -> ViewerOptions<'a> {
    ViewerOptions { terminal: None, read_only: false, notice: "" }
}

/// Creates a terminal for a viewer: its master and its slave.
fn outer_terminal() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let master = openpt(flags).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    (master, slave)
}

/// Returns the output of a future that should complete soon.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.unwrap()
}

/// Reads what is shown until it contains a text.
async fn shown_until(viewer: &mut ViewerConnection, text: &str) -> String {
    let mut shown = String::new();
    while !shown.contains(text) {
        let event = tokio::time::timeout(Duration::from_secs(20), viewer.next()).await;
        match event.unwrap_or_else(|_| panic!("`{text}` is not shown: {shown:?}")) {
            Some(ViewerEvent::Output(bytes)) => shown.push_str(&String::from_utf8_lossy(&bytes)),
            Some(_) => {}
            None => panic!("the owner is gone before `{text}`: {shown:?}"),
        }
    }
    shown
}

#[tokio::test]
async fn a_program_sees_the_terminal_that_it_was_given() {
    let fixture = Fixture::new();
    let script = "tty >/dev/null && test -t 0 -a -t 1 -a -t 2 && echo $TERM; stty size; ps -o tpgid= -p $$ | grep -w $$ >/dev/null \
                  && echo in the foreground; test $(ps -o sid= -p $$) -ne $$ && echo no leader; echo end";
    let (mut running, mut viewer) = fixture.start(script).await;
    let shown = shown_until(&mut viewer, "end\r\n").await;
    assert_eq!(shown, "vt100\r\n33 101\r\nin the foreground\r\nno leader\r\nend\r\n");
    let report = within(running.wait()).await.unwrap();
    assert_eq!(report.exit_code(), 0);
    assert_eq!(
        fixture.stored(&running, OutputStream::Terminal),
        shown,
        "the log keeps the bytes of the master"
    );
    running.terminal().unwrap().notify("done", false);
    let end = TerminalEnd::new(0, false);
    let (last, ()) = tokio::join!(
        async {
            assert_eq!(within(viewer.next()).await, Some(ViewerEvent::Closed));
            assert!(!viewer.takes_input(), "keys are for another reader");
            let notice = within(viewer.next()).await;
            assert_eq!(notice, Some(ViewerEvent::Notice { text: "done".into(), now: false }));
            let last = within(viewer.next()).await;
            viewer.leave().await;
            last
        },
        running.terminal().unwrap().end(end)
    );
    assert_eq!(last, Some(ViewerEvent::End(end)));
}

#[tokio::test]
async fn streams_that_are_no_terminal_stay_what_they_are() {
    let fixture = Fixture::new();
    let terminal = Terminal { stdin: false, stderr: false, ..Terminal::new("vt100", 24, 80) };
    let script = "test -t 0 || echo no input; test -t 2 || echo an error >&2; echo end";
    let (mut running, mut viewer) = fixture.start_with(script, terminal).await;
    assert_eq!(shown_until(&mut viewer, "end\r\n").await, "no input\r\nend\r\n");
    within(running.wait()).await.unwrap();
    assert_eq!(fixture.stored(&running, OutputStream::Stderr), "an error\n");
    assert_eq!(fixture.stored(&running, OutputStream::Stdout), "");
}

/// With the program as leader of the session, its end would hang up the rest of the pipeline.
#[tokio::test]
async fn a_pipeline_prints_all_after_its_shell_has_ended() {
    let fixture = Fixture::new();
    let script = "exec > >(while read -r line; do echo \"got $line\"; done) 2>&1; seq 1 500";
    for _ in 0..10 {
        let (mut running, _viewer) = fixture.start(script).await;
        within(running.wait()).await.unwrap();
        let stored = fixture.stored(&running, OutputStream::Terminal);
        assert_eq!(stored.lines().count(), 500, "{stored}");
        assert!(stored.ends_with("got 500\r\n"), "{stored}");
    }
}

/// A process that opens the terminal, prints and closes it again within moments is not seen in between: only its output
/// is there.
#[tokio::test]
async fn short_openings_of_a_closed_terminal_are_read() {
    let fixture = Fixture::new();
    let script = "(exec <&- >&- 2>&-; sleep 0.2; for i in $(seq 1 100); do echo got $i >/dev/tty; sleep 0.005; done) & exit 0";
    let (mut running, _viewer) = fixture.start(script).await;
    within(running.wait()).await.unwrap();
    let stored = fixture.stored(&running, OutputStream::Terminal);
    let expected: Vec<String> = (1..=100).map(|i| format!("got {i}\r\n")).collect();
    assert_eq!(stored, expected.concat());
}

#[tokio::test]
async fn keys_reach_the_program_and_its_signals() {
    let fixture = Fixture::new();
    let script = "read -r line; stty -echo; echo \"<$line>\"; read -r hidden; echo \"<$hidden>\"; sleep 600";
    let (mut running, mut viewer) = fixture.start(script).await;
    viewer.type_input(b"hallo\r");
    assert_eq!(shown_until(&mut viewer, "<hallo>\r\n").await, "hallo\r\n<hallo>\r\n");
    viewer.type_input(b"secret\r");
    assert_eq!(shown_until(&mut viewer, "<secret>\r\n").await, "<secret>\r\n", "without echo");
    viewer.type_input(b"\x03");
    let report = within(running.wait()).await.unwrap();
    let SessionState::Paused { .. } = report.head.state() else { panic!("{:?}", report.head) };
    assert_eq!(report.exit_code(), 130);
}

#[tokio::test]
async fn the_stop_key_pauses_the_session_and_the_viewer() {
    let fixture = Fixture::new();
    let (mut running, mut viewer) =
        fixture.start("echo begin; sleep 0.2; read -r line; echo \"<$line>\"").await;
    shown_until(&mut viewer, "begin").await;
    // The viewer that typed it stops.
    viewer.type_input(b"\x1a");
    while within(viewer.next()).await.unwrap() != ViewerEvent::Suspend {}
    let state = fixture.manager.get_state(running.id()).await.unwrap();
    assert_eq!(state.name(), StateName::Paused);
    viewer.resume();
    viewer.type_input(b"on\r");
    shown_until(&mut viewer, "<on>").await;
    assert_eq!(within(running.wait()).await.unwrap().exit_code(), 0);
}

/// Its job might not stop, and it would resume the session.
#[tokio::test]
async fn a_viewer_that_typed_nothing_is_not_stopped_for_another() {
    let fixture = Fixture::new();
    let script = "echo begin; read -r x; read -r y <continue; kill -TSTP $$; echo on";
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("continue");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    let (mut running, mut first) =
        fixture.start(&script.replace("<continue", &format!("<{}", pipe.display()))).await;
    shown_until(&mut first, "begin").await;
    let (_outer, slave) = outer_terminal();
    let terminal = ViewerOptions { terminal: Some(slave.as_fd()), ..options() };
    let mut second = ViewerConnection::attach(running.id(), terminal).await.unwrap();
    shown_until(&mut second, "begin").await;
    first.type_input(b"\r");
    shown_until(&mut second, "\r\n").await;
    drop(first);
    std::fs::write(&pipe, "\n").unwrap();
    let mut state = running.child_state();
    within(state.wait_for(|state| *state == session_runner::ChildState::Paused)).await.unwrap();
    running.resume();
    let mut shown = String::new();
    while !shown.contains("on\r\n") {
        let event = within(second.next()).await.unwrap();
        assert_ne!(event, ViewerEvent::Suspend);
        if let ViewerEvent::Output(bytes) = event {
            shown.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    assert_eq!(within(running.wait()).await.unwrap().exit_code(), 0);
}

#[tokio::test]
async fn the_interrupt_key_continues_a_paused_session_and_reaches_it() {
    let fixture = Fixture::new();
    let (mut running, mut viewer) =
        fixture.start("trap 'echo interrupted; exit 7' INT; echo begin; while :; do sleep 0.05; done").await;
    shown_until(&mut viewer, "begin").await;
    running.pause("a test");
    let mut state = running.child_state();
    state.wait_for(|state| *state == session_runner::ChildState::Paused).await.unwrap();
    viewer.type_input(b"\x03");
    shown_until(&mut viewer, "interrupted").await;
    let report = within(running.wait()).await.unwrap();
    assert!(
        matches!(report.head.state(), SessionState::Paused { .. }),
        "stopped by a key: {:?}",
        report.head
    );
}

#[tokio::test]
async fn a_late_viewer_sees_the_last_lines_and_types() {
    let fixture = Fixture::new();
    let (mut running, mut first) = fixture.start("seq 1 100; read -r line; echo \"<$line>\"").await;
    shown_until(&mut first, "100\r\n").await;
    drop(first);
    let id = running.id();
    assert!(attachable_sessions().contains_key(&id));
    let mut second = ViewerConnection::attach(id, options()).await.unwrap();
    let shown = shown_until(&mut second, "100\r\n").await;
    assert!(
        shown.starts_with("69\r\n70\r\n"),
        "as many as its terminal has rows, and one to type in: {shown:?}"
    );
    type_text(id, b"from elsewhere\r").await.unwrap();
    shown_until(&mut second, "<from elsewhere>").await;
    within(running.wait()).await.unwrap();
    running.terminal().unwrap().end(TerminalEnd::new(0, false)).await;
    let error = ViewerConnection::attach(id, options()).await.unwrap_err();
    assert!(matches!(error, AttachError::NoTerminal { .. }), "{error}");
}

#[tokio::test]
async fn a_text_is_typed_whole_or_not_at_all() {
    let fixture = Fixture::new();
    let (mut running, mut viewer) =
        fixture.start("read -r line; echo ${#line}; read -r line; echo \"<$line>\"").await;
    let long = [vec![b'x'; 4096], b"\r".to_vec()].concat();
    let error = type_text(running.id(), &long).await.unwrap_err();
    assert!(error.to_string().contains("4095 bytes"), "{error}");
    type_text(running.id(), &long[1..]).await.unwrap();
    shown_until(&mut viewer, "\r\n4095\r\n").await;
    type_text(running.id(), b"end\r").await.unwrap();
    shown_until(&mut viewer, "<end>").await;
    assert_eq!(within(running.wait()).await.unwrap().exit_code(), 0);
}

#[tokio::test]
async fn queries_are_answered_while_there_is_no_viewer() {
    let fixture = Fixture::new();
    let terminal = Terminal::new("xterm-256color", 24, 80);
    let script = "stty raw -echo; printf '\\033[5n\\033[c'; IFS= read -rd c answer; stty sane; printf %q \"$answer\"; echo; echo end";
    let command = Command::new("bash").args(["-c", script]).terminal(Some(terminal));
    let mut running = fixture.runner.spawn(SessionConfig::new("run"), command).await.unwrap();
    assert_eq!(within(running.wait()).await.unwrap().exit_code(), 0);
    let stored = fixture.stored(&running, OutputStream::Terminal);
    assert!(stored.contains("[0n") && stored.contains("[?62;22"), "{stored:?}");
}

#[tokio::test]
async fn a_cancel_ends_a_shell_that_ignores_term() {
    let fixture = Fixture::new();
    let (mut running, mut viewer) = fixture.start("export PS1='$ '; exec bash --norc -i").await;
    shown_until(&mut viewer, "$ ").await;
    fixture.manager.cancel_session(running.id(), CancelRequest::new("a test", "a tester")).await.unwrap();
    let report = within(running.wait()).await.unwrap();
    assert!(matches!(report.head.state(), SessionState::Cancelled { .. }));
    assert_eq!(report.ended, Some(session_runner::Ended::Signalled(1)), "hung up, not killed");
}

/// The program does not wait longer than a second for a viewer that does not read; later, it is shown how much it missed.
#[tokio::test]
async fn a_viewer_that_does_not_read_is_left_behind() {
    let fixture = Fixture::new();
    let (mut running, mut viewer) =
        fixture.start("read -r x; seq 1 300000; read -r y; echo \"<$y>\"; read -r z").await;
    viewer.type_input(b"\r");
    let mut second = ViewerConnection::attach(running.id(), options()).await.unwrap();
    // Only the second one reads.
    shown_until(&mut second, "300000\r\n").await;
    second.type_input(b"on\r");
    shown_until(&mut second, "<on>").await;
    let mut missed = 0;
    let mut shown = String::new();
    while !shown.contains("<on>") {
        let event = within(viewer.next()).await.unwrap();
        if let ViewerEvent::Output(bytes) = &event {
            shown.push_str(&String::from_utf8_lossy(bytes));
        } else if let ViewerEvent::Missed(bytes) = event {
            missed += bytes;
        }
    }
    assert!(missed > 100_000, "{missed}");
    assert!(fixture.stored(&running, OutputStream::Terminal).contains("\r\n300000\r\n"), "all is stored");
    second.type_input(b"\r");
    assert_eq!(within(running.wait()).await.unwrap().exit_code(), 0);
}

/// A viewer of another version is refused with the owner's binary, by the form that all versions have.
#[tokio::test]
async fn a_viewer_of_another_version_is_refused() {
    use std::io::{Read as _, Write as _};

    let fixture = Fixture::new();
    let (running, _viewer) = fixture.start("read -r x").await;
    let folder =
        ["XDG_RUNTIME_DIR", "TMPDIR"].iter().filter_map(std::env::var_os).map(std::path::PathBuf::from);
    let folders = folder.chain([std::path::PathBuf::from("/tmp")]);
    let is_socket = |path: &std::path::PathBuf| {
        path.to_str().is_some_and(|path| path.ends_with(&format!("{}.attach", running.id())))
    };
    let inside = |folder: std::path::PathBuf| {
        let own = [
            folder.join("sessionctl"),
            folder.join(format!("sessionctl-{}", rustix::process::geteuid().as_raw())),
        ];
        own.into_iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten()
    };
    let path = folders.flat_map(inside).map(|entry| entry.path()).find(is_socket).unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let mut socket = UnixStream::connect(path).unwrap();
        let hello = br#"{"version":99,"shows":true,"read_only":false,"rows":1,"columns":1,"notice":""}"#;
        let length = u32::try_from(hello.len()).unwrap().to_le_bytes();
        socket.write_all(&[&b"h"[..], &length, hello].concat()).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    let text = String::from_utf8_lossy(&answer);
    let binary = std::env::current_exe().unwrap();
    assert!(
        answer[0] == b'X' && text.contains("version 99") && text.contains(binary.to_str().unwrap()),
        "{text}"
    );
    assert!(!text.contains('<'), "no output");
}

#[tokio::test]
async fn stopped_output_is_started_when_the_last_viewer_leaves() {
    let fixture = Fixture::new();
    let (_outer, slave) = outer_terminal();
    let (mut running, mut first) =
        fixture.start("echo begin; read -r x; echo \"<$x>\"; sleep 0.1; echo end").await;
    shown_until(&mut first, "begin").await;
    drop(first);
    let terminal = ViewerOptions { terminal: Some(slave.as_fd()), ..options() };
    let mut viewer = ViewerConnection::attach(running.id(), terminal).await.unwrap();
    shown_until(&mut viewer, "begin").await;
    // What is typed after the key is not even echoed.
    viewer.type_input(b"\x13on\r");
    let silent = tokio::time::timeout(Duration::from_millis(500), shown_until(&mut viewer, "<on>")).await;
    assert!(silent.is_err());
    viewer.leave().await;
    assert_eq!(within(running.wait()).await.unwrap().exit_code(), 0);
    assert!(fixture.stored(&running, OutputStream::Terminal).ends_with("<on>\r\nend\r\n"));
}
