//! Liveness of real processes that are killed, stopped and impersonated.

#![expect(clippy::unwrap_used, reason = "clippy knows the tests, not what they call")]

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use session_core::backend::{LocalPresence, Presence, SessionLock, this_process};
use session_core::{Evidence, InstanceId, Liveness, Owner, SessionId, Timestamp};
use tokio::sync::{Mutex, MutexGuard};

const ROLE: &str = "PRESENCE_TEST_ROLE";
const DIR: &str = "PRESENCE_TEST_DIR";
const SESSION: &str = "PRESENCE_TEST_SESSION";
const READY: &str = "@ready ";

/// A second process of this test binary, which runs only [`other_process`].
struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// The line that it printed when it was ready.
    ready_line: String,
}

impl Process {
    fn start(role: &str, dir: &Path, session: Option<SessionId>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "other_process", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(DIR, dir)
            .env(SESSION, session.map(|id| id.to_string()).unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut process = Self { child, stdin, stdout, ready_line: String::new() };
        process.ready_line = process.read_line();
        process
    }

    fn read_line(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "the other process ended too soon");
            // The test harness writes on the same line.
            if let Some((_, ready_line)) = line.trim_end_matches('\n').split_once(READY) {
                return ready_line.to_owned();
            }
        }
    }

    fn owner(&self) -> Owner {
        serde_json::from_str(&self.ready_line).unwrap()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Kills it, and returns when it is gone.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs as the other process; does nothing in the ordinary test run.
#[tokio::test]
async fn other_process() {
    let (Ok(role), Some(dir)) = (std::env::var(ROLE), std::env::var_os(DIR)) else { return };
    let presence = LocalPresence::new(PathBuf::from(dir));
    let ready = |what: &str| {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{READY}{what}").unwrap();
        stdout.flush().unwrap();
    };
    let wait = || std::io::stdin().read_line(&mut String::new()).unwrap();
    match role.as_str() {
        "owner" => {
            let mut owner = presence.identify().unwrap();
            let guard = presence.announce(&mut owner).await.unwrap();
            ready(&serde_json::to_string(&owner).unwrap());
            wait();
            guard.retire();
            ready("retired");
            wait();
        }
        "announce" => {
            let mut owner = presence.identify().unwrap();
            ready(match presence.announce(&mut owner).await {
                Ok(_) => "announced",
                Err(error) => error.code().as_str(),
            });
        }
        "supervisor" => {
            let id = std::env::var(SESSION).unwrap().parse().unwrap();
            let held = presence.session_lock(id).try_acquire().unwrap().expect("it is free");
            ready("locked");
            wait();
            drop(held);
        }
        other => panic!("no role {other}"),
    }
}

/// A store folder. A child shares all locks of its parent between fork and exec, so tests run one at a time: otherwise
/// a lock could outlive its test in the child of another one.
static ALONE: Mutex<()> = Mutex::const_new(());

struct Place {
    root: tempfile::TempDir,
    presence: LocalPresence,
    _alone: MutexGuard<'static, ()>,
}

impl Place {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let presence = LocalPresence::new(root.path().join("store/owners"));
        Self { root, presence, _alone: ALONE.lock().await }
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("store/owners")
    }

    fn file(&self, owner: &Owner) -> PathBuf {
        self.dir().join(format!("{}.lock", owner.instance))
    }

    fn start(&self) -> Process {
        Process::start("owner", &self.dir(), None)
    }

    async fn liveness(&self, owner: &Owner) -> Liveness {
        self.presence.liveness(owner).await.unwrap()
    }

    /// Returns this process as an owner who uses this folder, with a change: an impostor, or an owner from an earlier
    /// boot.
    async fn me(&self, change: impl FnOnce(&mut Owner)) -> Owner {
        let mut announced = this_process().unwrap();
        self.presence.announce(&mut announced).await.unwrap().retire();
        me(|owner| {
            owner.lock_folder = announced.lock_folder;
            change(owner);
        })
    }

    /// Returns the names in the folder, without its id.
    fn files(&self) -> Vec<String> {
        lock_files(&self.dir())
    }

    async fn sweep(&self, keep: &[&Owner]) {
        let keep: HashSet<InstanceId> = keep.iter().map(|owner| owner.instance).collect();
        self.presence.sweep(&keep).await.unwrap();
    }
}

fn dead(evidence: Evidence) -> Liveness {
    Liveness::Dead { evidence }
}

