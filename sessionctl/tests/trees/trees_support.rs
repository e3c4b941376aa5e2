//! A store with private directories for all files of the command, and checks that nothing is left in them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions};
use serde_json::Value;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_sessionctl");
const TIMEOUT: Duration = Duration::from_secs(60);

/// Descriptors and orphans belong to the process, so tests run one at a time.
static EXCLUSIVE: Mutex<()> = Mutex::new(());

pub(crate) struct TreesFixture {
    dir: tempfile::TempDir,
    descriptors: usize,
    _exclusive: MutexGuard<'static, ()>,
}

impl TreesFixture {
    pub(crate) fn new() -> Self {
        let exclusive = EXCLUSIVE.lock().unwrap_or_else(PoisonError::into_inner);
        // Orphans become children of this process, so that none goes unnoticed.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let dir = tempfile::tempdir().unwrap();
        for folder in ["runtime", "tmp"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        Self { dir, descriptors: descriptors(), _exclusive: exclusive }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SESSIONCTL_") {
                command.env_remove(name);
            }
        }
        command.args(args).env("SESSIONCTL_STORE", format!("file:{}", self.store().display()));
        command.env("SESSIONCTL_CONFIG", "");
        command.env("XDG_RUNTIME_DIR", self.file("runtime")).env("TMPDIR", self.file("tmp"));
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn ctl(&self, args: &[&str]) -> Ran {
        Ran::from(self.command(args).output().unwrap())
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> RunningCommand {
        RunningCommand(self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let ran = self.ctl(&[args, &["--json"]].concat());
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    pub(crate) fn list(&self) -> Value {
        self.json(&["ls", "--all"])
    }

    pub(crate) fn show(&self, id: &str) -> Value {
        self.json(&["show", id])
    }

    /// Starts a process whose environment refers to a session and that is not part of its tree.
    pub(crate) fn unrelated_process(env: &[(&str, &str)]) -> UnrelatedProcess {
        let mut command = Command::new("sleep");
        command.arg("86399").env_remove("SESSIONCTL_SOCKET").envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        UnrelatedProcess(command.spawn().unwrap())
    }

    /// Returns the path of a socket as if this process were the owner.
    pub(crate) fn own_socket(&self) -> String {
        let line = std::fs::read_to_string("/proc/self/stat").unwrap();
        let start = line.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap();
        self.file("runtime")
            .join(format!("sessionctl/{}-{start}-00000000.sock", std::process::id()))
            .display()
            .to_string()
    }

    /// Asserts that the orphans of killed owners are supervisors, and waits for their end. If a supervisor ended before
    /// its tree, the rest of the tree would be among the orphans.
    pub(crate) fn assert_only_supervisors_orphaned(case: &str) {
        for (pid, name, state) in children() {
            // A supervisor is started as `/proc/self/exe` and has the last component as its name; one that stays for the
            // output of background processes has another.
            let is_supervisor = name == "exe" || name == "session-discard";
            assert!(is_supervisor, "{case}: {pid} {name} {state} outlived its supervisor");
        }
        Self::wait_for_orphans(case);
    }

    /// Waits until all orphans have ended.
    pub(crate) fn wait_for_orphans(case: &str) {
        let deadline = Instant::now() + TIMEOUT;
        while !Self::reap_orphans() {
            assert!(Instant::now() < deadline, "{case}: {:?} do not end", children());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Reaps the orphans that have ended. Returns `true` if none is left.
    pub(crate) fn reap_orphans() -> bool {
        for (pid, ..) in children().iter().filter(|(_, _, state)| state == "Z") {
            rustix::process::waitpid(Pid::from_raw(*pid), WaitOptions::NOHANG).unwrap();
        }
        children().is_empty()
    }

    /// Asserts that owners that exited left no files, descriptors or processes, without a `gc`.
    pub(crate) fn assert_clean(&self, case: &str) {
        for folder in ["owners", "active", "stage", "trash", "quarantine"] {
            let mut left = names(&self.store().join(folder));
            // The id of the folder of locks stays.
            left.retain(|name| name != ".id");
            assert_eq!(left, [""; 0], "{case}: {folder}");
        }
        assert_eq!(names(&self.file("runtime/sessionctl")), [""; 0], "{case}");
        Self::wait_for_orphans(case);
        assert_eq!(descriptors(), self.descriptors, "{case}");
    }

    /// Asserts that after `gc` a store has no files but its own.
    pub(crate) fn assert_empty_after_gc(self, seed: u64) {
        self.ctl(&["recover", "--policy", "fail"]).exits(0);
        let ran = self.ctl(&["gc", "--older-than", "0s"]).exits(0);
        let case = format!("SESSION_TREE_SEED={seed}: {ran:?}");
        self.assert_clean(&case);
        let mut files = Vec::new();
        walk(self.dir.path(), &mut files);
        let own = ["FORMAT", "lock", "names.json", "owners/.id"];
        files.retain(|path| !own.iter().any(|name| path.ends_with(name)));
        files.retain(|path| path.parent() != Some(self.dir.path()));
        assert_eq!(files, Vec::<PathBuf>::new(), "{case}");
    }
}

fn walk(path: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Children of this process: id, name, state.
fn children() -> Vec<(i32, String, String)> {
    let me = std::process::id().to_string();
    let child = |entry: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let (before, after) = stat.rsplit_once(") ")?;
        let mut fields = after.split(' ');
        let state = fields.next()?.to_owned();
        let (pid, name) = before.split_once(" (")?;
        (fields.next()? == me).then(|| (pid.parse().unwrap(), name.to_owned(), state))
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(child).collect()
}

/// A process that must not be signalled.
pub(crate) struct UnrelatedProcess(Child);

impl UnrelatedProcess {
    pub(crate) fn survived(mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for UnrelatedProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running command.
pub(crate) struct RunningCommand(Child);

impl RunningCommand {
    pub(crate) fn end(self) -> Ran {
        Ran::from(self.0.wait_with_output().unwrap())
    }
}

/// The outputs and exit code of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(Output { status, stdout, stderr }: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// Random numbers, reproducible by their seed.
pub(crate) struct SeededRandom {
    pub(crate) seed: u64,
    state: u64,
}

impl SeededRandom {
    pub(crate) fn seeded(name: &str) -> Self {
        let seed = number(name, u64::from(std::process::id()));
        Self { seed, state: seed }
    }

    /// `SplitMix64`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}
