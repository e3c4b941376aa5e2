//! A program at a bare pseudoterminal and under `run -q`, compared: output, exit code, modes and files.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::pty_pair::{PtyPair, Results};
use crate::support::{BINARY, Fixture, clean_command};
use crate::{pty_replay, tmux};

/// A step at the terminal.
#[derive(Debug)]
enum Step {
    Wait(String),
    Look,
    Type(Vec<u8>),
    Resize(u16, u16),
    Signal(Signal),
    Create(&'static str),
    WaitForFile(&'static str),
}

/// A program with what happens at its terminal.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// A command line of a shell, with `RUN` before the program.
    program: String,
    needs: Vec<&'static str>,
    files: Vec<(&'static str, String)>,
    setup: &'static str,
    steps: Vec<Step>,
}

/// The observable results of one run.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) output: Vec<u8>,
    /// The lengths of the output at each look.
    looks: Vec<usize>,
    pub(crate) results: Results,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

/// Begins a comparison. In the command line, `RUN` stands before the program.
pub(crate) fn program(program: impl Into<String>) -> Comparison {
    Comparison { program: program.into(), ..Comparison::default() }
}

impl Comparison {
    /// Names a tool without which nothing is compared.
    pub(crate) fn needs(mut self, tool: &'static str) -> Self {
        self.needs.push(tool);
        self
    }

    /// Adds a file to the folder of the program.
    pub(crate) fn file(mut self, name: &'static str, content: impl Into<String>) -> Self {
        self.files.push((name, content.into()));
        self
    }

    /// Sets a script that prepares the folder.
    pub(crate) fn setup(mut self, script: &'static str) -> Self {
        self.setup = script;
        self
    }

    /// Waits until the output since the last match contains a text.
    pub(crate) fn wait(mut self, text: impl Into<String>) -> Self {
        self.steps.push(Step::Wait(text.into()));
        self
    }

    /// Compares the screens after the last match. Without effect where all bytes are compared.
    pub(crate) fn look(mut self) -> Self {
        self.steps.push(Step::Look);
        self
    }

    /// Types bytes.
    pub(crate) fn types(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.steps.push(Step::Type(bytes.into()));
        self
    }

    /// Changes the size of the terminal.
    pub(crate) fn resize(mut self, rows: u16, columns: u16) -> Self {
        self.steps.push(Step::Resize(rows, columns));
        self
    }

    /// Sends a signal to the job in the foreground.
    pub(crate) fn signal(mut self, signal: Signal) -> Self {
        self.steps.push(Step::Signal(signal));
        self
    }

    /// Creates an empty file, for which the program waits.
    pub(crate) fn create(mut self, name: &'static str) -> Self {
        self.steps.push(Step::Create(name));
        self
    }

    /// Waits until the program has created a file.
    pub(crate) fn wait_for_file(mut self, name: &'static str) -> Self {
        self.steps.push(Step::WaitForFile(name));
        self
    }

    /// Asserts that all bytes are the same.
    #[track_caller]
    pub(crate) fn exact(&self) {
        let Some([bare, run]) = self.both() else { return };
        run.has_same_results(&bare);
        run.has_same_output(&bare);
    }

    /// Asserts that the screens are the same, at each look and at the end.
    #[track_caller]
    pub(crate) fn screens(&self) {
        let Some([bare, run]) = self.both() else { return };
        run.has_same_results(&bare);
        let folder = tempfile::tempdir().unwrap();
        let places = |observed: &Observed| {
            let looks = observed.looks.iter().copied();
            looks.chain([observed.output.len()]).map(|to| observed.output[..to].to_vec()).collect::<Vec<_>>()
        };
        for (look, (bare, run)) in places(&bare).iter().zip(places(&run)).enumerate() {
            // Equal bytes draw equal screens.
            if *bare != run {
                let [bare, run] = [bare, &run].map(|bytes| pty_replay::screen(folder.path(), bytes));
                let shown = [&bare, &run].map(|screen| screen.as_deref().unwrap_or_default());
                assert!(bare == run, "look {look}\n--- bare:\n{}\n--- under run:\n{}", shown[0], shown[1]);
            }
        }
    }

    /// Asserts that the lines are the same, without escape sequences, in their last state, and as far as `keep` returns
    /// them.
    #[track_caller]
    pub(crate) fn lines(&self, keep: impl Fn(&str) -> Option<String>) {
        let Some([bare, run]) = self.both() else { return };
        run.has_same_results(&bare);
        let shown = || bare.output.escape_ascii().to_string();
        let lines = |observed: &Observed| {
            let text = plain(&String::from_utf8_lossy(&observed.output));
            let last = |line: &str| line.rsplit('\r').find(|state| !state.is_empty()).map(ToOwned::to_owned);
            text.split('\n').filter_map(last).filter_map(|line| keep(line.trim_end())).collect::<Vec<_>>()
        };
        let (expected, run) = (lines(&bare), lines(&run));
        assert!(!expected.is_empty(), "no line is compared: {}", shown());
        assert_eq!(run, expected, "the lines under `run`, and bare");
    }

    /// Runs the program twice. Returns `None` if a tool is missing.
    #[track_caller]
    pub(crate) fn both(&self) -> Option<[Observed; 2]> {
        // Without them, there is no shell at a terminal.
        if !tmux::has(&["bash", "setsid"]) || !tmux::has(&self.needs) {
            return None;
        }
        let fixture = Fixture::new();
        let _ended = EndSessions(&fixture);
        let bin = fixture.dir.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(BINARY, bin.join("sessionctl")).unwrap();
        Some([self.observe(&fixture, ""), self.observe(&fixture, "sessionctl run -q -- ")])
    }

    #[track_caller]
    fn observe(&self, fixture: &Fixture, prefix: &str) -> Observed {
        let folders = ["work", "home", "control"].map(|name| fixture.dir.path().join(name));
        for folder in &folders {
            // The same paths for both runs: programs print them.
            let _ = std::fs::remove_dir_all(folder);
            std::fs::create_dir(folder).unwrap();
        }
        let [work, home, control] = &folders;
        for (name, content) in &self.files {
            std::fs::write(work.join(name), content).unwrap();
        }
        let environment = |command: &mut Command| {
            command.args(["-i", "LC_ALL=C.UTF-8", "TERM=xterm-256color", "PS1=$ ", "SESSIONCTL_CONFIG="]);
            let programs = fixture.dir.path().join("bin").display().to_string();
            // The system's programs first: others may be scripts that look for the right version.
            let path = format!("{programs}:/usr/local/bin:/usr/bin:/bin:{}", std::env::var("PATH").unwrap());
            let rustup = std::env::var("RUSTUP_HOME")
                .unwrap_or_else(|_| format!("{}/.rustup", std::env::var("HOME").unwrap_or_default()));
            command.args([format!("PATH={path}"), format!("HOME={}", home.display())]);
            command.args([format!("SESSIONCTL_STORE={}", fixture.url()), format!("RUSTUP_HOME={rustup}")]);
            for who in ["AUTHOR", "COMMITTER"] {
                command.args([format!("GIT_{who}_NAME=n"), format!("GIT_{who}_EMAIL=n@example.org")]);
                command.arg(format!("GIT_{who}_DATE=2026-01-01T00:00:00Z"));
            }
            command.arg(format!("CONTROL={}", control.display())).current_dir(work);
        };
        if !self.setup.is_empty() {
            let mut setup = clean_command("env");
            environment(&mut setup);
            let done = setup.args(["bash", "-ec", self.setup]).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        }
        let mut shell = clean_command("env");
        environment(&mut shell);
        let mut line = self.program.replace("RUN ", prefix);
        if !line.contains("2>") {
            line.push_str(" 2>&3 3>&-");
        }
        let label = if prefix.is_empty() { "bare" } else { "under run" };
        let mut pty = PtyPair::start(&line, shell, control, format!("{label}: {line}"));
        let mut looks = Vec::new();
        for step in &self.steps {
            match step {
                Step::Wait(text) => pty.wait(text.as_bytes()),
                Step::Look => looks.push(pty.at),
                Step::Type(bytes) => pty.type_bytes(bytes),
                Step::Resize(rows, columns) => pty.resize(*rows, *columns),
                Step::Signal(signal) => pty.signal(*signal),
                Step::Create(name) => std::fs::write(work.join(name), "").unwrap(),
                Step::WaitForFile(name) => pty.wait_for_file(&work.join(name)),
            }
        }
        pty.end();
        let (results, output) = pty.finish();
        Observed { output, looks, results, files: files(work) }
    }
}

impl Observed {
    #[track_caller]
    pub(crate) fn has_same_results(&self, bare: &Self) {
        let shown = || self.output[self.output.len().saturating_sub(2000)..].escape_ascii().to_string();
        assert_eq!(self.results, bare.results, "the results under `run`, and bare; output: {}", shown());
        assert_eq!(self.results.after, self.results.before, "the modes of the terminal");
        let names = |observed: &Self| observed.files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(self), names(bare), "the files under `run`, and bare");
        for (name, content) in &self.files {
            is_same(&format!("the file {name}"), content, &bare.files[name]);
        }
    }

    #[track_caller]
    pub(crate) fn has_same_output(&self, bare: &Self) {
        is_same("the output", &self.output, &bare.output);
    }
}

/// Asserts that bytes are the same; otherwise shows where they begin to differ.
#[track_caller]
fn is_same(what: &str, run: &[u8], bare: &[u8]) {
    if run == bare {
        return;
    }
    let same = run.iter().zip(bare).take_while(|(run, bare)| run == bare).count();
    let part = |bytes: &[u8]| {
        bytes[same.saturating_sub(200)..bytes.len().min(same + 400)].escape_ascii().to_string()
    };
    panic!(
        "{what} differs after {same} bytes\n--- bare, {} bytes:\n{}\n--- under run, {} bytes:\n{}",
        bare.len(),
        part(bare),
        run.len(),
        part(run)
    );
}

/// Returns the regular files of a folder with their contents.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.is_file());
    files
        .map(|path| (path.file_name().unwrap().display().to_string(), std::fs::read(path).unwrap()))
        .collect()
}

/// Removes escape sequences.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            plain.push(c);
            continue;
        }
        match rest.next() {
            Some('[') => while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
            Some(']') => while rest.next().is_some_and(|c| c != '\u{7}' && c != '\\') {},
            Some('(' | ')') => drop(rest.next()),
            _ => {}
        }
    }
    plain
}

/// Ends the sessions that a failed test has left.
struct EndSessions<'a>(&'a Fixture);

impl Drop for EndSessions<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let list = self.0.command(["ls", "--json"]).output().unwrap().stdout;
            let list: serde_json::Value = serde_json::from_slice(&list).unwrap_or_default();
            for session in list.as_array().into_iter().flatten() {
                let _ = self.0.command(["cancel", "--force", session["id"].as_str().unwrap()]).output();
            }
        }
    }
}
