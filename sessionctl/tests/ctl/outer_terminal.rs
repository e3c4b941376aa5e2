//! A pseudoterminal such as a person has: programs have it as their controlling terminal, and all that it shows is kept.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::support::{BINARY, Fixture, clean_command};
use crate::terminal::terminal;

/// Runs a command as the job of a shell, which then waits for a line.
pub(crate) const AS_JOB: [&str; 3] = ["sh", "-c", r#"set -m; "$0" "$@"; echo "code $?"; read line"#];

/// A terminal. Dropping it closes it.
pub(crate) struct OuterTerminal {
    master: Option<Arc<OwnedFd>>,
    slave: OwnedFd,
    /// The modes before a program was started.
    modes: String,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Dropped to end the reader.
    end: Option<UnixStream>,
    reader: Option<JoinHandle<()>>,
}

impl OuterTerminal {
    pub(crate) fn new() -> Self {
        let (master, slave) = terminal();
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).unwrap();
        let modes = format!("{:?}", tcgetattr(&slave).unwrap());
        let master = Arc::new(master);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (end, ended) = UnixStream::pair().unwrap();
        let (from, into) = (Arc::clone(&master), Arc::clone(&shown));
        let reader = Some(std::thread::spawn(move || read(&from, &ended, &into)));
        Self { master: Some(master), slave, modes, shown, end: Some(end), reader }
    }

    /// Starts `sessionctl`, or a command that starts it, as the leader of this terminal's session.
    pub(crate) fn start(&self, fixture: &Fixture, wrapper: &[&str], args: &[&str]) -> Child {
        let mut command: Command = clean_command("setsid");
        command.arg("-c").env("TERM", "xterm-256color").env_remove("CI");
        command.env("SESSIONCTL_STORE", fixture.url()).current_dir(fixture.dir.path());
        command.args(wrapper).arg(BINARY).args(args);
        let output = || Stdio::from(self.slave.try_clone().unwrap());
        command.stdin(output()).stdout(output()).stderr(output()).spawn().unwrap()
    }

    /// Types keys.
    pub(crate) fn type_keys(&self, keys: &[u8]) {
        if let Some(master) = &self.master {
            assert_eq!(rustix::io::write(&**master, keys), Ok(keys.len()));
        }
    }

    /// Returns all bytes that were shown so far.
    pub(crate) fn shown(&self) -> Vec<u8> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the modes before a program was started and those of now, if they differ. A closed terminal has none.
    pub(crate) fn changed_modes(&self) -> Option<[String; 2]> {
        let modes = format!("{:?}", tcgetattr(self.master.as_ref()?).ok()?);
        (modes != self.modes).then(|| [self.modes.clone(), modes])
    }

    pub(crate) const fn is_closed(&self) -> bool {
        self.master.is_none()
    }

    /// Closes it, like a person who closes the window.
    pub(crate) fn close(&mut self) {
        drop(self.end.take());
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.master = None;
    }
}

impl Drop for OuterTerminal {
    fn drop(&mut self) {
        self.close();
    }
}

/// Reads what is shown until the other end of `end` is dropped.
fn read(master: &OwnedFd, end: &UnixStream, shown: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let mut sources =
            [PollFd::from_borrowed_fd(master.as_fd(), PollFlags::IN), PollFd::new(end, PollFlags::IN)];
        let polled = poll(&mut sources, None);
        let [output, ended] = sources.map(|source| polled.is_ok() && !source.revents().is_empty());
        if output && let Ok(read) = rustix::io::read(master, &mut buffer) {
            shown.lock().unwrap_or_else(PoisonError::into_inner).extend(&buffer[..read]);
        }
        if ended {
            return;
        }
    }
}
