//! The program that a session runs: the part that the log records, and the settings of one run.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FileType;
use session_core::text::escape_bytes;
use session_core::{Hook, Input, Origin, Terminal};

use crate::output::OutputLimits;
use crate::terminal::pty::TerminalModes;

/// Time that a program has to end by itself after it was asked to.
const GRACE: Duration = Duration::from_secs(5);
/// Silence after which the background processes of a program that has ended are ended.
const LINGER: Duration = Duration::from_secs(10);
/// Bytes of a command line that are displayed.
const SHOWN_BYTES: usize = 4096;

/// The source of a program's standard input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stdin {
    /// `/dev/null`.
    #[default]
    Null,
    /// The standard input of this process.
    Inherit,
    /// A file, read from its start.
    File(PathBuf),
}

impl Stdin {
    /// Returns the part that a later run needs to find the same input again.
    fn input(&self) -> Option<Input> {
        match self {
            Self::Null => None,
            Self::File(path) => Some(Input::File(path.clone())),
            Self::Inherit => {
                let stdin = std::io::stdin();
                let kind = FileType::from_raw_mode(rustix::fs::fstat(&stdin).ok()?.st_mode);
                let file = (kind == FileType::RegularFile)
                    .then(|| std::fs::read_link("/proc/self/fd/0").ok().map(Input::File));
                let pipe = matches!(kind, FileType::Fifo | FileType::Socket).then_some(Input::Pipe);
                file.flatten().or(pipe)
            }
        }
    }
}

/// The destination of a program's output besides the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Forwarding {
    /// None.
    #[default]
    Nothing,
    /// The standard output and error of this process, unchanged.
    Inherit,
}

/// A program to run as a session.
///
/// Program, arguments and values of variables may be any bytes; the log records them exactly.
///
/// ```
/// use session_runner::Command;
/// let command = Command::new("make").arg("-j8").env("CC", "clang").cwd("/src/project");
/// assert_eq!(command.to_string(), "make -j8");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent options of a program")]
pub struct Command {
    pub(crate) argv: Vec<OsString>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) env: BTreeMap<String, OsString>,
    pub(crate) stdin: Stdin,
    pub(crate) pass_on: Forwarding,
    pub(crate) own_session: bool,
    pub(crate) grace: Duration,
    pub(crate) linger: Option<Duration>,
    pub(crate) keep_background: bool,
    pub(crate) keep_running: bool,
    pub(crate) complete_on_term: bool,
    pub(crate) merge: bool,
    pub(crate) keep_bytes: Option<u64>,
    pub(crate) terminal: Option<Terminal>,
    pub(crate) terminal_modes: Option<TerminalModes>,
    pub(crate) umask: Option<u32>,
    pub(crate) on_ask: Option<String>,
}

