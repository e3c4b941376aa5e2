//! The thread of a session's terminal: reads what the program prints, stores it and shows it to the viewers, and types
//! what they type.
//!
//! One thread with one `poll`, so that nothing is shown before it is stored and no byte needs a lock. Viewers may be
//! slow, stopped or gone: the program waits for a slow one for a second, after which that viewer is left behind.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use session_core::SessionId;
use tokio::sync::{mpsc::UnboundedSender, oneshot};

use super::attach_socket::AttachSocket;
use super::frame::{OwnerFrame, TerminalEnd};
use super::handle::{Command, TerminalEvent};
use super::keyboard_input::Typing;
use super::pty::TerminalSize;
use super::viewers::Viewers;
use crate::output::OutputStream;
use crate::output::capture::{Shared, StreamPipe, lock, store};
use crate::report::osc::OscParser;

/// Bytes that are read before they are stored: more is faster, and no byte waits for others.
const READ_BYTES: usize = 64 * 1024;
/// Bytes that are read, once reading is to end, from a process that still writes.
const LAST_BYTES: usize = 1024 * 1024;
/// Interval of looking for a process that opens a terminal which no process has open.
const REOPEN_INTERVAL: Duration = Duration::from_millis(20);
/// Time that the viewers have to leave at the end, since the last one did something.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// The thread of a terminal.
pub(crate) struct Server {
    /// The master. `None` once reading has ended.
    master: Option<Arc<StreamPipe>>,
    shared: Arc<Mutex<Shared>>,
    /// Closed at the other end once no more output is to be waited for.
    end: OwnedFd,
    is_ending: bool,
    /// `false` while no process has the terminal open.
    is_open: bool,
    /// Bytes that were read since reading is to end.
    last: usize,
    /// Readable when there are commands.
    wake: UnixStream,
    commands: Receiver<Command>,
    events: UnboundedSender<TerminalEvent>,
    /// Completed once all output is stored and queued for the viewers.
    done: Option<oneshot::Sender<()>>,
    viewers: Viewers,
    typing: Typing,
    osc: OscParser,
    closing: Option<Closing>,
}

/// The end of the viewers.
struct Closing {
    /// Completed once they are gone.
    done: Option<oneshot::Sender<()>>,
    until: Instant,
}

/// The parts of a server.
pub(crate) struct Parts {
    pub(crate) session: SessionId,
    pub(crate) master: Arc<StreamPipe>,
    /// The device number of the program's terminal.
    pub(crate) device: u64,
    pub(crate) size: TerminalSize,
    /// The size that the log has, if it has one.
    pub(crate) recorded_size: Option<TerminalSize>,
    pub(crate) shared: Arc<Mutex<Shared>>,
    pub(crate) end: OwnedFd,
    pub(crate) wake: UnixStream,
    pub(crate) commands: Receiver<Command>,
    pub(crate) events: UnboundedSender<TerminalEvent>,
    /// `None` if none could be created: then only the first viewer is served.
    pub(crate) socket: Option<AttachSocket>,
    pub(crate) first_viewer: Option<UnixStream>,
    pub(crate) done: oneshot::Sender<()>,
}

/// The state of the program's output after a `poll`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Output {
    /// Not looked at, because a viewer is slow.
    #[default]
    Unknown,
    /// There is some, or its end.
    Readable,
    /// There is none yet: a process has the terminal open.
    None,
}

/// The result of a `poll`.
#[derive(Debug, Default)]
struct Ready {
    woken: bool,
    connecting: bool,
    may_type: bool,
    output: Output,
    /// The places of the viewers from which something has arrived, and to which something can be sent.
    from: Vec<usize>,
    to: Vec<usize>,
}

