//! Kills: each system call of a creation, pin, removal or restoration at which something changes is the last one. Recovery
//! then completes the work or undoes it, and nothing is lost.

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a test program")]

#[path = "../support/fixture.rs"]
mod fixture;

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use session_core::SessionId;
use session_worktree::{
    MergeOptions, MergeOutcome, MergeStrategy, NewWorktree, RecoveredCreation, RemoveOptions, Slug, Worktree,
    Worktrees,
};

use self::fixture::{Fixture, content, git, write};

/// The calls: those that change names and files, and those that start git and wait for it. Not every system has all.
const CALLS: [&str; 13] = [
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "fsync",
    "vfork",
    "clone3",
    "wait4",
    "waitid",
];

/// The works, each as a test: this program is started again for the work itself, which is killed in its first thread.
fn main() {
    if let Some(repository) = std::env::var_os("WORKTREE_TEST_KILLED") {
        return work(&repository);
    }
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let tests: [(&str, fn()); 11] = [
        ("a_killed_creation_is_completed_or_leaves_nothing", creation),
        ("a_killed_pin_changes_nothing", || nothing_is_lost("pin")),
        ("a_killed_removal_is_completed_or_undone", || nothing_is_lost("remove")),
        ("a_killed_removal_with_its_branch_is_completed_or_undone", || nothing_is_lost("remove with branch")),
        ("a_killed_restoration_is_completed", || nothing_is_lost("restore")),
        ("a_killed_restoration_with_its_branch_is_completed", || nothing_is_lost("restore with branch")),
        ("a_killed_restoration_of_a_snapshot_is_completed_or_undone", from_snapshot),
        ("a_killed_purge_is_completed_or_undone", purge),
        ("a_killed_merge_is_complete_or_nothing", || merge("merge", "main")),
        ("a_killed_merge_into_no_worktree_is_complete_or_nothing", || merge("merge", "next")),
        ("a_killed_squash_is_complete_or_nothing", || merge("squash", "main")),
    ];
    let can_trace = can_trace();
    for (name, test) in tests {
        if wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted)) {
            if can_trace {
                test();
            }
            println!(
                "test {name} ... {}",
                if can_trace { "ok" } else { "not run: strace is missing, or may not trace" }
            );
        }
    }
}

fn work(repository: &OsStr) {
    let argument = |name: &str| std::env::var(name).unwrap();
    let worktrees = Worktrees::new(repository).unwrap();
    let id = argument("WORKTREE_TEST_SESSION");
    match argument("WORKTREE_TEST_WORK").as_str() {
        "create" => {
            let new = NewWorktree::new(id.parse().unwrap(), Slug::from_text("fix"));
            worktrees.create(&worktrees.plan(&new).unwrap()).unwrap().unwrap();
        }
        "pin" => drop(worktrees.pin(&worktrees.list().unwrap()[0]).unwrap()),
        "remove" => drop(worktrees.remove(&worktrees.list().unwrap()[0], RemoveOptions::new()).unwrap()),
        "remove with branch" => {
            let options = RemoveOptions::new().delete_branch();
            drop(worktrees.remove(&worktrees.list().unwrap()[0], options).unwrap());
        }
        "restore" | "restore with branch" => {
            drop(worktrees.restore(&worktrees.trash().unwrap()[0].id, None).unwrap());
        }
        "snapshot" => {
            let (session, path) = (id.parse().unwrap(), snapshot_place(Path::new(repository)));
            drop(worktrees.restore_snapshot(session, 1, &path).unwrap());
        }
        "purge" => drop(worktrees.purge(&worktrees.trash().unwrap()[0].id, true).unwrap()),
        work if work.starts_with("merge ") || work.starts_with("squash ") => {
            let options = merge_options(work);
            drop(worktrees.merge(&worktrees.list().unwrap()[0], &options).unwrap());
        }
        work => panic!("{work}"),
    }
}

/// Runs work that is killed at its n-th call of this kind. Returns `false` if it made fewer.
fn killed_at(call: &str, n: usize, fixture: &Fixture, work: &str, session: SessionId) -> bool {
    let status = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "-e", &format!("trace=?{call}")])
        .args(["-e", &format!("inject=?{call}:signal=KILL:when={n}")])
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .env("WORKTREE_TEST_KILLED", fixture.repo())
        .env("WORKTREE_TEST_WORK", work)
        .env("WORKTREE_TEST_SESSION", session.to_string())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    let was_killed = status.signal() == Some(9) || status.code() == Some(137);
    assert!(was_killed || status.success(), "{work}, {call} {n}: {status}");
    was_killed
}