impl Command {
    /// Creates a command for a program, given by its path or by its name in `PATH`. It reads from `/dev/null`, and its
    /// output is only stored.
    #[must_use]
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            argv: vec![program.into()],
            cwd: None,
            env: BTreeMap::new(),
            stdin: Stdin::default(),
            pass_on: Forwarding::default(),
            own_session: false,
            grace: GRACE,
            linger: None,
            keep_background: false,
            keep_running: false,
            complete_on_term: false,
            merge: false,
            keep_bytes: None,
            terminal: None,
            terminal_modes: None,
            umask: None,
            on_ask: None,
        }
    }

    /// Creates the command of a recorded session again: with the same arguments, working directory, variables, and
    /// treatment of its output and background processes. A file that was its input is read again from its start; a pipe
    /// is gone. All other variables are inherited from this process.
    ///
    /// `None` if the origin has no program.
    #[must_use]
    pub fn from_origin(origin: &Origin) -> Option<Self> {
        let (program, arguments) = origin.argv.split_first()?;
        let command = Self::new(program).args(arguments).cwd(&origin.cwd);
        Some(Self {
            env: origin.env.clone(),
            linger: origin.linger_ms.map(Duration::from_millis),
            keep_background: origin.keep_background,
            keep_running: origin.keep_running,
            complete_on_term: origin.complete_on_term,
            merge: origin.merge,
            keep_bytes: origin.keep_bytes,
            terminal: origin.terminal.as_deref().cloned(),
            on_ask: origin.on_ask.as_ref().map(|hook| hook.command.clone()),
            stdin: match &origin.input {
                Some(Input::File(path)) => Stdin::File(path.clone()),
                _ => Stdin::Null,
            },
            ..command
        })
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.argv.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.argv.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable. The log records its value; of inherited variables it records only the names.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Sets the working directory; by default that of this process.
    #[must_use]
    pub fn cwd(mut self, directory: impl AsRef<Path>) -> Self {
        self.cwd = Some(directory.as_ref().to_owned());
        self
    }

    /// Sets the source of standard input; by default `/dev/null`.
    #[must_use]
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// Sets the destination of the output besides the store; by default none.
    #[must_use]
    pub fn pass_on(mut self, pass_on: Forwarding) -> Self {
        self.pass_on = pass_on;
        self
    }

    /// Starts it in a session of its own, without a controlling terminal: it outlives the terminal and cannot read from
    /// it.
    #[must_use]
    pub fn own_session(mut self) -> Self {
        self.own_session = true;
        self
    }

    /// Sets the time that it has to end by itself after it was asked to; by default 5 s.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets the silence after which the background processes of the ended program are ended; by default 10 s. They are
    /// waited for as long as they print, at most 10 minutes in all.
    ///
    /// Processes in a session of their own (`setsid`) are waited for only while they print, for at most 1 s of silence,
    /// and then left running. So are, after this time, those that ignore HUP (`nohup`).
    #[must_use]
    pub fn linger(mut self, silence: Duration) -> Self {
        self.linger = Some(silence);
        self
    }

    /// Leaves all background processes running when the program has ended. A cancel and a deadline leave those running
    /// that have a session of their own or ignore HUP.
    #[must_use]
    pub fn keep_background(mut self) -> Self {
        self.keep_background = true;
        self
    }

    /// Lets the program run on when the reader of the output that is forwarded is gone. By default its pipe is closed,
    /// so that it is ended by PIPE as in a shell.
    #[must_use]
    pub fn keep_running(mut self) -> Self {
        self.keep_running = true;
        self
    }

    /// Takes exit code 0 after TERM or HUP for success: the session is completed. By default it is interrupted, because
    /// many programs exit with 0 when they shut down before their work is done.
    #[must_use]
    pub fn complete_on_term(mut self) -> Self {
        self.complete_on_term = true;
        self
    }

    /// Gives the program one pipe for both outputs, so that their order is exact; all of it is standard output then. By
    /// default each has a pipe of its own, and the order between them is approximate.
    #[must_use]
    pub fn merge(mut self) -> Self {
        self.merge = true;
        self
    }

    /// Sets how many bytes of the end of its standard output are kept, at least 64 KiB; by default 64 MiB. See
    /// [`OutputLimits`].
    #[must_use]
    pub fn keep_bytes(mut self, bytes: u64) -> Self {
        self.keep_bytes = Some(bytes);
        self
    }

    /// Gives the program a terminal of its own in place of some of its standard streams, or none. What it prints there is
    /// one stream, [`OutputStream::Terminal`](crate::OutputStream::Terminal), which is shown to viewers and never passed
    /// on. By default it has none.
    #[must_use]
    pub fn terminal(mut self, terminal: Option<Terminal>) -> Self {
        self.terminal = terminal;
        self
    }

    /// Gives its terminal the modes that the terminal behind a descriptor has now, instead of those of a new one. The log
    /// does not record them.
    #[must_use]
    pub fn terminal_modes_of(mut self, terminal: impl AsFd) -> Self {
        self.terminal_modes = TerminalModes::of(terminal);
        self
    }

    /// Gives its terminal the keys that the terminal behind a descriptor has for signals, line ends and editing, and otherwise
    /// the modes of a new one: for a command in the background of a terminal, whose modes are those of another program. The
    /// log does not record them.
    #[must_use]
    pub fn terminal_keys_of(mut self, terminal: impl AsFd) -> Self {
        self.terminal_modes = TerminalModes::keys_of(terminal);
        self
    }

    /// Sets the program's umask; by default that of this process. The log does not record it.
    #[must_use]
    pub fn umask(mut self, umask: u32) -> Self {
        self.umask = Some(umask);
        self
    }

    /// Runs a command (`sh -c`) for each question that the program asks, so that it can notify a person. It gets the question
    /// as JSON on its standard input, as `docs/guide.md` describes; has at most 30 s; and neither its output nor its end
    /// changes the session.
    #[must_use]
    pub fn on_ask(mut self, command: impl Into<String>) -> Self {
        self.on_ask = Some(command.into());
        self
    }

    /// Returns the program, as it was given.
    #[must_use]
    pub fn program(&self) -> &OsStr {
        self.argv.first().map_or(OsStr::new(""), OsString::as_os_str)
    }

    /// Returns the program for messages, with bytes that are not UTF-8 escaped.
    pub(crate) fn shown_program(&self) -> String {
        escape_bytes(self.program()).into_owned()
    }

    /// Returns the part that the log records.
    pub(crate) fn origin(&self) -> std::io::Result<Origin> {
        let mut inherited: Vec<String> =
            std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
        inherited.retain(|name| !self.env.contains_key(name));
        inherited.sort();
        let mut origin =
            Origin::new(self.argv.clone(), self.directory()?).env(self.env.clone()).inherited(inherited);
        origin.linger_ms = self.linger.map(|linger| u64::try_from(linger.as_millis()).unwrap_or(u64::MAX));
        origin.keep_background = self.keep_background;
        origin.keep_running = self.keep_running;
        origin.complete_on_term = self.complete_on_term;
        origin.merge = self.merge;
        origin.keep_bytes = self.keep_bytes;
        origin.terminal = self.terminal.clone().map(Box::new);
        origin.input = self.stdin.input();
        origin.on_ask = self.on_ask.clone().map(|command| Box::new(Hook { command }));
        Ok(origin)
    }

    /// Returns the silence after which background processes are ended.
    pub(crate) fn silence(&self) -> Duration {
        self.linger.unwrap_or(LINGER)
    }

    /// Returns the limits of what is kept of its output.
    pub(crate) fn output_limits(&self) -> OutputLimits {
        let limits = OutputLimits::default();
        self.keep_bytes.map_or(limits, |bytes| limits.with_last(bytes))
    }

    pub(crate) fn directory(&self) -> std::io::Result<PathBuf> {
        match &self.cwd {
            Some(directory) => std::path::absolute(directory),
            None => std::env::current_dir(),
        }
    }

    pub(crate) fn variables(&self) -> Vec<(OsString, Option<OsString>)> {
        let term = self.terminal.iter().map(|terminal| ("TERM".into(), Some(terminal.term.clone().into())));
        term.chain(self.env.iter().map(|(name, value)| (name.into(), Some(value.into())))).collect()
    }
}

