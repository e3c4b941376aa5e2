//! Captures a program's output from its pipes: stores it, forwards it, and scans it for progress.
//!
//! Each stream has a thread of its own (`worker`), which blocks on a slow disk or on a reader that does not read. Then
//! the pipe fills and the program waits, as with any pipe; only one buffer per stream is kept in memory. No failure here
//! ends the program: output that could not be stored or forwarded is reported at the end.

mod worker;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use session_core::SessionId;
use tokio::sync::{mpsc, oneshot, watch};

use self::worker::Worker;
pub(crate) use self::worker::{Activity, Captured, CapturedStream, Shared, StreamPipe, lock, store};
use super::storage::{OutputStream, OutputWriter};
use crate::report::osc::TerminalProgress;
use crate::terminal::attach_socket::AttachSocket;
use crate::terminal::handle::{TerminalEvent, TerminalHandle};
use crate::terminal::pty::TerminalSize;
use crate::terminal::server::{Parts, Server, wake_pair};

/// Timeout and poll interval of waiting until the output of a stopped tree is stored and forwarded.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(300);
const DRAIN_INTERVAL: Duration = Duration::from_millis(1);

/// The capture threads of one program.
#[derive(Debug)]
pub(crate) struct Capture {
    shared: Arc<Mutex<Shared>>,
    /// The threads hold the other ends: closing one of these notifies them.
    end: Option<OwnedFd>,
    hurry: Option<OwnedFd>,
    threads: Vec<oneshot::Receiver<()>>,
    /// The pipes, for as long as the threads run.
    pipes: Vec<Weak<StreamPipe>>,
    progress: watch::Receiver<Option<TerminalProgress>>,
    stored: watch::Receiver<u64>,
    activity: watch::Receiver<Activity>,
    start_offset: u64,
    terminal: Option<TerminalHandle>,
    terminal_events: Option<mpsc::UnboundedReceiver<TerminalEvent>>,
}

/// A terminal to capture, whose viewers are served.
#[derive(Debug)]
pub(crate) struct CapturedTerminal {
    pub(crate) session: SessionId,
    pub(crate) master: OwnedFd,
    /// The device number of its slave.
    pub(crate) device: u64,
    pub(crate) size: TerminalSize,
    /// The size that the log has, if it has one.
    pub(crate) recorded_size: Option<TerminalSize>,
    pub(crate) first_viewer: Option<UnixStream>,
}

