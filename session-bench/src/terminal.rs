//! Cost of a program's terminal: the same programs on a bare terminal and under `sessionctl run`.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::process::quiet;
use crate::report::{Bound, Section};
use crate::stats::{count, median, millis, quantile};

/// The output of one run, in millions of bytes.
const PRINTED_MB: usize = 200;
/// Keys whose echo is measured, over all rounds.
const KEYS: usize = 2000;
/// Time between two keys: the processes sleep, as they do while a person types.
const KEY_INTERVAL: Duration = Duration::from_millis(1);
/// Factor for the number of starts, because times of processes vary more than those of calls.
const STARTS_FACTOR: usize = 7;
/// Starts that warm up.
const WARM_UP: usize = 5;

/// A program on a new terminal, which it has as its controlling one.
struct OnTerminal {
    child: Child,
    master: File,
}

impl OnTerminal {
    fn start(mut command: Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let opened = || -> std::io::Result<(OwnedFd, OwnedFd)> {
            let master = openpt(flags)?;
            unlockpt(&master)?;
            let slave = ioctl_tiocgptpeer(&master, flags)?;
            tcsetwinsize(&master, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 })?;
            Ok((master, slave))
        };
        let (master, slave) = opened().expect("a terminal can be created");
        let output = || Stdio::from(slave.try_clone().expect("a descriptor can be copied"));
        command.stdin(output()).stdout(output()).stderr(output());
        let child = command.spawn().expect("setsid can be run");
        Self { child, master: File::from(master) }
    }

    /// Reads to the end. Returns the number of bytes, and the time until the last of them since `start`.
    fn read_all(&mut self, start: Instant) -> (usize, Duration) {
        let mut buffer = vec![0; 64 * 1024];
        let (mut total, mut last) = (0, Duration::ZERO);
        // Fails once no process has the terminal open.
        while let Ok(read @ 1..) = self.master.read(&mut buffer) {
            total += read;
            last = start.elapsed();
        }
        (total, last)
    }

    /// Reads until this byte comes.
    fn read_until(&mut self, end: u8) {
        let mut buffer = [0; 256];
        loop {
            let read = self.master.read(&mut buffer).expect("the program prints an answer");
            if buffer.get(..read).unwrap_or_default().contains(&end) {
                return;
            }
        }
    }

    /// Returns the time until the program has echoed a key.
    fn key(&mut self) -> Duration {
        let start = Instant::now();
        self.master.write_all(b"k").expect("a key can be typed");
        self.read_until(b'k');
        start.elapsed()
    }

    /// Closes the terminal, and waits for the end.
    fn close(self) {
        let Self { mut child, master } = self;
        drop(master);
        let _ = child.wait();
    }
}

/// The commands of one comparison: the program itself and through `sessionctl`.
struct Contenders<'a> {
    sessionctl: &'a Path,
    store: &'a Path,
}

impl Contenders<'_> {
    fn bare(&self, words: &[&str]) -> Command {
        let mut command = quiet("setsid");
        // A session in CI has no viewer that can leave it.
        command.args(["-c"]).args(words).env("TERM", "xterm-256color").env_remove("CI");
        command.env("SESSIONCTL_STORE", format!("file:{}", self.store.display()));
        command.env("XDG_RUNTIME_DIR", self.store);
        command
    }

    fn session(&self, options: &[&str], words: &[&str]) -> Command {
        let mut command = self.bare(&[]);
        command.arg(self.sessionctl).args(["run", "-q"]).args(options).arg("--").args(words);
        command
    }
}

/// Measures programs with a terminal of their own against the same on the caller's terminal.
pub(crate) fn costs(sessionctl: Option<&Path>, folder: &Path, rounds: usize) -> Vec<Section> {
    let Some(sessionctl) = sessionctl else {
        eprintln!("not run: cost of a terminal, because --sessionctl PATH is missing");
        return Vec::new();
    };
    let folder = tempfile::tempdir_in(folder).expect("a folder can be created");
    eprintln!("cost of a terminal …");
    let contenders = Contenders { sessionctl, store: folder.path() };
    vec![throughput(rounds, &contenders), latency(rounds, &contenders), starts(rounds, &contenders)]
}