impl std::fmt::Display for Command {
    /// Formats the command as a person would type it, cut after 4 KiB.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        for argument in &self.argv {
            if !text.is_empty() {
                text.push(' ');
            }
            quote(argument, &mut text);
            if text.len() > SHOWN_BYTES {
                let end = (0..=SHOWN_BYTES).rev().find(|at| text.is_char_boundary(*at));
                text.truncate(end.unwrap_or(0));
                text.push('…');
                break;
            }
        }
        f.write_str(&text)
    }
}

/// Quotes an argument so that a shell reads it back unchanged: bash and its relatives, where it is not UTF-8.
fn quote(argument: &OsStr, text: &mut String) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    match argument.to_str() {
        Some(argument) if !argument.is_empty() && argument.chars().all(plain) => text.push_str(argument),
        Some(argument) => {
            text.push('\'');
            text.push_str(&argument.replace('\'', r"'\''"));
            text.push('\'');
        }
        None => {
            text.push_str("$'");
            for chunk in argument.as_encoded_bytes().utf8_chunks() {
                text.push_str(&chunk.valid().replace('\\', r"\\").replace('\'', r"\'"));
                for byte in chunk.invalid() {
                    let _ = write!(text, "\\x{byte:02x}");
                }
            }
            text.push('\'');
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn a_displayed_command_can_be_pasted_into_a_shell() {
        let command = Command::new("sh").args(["-c", "echo 'it is' $HOME", "", "a b", "x=1"]);
        assert_eq!(command.to_string(), r"sh -c 'echo '\''it is'\'' $HOME' '' 'a b' x=1");
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("printf '[%s]' {command}")])
            .output()
            .expect("sh runs");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "[sh][-c][echo 'it is' $HOME][][a b][x=1]");
        let odd = Command::new("printf").arg("[%s]").arg(OsString::from_vec(b"it's\\ \xff".to_vec()));
        assert_eq!(odd.to_string(), r"printf '[%s]' $'it\'s\\ \xff'");
        let long = Command::new("echo").arg("ä".repeat(10_000)).to_string();
        assert!(long.len() <= SHOWN_BYTES + 4 && long.ends_with('…'));
    }

    #[test]
    fn values_of_inherited_variables_are_not_recorded() {
        let origin = Command::new("true").env("PATH", "/bin").env("MODE", "fast").origin().unwrap();
        assert_eq!(origin.env.keys().collect::<Vec<_>>(), ["MODE", "PATH"]);
        assert!(!origin.inherited.contains(&"PATH".to_owned()));
        assert!(origin.inherited.iter().all(|name| !name.contains('=')));
        let again = Command::from_origin(&origin).unwrap();
        assert_eq!(again.env, origin.env);
        assert_eq!(again.cwd.as_ref(), Some(&origin.cwd));
        assert_eq!(again.to_string(), "true");
    }

    #[test]
    fn a_recorded_command_treats_output_and_processes_alike() {
        let plain = Command::new("true").cwd("/");
        let terminal = Terminal { stdin: false, ..Terminal::new("vt100", 24, 80) };
        let command = plain.clone().linger(Duration::from_millis(1500)).keep_background().keep_running();
        let command = command.merge().keep_bytes(1 << 20).on_ask("notify").terminal(Some(terminal));
        for command in [plain, command] {
            assert_eq!(Command::from_origin(&command.origin().unwrap()).unwrap(), command);
        }
    }
}
