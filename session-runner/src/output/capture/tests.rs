//! Tests of capturing: output from pipes to the store and to a reader, and the failures on the way.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::Poll;

use session_core::{SessionId, Timestamp};

use super::worker::LAST_WAIT;
use super::*;
use crate::output::storage::Chunk;
use crate::{
    FileOutput, OutputCut, OutputError, OutputInterceptor, OutputLength, OutputLimits, OutputStorage,
};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Ends a capture without waiting for readers.
async fn finish(mut capture: Capture) -> Captured {
    capture.stop_reading();
    capture.hurry();
    capture.ended().await;
    capture.take()
}

struct Fixture {
    _folder: tempfile::TempDir,
    output: FileOutput,
    id: SessionId,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { output: FileOutput::new(folder.path()), id: SessionId::random(), _folder: folder }
    }

    fn writer(&self) -> Box<dyn OutputWriter> {
        self.output.writer(self.id, OutputLimits::default()).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        let chunks = self.output.read(self.id, 0, usize::MAX).unwrap().chunks;
        chunks.into_iter().flat_map(|chunk| chunk.bytes).collect()
    }
}

fn stream(pass_on: Option<PipeWriter>) -> (PipeWriter, CapturedStream) {
    let (read, write) = pipe().unwrap();
    let pass_on = pass_on.map(|pipe| File::from(OwnedFd::from(pipe)));
    let (stream, pipe, interceptor) = (OutputStream::Stdout, read.into(), None);
    (write, CapturedStream { stream, pipe, pass_on, interceptor, close_with_reader: true })
}

fn text(length: usize) -> Vec<u8> {
    (0..=250u8).cycle().take(length).collect()
}

fn reader(mut pipe: PipeReader) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        pipe.read_to_end(&mut all).unwrap();
        all
    })
}

#[test]
fn output_is_stored_and_forwarded_unchanged() {
    let fixture = Fixture::new();
    let (read, write) = pipe().unwrap();
    let (mut program, stream) = stream(Some(write));
    let passed_on = reader(read);
    let capture = Capture::start(vec![stream], None, Some(fixture.writer()), 1).unwrap();
    let text = text(3_000_000);
    program.write_all(&text).unwrap();
    drop(program);
    let captured = run(finish(capture));
    assert_eq!(captured, Captured { bytes: 3_000_000, ..Captured::default() });
    assert_eq!(fixture.bytes(), text);
    assert_eq!(passed_on.join().unwrap(), text);
}

/// An interceptor that adds text around each piece of output.
#[derive(Debug)]
struct Wrapper;

impl OutputInterceptor for Wrapper {
    fn pass_on(&self, stream: OutputStream, bytes: &[u8], write: &mut dyn FnMut(&[u8])) {
        write(b"<");
        write(bytes);
        write(stream.name().as_bytes());
        write(b">");
    }
}

#[test]
fn an_interceptor_forwards_the_output() {
    let fixture = Fixture::new();
    let (mut read, write) = pipe().unwrap();
    let (mut program, stream) = stream(Some(write));
    let stream = CapturedStream { interceptor: Some(Arc::new(Wrapper)), close_with_reader: false, ..stream };
    let capture = Capture::start(vec![stream], None, Some(fixture.writer()), 1).unwrap();
    for (printed, expected) in [("one ", "<one stdout>"), ("two ", "<two stdout>")] {
        program.write_all(printed.as_bytes()).unwrap();
        let mut got = vec![0; expected.len()];
        read.read_exact(&mut got).unwrap();
        assert_eq!(String::from_utf8(got).unwrap(), expected);
    }
    // A reader that closes its end, even midway, does not fail the program.
    drop(read);
    program.write_all(b"three ").unwrap();
    drop(program);
    let captured = run(finish(capture));
    assert!(captured.not_passed_on.is_some());
    assert_eq!((captured.bytes, fixture.bytes()), (14, b"one two three ".to_vec()));
}

/// Regression: a shell showed its prompt in the middle of what a program had printed before it was stopped.
#[test]
fn draining_waits_until_all_output_is_forwarded() {
    let fixture = Fixture::new();
    let (read, write) = pipe().unwrap();
    let (mut program, stream) = stream(Some(write));
    let capture = Capture::start(vec![stream], None, Some(fixture.writer()), 1).unwrap();
    // More than the second pipe holds: it is not all forwarded until the pipe is read.
    let text = text(65536 + 4096);
    program.write_all(&text).unwrap();
    let reads = Arc::new(AtomicBool::new(false));
    let reading = Arc::clone(&reads);
    let slow = std::thread::spawn(move || {
        std::thread::sleep(DRAIN_TIMEOUT / 3);
        reading.store(true, Ordering::SeqCst);
        let mut read = read;
        let mut first_part = vec![0; 60_000];
        read.read_exact(&mut first_part).unwrap();
        read
    });
    run(capture.wait_until_drained());
    assert!(reads.load(Ordering::SeqCst), "it cannot have been forwarded before the read");
    assert_eq!(fixture.bytes(), text);
    let read = slow.join().unwrap();
    assert_eq!(rustix::io::ioctl_fionread(&read).unwrap(), text.len() as u64 - 60_000);
    // A reader that never reads is not waited for.
    program.write_all(&text).unwrap();
    let start = Instant::now();
    run(capture.wait_until_drained());
    assert!(start.elapsed() < DRAIN_TIMEOUT * 4, "{:?}", start.elapsed());
    drop((program, read));
    run(finish(capture));
}