impl Server {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            session,
            master,
            device,
            size,
            recorded_size,
            shared,
            end,
            wake,
            commands,
            events,
            socket,
            first_viewer,
            done,
        } = parts;
        let mut viewers = Viewers::new(session, device, size, recorded_size, socket);
        viewers.extend(first_viewer);
        Self {
            master: Some(master),
            shared,
            end,
            is_ending: false,
            is_open: true,
            last: 0,
            wake,
            commands,
            events,
            done: Some(done),
            viewers,
            typing: Typing::default(),
            osc: OscParser::default(),
            closing: None,
        }
    }

    /// Runs until the output has ended and the viewers are gone.
    pub(crate) fn run(mut self) {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let ready = self.wait();
            if ready.woken && !self.handle_commands() {
                break;
            }
            if ready.connecting {
                self.viewers.accept();
            }
            for place in ready.to {
                self.viewers.flush(place);
            }
            for place in ready.from {
                self.receive(place);
            }
            if ready.may_type {
                self.type_more();
            }
            match ready.output {
                Output::Readable => self.read(&mut buffer),
                Output::None => self.set_open(true),
                Output::Unknown => {}
            }
            let master = self.master.as_ref().map(|master| master.as_fd());
            let now = Instant::now();
            self.viewers.tick(now, master, &mut self.typing);
            self.report_size(Some(now));
            if self.is_closed() {
                break;
            }
        }
        self.finish_reading();
        let Self { viewers, closing, .. } = self;
        // Closed before the end is reported: nobody can attach after that.
        drop(viewers);
        if let Some(done) = closing.and_then(|closing| closing.done) {
            let _ = done.send(());
        }
    }

    fn wait(&mut self) -> Ready {
        let now = Instant::now();
        let slow = self.viewers.slow_until(now);
        // Without a process at the other end, a wait would return immediately.
        let read = self.master.is_some() && slow.is_none() && self.is_open;
        let closed = self.master.is_some() && slow.is_none() && !self.is_open;
        let wake_at = [
            slow,
            self.viewers.next_tick(),
            closed.then(|| now + REOPEN_INTERVAL),
            self.closing.as_ref().map(|closing| closing.until),
        ];
        let ending = self.is_ending && self.master.is_some() && slow.is_none();
        let timeout = wake_at.into_iter().flatten().min().map(|at| at.saturating_duration_since(now));
        let timeout = if ending { Some(Duration::ZERO) } else { timeout };
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let mut sources = vec![PollFd::new(&self.wake, PollFlags::IN)];
        let with_end = !self.is_ending && self.master.is_some();
        if with_end {
            sources.push(PollFd::new(&self.end, PollFlags::IN));
        }
        let listener = self.viewers.listener();
        sources.extend(listener.iter().map(|listener| PollFd::from_borrowed_fd(*listener, PollFlags::IN)));
        let first_viewer = sources.len();
        let may_take = self.typing.has_room();
        for viewer in self.viewers.iter() {
            let mut events = PollFlags::empty();
            events.set(PollFlags::IN, may_take);
            events.set(PollFlags::OUT, viewer.has_to_send());
            sources.push(PollFd::new(viewer, events));
        }
        let after_viewers = sources.len();
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, read);
        events.set(PollFlags::OUT, self.typing.has_waiting() && self.is_open);
        if let Some(master) = self.master.as_ref().filter(|_| read || !events.is_empty()) {
            sources.push(PollFd::new(&**master, events));
        }
        let polled = poll(&mut sources, timeout.as_ref());
        if !matches!(polled, Ok(_) | Err(Errno::INTR)) {
            // The kernel is out of memory: wait before the next call.
            std::thread::sleep(REOPEN_INTERVAL);
        }
        let found = |at: usize, flags| {
            polled.is_ok()
                && sources.get(at).is_some_and(|source: &PollFd<'_>| source.revents().intersects(flags))
        };
        let any = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        let mut ready = Ready { woken: found(0, any), ..Ready::default() };
        let is_ending = with_end && found(1, any);
        ready.connecting = listener.is_some() && found(first_viewer - 1, any);
        for at in first_viewer..after_viewers {
            if found(at, any) {
                ready.from.push(at - first_viewer);
            }
            if found(at, PollFlags::OUT) {
                ready.to.push(at - first_viewer);
            }
        }
        ready.may_type = found(after_viewers, PollFlags::OUT);
        self.is_ending |= is_ending;
        ready.output = match () {
            () if !read && !closed => Output::Unknown,
            // Whether output is left is known only from a look after the end.
            () if self.is_ending || found(after_viewers, any) => Output::Readable,
            () if closed => self.look_again(),
            () => Output::None,
        };
        ready
    }

    /// Looks at a terminal that no process had open: one may have it open now, or have had it since.
    fn look_again(&self) -> Output {
        let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
        let Some(master) = &self.master else { return Output::Unknown };
        let mut sources = [PollFd::new(&**master, PollFlags::IN)];
        match poll(&mut sources, Some(&no_wait)) {
            Ok(0) => Output::None,
            Ok(_) if sources.iter().any(|source| source.revents().contains(PollFlags::IN)) => {
                Output::Readable
            }
            Ok(_) | Err(_) => Output::Unknown,
        }
    }

    fn set_open(&mut self, open: bool) {
        if std::mem::replace(&mut self.is_open, open) != open {
            lock(&self.shared).activity.send_modify(|activity| {
                activity.open = if open { activity.open + 1 } else { activity.open.saturating_sub(1) };
            });
        }
    }

    /// Reads what there is, stores it, and shows it.
    fn read(&mut self, buffer: &mut [u8]) {
        let Some(master) = self.master.clone() else { return };
        master.busy.store(true, Ordering::SeqCst);
        let mut filled = 0;
        let mut hang_ups = 0;
        while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            match rustix::io::read(&*master, room) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                // The system looks for output before it looks for a process that may print: only a second look, after the
                // first one has found none, proves that nothing is left.
                Err(_) if hang_ups == 0 => hang_ups += 1,
                Err(_) => {
                    hang_ups += 1;
                    break;
                }
            }
        }
        let bytes = buffer.get(..filled).unwrap_or_default();
        if !bytes.is_empty() {
            store(&self.shared, OutputStream::Terminal, bytes, self.osc.last(bytes));
            let replies = self.viewers.show(bytes);
            self.typing.push(&replies);
        }
        master.busy.store(false, Ordering::SeqCst);
        if hang_ups > 1 {
            self.set_open(false);
        }
        if self.is_ending {
            self.last += filled;
            if filled == 0 || self.last >= LAST_BYTES {
                self.finish_reading();
            }
        }
    }

    fn finish_reading(&mut self) {
        if self.master.take().is_none() {
            return;
        }
        self.report_size(None);
        self.set_open(false);
        self.typing.clear();
        self.viewers.notify(&OwnerFrame::Closed);
        if let Some(done) = self.done.take() {
            let _ = done.send(());
        }
    }

    /// Handles commands. Returns `false` once nobody can give any, and no end was given.
    fn handle_commands(&mut self) -> bool {
        let _ = (&self.wake).read(&mut [0; 64]);
        loop {
            match self.commands.try_recv() {
                Ok(Command::Suspend) => self.viewers.suspend(),
                Ok(Command::Notice { text, now }) => self.viewers.notify(&OwnerFrame::Notice { text, now }),
                Ok(Command::Announce { title, text }) => {
                    self.viewers.notify(&OwnerFrame::Notification { title, text });
                }
                Ok(Command::End(end, done)) => self.close(end, Some(done)),
                Err(TryRecvError::Empty) => return true,
                // The handles are dropped when the session has ended, or is given up.
                Err(TryRecvError::Disconnected) => return self.closing.is_some(),
            }
        }
    }

    fn close(&mut self, end: TerminalEnd, done: Option<oneshot::Sender<()>>) {
        self.viewers.end(end);
        self.closing = Some(Closing { done, until: Instant::now() + LAST_WAIT });
    }

    /// Returns `true` once the viewers are gone, or have done nothing for a while.
    fn is_closed(&mut self) -> bool {
        let Some(closing) = &mut self.closing else { return false };
        if self.viewers.take_progress() {
            closing.until = Instant::now() + LAST_WAIT;
        }
        self.viewers.is_empty() || Instant::now() >= closing.until
    }

    /// Reports a size that is to be recorded by a time (`None`: by any).
    fn report_size(&mut self, now: Option<Instant>) {
        if let Some(size) = self.viewers.take_size(now) {
            let _ = self.events.send(TerminalEvent::Resized(size));
        }
    }

    fn receive(&mut self, place: usize) {
        let master = self.master.as_ref().map(|master| master.as_fd());
        for event in self.viewers.receive(place, master, &mut self.typing) {
            // Without a loop, the session is being given up.
            let _ = self.events.send(event);
        }
    }

    fn type_more(&mut self) {
        if let Some(master) = &self.master {
            self.typing.write(master.as_fd());
        }
    }
}

/// Creates a pair of sockets of which the first wakes the thread that has the second.
pub(crate) fn wake_pair() -> io::Result<(UnixStream, UnixStream)> {
    let (wake, woken) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    Ok((wake, woken))
}