fn can_trace() -> bool {
    let traced =
        Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    traced.is_ok_and(|status| status.success())
}

/// Checks that git knows of nothing that is not there.
fn check(fixture: &Fixture, case: &str) {
    assert_eq!(fixture.git(&["worktree", "prune", "--dry-run", "--verbose"]), "", "{case}");
    fixture.git(&["fsck", "--full", "--strict", "--no-dangling"]);
}

fn work_in(worktree: &Worktree) {
    write(&worktree.path().join("README"), "staged\n");
    git(worktree.path(), &["add", "README"]);
    write(&worktree.path().join("README"), "changed\n");
    write(&worktree.path().join("new"), "new\n");
}

/// Calls a function for each call of each kind until it returns `false`, and returns the number of kills.
fn for_each_call(mut kill: impl FnMut(&str, usize) -> bool) -> usize {
    CALLS.into_iter().map(|call| (1..10_000).take_while(|n| kill(call, *n)).count()).sum()
}

fn creation() {
    let kills = for_each_call(|call, n| {
        let fixture = Fixture::new();
        let session = SessionId::random();
        let worktrees = fixture.worktrees();
        let new = NewWorktree::new(session, Slug::from_text("fix"));
        let plan = worktrees.plan(&new).unwrap();
        let was_killed = killed_at(call, n, &fixture, "create", session);
        let case = format!("{call} {n}");
        match worktrees.recover_creation(&plan).unwrap() {
            RecoveredCreation::Completed(worktree) => {
                assert_eq!(worktree.record().locate().unwrap(), worktree, "{case}");
                assert_eq!(git(worktree.path(), &["status", "--porcelain"]), "", "{case}");
            }
            RecoveredCreation::RolledBack | RecoveredCreation::Nothing => {
                assert!(was_killed && !plan.path.exists(), "{case}");
                assert_eq!(fixture.git(&["branch", "--list", "feature/*"]), "", "{case}");
                worktrees.create(&plan).unwrap().unwrap();
            }
        }
        check(&fixture, &case);
        was_killed
    });
    assert!(kills > 20, "{kills}");
    println!("create: {kills} kills");
}

/// Kills work on a worktree at each of its calls, and compares its content after the recovery.
fn nothing_is_lost(work: &str) {
    let kills = for_each_call(|call, n| {
        let fixture = Fixture::new();
        let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
        work_in(&worktree);
        let before = (content(worktree.path()), git(worktree.path(), &["status", "--porcelain=v2"]));
        let options = RemoveOptions::new();
        if work == "restore" {
            worktrees.remove(&worktree, options).unwrap();
        } else if work == "restore with branch" {
            worktrees.remove(&worktree, options.delete_branch()).unwrap();
        }
        let was_killed = killed_at(call, n, &fixture, work, worktree.session());
        let case = format!("{work}, {call} {n}");
        worktrees.recover().unwrap();
        check(&fixture, &case);
        let entries = worktrees.trash().unwrap();
        assert_eq!(entries.len() + worktrees.list().unwrap().len(), 1, "{case}: it is in one place");
        for entry in entries {
            worktrees.restore(&entry.id, None).unwrap();
        }
        let after = (content(worktree.path()), git(worktree.path(), &["status", "--porcelain=v2"]));
        assert_eq!(after, before, "{case}");
        assert_eq!(worktree.record().locate().unwrap(), worktree, "{case}");
        was_killed
    });
    assert!(kills > 20, "{kills}");
    println!("{work}: {kills} kills");
}

/// Returns the options of work such as `squash main`.
fn merge_options(work: &str) -> MergeOptions {
    let (how, into) = work.split_once(' ').unwrap();
    let strategy = if how == "squash" { MergeStrategy::Squash } else { MergeStrategy::Merge };
    MergeOptions::new().into_branch(into).strategy(strategy)
}