fn unknown(last_seen: Option<Timestamp>) -> Liveness {
    Liveness::Unknown { last_seen }
}

fn lock_files(folder: &Path) -> Vec<String> {
    let names = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != ".id").collect()
}

/// Returns this process as an owner without a folder, with a change.
fn me(change: impl FnOnce(&mut Owner)) -> Owner {
    let mut owner = this_process().unwrap();
    change(&mut owner);
    owner
}

/// Returns a process id that was used and is free again.
fn gone_pid() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

#[path = "presence/folders.rs"]
mod folders;

#[tokio::test]
async fn a_killed_owner_is_known_dead_immediately() {
    let place = Place::new().await;
    for _ in 0..5 {
        let mut process = place.start();
        let owner = process.owner();
        assert_eq!(place.liveness(&owner).await, Liveness::Alive);
        process.kill();
        assert_eq!(place.liveness(&owner).await, dead(Evidence::LockReleased));
        assert!(place.file(&owner).exists(), "the proof was removed");
    }
}

#[tokio::test]
async fn a_stopped_owner_is_alive_however_old_its_file_is() {
    let place = Place::new().await;
    let process = place.start();
    let owner = process.owner();
    kill_process(process.pid(), Signal::STOP).unwrap();
    let stat = format!("/proc/{}/stat", owner.pid);
    let since = Instant::now();
    while !fs::read_to_string(&stat).unwrap().contains(") T ") {
        assert!(since.elapsed() < Duration::from_secs(30), "it does not stop");
        std::thread::yield_now();
    }
    let file = fs::File::options().write(true).open(place.file(&owner)).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    for _ in 0..200 {
        assert_eq!(place.liveness(&owner).await, Liveness::Alive);
    }
    place.sweep(&[]).await;
    assert!(place.file(&owner).exists(), "a living owner was swept away");
    kill_process(process.pid(), Signal::CONT).unwrap();
    assert_eq!(place.liveness(&owner).await, Liveness::Alive);
}

#[tokio::test]
async fn concurrent_probes_agree() {
    // Probes that exclude each other would mistake each other for the owner.
    let place = Place::new().await;
    let mut process = place.start();
    let owner = process.owner();
    process.kill();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (presence, owner) = (place.presence.clone(), owner.clone());
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for _ in 0..500 {
                    let seen = runtime.block_on(presence.liveness(&owner)).unwrap();
                    assert_eq!(seen, dead(Evidence::LockReleased));
                }
            });
        }
    });
}

#[tokio::test]
async fn a_reused_pid_does_not_make_a_dead_owner_alive() {
    // A pid file looks alive for as long as any process has the pid.
    let place = Place::new().await;
    let mut reused = place.me(|owner| owner.start_time -= 1).await;
    assert_eq!(place.liveness(&reused).await, dead(Evidence::ProcessGone));
    drop(place.presence.announce(&mut reused).await.unwrap());
    assert_eq!(place.liveness(&reused).await, dead(Evidence::LockReleased));
}

#[tokio::test]
async fn without_its_file_an_owner_is_dead_if_its_process_is_gone() {
    let place = Place::new().await;
    let alive = place.me(|_| {}).await;
    let gone = place.me(|owner| owner.pid = gone_pid()).await;
    assert_eq!(place.liveness(&alive).await, unknown(None));
    assert_eq!(place.liveness(&gone).await, dead(Evidence::ProcessGone));
    let mut process = place.start();
    let owner = process.owner();
    fs::remove_file(place.file(&owner)).unwrap();
    assert_eq!(place.liveness(&owner).await, unknown(None));
    process.kill();
    assert_eq!(place.liveness(&owner).await, dead(Evidence::ProcessGone));
}

#[tokio::test]
async fn another_boot_of_this_machine_is_dead() {
    let place = Place::new().await;
    let mut here = me(|_| {});
    let guard = place.presence.announce(&mut here).await.unwrap();
    let mut before = here.clone();
    before.boot = "another".into();
    let mut elsewhere = before.clone();
    elsewhere.machine = "another".into();
    // No lock outlives its boot. Some containers have a boot id of their own.
    for owner in [&before, &elsewhere] {
        assert_eq!(place.liveness(owner).await, Liveness::Alive);
    }
    let file = fs::File::options().write(true).open(place.file(&here)).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_millis(86_400_123)).unwrap();
    drop(guard);
    assert_eq!(place.liveness(&before).await, dead(Evidence::Rebooted { boot: here.boot.clone() }));
    assert_eq!(place.liveness(&elsewhere).await, unknown(Timestamp::from_millis(86_400_123)));
    fs::remove_file(place.file(&here)).unwrap();
    assert_eq!(place.liveness(&before).await, dead(Evidence::Rebooted { boot: here.boot.clone() }));
    assert_eq!(place.liveness(&elsewhere).await, unknown(None));
}

