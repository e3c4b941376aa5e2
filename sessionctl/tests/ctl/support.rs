//! Test support: a store for each test, commands of the real binary on it, and sessions created through the library.

use std::ffi::OsStr;
use std::future::Future;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sessionkit::log::{Origin, Timestamp};
use sessionkit::manager::Liveness;
use sessionkit::runner::{OutputLimits, OutputStream};
use sessionkit::{ManagerOptions, Session, SessionConfig, SessionId, Store};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_sessionctl");
/// Longer than any step takes on a busy machine; only a failing test waits for so long.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// A store in a temporary folder.
pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub(crate) fn url(&self) -> String {
        format!("file:{}", self.store().display())
    }

    /// Returns the names of the lock files of owners and sessions.
    pub(crate) fn locks(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.store().join("owners")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        // The id of the folder stays.
        names.filter(|name| name != ".id").collect()
    }

    /// Returns the command for this store, without other settings in its environment.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = clean_command(BINARY);
        command.env("SESSIONCTL_STORE", self.url()).args(args);
        command
    }

    /// Runs the command to its end.
    pub(crate) fn ctl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        run(self.command(args))
    }

    /// Runs a verb with `--json` and returns what it prints.
    pub(crate) fn json<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Value {
        let ran = run({
            let mut command = self.command(args);
            command.arg("--json");
            command
        });
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    /// Returns a session as `show --json` prints it.
    pub(crate) fn show(&self, id: impl ToString) -> Value {
        self.json(["show", &id.to_string()])
    }

    /// Waits until `show --json` of a session meets a condition.
    pub(crate) fn wait_for(
        &self,
        id: impl ToString,
        what: &str,
        condition: impl Fn(&Value) -> bool,
    ) -> Value {
        let id = id.to_string();
        let mut last = Value::Null;
        eventually(what, || {
            let ran = self.ctl(["show", "--json", &id]);
            last = serde_json::from_str(&ran.stdout).unwrap_or_default();
            condition(&last)
        });
        last
    }

    /// Opens the same store through the library, as another process would.
    pub(crate) async fn open(&self) -> Store {
        let options = ManagerOptions::new().recovery(None).poll_interval(Duration::from_millis(20));
        sessionkit::builder(&self.url()).options(options).open_store().await.unwrap()
    }

    /// Creates a session that completed.
    pub(crate) fn completed(&self, config: SessionConfig) -> SessionId {
        block_on(async {
            let store = self.open().await;
            let id = store.manager().create_session(config).await.unwrap();
            let session = store.manager().start_session(id).await.unwrap();
            session.complete(sessionkit::SessionSummary::new()).await.unwrap();
            store.manager().shutdown().await.unwrap();
            id
        })
    }

    /// Creates a session whose owner died while it ran.
    pub(crate) fn crashed(&self, config: SessionConfig) -> SessionId {
        self.crashed_from(config, None)
    }

    /// Creates a session, perhaps with a program, whose owner died while it ran.
    pub(crate) fn crashed_from(&self, config: SessionConfig, origin: Option<Origin>) -> SessionId {
        let owner = self.owner_from(config, origin);
        let id = owner.id;
        drop(owner);
        // A process that another test is starting holds the lock files of this one until its exec.
        block_on(async {
            let store = self.open().await;
            let deadline = Instant::now() + TIMEOUT;
            while !matches!(store.manager().liveness(id).await.unwrap(), Some(Liveness::Dead { .. })) {
                assert!(Instant::now() < deadline, "the dropped owner of {id} still holds its lock");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        id
    }

    /// Creates a session whose owner is alive as long as the returned value.
    pub(crate) fn owner(&self, config: SessionConfig) -> LiveOwner {
        self.owner_from(config, None)
    }

    /// Creates a session, perhaps with a program, whose owner is alive as long as the returned value.
    pub(crate) fn owner_from(&self, config: SessionConfig, origin: Option<Origin>) -> LiveOwner {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (store, session) = runtime.block_on(async {
            let store = self.open().await;
            let id = store.manager().create_session_from(config, origin).await.unwrap();
            let session = store.manager().start_session(id).await.unwrap();
            (store, session)
        });
        LiveOwner { id: session.id(), session, store, runtime }
    }

    /// Appends pieces of output to that of a session's first attempt, each as a chunk of its own.
    pub(crate) fn print(&self, id: SessionId, pieces: &[(OutputStream, &[u8])]) {
        self.print_in(1, id, pieces);
    }

    /// Appends pieces of output like [`print`](Self::print), to those of an attempt.
    pub(crate) fn print_in(&self, attempt: u32, id: SessionId, pieces: &[(OutputStream, &[u8])]) {
        let store = block_on(self.open());
        let mut writer = store.output().unwrap().writer(id, OutputLimits::default()).unwrap();
        for (second, (stream, bytes)) in pieces.iter().enumerate() {
            // Output of the same second would join one chunk.
            let at = 1_795_253_400_000 + i64::try_from(second).unwrap() * 1000;
            writer.append(*stream, attempt, Timestamp::from_millis(at).unwrap(), bytes).unwrap();
        }
    }

    /// Returns all files of the store with contents, modes and times.
    pub(crate) fn snapshot(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        walk(&self.store(), &mut entries);
        entries
    }
}

/// An owner in this process.
pub(crate) struct LiveOwner {
    pub(crate) id: SessionId,
    /// Dropped first: the session is then not released, as if the process had died.
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) session: Session,
    pub(crate) store: Store,
}

/// A file or directory of a snapshot.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    path: PathBuf,
    mode: u32,
    modified: (i64, i64),
    length: usize,
    sum: u64,
}

fn walk(path: &Path, entries: &mut Vec<Entry>) {
    let Ok(found) = path.symlink_metadata() else { return };
    // A lock file names its last holder, which is not a change of the store.
    let is_lock = path.file_name().is_some_and(|name| name == "lock");
    let content = if found.is_file() && !is_lock { std::fs::read(path).unwrap() } else { Vec::new() };
    entries.push(Entry {
        path: path.to_owned(),
        mode: found.permissions().mode(),
        modified: if is_lock { (0, 0) } else { (found.mtime(), found.mtime_nsec()) },
        length: content.len(),
        sum: xxhash_rust::xxh3::xxh3_64(&content),
    });
    if found.is_dir() {
        let mut names: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        for path in &names {
            walk(path, entries);
        }
    }
}

/// Returns the files of the log and the output of a session, with their contents, without empty ones.
pub(crate) fn log_and_output(session: &Path) -> Vec<(String, Vec<u8>)> {
    let output = std::fs::read_dir(session.join("output")).into_iter().flatten();
    let output = output.map(|entry| format!("output/{}", entry.unwrap().file_name().to_str().unwrap()));
    let names = std::iter::once("events.jsonl".to_owned()).chain(output);
    let mut files: Vec<_> = names
        .map(|name| (name.clone(), std::fs::read(session.join(&name)).unwrap_or_default()))
        .filter(|(_, bytes)| !bytes.is_empty())
        .collect();
    files.sort();
    files
}

/// Returns a command without environment variables that would change its behaviour.
pub(crate) fn clean_command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("RUST_BACKTRACE", "0");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SESSIONCTL_") || name == "NO_COLOR" {
            command.env_remove(name);
        }
    }
    // Not the configuration of the user who runs the tests.
    command.env("SESSIONCTL_CONFIG", "");
    command.stdin(Stdio::null());
    command
}

/// The outputs and exit code of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn run(mut command: Command) -> Ran {
    let Output { status, stdout, stderr } = command.output().unwrap();
    Ran {
        code: status.code(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

impl Ran {
    /// Asserts the exit code, and shows the outputs if it differs.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Asserts a failure with this error code and exit code, and with a next command.
    #[track_caller]
    pub(crate) fn fails(self, exit: i32, code: &str) -> Self {
        let ran = self.exits(exit);
        assert!(ran.stderr.contains(&format!("[{code}]")), "{ran:#?}");
        let next = ran.stderr.lines().find_map(|line| line.strip_prefix("next: "));
        assert!(next.is_some_and(|command| !command.is_empty()), "{ran:#?}");
        assert!(ran.stdout.is_empty(), "{ran:#?}");
        ran
    }
}

/// Polls until a condition holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(work)
}