impl Capture {
    /// Starts the threads. Without a writer, output is only forwarded.
    pub(crate) fn start(
        streams: Vec<CapturedStream>,
        terminal: Option<CapturedTerminal>,
        writer: Option<Box<dyn OutputWriter>>,
        attempt: u32,
    ) -> io::Result<Self> {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let ((end_seen, end), (hurry_seen, hurry)) = (pipe()?, pipe()?);
        let length = writer.as_ref().map_or(0, |writer| writer.length().bytes);
        let (progress_sender, progress) = watch::channel(None);
        let (stored_sender, stored) = watch::channel(length);
        let open = streams.len() + usize::from(terminal.is_some());
        let (activity_sender, activity) = watch::channel(Activity { open, ..Activity::default() });
        let shared = Arc::new(Mutex::new(Shared {
            writer,
            attempt,
            captured: Captured::default(),
            progress: progress_sender,
            stored: stored_sender,
            activity: activity_sender,
        }));
        let (mut threads, mut pipes) = (Vec::new(), Vec::new());
        for source in streams {
            let (done, wait) = oneshot::channel();
            let name = match source.stream {
                OutputStream::Stdout => "capture-stdout",
                OutputStream::Stderr => "capture-stderr",
                OutputStream::Terminal => "capture-tty",
            };
            let (end, hurry) = (end_seen.try_clone()?, hurry_seen.try_clone()?);
            let (mut worker, pipe) = Worker::new(source, Arc::clone(&shared), end, hurry);
            let pipe = Arc::new(pipe);
            pipes.push(Arc::downgrade(&pipe));
            std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                worker.run(&pipe);
                // Closed before the end is reported: the receiver may count open descriptors.
                drop((pipe, worker));
                let _ = done.send(());
            })?;
            threads.push(wait);
        }
        let terminal = match terminal {
            Some(terminal) => {
                let TerminalThread { master, done, handle, events } =
                    serve(terminal, &shared, end_seen.try_clone()?)?;
                pipes.push(master);
                threads.push(done);
                Some((handle, events))
            }
            None => None,
        };
        let (terminal, terminal_events) = terminal.unzip();
        let (end, hurry) = (Some(end), Some(hurry));
        Ok(Self {
            shared,
            end,
            hurry,
            threads,
            pipes,
            progress,
            stored,
            activity,
            start_offset: length,
            terminal,
            terminal_events,
        })
    }

    /// Watches the latest progress in the program's output.
    pub(crate) fn progress(&self) -> watch::Receiver<Option<TerminalProgress>> {
        self.progress.clone()
    }

    /// Watches the number of stored bytes.
    pub(crate) fn stored(&self) -> watch::Receiver<u64> {
        self.stored.clone()
    }

    /// Watches the state of the streams.
    pub(crate) fn activity(&self) -> watch::Receiver<Activity> {
        self.activity.clone()
    }

    /// Returns the offset at which the output of this capture begins.
    pub(crate) const fn start_offset(&self) -> u64 {
        self.start_offset
    }

    /// Returns the handle of the terminal, if there is one.
    pub(crate) fn terminal(&self) -> Option<&TerminalHandle> {
        self.terminal.as_ref()
    }

    /// Returns the events at the terminal, once; without a terminal, none ever comes.
    pub(crate) fn take_terminal_events(&mut self) -> mpsc::UnboundedReceiver<TerminalEvent> {
        self.terminal_events.take().unwrap_or_else(|| mpsc::unbounded_channel().1)
    }

    /// Returns `true` if all output so far is stored and forwarded.
    pub(crate) fn is_drained(&self) -> bool {
        self.pipes.iter().filter_map(Weak::upgrade).all(|pipe| pipe.is_drained())
    }

    /// Waits briefly until the output of a stopped tree is stored and forwarded.
    pub(crate) async fn wait_until_drained(&self) {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while Instant::now() < deadline && !self.is_drained() {
            tokio::time::sleep(DRAIN_INTERVAL).await;
        }
    }

    /// Makes the threads end once they have read and forwarded what is in the pipes. A reader may take any time.
    pub(crate) fn stop_reading(&mut self) {
        self.end = None;
    }

    /// Limits the time that readers have to take what is forwarded.
    pub(crate) fn hurry(&mut self) {
        self.hurry = None;
    }

    /// Waits until the threads have ended. The future may be dropped.
    pub(crate) async fn ended(&mut self) {
        while let Some(thread) = self.threads.last_mut() {
            // An error is a thread that panicked: it has ended, too.
            let _ = thread.await;
            self.threads.pop();
        }
    }

    /// Returns the totals, once the threads have ended, and closes the store.
    pub(crate) fn take(&self) -> Captured {
        let mut shared = lock(&self.shared);
        shared.writer = None;
        std::mem::take(&mut shared.captured)
    }
}

/// The thread of a terminal, for its owner.
struct TerminalThread {
    master: Weak<StreamPipe>,
    done: oneshot::Receiver<()>,
    handle: TerminalHandle,
    events: mpsc::UnboundedReceiver<TerminalEvent>,
}

/// Starts the thread of a terminal.
fn serve(
    terminal: CapturedTerminal,
    shared: &Arc<Mutex<Shared>>,
    end: OwnedFd,
) -> io::Result<TerminalThread> {
    let CapturedTerminal { session, master, device, size, recorded_size, first_viewer } = terminal;
    rustix::io::ioctl_fionbio(&master, true)?;
    let master = Arc::new(StreamPipe::new(master));
    let weak = Arc::downgrade(&master);
    let ((wake, woken), (sender, commands)) = (wake_pair()?, std::sync::mpsc::channel());
    let ((done, wait), (events, received)) = (oneshot::channel(), mpsc::unbounded_channel());
    // Without a socket, the session runs as well, and only who started it sees it.
    let socket = AttachSocket::listen(session)
        .inspect_err(|error| tracing::warn!(%session, %error, "viewers cannot attach: no socket"))
        .ok();
    let shared = Arc::clone(shared);
    let parts = Parts {
        session,
        master,
        device,
        size,
        recorded_size,
        shared,
        end,
        wake: woken,
        commands,
        events,
        socket,
        first_viewer,
        done,
    };
    std::thread::Builder::new()
        .name("session-terminal".to_owned())
        .spawn(move || Server::new(parts).run())?;
    Ok(TerminalThread {
        master: weak,
        done: wait,
        handle: TerminalHandle::new(sender, wake),
        events: received,
    })
}

#[cfg(test)]
mod tests;