#[tokio::test]
async fn a_planted_lock_file_is_neither_followed_nor_locked() {
    let place = Place::new().await;
    fs::create_dir_all(place.dir()).unwrap();
    let target = place.root.path().join("target");
    fs::write(&target, "precious").unwrap();
    let held = fs::File::open(&target).unwrap();
    held.lock().unwrap();

    // Followed, the lock of the target would make it look alive; free, dead.
    let (mut alive, gone) = (place.me(|_| {}).await, place.me(|owner| owner.pid = gone_pid()).await);
    for owner in [&alive, &gone] {
        symlink(&target, place.file(owner)).unwrap();
    }
    for free in [false, true] {
        if free {
            held.unlock().unwrap();
        }
        assert_eq!(place.liveness(&alive).await, unknown(None));
        assert_eq!(place.liveness(&gone).await, dead(Evidence::ProcessGone));
    }
    assert!(place.presence.announce(&mut alive).await.is_err());
    place.sweep(&[]).await;
    assert!(place.file(&alive).is_symlink(), "removed without its lock");

    let id = SessionId::random();
    symlink(&target, place.dir().join(format!("{id}.session.lock"))).unwrap();
    let error = place.presence.session_lock(id).try_acquire().unwrap_err();
    assert_eq!(error.code().as_str(), "STORAGE_UNAVAILABLE");
    let missing = SessionId::random();
    symlink(place.root.path().join("made"), place.dir().join(format!("{missing}.session.lock"))).unwrap();
    assert!(place.presence.session_lock(missing).try_acquire().is_err());
    assert!(!place.root.path().join("made").exists());

    // A pipe has no other end: opening it without O_NONBLOCK would wait for ever.
    let piped = place.me(|_| {}).await;
    let made = Command::new("mkfifo").arg(place.file(&piped)).status().unwrap();
    assert!(made.success());
    assert_eq!(place.liveness(&piped).await, unknown(None));
    place.sweep(&[]).await;

    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    held.try_lock().expect("the target was locked");
}

#[tokio::test]
async fn a_folder_that_is_a_link_is_refused() {
    let place = Place::new().await;
    let target = tempfile::tempdir().unwrap();
    fs::create_dir_all(place.dir().parent().unwrap()).unwrap();
    symlink(target.path(), place.dir()).unwrap();
    let mut owner = me(|_| {});
    assert_eq!(place.presence.announce(&mut owner).await.unwrap_err().code().as_str(), "STORAGE_UNAVAILABLE");
    assert!(place.presence.liveness(&owner).await.is_err());
    assert_eq!(target.path().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn two_owners_of_one_process_are_independent() {
    let place = Place::new().await;
    let (mut first, mut second) = (me(|_| {}), me(|_| {}));
    let guards = (
        place.presence.announce(&mut first).await.unwrap(),
        place.presence.announce(&mut second).await.unwrap(),
    );
    let again = place.presence.announce(&mut first).await.unwrap_err();
    assert_eq!(again.code().as_str(), "INVALID_ARGUMENT");
    assert_eq!(
        (place.liveness(&first).await, place.liveness(&second).await),
        (Liveness::Alive, Liveness::Alive)
    );
    drop(guards.0);
    assert_eq!(place.liveness(&first).await, dead(Evidence::LockReleased), "a dropped guard is a death");
    assert_eq!(place.liveness(&second).await, Liveness::Alive);
    assert!(place.presence.announce(&mut first).await.is_err(), "an instance is announced once");
    guards.1.retire();
    assert!(!place.file(&second).exists());
    assert_eq!(place.files().len(), 1, "leftovers");
}

#[tokio::test]
async fn an_owner_that_retires_leaves_no_trace() {
    let place = Place::new().await;
    let mut process = place.start();
    let owner = process.owner();
    let text = fs::read_to_string(place.file(&owner)).unwrap();
    assert_eq!(serde_json::from_str::<Owner>(&text).unwrap(), owner, "the file names the owner for people");
    writeln!(process.stdin).unwrap();
    assert_eq!(process.read_line(), "retired");
    assert_eq!(place.files(), [""; 0]);
}

#[tokio::test]
async fn sweeping_removes_only_unnamed_dead_owners() {
    let place = Place::new().await;
    let alive = place.start();
    let (mut named, mut forgotten) = (place.start(), place.start());
    named.kill();
    forgotten.kill();
    let locks = place.presence.session_lock(SessionId::random());
    let held = locks.try_acquire().unwrap().unwrap();
    let free = place.presence.session_lock(SessionId::random()).try_acquire().unwrap().unwrap();
    drop(free);
    let temporary = format!("{}.tmp", InstanceId::random());
    for name in [temporary.as_str(), "notes.lock", "README", "..lock", ".tmp"] {
        fs::write(place.dir().join(name), "").unwrap();
    }
    place.sweep(&[&named.owner()]).await;
    assert!(place.file(&alive.owner()).exists() && place.file(&named.owner()).exists());
    assert!(!place.file(&forgotten.owner()).exists());
    assert!(!place.dir().join(temporary).exists());
    // Two owners, the held lock, and four foreign files.
    assert_eq!(place.files().len(), 7);
    assert_eq!(place.liveness(&named.owner()).await, dead(Evidence::LockReleased));
    assert_eq!(place.liveness(&forgotten.owner()).await, dead(Evidence::ProcessGone));
    assert!(locks.try_acquire().unwrap().is_none());
    held.release();
    assert_eq!(place.files().len(), 6);
}

#[tokio::test]
async fn probing_creates_nothing_and_created_files_are_private() {
    let place = Place::new().await;
    let mut owner = me(|_| {});
    place.liveness(&owner).await;
    place.sweep(&[]).await;
    assert_eq!(place.root.path().read_dir().unwrap().count(), 0);
    let _guard = place.presence.announce(&mut owner).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place.dir()), mode(&place.root.path().join("store"))), (0o700, 0o700));
    assert_eq!((mode(&place.file(&owner)), mode(&place.dir().join(".id"))), (0o600, 0o600));
    assert_eq!(fs::metadata(place.file(&owner)).unwrap().nlink(), 1);
}

