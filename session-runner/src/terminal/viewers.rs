//! The viewers of a session's terminal: who is there, who types, and who is left behind.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use session_core::SessionId;

use super::attach_socket::{AttachSocket, is_allowed};
use super::frame::{Hello, OwnerFrame, TerminalEnd, VERSION, ViewerFrame, Welcome, encode_output};
use super::handle::TerminalEvent;
use super::keyboard_input::Typing;
use super::pty::{LONGEST_LINE, SignalKeys, TerminalSize, foreground, reads_lines, set_size, start_output};
use super::recent::Recent;
use super::size_record::SizeRecord;
use super::terminal_state::TerminalState;
use super::viewer::Viewer;

/// Viewers at a time. Others are refused.
const MAX_VIEWERS: usize = 64;
/// Time between the two changes of the size that make a full-screen program draw itself.
const REDRAW_DELAY: Duration = Duration::from_millis(60);
/// Time after which half an answer of a viewer's terminal is typed as it is.
const REPLY_TIMEOUT: Duration = Duration::from_millis(50);

/// The viewers of one terminal.
pub(crate) struct Viewers {
    session: SessionId,
    device: u64,
    socket: Option<AttachSocket>,
    list: Vec<Viewer>,
    /// The viewer whose size the program has: the one that typed last, or another if that is gone.
    active: Option<u64>,
    /// The viewer that typed last, which may be gone.
    typed_last: Option<u64>,
    state: TerminalState,
    recent: Recent,
    /// The size of the program's terminal.
    size: TerminalSize,
    size_record: SizeRecord,
    /// The time at which the size is set back.
    redraw_at: Option<Instant>,
    /// The time at which half an answer is typed.
    reply_at: Option<Instant>,
    has_shown: bool,
    has_progress: bool,
    next_number: u64,
}

impl Viewers {
    pub(crate) fn new(
        session: SessionId,
        device: u64,
        size: TerminalSize,
        recorded_size: Option<TerminalSize>,
        socket: Option<AttachSocket>,
    ) -> Self {
        Self {
            session,
            device,
            socket,
            list: Vec::new(),
            active: None,
            typed_last: None,
            state: TerminalState::new(size),
            recent: Recent::default(),
            size,
            size_record: SizeRecord::new(recorded_size, size, Instant::now()),
            redraw_at: None,
            reply_at: None,
            has_shown: false,
            has_progress: false,
            next_number: 0,
        }
    }

    /// Adds viewers that have connected.
    pub(crate) fn extend(&mut self, streams: impl IntoIterator<Item = UnixStream>) {
        for stream in streams {
            self.next_number += 1;
            if let Ok(viewer) = Viewer::new(stream, self.next_number) {
                self.list.push(viewer);
            }
        }
    }

