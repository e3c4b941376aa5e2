//! Random lifetimes of worktrees, next to a person who collects garbage all the time: work of every kind, pins, removals that
//! are killed at a random moment, purges and restorations. Compared with a copy of everything, nothing is lost.
//!
//! `SESSION_WORKTREE_LIFETIMES` sets their number, `SESSION_WORKTREE_SEED` repeats a run. Not libtest, because this program
//! starts itself again for the work that is killed.

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a test program")]

#[path = "../support/fixture.rs"]
mod fixture;
mod person;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use session_worktree::{RecordedWorktree, RemoveOptions, Worktree, WorktreeError, Worktrees};

use self::fixture::{Fixture, content, git, git_command};
use self::person::{Random, work};

/// Lifetimes of a run, unless the variable says otherwise.
const LIFETIMES: usize = 24;
/// Lifetimes that go on concurrently.
const THREADS: usize = 2;

/// Everything that has to survive.
#[derive(Debug, PartialEq, Eq)]
struct Shadow {
    files: BTreeMap<PathBuf, (u32, Vec<u8>)>,
    /// The index with its stages and flags.
    index: String,
    head: String,
    reflog: String,
    /// The content of everything staged and of every commit that the reflog names.
    objects: BTreeMap<String, Vec<u8>>,
}

impl Shadow {
    fn of(path: &Path) -> Self {
        let reflog = git(path, &["reflog", "--format=%H %gs"]);
        let index = git(path, &["ls-files", "--stage", "-v", "--full-name"]);
        let named: BTreeSet<String> = reflog
            .lines()
            .filter_map(|line| line.split(' ').next())
            .chain(index.lines().filter_map(|line| line.split(' ').nth(2)))
            .map(str::to_owned)
            .collect();
        let show = |object: String| {
            let shown = git_command(path, &["cat-file", "-p", &object]).output().unwrap();
            assert!(shown.status.success(), "{object} is missing");
            (object, shown.stdout)
        };
        Self {
            files: content(path),
            index,
            head: git(path, &["rev-parse", "HEAD"])
                + " "
                + &git(path, &["rev-parse", "--symbolic-full-name", "HEAD"]),
            reflog,
            objects: named.into_iter().map(show).collect(),
        }
    }
}

/// The repository of a run.
struct Run {
    fixture: Fixture,
    seed: u64,
    /// Held by the person who works, and by the one who collects garbage: git itself does not survive both.
    git: Mutex<()>,
    kills: AtomicU64,
    purges: AtomicU64,
}

fn main() {
    if let Some(repository) = std::env::var_os("WORKTREE_TEST_KILLED") {
        let worktrees = Worktrees::new(repository).unwrap();
        let path = PathBuf::from(std::env::var_os("WORKTREE_TEST_PATH").unwrap());
        let worktree = Worktree::at(&path).unwrap();
        worktrees.remove(&worktree, RemoveOptions::new()).unwrap();
        return;
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let lifetimes =
        number("SESSION_WORKTREE_LIFETIMES").and_then(|number| number.try_into().ok()).unwrap_or(LIFETIMES);
    let seed = number("SESSION_WORKTREE_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!(
        "seed {seed}; again: SESSION_WORKTREE_SEED={seed} cargo test -p session-worktree --test lifetimes"
    );
    let run = Run {
        fixture: Fixture::new(),
        seed,
        git: Mutex::new(()),
        kills: AtomicU64::new(0),
        purges: AtomicU64::new(0),
    };
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| run.collect_garbage(&is_over));
        let live = |thread| {
            for number in (thread..lifetimes).step_by(THREADS) {
                run.live(number as u64);
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || live(thread))).collect();
        let ended: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::SeqCst);
        let collections = collector.join().unwrap();
        assert!(ended.iter().all(Result::is_ok), "seed {seed}");
        println!(
            "{lifetimes} lifetimes, {} kills, {} purges, {collections} garbage collections",
            run.kills.load(Ordering::SeqCst),
            run.purges.load(Ordering::SeqCst)
        );
    });
    run.check_the_end();
    println!("test random_lifetimes_lose_nothing ... ok");
}

impl Run {
    fn worktrees(&self) -> Worktrees {
        self.fixture.worktrees()
    }

