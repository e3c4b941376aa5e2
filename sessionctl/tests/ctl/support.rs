//! A store of its own for each test, the real binary to call on it, and sessions in it made through the library.

use std::ffi::OsStr;
use std::future::Future;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sessionkit::{ManagerOptions, Session, SessionConfig, SessionId, Store};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_sessionctl");
/// Longer than anything here takes on a busy machine; only a test that fails waits for so long.
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

    /// The command for this store, in an environment that says nothing else.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = clean_command(BINARY);
        command.env("SESSIONCTL_STORE", self.url()).args(args);
        command
    }

    /// Runs the command to its end.
    pub(crate) fn ctl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        run(self.command(args))
    }

    /// What a verb prints with `--json`.
    pub(crate) fn json<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Value {
        let ran = run({
            let mut command = self.command(args);
            command.arg("--json");
            command
        });
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    /// One session as `show --json` prints it.
    pub(crate) fn show(&self, id: impl ToString) -> Value {
        self.json(["show", &id.to_string()])
    }

    /// Waits until `show --json` of a session looks as it should.
    pub(crate) fn wait_for(&self, id: impl ToString, what: &str, right: impl Fn(&Value) -> bool) -> Value {
        let id = id.to_string();
        let mut last = Value::Null;
        eventually(what, || {
            let ran = self.ctl(["show", "--json", &id]);
            last = serde_json::from_str(&ran.stdout).unwrap_or_default();
            right(&last)
        });
        last
    }

    /// The library over the same store, as another process of it.
    pub(crate) async fn open(&self) -> Store {
        let options = ManagerOptions::new().recovery(None).poll_interval(Duration::from_millis(20));
        sessionkit::builder(&self.url()).options(options).open_store().await.unwrap()
    }

    /// A session that completed.
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

    /// A session whose owner died while it ran.
    pub(crate) fn crashed(&self, config: SessionConfig) -> SessionId {
        let owner = self.owner(config);
        owner.id
    }

    /// A session whose owner lives as long as what this returns.
    pub(crate) fn owner(&self, config: SessionConfig) -> LiveOwner {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (store, session) = runtime.block_on(async {
            let store = self.open().await;
            let id = store.manager().create_session(config).await.unwrap();
            let session = store.manager().start_session(id).await.unwrap();
            (store, session)
        });
        LiveOwner { id: session.id(), session, store, runtime }
    }

    /// Everything in the store's folder, byte for byte, with its modes and times.
    pub(crate) fn snapshot(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        walk(&self.store(), &mut entries);
        entries
    }
}

/// An owner within this process.
pub(crate) struct LiveOwner {
    pub(crate) id: SessionId,
    pub(crate) session: Session,
    pub(crate) store: Store,
    pub(crate) runtime: tokio::runtime::Runtime,
}

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
    // A lock says who held it last; that somebody did is no change.
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

/// A program as a user calls it, with nothing of the environment that would change what it does.
pub(crate) fn clean_command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("RUST_BACKTRACE", "0");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SESSIONCTL_") || name == "NO_COLOR" {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// What a command said, and how it ended.
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
    /// Asserts how it ended, and shows everything if it did not.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Asserts a failure with this code and exit code, which says what to do next.
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

/// Looks again and again until it is so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(work)
}
