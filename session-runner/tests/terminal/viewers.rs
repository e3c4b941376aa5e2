//! Tests of viewers: what they are shown, what their keys and sizes do, and what is left of their terminals.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use rustix::termios::{OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use session_core::{SessionConfig, SessionId, Terminal, Timestamp};
use session_runner::{
    Chunk, Command, FileOutput, OutputCut, OutputError, OutputLength, OutputLimits, OutputPage,
    OutputStorage, OutputStream, OutputWriter, ViewerConnection, ViewerEvent, ViewerOptions, type_text,
};

use crate::{Fixture, options, outer_terminal, shown_until, within};

/// An output whose first append waits until the test allows it.
#[derive(Debug)]
struct HeldOutput {
    inner: FileOutput,
    held: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

impl OutputStorage for HeldOutput {
    fn writer(&self, id: SessionId, limits: OutputLimits) -> Result<Box<dyn OutputWriter>, OutputError> {
        let held = self.held.lock().unwrap().take();
        Ok(Box::new(HeldWriter { inner: self.inner.writer(id, limits)?, held }))
    }

    fn read(&self, id: SessionId, from: u64, limit: usize) -> Result<OutputPage, OutputError> {
        self.inner.read(id, from, limit)
    }

    fn length(&self, id: SessionId) -> Result<OutputLength, OutputError> {
        self.inner.length(id)
    }
}

#[derive(Debug)]
struct HeldWriter {
    inner: Box<dyn OutputWriter>,
    held: Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>,
}

impl OutputWriter for HeldWriter {
    fn append(
        &mut self,
        stream: OutputStream,
        attempt: u32,
        at: Timestamp,
        bytes: &[u8],
    ) -> Result<u64, OutputError> {
        if let Some((begun, allowed)) = self.held.take() {
            begun.send(()).unwrap();
            allowed.recv().unwrap();
        }
        self.inner.append(stream, attempt, at, bytes)
    }

    fn restore(&mut self, chunk: &Chunk) -> Result<(), OutputError> {
        self.inner.restore(chunk)
    }

    fn restore_cut(&mut self, cut: OutputCut) -> Result<(), OutputError> {
        self.inner.restore_cut(cut)
    }

    fn length(&self) -> OutputLength {
        self.inner.length()
    }
}

/// Bytes that were shown before they are stored would already wait at the viewer.
#[tokio::test]
async fn nothing_is_shown_while_it_is_being_stored() {
    let fixture = Fixture::new();
    let folder = tempfile::tempdir().unwrap();
    let ((begun, is_begun), (allow, allowed)) = (mpsc::channel(), mpsc::channel());
    let output =
        HeldOutput { inner: FileOutput::new(folder.path()), held: Mutex::new(Some((begun, allowed))) };
    let (ours, theirs) = UnixStream::pair().unwrap();
    // It prints once the viewer is there: the thread that welcomes it is the one that is held.
    let command = Command::new("sh").args(["-c", "read -r x; echo shown"]);
    let command = command.terminal(Some(Terminal::new("vt100", 24, 80)));
    let runner = fixture.runner.clone().output(Arc::new(output)).viewer(theirs);
    let mut running = runner.spawn(SessionConfig::new("run"), command).await.unwrap();
    let mut viewer = ViewerConnection::first(ours, options()).await.unwrap().unwrap();
    viewer.type_input(b"\r");
    tokio::task::spawn_blocking(move || is_begun.recv().unwrap()).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), viewer.next()).await;
    assert!(early.is_err(), "{early:?}");
    allow.send(()).unwrap();
    assert_eq!(shown_until(&mut viewer, "shown\r\n").await, "\r\nshown\r\n");
    assert_eq!(within(running.wait()).await.unwrap().exit_code(), 0);
}

#[tokio::test]
async fn nothing_is_shown_before_it_is_stored() {
    let fixture = Fixture::new();
    let script = "for n in $(seq 1 300); do echo line $n; done; read -rs hidden; echo end";
    let (mut running, mut viewer) = fixture.start(script).await;
    viewer.type_input(b"a secret\r");
    let mut shown = String::new();
    while !shown.contains("end\r\n") {
        let event = tokio::time::timeout(Duration::from_secs(20), viewer.next()).await;
        let Some(ViewerEvent::Output(bytes)) = event.unwrap() else { continue };
        shown.push_str(std::str::from_utf8(&bytes).unwrap());
        let stored = fixture.stored(&running, OutputStream::Terminal);
        assert!(stored.starts_with(&shown), "shown {} bytes, stored {}", shown.len(), stored.len());
    }
    within(running.wait()).await.unwrap();
    assert_eq!(fixture.stored(&running, OutputStream::Terminal), shown);
}