/// Kills a merge at each of its calls: the branch has all of it or nothing, and so do the files of the main worktree.
fn merge(how: &str, into: &str) {
    let work = format!("{how} {into}");
    let kills = for_each_call(|call, n| {
        let fixture = Fixture::new();
        fixture.git(&["config", "user.name", "a"]);
        fixture.git(&["config", "user.email", "a@b"]);
        fixture.git(&["branch", "next"]);
        let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
        for (path, name) in [(worktree.path(), "mine"), (&fixture.repo(), "theirs")] {
            write(&path.join(name), name);
            git(path, &["add", "--all"]);
            git(path, &["commit", "--quiet", "--message=change"]);
        }
        fixture.git(&["branch", "--quiet", "--force", "next", "main"]);
        let before = fixture.git(&["rev-parse", into]);
        let was_killed = killed_at(call, n, &fixture, &work, worktree.session());
        let case = format!("{work}, {call} {n}");
        // A git that was started keeps the lock, and works to its end.
        drop(worktrees.lock().unwrap());
        let is_merged = fixture.git(&["rev-parse", into]) != before;
        assert!(was_killed || is_merged, "{case}");
        assert_eq!(fixture.git(&["status", "--porcelain"]), "", "{case}");
        let in_place = is_merged && into == "main";
        assert_eq!(fixture.repo().join("mine").exists(), in_place, "{case}");
        worktrees.recover().unwrap();
        check(&fixture, &case);
        let again = worktrees.merge(&worktree, &merge_options(&work)).unwrap().outcome;
        match again {
            MergeOutcome::UpToDate => assert!(is_merged, "{case}"),
            MergeOutcome::Merged(_) => assert!(!is_merged, "{case}"),
            other @ (MergeOutcome::WouldMerge | MergeOutcome::Conflicts(_) | _) => {
                panic!("{case}: {other:?}")
            }
        }
        let files = fixture.git(&["ls-tree", "--name-only", into]);
        assert!(files.contains("mine") && files.contains("theirs"), "{case}: {files}");
        was_killed
    });
    assert!(kills > 30, "{kills}");
    println!("{work}: {kills} kills");
}

fn snapshot_place(repository: &Path) -> PathBuf {
    repository.with_file_name("from-snapshot")
}

/// Kills the creation of a worktree from a snapshot at each of its calls.
fn from_snapshot() {
    let kills = for_each_call(|call, n| {
        let fixture = Fixture::new();
        let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
        work_in(&worktree);
        let before = content(worktree.path());
        let session = worktree.session();
        worktrees.remove(&worktree, RemoveOptions::new()).unwrap();
        let path = snapshot_place(&fixture.repo());
        let was_killed = killed_at(call, n, &fixture, "snapshot", session);
        let case = format!("{call} {n}");
        worktrees.recover().unwrap();
        check(&fixture, &case);
        match worktrees.list().unwrap().as_slice() {
            [] => {
                assert!(was_killed && !path.exists(), "{case}");
                for leftover in worktrees.leftovers().unwrap() {
                    worktrees.purge_leftover(&leftover).unwrap();
                }
                worktrees.restore_snapshot(session, 1, &path).unwrap();
            }
            [restored] => assert_eq!(restored.path(), path, "{case}"),
            several => panic!("{case}: {several:?}"),
        }
        assert_eq!(content(&path), before, "{case}");
        assert_eq!(fixture.git(&["worktree", "list"]).lines().count(), 2, "{case}");
        was_killed
    });
    assert!(kills > 20, "{kills}");
    println!("snapshot: {kills} kills");
}

/// Kills a purge at each of its calls: the entry is whole, or gone, and the snapshot is there.
fn purge() {
    let kills = for_each_call(|call, n| {
        let fixture = Fixture::new();
        let (worktree, worktrees) = (fixture.create("fix"), fixture.worktrees());
        work_in(&worktree);
        let before = content(worktree.path());
        let session = worktree.session();
        worktrees.remove(&worktree, RemoveOptions::new()).unwrap();
        let was_killed = killed_at(call, n, &fixture, "purge", session);
        let case = format!("{call} {n}");
        worktrees.recover().unwrap();
        check(&fixture, &case);
        match worktrees.trash().unwrap().as_slice() {
            [] => assert_eq!(worktrees.snapshots(session).unwrap().len(), 1, "{case}"),
            [entry] => {
                assert!(was_killed, "{case}");
                assert_eq!(content(worktrees.restore(&entry.id, None).unwrap().path()), before, "{case}");
            }
            several => panic!("{case}: {several:?}"),
        }
        was_killed
    });
    assert!(kills > 10, "{kills}");
    println!("purge: {kills} kills");
}