#[test]
fn finish_reads_the_pipe_but_does_not_wait_for_its_end() {
    let fixture = Fixture::new();
    let (mut program, stream) = stream(None);
    program.write_all(b"last words").unwrap();
    let capture = Capture::start(vec![stream], None, Some(fixture.writer()), 1).unwrap();
    // The pipe is still open: an escaped process holds it.
    assert_eq!(run(finish(capture)).bytes, 10);
    assert_eq!(fixture.bytes(), b"last words");
    drop(program);
}

/// A writer whose first append waits for permission.
#[derive(Debug)]
struct GatedWriter {
    inner: Box<dyn OutputWriter>,
    entered: mpsc::Sender<()>,
    /// Taken by the first append.
    gate: Option<mpsc::Receiver<()>>,
}

impl OutputWriter for GatedWriter {
    fn append(
        &mut self,
        stream: OutputStream,
        attempt: u32,
        at: Timestamp,
        bytes: &[u8],
    ) -> Result<u64, OutputError> {
        if let Some(gate) = self.gate.take() {
            self.entered.send(()).unwrap();
            gate.recv().unwrap();
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

/// The worker is held in its first append until the tree is gone and more bytes are in the pipe.
#[test]
fn bytes_in_the_pipe_when_the_tree_ends_are_stored() {
    let fixture = Fixture::new();
    let (mut program, stream) = stream(None);
    let (entered, first_append) = mpsc::channel();
    let (open, gate) = mpsc::channel();
    let writer = GatedWriter { inner: fixture.writer(), entered, gate: Some(gate) };
    let capture = Capture::start(vec![stream], None, Some(Box::new(writer)), 1).unwrap();
    program.write_all(b"first ").unwrap();
    first_append.recv().unwrap();
    program.write_all(b"last words").unwrap();
    let captured = run(async {
        let mut finish = std::pin::pin!(finish(capture));
        // The first poll reports the end of the tree.
        let waits = std::future::poll_fn(|context| Poll::Ready(finish.as_mut().poll(context).is_pending()));
        assert!(waits.await, "the worker is still in its first append");
        open.send(()).unwrap();
        finish.await
    });
    assert_eq!(captured.bytes, 16);
    assert_eq!(fixture.bytes(), b"first last words");
}

#[test]
fn an_escaped_writer_does_not_block_finish() {
    let fixture = Fixture::new();
    let (mut program, stream) = stream(None);
    let capture = Capture::start(vec![stream], None, Some(fixture.writer()), 1).unwrap();
    let writer = std::thread::spawn(move || while program.write_all(&[7; 4096]).is_ok() {});
    let mut stored = capture.stored();
    run(async { drop(stored.wait_for(|stored| *stored > 0).await.unwrap()) });
    assert!(run(finish(capture)).bytes > 0);
    writer.join().unwrap();
}

#[test]
fn a_closed_or_stalled_reader_does_not_block_finish() {
    for closes in [true, false] {
        let fixture = Fixture::new();
        let (read, write) = pipe().unwrap();
        let (mut program, stream) = stream(Some(write));
        let stream = CapturedStream { close_with_reader: false, ..stream };
        let read = (!closes).then_some(read);
        let capture = Capture::start(vec![stream], None, Some(fixture.writer()), 1).unwrap();
        // More than the pipe to the reader holds, but no more than both pipes hold together.
        program.write_all(&text(100_000)).unwrap();
        drop(program);
        let captured = run(finish(capture));
        assert_eq!(captured.bytes, 100_000);
        assert!(captured.not_passed_on.is_some(), "{closes}");
        assert_eq!(fixture.bytes(), text(100_000));
        drop(read);
    }
}

/// A handler of the application makes the kernel end the wait of a thread.
#[test]
fn a_signal_to_a_capture_thread_loses_no_output() {
    let fixture = Fixture::new();
    let (mut program, stream) = stream(None);
    let handled = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&handled)).unwrap();
    let capture = Capture::start(vec![stream], None, Some(fixture.writer()), 1).unwrap();
    let mut stored = capture.stored();
    for round in 1..=5 {
        // Those of other tests get it, too.
        for thread in threads_that_wait("capture-stdout") {
            handled.store(false, Ordering::SeqCst);
            let sent = rustix::process::kill_process(thread, rustix::process::Signal::USR1);
            while sent.is_ok() && !handled.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        }
        program.write_all(b"x").unwrap();
        run(async { drop(stored.wait_for(|stored| *stored == round).await.unwrap()) });
    }
    drop(program);
    assert_eq!(run(finish(capture)).bytes, 5);
}

/// Returns the sleeping threads of this process with a name, once there are some.
fn threads_that_wait(name: &str) -> Vec<rustix::process::Pid> {
    let is_meant = |task: &std::path::Path| {
        let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
        stat.contains(&format!("({name}) S"))
    };
    loop {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap());
        let found: Vec<_> = tasks
            .filter(|task| is_meant(&task.path()))
            .filter_map(|task| rustix::process::Pid::from_raw(task.file_name().to_str()?.parse().ok()?))
            .collect();
        if !found.is_empty() {
            return found;
        }
        std::thread::yield_now();
    }
}

