//! An interactive terminal for tests: a shell in a private tmux server, with keys sent to it and its screen captured.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sessionkit::SessionId;

use crate::support::{self, BINARY, Fixture};

const COLUMNS: u16 = 110;
const ROWS: u16 = 30;
/// The prompt as captured, without its trailing blank.
const PROMPT: &str = "$";

/// A terminal. Dropping it ends the tmux server and all that runs in it.
pub(crate) struct Screen<'a> {
    fixture: &'a Fixture,
    socket: String,
}

/// Returns `true` if these tools are installed, and otherwise prints that the test was not run.
pub(crate) fn has(tools: &[&str]) -> bool {
    for tool in tools {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
        if !found.status.success() {
            eprintln!("not run: no {tool}");
            return false;
        }
    }
    true
}

impl<'a> Screen<'a> {
    /// Starts an interactive shell; `None` without tmux.
    pub(crate) fn shell(fixture: &'a Fixture) -> Option<Self> {
        let screen = Self::of(fixture, "exec bash --norc --noprofile -i")?;
        screen.until_prompt();
        Some(screen)
    }

    /// Starts a terminal in which only this script runs; `None` without tmux.
    pub(crate) fn of(fixture: &'a Fixture, script: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !has(&["tmux", "bash", "env"]) {
            return None;
        }
        let folder = fixture.dir.path();
        let programs = folder.join("bin");
        if !programs.exists() {
            std::fs::create_dir(&programs).unwrap();
            std::os::unix::fs::symlink(BINARY, programs.join("sessionctl")).unwrap();
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let screen = Self { fixture, socket: format!("sessionctl-{}-{number}", std::process::id()) };
        let environment = [
            format!("HOME={}", folder.display()),
            format!("PATH={}:{}", programs.display(), std::env::var("PATH").unwrap()),
            "TERM=screen".to_owned(),
            "LC_ALL=C".to_owned(),
            "PS1=$ ".to_owned(),
            format!("SESSIONCTL_STORE={}", fixture.url()),
        ];
        let inside = ["env", "-i"].into_iter().chain(environment.iter().map(String::as_str));
        let (columns, rows) = (COLUMNS.to_string(), ROWS.to_string());
        let new = ["new-session", "-d", "-x", &columns, "-y", &rows, "-c", folder.to_str().unwrap(), "--"];
        let created = screen.tmux(new.into_iter().chain(inside).chain(["sh", "-c", script]));
        assert!(created.status.success(), "{created:?}");
        Some(screen)
    }

    fn tmux<'b>(&self, words: impl IntoIterator<Item = &'b str>) -> Output {
        let mut command = Command::new("tmux");
        // The sockets are removed with the test's directory.
        command.env("TMUX_TMPDIR", self.fixture.dir.path()).env_remove("TMUX").stdin(Stdio::null());
        command.args(["-L", &self.socket, "-f", "/dev/null"]).args(words).output().unwrap()
    }

    /// Types a line.
    pub(crate) fn line(&self, line: &str) {
        self.tmux(["send-keys", "-l", line]);
        self.key("Enter");
    }

    /// Presses a key, as tmux names it.
    pub(crate) fn key(&self, key: &str) {
        self.tmux(["send-keys", key]);
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        self.tmux(["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// Returns the modes of the terminal, as `stty -a` prints them.
    pub(crate) fn modes(&self) -> String {
        let terminal = String::from_utf8(self.tmux(["display-message", "-p", "#{pane_tty}"]).stdout).unwrap();
        let modes = Command::new("stty").args(["-a", "-F", terminal.trim()]).output().unwrap();
        String::from_utf8(modes.stdout).unwrap()
    }

    /// Returns the screen without trailing blanks.
    pub(crate) fn shown(&self) -> String {
        let output = self.tmux(["capture-pane", "-p"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
        lines.join("\n")
    }

    /// Waits until the screen meets a condition.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + support::TIMEOUT;
        loop {
            let shown = self.shown();
            if condition(&shown) {
                return;
            }
            assert!(Instant::now() < deadline, "timed out waiting for {what}\n{shown}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for a line.
    #[track_caller]
    pub(crate) fn until_line(&self, line: &str) {
        self.until(line, |shown| shown.lines().any(|shown| shown.trim_start() == line));
    }

    /// Waits for a line with this beginning.
    #[track_caller]
    pub(crate) fn until_begun(&self, begin: &str) {
        self.until(begin, |shown| shown.lines().any(|shown| shown.starts_with(begin)));
    }

    /// Waits for the prompt of the shell.
    #[track_caller]
    pub(crate) fn until_prompt(&self) {
        self.until("the prompt", is_prompt);
    }

    /// Types a line and waits for the next prompt.
    #[track_caller]
    pub(crate) fn do_line(&self, line: &str) {
        let prompts = |shown: &str| shown.lines().filter(|line| line.starts_with(PROMPT)).count();
        let before = prompts(&self.shown());
        self.line(line);
        self.until(line, |shown| is_prompt(shown) && prompts(shown) > before);
    }

    /// Clears the screen.
    #[track_caller]
    pub(crate) fn clear(&self) {
        self.line("clear");
        self.until("an empty screen", |shown| shown == PROMPT);
    }

    /// Closes the terminal, like a user who closes its window.
    pub(crate) fn close(self) {
        drop(self);
    }

    /// Asserts that the screen equals the reviewed one in `screens/`. With `BLESS_SCREENS` set, writes that file first.
    #[track_caller]
    pub(crate) fn looks_like(&self, name: &str) {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ctl/screens").join(format!("{name}.txt"));
        let shown = settled(&self.shown());
        if std::env::var_os("BLESS_SCREENS").is_some() {
            std::fs::write(&path, &shown).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(shown, expected, "{name}\n--- shown:\n{shown}--- expected:\n{expected}");
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        self.tmux(["kill-server"]);
    }
}

/// Returns `true` if the last line is the prompt, possibly after the echo of Ctrl-C.
fn is_prompt(shown: &str) -> bool {
    shown.lines().next_back().is_some_and(|last| last == PROMPT || last == "^C$")
}

/// Replaces the parts that change from run to run: ids, ages, and the process id of a background job.
fn settled(shown: &str) -> String {
    let word = |word: &str| {
        let unit = word.trim_start_matches(|c: char| c.is_ascii_digit());
        if word.parse::<SessionId>().is_ok() {
            "ID".to_owned()
        } else if word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            "ID______".to_owned()
        } else if unit != word && ["s", "ms", "m"].contains(&unit) {
            "AGE".to_owned()
        } else {
            word.to_owned()
        }
    };
    let mut text = String::new();
    for line in shown.lines() {
        let line = line.split(' ').map(word).collect::<Vec<_>>().join(" ");
        // A column is as wide as the longest age.
        let line = match line.split_once("AGE ") {
            Some((before, after)) => format!("{before}AGE {}", after.trim_start()),
            None => line,
        };
        text += match line.split_once("] ") {
            Some(("[1", pid)) if pid.bytes().all(|byte| byte.is_ascii_digit()) => "[1] PID",
            _ => &line,
        };
        text.push('\n');
    }
    text
}