#[tokio::test]
async fn a_resume_waits_until_the_supervisor_is_gone() {
    let place = Place::new().await;
    let id = SessionId::random();
    let mut supervisor = Process::start("supervisor", &place.dir(), Some(id));
    let lock = place.presence.session_lock(id);
    assert!(lock.try_acquire().unwrap().is_none());
    let other = place.presence.session_lock(SessionId::random()).try_acquire().unwrap();
    assert!(other.is_some(), "another session's lock is another lock");
    let waiting = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await.unwrap() }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    supervisor.kill();
    let held = tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap();
    assert!(lock.try_acquire().unwrap().is_none());
    held.release();
    assert!(becomes_free(&lock).await);
}

#[tokio::test]
async fn the_lock_outlives_its_owner_in_an_heir() {
    let place = Place::new().await;
    let lock = place.presence.session_lock(SessionId::random());
    let held = lock.try_acquire().unwrap().unwrap();
    // Any descriptor will do; standard input can be passed on without unsafe code.
    let copy = held.file().try_clone().unwrap();
    let mut heir = Command::new("sleep").arg("1000").stdin(copy).spawn().unwrap();
    held.release();
    let seen = lock.try_acquire().unwrap().is_none();
    place.sweep(&[]).await;
    let swept = lock.try_acquire().unwrap().is_none();
    heir.kill().unwrap();
    heir.wait().unwrap();
    assert!(seen && swept, "the lock was lost on its way");
    assert!(becomes_free(&lock).await);
}

/// Waits until a released lock is free. That is not immediate: a process that another test is starting holds all files
/// of this one until its exec.
async fn becomes_free(lock: &SessionLock) -> bool {
    tokio::time::timeout(PATIENCE, lock.acquire()).await.is_ok()
}

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_lock_is_not_inherited_by_accident() {
    let place = Place::new().await;
    let lock = place.presence.session_lock(SessionId::random());
    let held = lock.try_acquire().unwrap().unwrap();
    let mut owner = me(|_| {});
    let guard = place.presence.announce(&mut owner).await.unwrap();
    let mut bystander = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    drop((held, guard));
    let free = becomes_free(&lock).await;
    let freed = async {
        while place.liveness(&owner).await != dead(Evidence::LockReleased) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let freed = tokio::time::timeout(PATIENCE, freed).await;
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    assert!(free, "a process that was started meanwhile holds the session's lock");
    assert!(freed.is_ok(), "a process that was started meanwhile holds the owner's lock");
}