/// Regression: `run -- yes | head -1` never ended, because the pipe of a program stayed open without a reader.
#[test]
fn a_pipe_is_closed_when_its_reader_is_gone() {
    let fixture = Fixture::new();
    let (read, write) = pipe().unwrap();
    let (mut program, stream) = stream(Some(write));
    let capture = Capture::start(vec![stream], None, Some(fixture.writer()), 1).unwrap();
    program.write_all(b"before").unwrap();
    let mut stored = capture.stored();
    run(async { drop(stored.wait_for(|stored| *stored > 0).await.unwrap()) });
    // No write is needed to notice it.
    drop(read);
    let mut activity = capture.activity();
    let gone = run(async { *activity.wait_for(|activity| activity.open == 0).await.unwrap() });
    assert_eq!(gone.readers_gone, [true, false]);
    let error = program.write_all(b"after").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(fixture.bytes(), b"before");
    run(finish(capture));
}

#[test]
fn a_slow_reader_gets_everything_however_long_it_takes() {
    let fixture = Fixture::new();
    let (read, write) = pipe().unwrap();
    let (mut program, stream) = stream(Some(write));
    let mut capture = Capture::start(vec![stream], None, Some(fixture.writer()), 1).unwrap();
    // The program is gone, and the pipe to the reader is full.
    program.write_all(&text(100_000)).unwrap();
    drop(program);
    capture.stop_reading();
    let early = run(async { tokio::time::timeout(LAST_WAIT * 2, capture.ended()).await });
    assert!(early.is_err(), "it still waits for its reader");
    let passed_on = reader(read);
    run(capture.ended());
    assert_eq!(capture.take().not_passed_on, None);
    assert_eq!(passed_on.join().unwrap(), text(100_000));
}

/// A writer whose disk is full after the first append.
#[derive(Debug)]
struct FullDisk {
    inner: Box<dyn OutputWriter>,
    appends: u32,
}

impl OutputWriter for FullDisk {
    fn append(
        &mut self,
        stream: OutputStream,
        attempt: u32,
        at: Timestamp,
        bytes: &[u8],
    ) -> Result<u64, OutputError> {
        self.appends += 1;
        if self.appends > 1 {
            return Err(OutputError::Io {
                action: "write",
                path: "output".into(),
                error: io::ErrorKind::StorageFull.into(),
            });
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

#[test]
fn a_full_disk_does_not_stop_forwarding() {
    let fixture = Fixture::new();
    let (read, write) = pipe().unwrap();
    let passed_on = reader(read);
    let (mut program, stream) = stream(Some(write));
    let disk = FullDisk { inner: fixture.writer(), appends: 0 };
    let capture = Capture::start(vec![stream], None, Some(Box::new(disk)), 1).unwrap();
    let text = text(1_000_000);
    program.write_all(&text).unwrap();
    drop(program);
    let captured = run(finish(capture));
    assert_eq!(passed_on.join().unwrap(), text);
    let (lost, reason) = captured.lost.expect("the loss is reported");
    assert_eq!(lost, 1_000_000 - fixture.bytes().len() as u64);
    assert!(reason.starts_with("cannot write output: "), "{reason}");
}

#[test]
fn bytes_that_are_not_kept_are_counted() {
    let fixture = Fixture::new();
    let limits = OutputLimits::small(1000, 1000, 64 * 1024);
    let (mut program, stream) = stream(None);
    let writer = fixture.output.writer(fixture.id, limits).unwrap();
    let capture = Capture::start(vec![stream], None, Some(writer), 1).unwrap();
    let text = text(1_000_000);
    program.write_all(&text).unwrap();
    drop(program);
    let captured = run(finish(capture));
    let kept = fixture.bytes();
    assert_eq!((captured.bytes, captured.removed), (1_000_000, 1_000_000 - kept.len() as u64));
    assert!(kept.starts_with(&text[..1000]) && kept.ends_with(&text[text.len() - 64 * 1024..]));
}

#[test]
fn parsed_progress_sequences_stay_in_the_output() {
    let fixture = Fixture::new();
    let (mut program, stream) = stream(None);
    let capture = Capture::start(vec![stream], None, Some(fixture.writer()), 1).unwrap();
    let mut progress = capture.progress();
    let sequence = b"\x1b]9;4;1;42\x07";
    for piece in sequence.chunks(3) {
        program.write_all(piece).unwrap();
    }
    run(async {
        progress.wait_for(|progress| *progress == Some(TerminalProgress::Percent(42))).await.unwrap();
    });
    drop(program);
    run(finish(capture));
    assert_eq!(fixture.bytes(), sequence);
}