fn throughput(rounds: usize, contenders: &Contenders<'_>) -> Section {
    let script = format!(
        "yes 'all work and no play makes a line of sixty four bytes, so to say' | head -c {PRINTED_MB}000000"
    );
    let words = ["sh", "-c", &script];
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (command, rates) in
            [contenders.bare(&words), contenders.session(&[], &words)].into_iter().zip(&mut rates)
        {
            let start = Instant::now();
            let mut running = OnTerminal::start(command);
            let (bytes, took) = running.read_all(start);
            assert!(bytes >= PRINTED_MB * 1_000_000, "only {bytes} bytes were shown");
            rates.push(count(bytes) / 1e6 / took.as_secs_f64());
            running.close();
        }
    }
    let mut section =
        Section::new(format!("{PRINTED_MB} MB of a program's output on a terminal"), &["MB/s", "best"]);
    let [bare, session] = &rates;
    for (name, rates) in [("terminal", bare), ("sessionctl run", session)] {
        section.row(name, &[median(rates), quantile(rates, 1.0)]);
    }
    section.target("sessionctl run / terminal", median(session) / median(bare), Bound::AtLeast(0.4));
    section
}

fn latency(rounds: usize, contenders: &Contenders<'_>) -> Section {
    // The end of the line comes once the viewer has the terminal.
    let words = ["sh", "-c", "stty raw -echo; echo .; exec cat"];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        let session = contenders.session(&["--on-hangup", "interrupt"], &words);
        let mut running = [contenders.bare(&words), session].map(OnTerminal::start);
        for program in &mut running {
            program.read_until(b'\n');
        }
        for _ in 0..KEYS.div_ceil(rounds) {
            for (program, times) in running.iter_mut().zip(&mut times) {
                std::thread::sleep(KEY_INTERVAL);
                times.push(millis(program.key()));
            }
        }
        for program in running {
            program.close();
        }
    }
    let [bare, session] = &times;
    let mut section =
        Section::new(format!("echo of a key by a program, {} keys", session.len()), &["p50 ms", "p99 ms"]);
    for (name, times) in [("terminal", bare), ("sessionctl run", session)] {
        section.row(name, &[median(times), quantile(times, 0.99)]);
    }
    for (name, share, most) in [("p50", 0.5, 2.0), ("p99", 0.99, 5.0)] {
        let more = quantile(session, share) - quantile(bare, share);
        section.target(format!("{name} of sessionctl run over terminal, ms"), more, Bound::AtMost(most));
    }
    section
}

fn starts(rounds: usize, contenders: &Contenders<'_>) -> Section {
    let options: [&[&str]; 2] = [&["--no-tty"], &[]];
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..rounds * STARTS_FACTOR + WARM_UP {
        for (options, times) in options.iter().zip(&mut times) {
            let start = Instant::now();
            let mut running = OnTerminal::start(contenders.session(options, &["true"]));
            let status = running.child.wait().expect("a child can be waited for");
            let took = start.elapsed();
            assert!(status.success(), "{status}");
            running.close();
            if round >= WARM_UP {
                times.push(millis(took));
            }
        }
    }
    let [without, with] = &times;
    let mut section =
        Section::new("wall time of run -- true on a terminal", &["p50 ms", "p90 ms", "best ms"]);
    for (name, times) in [("run --no-tty -- true", without), ("run -- true", with)] {
        section.row(name, &[median(times), quantile(times, 0.9), quantile(times, 0.0)]);
    }
    let more = median(with) - median(without);
    section.target("run over run --no-tty, ms", more, Bound::AtMost(5.0));
    section
}