#[tokio::test]
async fn the_terminal_of_a_killed_viewer_gets_its_modes_back() {
    let fixture = Fixture::new();
    let (mut running, mut first) = fixture.start("echo begin; read -r x").await;
    shown_until(&mut first, "begin").await;
    let (outer, slave) = outer_terminal();
    let before = tcgetattr(&slave).unwrap();
    let options = ViewerOptions { terminal: Some(slave.as_fd()), notice: "left @session", ..options() };
    let mut viewer = ViewerConnection::attach(running.id(), options).await.unwrap();
    viewer.take_terminal();
    while within(viewer.next()).await.unwrap() != ViewerEvent::Taken {}
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &raw).unwrap();
    // Without a farewell, as the kernel does it.
    drop(viewer);
    let notice = format!("left {}", running.id());
    let printed = tokio::task::spawn_blocking(move || {
        let (mut printed, mut buffer) = (String::new(), [0; 1024]);
        while !printed.contains(&notice) {
            let read = rustix::io::read(&outer, &mut buffer).unwrap();
            printed.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        outer
    });
    let _outer = within(printed).await.unwrap();
    let after = tcgetattr(&slave).unwrap();
    assert_eq!(
        (after.local_modes, after.input_modes, after.output_modes),
        (before.local_modes, before.input_modes, before.output_modes)
    );
    first.type_input(b"\r");
    assert_eq!(within(running.wait()).await.unwrap().exit_code(), 0);
}

#[tokio::test]
async fn the_program_has_the_size_of_the_viewer_that_types() {
    let fixture = Fixture::new();
    let script = "echo begin; while read -r x; do set -- $(stty size); echo \"$2 columns\"; done";
    let (running, mut first) = fixture.start(script).await;
    shown_until(&mut first, "begin").await;
    let ask = async |viewer: &mut ViewerConnection| {
        type_text(running.id(), b"\r").await.unwrap();
        shown_until(viewer, " columns\r\n").await.trim_start().to_owned()
    };
    let attach = async |columns: u16| {
        let (outer, slave) = outer_terminal();
        let size = Winsize { ws_row: 20, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).unwrap();
        let options = ViewerOptions { terminal: Some(slave.as_fd()), ..options() };
        (ViewerConnection::attach(running.id(), options).await.unwrap(), outer, slave)
    };
    let _wide = attach(90).await;
    assert_eq!(ask(&mut first).await, "90 columns\r\n");
    let (mut narrow, ..) = attach(60).await;
    assert_eq!(ask(&mut first).await, "90 columns\r\n", "nothing was typed at the second terminal");
    narrow.type_input(b"\r");
    shown_until(&mut first, " columns\r\n").await;
    assert_eq!(ask(&mut first).await, "60 columns\r\n");
    drop(narrow);
    assert_eq!(ask(&mut first).await, "90 columns\r\n", "of the viewer that is left");
}

#[tokio::test]
async fn keys_of_a_read_only_viewer_are_dropped() {
    let fixture = Fixture::new();
    let (mut running, mut first) = fixture.start("echo begin; read -r line; echo \"<$line>\"").await;
    shown_until(&mut first, "begin").await;
    let options = ViewerOptions { read_only: true, ..options() };
    let mut viewer = ViewerConnection::attach(running.id(), options).await.unwrap();
    viewer.type_input(b"from the viewer\r");
    type_text(running.id(), b"from elsewhere\r").await.unwrap();
    assert!(shown_until(&mut first, ">\r\n").await.ends_with("<from elsewhere>\r\n"));
    assert_eq!(within(running.wait()).await.unwrap().exit_code(), 0);
}

/// A viewer without a terminal, as `attach | tee file`, answers nothing.
#[tokio::test]
async fn queries_are_answered_for_a_viewer_without_a_terminal() {
    let fixture = Fixture::new();
    let script =
        "stty raw -echo; printf '\\033[5n'; IFS= read -rd n answer; stty sane; printf '%q.\\n' \"$answer\"";
    let (mut running, mut viewer) = fixture.start(script).await;
    assert!(shown_until(&mut viewer, ".\r\n").await.contains("[0"));
    assert_eq!(within(running.wait()).await.unwrap().exit_code(), 0);
}