    pub(crate) fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().filter(|_| self.list.len() < MAX_VIEWERS).map(|socket| socket.listener.as_fd())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Viewer> {
        self.list.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns `true` if a viewer has read or sent something since the last call.
    pub(crate) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.has_progress)
    }

    /// Accepts a connection of this user or root.
    pub(crate) fn accept(&mut self) {
        let accepted = self.socket.as_ref().and_then(|socket| socket.listener.accept().ok());
        self.extend(accepted.map(|(stream, _)| stream).filter(is_allowed));
    }

    /// Returns the time until which the program waits for a slow viewer, if there is one. One that is late is left behind.
    pub(crate) fn slow_until(&mut self, now: Instant) -> Option<Instant> {
        let mut until = None;
        for viewer in &mut self.list {
            match viewer.waited_for_until(now) {
                Some(late) if late <= now => viewer.leave_behind(),
                slow => until = until.max(slow),
            }
        }
        until
    }

    /// Shows output to all viewers. Returns the answers to its queries, if there is no terminal that gives them.
    pub(crate) fn show(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut replies = Vec::new();
        let is_answered = self.list.iter().any(Viewer::has_terminal);
        self.state.advance(bytes, (!is_answered).then_some(&mut replies));
        self.recent.extend(bytes);
        self.has_shown = true;
        if self.list.iter().any(Viewer::is_shown)
            && let Ok(frame) = encode_output(bytes)
        {
            for viewer in &mut self.list {
                viewer.send_output(&frame, bytes.len() as u64);
            }
        }
        replies
    }

    /// Sends a frame to all viewers.
    pub(crate) fn notify(&mut self, frame: &OwnerFrame) {
        for viewer in self.list.iter_mut().filter(|viewer| viewer.is_shown()) {
            viewer.send(frame);
        }
    }

    /// Sends the end to all viewers, and before it to those left behind how much they have missed.
    pub(crate) fn end(&mut self, end: TerminalEnd) {
        let last = self.recent.lines(self.size.rows);
        for viewer in self.list.iter_mut().filter(|viewer| viewer.is_shown()) {
            if let Some(missed) = viewer.take_missed() {
                viewer.send(&OwnerFrame::Missed(missed));
                viewer.send(&OwnerFrame::Output(last.clone()));
            }
            viewer.send(&OwnerFrame::End(end));
        }
    }

    /// Stops the job of the viewer that typed last. If that is gone, no other one is meant: its job might not stop, and
    /// resume the session.
    pub(crate) fn suspend(&mut self) {
        let meant = self.typed_last.or(self.active);
        if let Some(viewer) = self.list.iter_mut().find(|viewer| Some(viewer.number) == meant) {
            viewer.send(&OwnerFrame::Suspend);
        }
    }

    /// Sends what waits for a viewer.
    pub(crate) fn flush(&mut self, place: usize) {
        let Some(viewer) = self.list.get_mut(place) else { return };
        self.has_progress = true;
        viewer.flush();
        if let Some(missed) = viewer.catch_up() {
            viewer.send(&OwnerFrame::Missed(missed));
            self.draw(place);
        }
    }

    /// Receives from a viewer. Returns what the session has to know.
    pub(crate) fn receive(
        &mut self,
        place: usize,
        master: Option<BorrowedFd<'_>>,
        typing: &mut Typing,
    ) -> Vec<TerminalEvent> {
        let Some(viewer) = self.list.get_mut(place) else { return Vec::new() };
        self.has_progress = true;
        let is_connected = viewer.receive();
        let mut events = Vec::new();
        loop {
            let frame = match self.list.get_mut(place).map(Viewer::next) {
                Some(Ok(Some(frame))) => frame,
                Some(Ok(None)) | None => break,
                Some(Err(_)) => {
                    self.remove(place, master);
                    return events;
                }
            };
            self.handle(place, frame, master, typing, &mut events);
        }
        if !is_connected {
            self.remove(place, master);
        }
        events
    }

    fn handle(
        &mut self,
        place: usize,
        frame: ViewerFrame,
        master: Option<BorrowedFd<'_>>,
        typing: &mut Typing,
        events: &mut Vec<TerminalEvent>,
    ) {
        let Some(viewer) = self.list.get_mut(place) else { return };
        match frame {
            ViewerFrame::Hello(hello) => self.greet(place, hello, master),
            _ if !viewer.is_welcome() => {}
            ViewerFrame::Input(bytes) if viewer.may_type() => {
                self.type_input(place, &bytes, master, typing, events);
            }
            ViewerFrame::Input(_) => {}
            ViewerFrame::Resize(size) => {
                viewer.size = size;
                if self.active.is_none() || self.active == Some(viewer.number) {
                    self.resize(size, master);
                }
            }
            ViewerFrame::Take => {
                viewer.take_terminal();
                viewer.send(&OwnerFrame::Taken);
            }
            ViewerFrame::Release => viewer.release_terminal(),
            ViewerFrame::Signal(signal) => events.push(TerminalEvent::Signal(signal)),
            ViewerFrame::Resume => events.push(TerminalEvent::Resume),
            ViewerFrame::Farewell => viewer.farewell(),
            ViewerFrame::Type(text) => {
                let answer = if let Some(reason) = refusal_of(&text, master, typing) {
                    OwnerFrame::Refused(reason.to_owned())
                } else {
                    typing.push(&text);
                    signal_keys(&text, master, events);
                    OwnerFrame::Typed
                };
                viewer.send(&answer);
            }
        }
    }

    fn greet(&mut self, place: usize, hello: Hello, master: Option<BorrowedFd<'_>>) {
        let others = self.list.iter().enumerate().any(|(at, other)| at != place && other.has_terminal());
        let Some(viewer) = self.list.get_mut(place) else { return };
        if hello.version != VERSION {
            let binary =
                std::env::current_exe().map_or_else(|_| "?".to_owned(), |path| path.display().to_string());
            let reason = format!(
                "its owner speaks version {VERSION} of the protocol and this command version {}: use {binary}",
                hello.version
            );
            viewer.send(&OwnerFrame::Refused(reason));
            return;
        }
        if viewer.device() == Some(self.device) {
            viewer.send(&OwnerFrame::Refused("this terminal is the one of the session itself".to_owned()));
            return;
        }
        viewer.welcome(hello);
        viewer.send(&OwnerFrame::Welcome(Welcome { version: VERSION, session: self.session }));
        if !viewer.has_terminal() {
            if self.has_shown && viewer.is_shown() {
                self.draw(place);
            }
            return;
        }
        let (size, number) = (viewer.size, viewer.number);
        if !others && viewer.may_type() {
            self.active = Some(number);
            self.resize(size, master);
        }
        if self.has_shown {
            self.draw(place);
        }
        self.show_viewed();
    }

    /// Draws what a viewer should see: the modes, the last lines, and what the program draws by itself for a new size.
    fn draw(&mut self, place: usize) {
        let mut bytes = self.state.restore();
        if !self.state.is_alternate_screen() {
            bytes.extend(self.recent.lines(self.size.rows));
        }
        bytes.extend(self.recent.incomplete());
        if let (Some(viewer), Ok(frame)) = (self.list.get_mut(place), encode_output(&bytes)) {
            viewer.send_output(&frame, bytes.len() as u64);
        }
        // Set to a size of one row less by the next tick, and back after that.
        self.redraw_at.get_or_insert_with(Instant::now);
    }

    fn resize(&mut self, size: TerminalSize, master: Option<BorrowedFd<'_>>) {
        self.size = size;
        self.state.set_size(size);
        self.size_record.set_present(size, Instant::now());
        if let Some(master) = master {
            // Refused only by a terminal that is gone.
            let _ = set_size(master, size);
        }
    }

    fn type_input(
        &mut self,
        place: usize,
        bytes: &[u8],
        master: Option<BorrowedFd<'_>>,
        typing: &mut Typing,
        events: &mut Vec<TerminalEvent>,
    ) {
        // After the end of the program, nobody reads it.
        let Some(master) = master else { return };
        let alone = self.list.iter().filter(|viewer| viewer.has_terminal()).count() <= 1;
        let Some(viewer) = self.list.get_mut(place) else { return };
        let was_active = self.active == Some(viewer.number);
        if alone && was_active {
            typing.push(bytes);
            self.typed_last = self.active;
        } else {
            let split = viewer.replies.split(bytes);
            if viewer.replies.is_pending() {
                self.reply_at = Some(Instant::now() + REPLY_TIMEOUT);
            }
            if was_active {
                typing.push(&split.replies);
            }
            typing.push(&split.typed);
            if !split.typed.is_empty() {
                self.typed_last = Some(viewer.number);
            }
            if !split.typed.is_empty() && !was_active {
                self.active = Some(viewer.number);
                if viewer.has_terminal() {
                    let size = viewer.size;
                    self.resize(size, Some(master));
                }
            }
        }
        signal_keys(bytes, Some(master), events);
    }

    /// Returns the time of the next [`tick`](Self::tick).
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        [self.redraw_at, self.reply_at, self.size_record.due()].into_iter().flatten().min()
    }

    /// Returns the size of the terminal, if it is to be recorded by a time (`None`: by any).
    pub(crate) fn take_size(&mut self, now: Option<Instant>) -> Option<TerminalSize> {
        self.size_record.take(self.size, now)
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Instant, master: Option<BorrowedFd<'_>>, typing: &mut Typing) {
        if self.reply_at.is_some_and(|at| at <= now) {
            self.reply_at = None;
            for viewer in &mut self.list {
                typing.push(&viewer.replies.flush());
            }
        }
        let Some(master) = master else {
            self.redraw_at = None;
            return;
        };
        if self.redraw_at.is_some_and(|at| at <= now) {
            let less = TerminalSize { rows: self.size.rows.saturating_sub(1).max(1), ..self.size };
            if TerminalSize::of(master) == self.size && less != self.size {
                let _ = set_size(master, less);
                self.redraw_at = Some(now + REDRAW_DELAY);
            } else {
                let _ = set_size(master, self.size);
                self.redraw_at = None;
            }
        }
    }

    fn remove(&mut self, place: usize, master: Option<BorrowedFd<'_>>) {
        let viewer = self.list.swap_remove(place);
        viewer.restore_terminal(&self.state.reset(), self.session);
        if self.active == Some(viewer.number) {
            self.active = None;
            let next = self.list.iter().find(|viewer| viewer.has_terminal() && viewer.may_type());
            if let Some((number, size)) = next.map(|viewer| (viewer.number, viewer.size)) {
                self.active = Some(number);
                self.resize(size, master);
            }
        }
        if viewer.has_terminal() {
            self.show_viewed();
            if let Some(master) = master
                && !self.list.iter().any(Viewer::has_terminal)
            {
                start_output(master);
            }
        }
    }

    fn show_viewed(&self) {
        if let Some(socket) = &self.socket {
            socket.show_viewed(self.list.iter().any(Viewer::has_terminal));
        }
    }
}

/// Returns the reason why a text cannot be typed as a whole, if there is one.
fn refusal_of(text: &[u8], master: Option<BorrowedFd<'_>>, typing: &Typing) -> Option<&'static str> {
    let Some(master) = master else { return Some("the program has ended") };
    let lines = text.split(|byte| matches!(byte, b'\n' | b'\r'));
    if reads_lines(master) && lines.map(<[u8]>::len).max() > Some(LONGEST_LINE) {
        return Some("the program reads whole lines, of at most 4095 bytes each");
    }
    (!typing.has_room_for(text.len())).then_some("the program has not read what was typed before")
}

fn signal_keys(typed: &[u8], master: Option<BorrowedFd<'_>>, events: &mut Vec<TerminalEvent>) {
    // Most input has no control character, and needs no look at the modes.
    if typed.iter().any(u8::is_ascii_control)
        && let Some(master) = master
        && let Some(keys) = SignalKeys::of(master)
    {
        let key = |signal| TerminalEvent::Key { signal, group: foreground(master) };
        events.extend(keys.signals(typed).map(key));
    }
}
