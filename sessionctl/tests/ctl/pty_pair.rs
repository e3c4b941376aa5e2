//! A shell at a pseudoterminal that runs one program in its foreground, as a person's shell does.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::termios::{Winsize, tcgetpgrp, tcsetwinsize};

use crate::support;
use crate::terminal::terminal;

/// Rows and columns of the terminal.
pub(crate) const SIZE: (u16, u16) = (24, 80);
/// The last bytes of the shell. Output of processes that the program has left may follow.
const ENDED: &str = "<<ended>>";
/// Runs the program as a job of its own and notes the results. Its own messages about jobs, which name the job's command
/// and process, are not shown.
const SHELL: &str = r#"
exec 3>&2 2>/dev/null
trap : INT QUIT TERM
stty -g <&3 >"$CONTROL/before"
PROGRAM
echo $? >"$CONTROL/code"
stty -g <&3 >"$CONTROL/after"
printf '<<ended>>' >&3
read -r line <"$CONTROL/release"
"#;

/// A pseudoterminal with its shell. Dropping it hangs up.
pub(crate) struct PtyPair {
    master: OwnedFd,
    shell: Child,
    control: PathBuf,
    /// All bytes read.
    pub(crate) got: Vec<u8>,
    /// The place after the last match.
    pub(crate) at: usize,
    /// The run in messages of failures.
    label: String,
    /// The place of the end mark, and the place up to which it was looked for.
    end: Option<usize>,
    searched: usize,
}

/// The results of a program besides its output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Results {
    pub(crate) code: String,
    /// The modes of the terminal before and after, as `stty -g` prints them.
    pub(crate) before: String,
    pub(crate) after: String,
}

impl PtyPair {
    /// Starts the program. `control` is an empty folder for the results.
    pub(crate) fn start(program: &str, mut shell: Command, control: &Path, label: String) -> Self {
        let (master, slave) = terminal();
        set_size(&master, SIZE);
        rustix::fs::fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, control.join("release"), Mode::RUSR | Mode::WUSR).unwrap();
        let script = control.join("shell");
        std::fs::write(&script, SHELL.replace("PROGRAM", program)).unwrap();
        shell.args(["setsid", "--ctty", "bash", "--norc", "--noprofile", "-m"]).arg(script);
        shell.env("CONTROL", control);
        shell.stdin(Stdio::from(slave.try_clone().unwrap()));
        shell.stdout(Stdio::from(slave.try_clone().unwrap())).stderr(Stdio::from(slave));
        let child = shell.spawn().unwrap();
        // Closes our copies of the program's side.
        drop(shell);
        Self {
            master,
            shell: child,
            control: control.to_owned(),
            got: Vec::new(),
            at: 0,
            label,
            end: None,
            searched: 0,
        }
    }

    /// Waits until the output since the last match contains the bytes.
    #[track_caller]
    pub(crate) fn wait(&mut self, bytes: &[u8]) {
        let deadline = Instant::now() + support::TIMEOUT;
        let mut searched = self.at;
        loop {
            if let Some(found) = find(&self.got[searched..], bytes) {
                self.at = searched + found + bytes.len();
                return;
            }
            searched = searched.max((self.got.len() + 1).saturating_sub(bytes.len()));
            self.check(deadline, &format!("the output {:?}", bytes.escape_ascii().to_string()));
            self.progress(&mut &[][..]);
        }
    }

    /// Waits until a file exists, which the program writes.
    #[track_caller]
    pub(crate) fn wait_for_file(&mut self, path: &Path) {
        let deadline = Instant::now() + support::TIMEOUT;
        while !path.exists() {
            self.check(deadline, &format!("the file {}", path.display()));
            self.progress(&mut &[][..]);
        }
    }

    /// Types all bytes, and reads concurrently.
    #[track_caller]
    pub(crate) fn type_bytes(&mut self, mut bytes: &[u8]) {
        let deadline = Instant::now() + support::TIMEOUT;
        while !bytes.is_empty() {
            self.check(deadline, "the terminal to take input");
            self.progress(&mut bytes);
        }
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        set_size(&self.master, (rows, columns));
    }

    /// Sends a signal to the process group in the foreground.
    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process_group(tcgetpgrp(&self.master).unwrap(), signal).unwrap();
    }

    /// Waits until the program has ended. Removes the shell's own bytes from the output.
    #[track_caller]
    pub(crate) fn end(&mut self) {
        let deadline = Instant::now() + support::TIMEOUT;
        loop {
            if let Some(end) = self.end.take() {
                self.got.drain(end..end + ENDED.len());
                return;
            }
            self.check(deadline, "the end of the program");
            self.progress(&mut &[][..]);
        }
    }

    /// Ends the shell. Returns the results and the output.
    pub(crate) fn finish(mut self) -> (Results, Vec<u8>) {
        // Opened for both, so that no reader is waited for.
        let release =
            std::fs::OpenOptions::new().read(true).write(true).open(self.control.join("release")).unwrap();
        std::io::Write::write_all(&mut &release, b"\n").unwrap();
        self.shell.wait().unwrap();
        while self.read() {}
        let read = |name: &str| std::fs::read_to_string(self.control.join(name)).unwrap().trim().to_owned();
        let results = Results { code: read("code"), before: read("before"), after: read("after") };
        (results, std::mem::take(&mut self.got))
    }

    #[track_caller]
    fn check(&self, deadline: Instant, awaited: &str) {
        // What the program has left at its end needs no time of its own.
        let rest = if self.end.is_some() { support::TIMEOUT * 9 / 10 } else { Duration::ZERO };
        if Instant::now() + rest >= deadline {
            let tail = self.got.len().saturating_sub(3000);
            let tail = self.got[tail..].escape_ascii();
            panic!("{}: timed out waiting for {awaited}; the last bytes are:\n{tail}", self.label);
        }
    }

    /// Reads and types what is possible; waits for a moment if nothing is.
    fn progress(&mut self, input: &mut &[u8]) {
        let mut events = PollFlags::IN;
        events.set(PollFlags::OUT, !input.is_empty());
        let moment = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let _ = poll(&mut [PollFd::new(&self.master, events)], Some(&moment));
        let has_ended = !self.read() && self.shell.try_wait().unwrap().is_some();
        assert!(!has_ended, "{}: the shell ended early: {}", self.label, self.got.escape_ascii());
        if !input.is_empty() {
            match rustix::io::write(&self.master, input) {
                Ok(written) => *input = &input[written..],
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => panic!("{}: cannot type: {error}", self.label),
            }
        }
    }

    /// Reads what there is. Returns `false` if there is nothing.
    fn read(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(read @ 1..) => {
                self.got.extend(&buffer[..read]);
                if self.end.is_none() {
                    let found = find(&self.got[self.searched..], ENDED.as_bytes());
                    self.end = found.map(|found| self.searched + found);
                    self.searched = self.got.len().saturating_sub(ENDED.len() - 1);
                }
                true
            }
            // EIO: no process has the terminal open.
            Ok(0) | Err(_) => false,
        }
    }
}

impl Drop for PtyPair {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn set_size(master: &OwnedFd, (rows, columns): (u16, u16)) {
    tcsetwinsize(master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

pub(crate) fn find(text: &[u8], bytes: &[u8]) -> Option<usize> {
    // By the first byte first: the text may have megabytes.
    let (first, _) = bytes.split_first()?;
    let mut from = 0;
    while let Some(next) = text[from..].iter().position(|byte| byte == first) {
        if text[from + next..].starts_with(bytes) {
            return Some(from + next);
        }
        from += next + 1;
    }
    None
}