    /// Collects garbage until the lifetimes are over, and returns how often.
    fn collect_garbage(&self, is_over: &AtomicBool) -> u64 {
        let mut times = 0;
        while !is_over.load(Ordering::SeqCst) {
            let works = self.git.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let args: &[&str] =
                if times % 4 == 0 { &["gc", "--quiet", "--prune=now"] } else { &["prune", "--expire=now"] };
            // May fail next to another process that moves a registration.
            let _ = git_command(&self.fixture.repo(), args).stderr(Stdio::null()).status().unwrap();
            drop(works);
            times += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        times
    }

    /// One worktree, from its creation to its last restoration.
    fn live(&self, number: u64) {
        let mut random = Random::new(self.seed.wrapping_mul(1_000_003).wrapping_add(number));
        let worktrees = self.worktrees();
        let mut worktree = self.fixture.create(["fix", "test", "build"][random.below(3)]);
        for _ in 0..=random.below(3) {
            let shadow = {
                let _works = self.git.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                for _ in 0..random.below(12) {
                    work(&worktree, &mut random);
                }
                Shadow::of(worktree.path())
            };
            let case = format!("seed {}, lifetime {number}", self.seed);
            if random.below(4) == 0 {
                let pin = worktrees.pin(&worktree).unwrap();
                assert!(pin.unkept.is_empty(), "{case}: {pin:?}");
            }
            worktree = self.remove_and_restore(&worktree, &shadow, &mut random);
            assert_eq!(Shadow::of(worktree.path()), shadow, "{case}");
        }
    }

    fn remove_and_restore(&self, worktree: &Worktree, shadow: &Shadow, random: &mut Random) -> Worktree {
        let worktrees = self.worktrees();
        let session = worktree.session();
        let record: RecordedWorktree = worktree.record();
        if random.below(2) == 0 {
            self.kills.fetch_add(1, Ordering::SeqCst);
            self.remove_killed(worktree.path(), Duration::from_micros(random.below(120_000) as u64));
            worktrees.recover().unwrap();
            if let Ok(kept) = record.locate() {
                assert!(worktrees.last_removed(session).is_err(), "it is in one place");
                assert_eq!(content(kept.path()), shadow.files, "it is left alone");
                return kept;
            }
        } else {
            // A killed removal may have left git at its work.
            while let Err(error) = worktrees.remove(worktree, RemoveOptions::new()) {
                assert!(matches!(error, WorktreeError::InUse { .. }), "{error}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let entry = worktrees.last_removed(session).unwrap();
        // What a snapshot does not keep of a directory: modes other than executable, and empty directories.
        if random.below(3) == 0 && person::is_plain(&shadow.files) {
            self.purges.fetch_add(1, Ordering::SeqCst);
            assert!(worktrees.purge(&entry.id, false).unwrap().is_some());
            let last = worktrees.snapshots(session).unwrap().pop().unwrap().number;
            let restored = worktrees.restore_snapshot(session, last, worktree.path()).unwrap();
            self.put_reflog_back(&restored, shadow);
            return restored;
        }
        worktrees.restore(&entry.id, None).unwrap()
    }

    /// A restored snapshot has a reflog of its own: the former one is in the snapshot.
    fn put_reflog_back(&self, restored: &Worktree, shadow: &Shadow) {
        let snapshot = format!("refs/sessions/{}/", restored.session());
        let last = git(
            &self.fixture.repo(),
            &["for-each-ref", "--sort=-committerdate", "--format=%(refname)", &snapshot],
        );
        let last =
            last.lines().max_by_key(|name| name.rsplit('/').next().unwrap().parse::<u64>().unwrap()).unwrap();
        let kept = git(&self.fixture.repo(), &["show", &format!("{last}:git/logs/HEAD")]) + "\n";
        assert_eq!(kept.lines().count(), shadow.reflog.lines().count());
        std::fs::write(restored.git_dir().join("logs/HEAD"), kept).unwrap();
    }

    /// Removes a worktree in a process that is killed after this time, unless it has ended.
    fn remove_killed(&self, path: &Path, after: Duration) {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .env("WORKTREE_TEST_KILLED", self.fixture.repo())
            .env("WORKTREE_TEST_PATH", path)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(after);
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Every worktree, branch, lock, registration and ref has an owner, and no object is missing.
    fn check_the_end(&self) {
        let worktrees = self.worktrees();
        assert!(worktrees.trash().unwrap().is_empty());
        let listed = worktrees.list().unwrap();
        let registered = self.fixture.git(&["worktree", "list", "--porcelain"]).matches("worktree ").count();
        assert_eq!(registered, listed.len() + 1, "the main one, and ours");
        assert_eq!(self.fixture.git(&["worktree", "prune", "--dry-run", "--verbose"]), "");
        let locks = git(&self.fixture.repo(), &["rev-parse", "--absolute-git-dir"]);
        assert!(!Path::new(&locks).join("packed-refs.lock").exists());
        self.fixture.git(&["fsck", "--full", "--strict", "--no-dangling"]);
        let sessions: BTreeSet<String> =
            listed.iter().map(|worktree| worktree.session().to_string()).collect();
        for name in self.fixture.git(&["for-each-ref", "--format=%(refname)", "refs/sessions"]).lines() {
            assert!(sessions.contains(name.split('/').nth(2).unwrap()), "{name} belongs to no session");
        }
    }
}
