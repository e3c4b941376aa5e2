//! Tests of presence within one process: what files say, and who may touch them.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::lock_dir::{LockDir, Probe};
use super::lock_root::LockRoot;
use super::*;
use crate::id::{InstanceId, SessionId};

#[tokio::test]
async fn a_folder_on_a_network_file_system_is_refused_with_the_reason() {
    fn nfs(path: &Path) -> io::Result<FileSystem> {
        if path.exists() {
            Ok(FileSystem::Remote { name: "NFS" })
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }
    let root = tempfile::tempdir().unwrap();
    let presence = LocalPresence::with_file_system(root.path().join("store/owners"), nfs);
    let me = presence.identify().unwrap();
    let errors = [
        presence.announce(&me).await.unwrap_err(),
        presence.liveness(&me).await.unwrap_err(),
        presence.sweep(&HashSet::new()).await.unwrap_err(),
        presence.session_lock(SessionId::random()).try_acquire().unwrap_err(),
        presence.session_lock(SessionId::random()).acquire().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.code().as_str(), "STORAGE_UNAVAILABLE");
        assert!(error.to_string().contains("is on NFS"), "{error}");
    }
    assert_eq!(root.path().read_dir().unwrap().count(), 0, "something was made there all the same");
}

/// What cannot be looked at may be anything: only what is not there yet is judged by where it will be.
#[tokio::test]
async fn a_folder_that_cannot_be_looked_at_is_refused() {
    fn denied(_: &Path) -> io::Result<FileSystem> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
    let root = tempfile::tempdir().unwrap();
    let presence = LocalPresence::with_file_system(root.path().join("owners"), denied);
    let error = presence.announce(&presence.identify().unwrap()).await.unwrap_err();
    assert_eq!(error.code().as_str(), "STORAGE_UNAVAILABLE");
    assert!(error.to_string().contains("cannot be looked at"), "{error}");
    assert_eq!(root.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_file_in_the_place_of_the_folder_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("owners");
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(LockDir::open(&path).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    assert!(LockDir::create(&path).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_disk_that_is_full_is_told_from_one_that_fails() {
    let locks = LockRoot::new(Path::new("owners").into(), file_system);
    let code = |kind: io::ErrorKind| locks.failed("cannot be made", kind.into()).code();
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge] {
        assert_eq!(code(kind).as_str(), "STORAGE_FULL", "{kind}");
    }
    assert_eq!(code(io::ErrorKind::PermissionDenied).as_str(), "STORAGE_UNAVAILABLE");
}

/// The file is never seen under its name without its lock: not while it is made, and not while it is taken back.
#[test]
fn a_file_has_its_lock_for_as_long_as_it_has_its_name() {
    let root = tempfile::tempdir().unwrap();
    let dir = LockDir::create(&root.path().join("owners")).unwrap();
    let (done, held) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    match dir.probe("one.lock").unwrap() {
                        Probe::Held => _ = held.fetch_add(1, Ordering::SeqCst),
                        Probe::Missing => {}
                        Probe::Free => panic!("a file without its lock"),
                    }
                }
            });
        }
        let mut rounds = 0;
        while rounds < 300 || held.load(Ordering::SeqCst) < 100 {
            let temporary = || format!("{}.tmp", InstanceId::random());
            let file = dir.create_locked("one.lock", temporary, b"x").unwrap().unwrap();
            dir.remove_held("one.lock", &file).unwrap();
            rounds += 1;
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(dir.names().unwrap().iter().all(|name| name.starts_with('.')), "leftovers");
}

/// An owner that retires while somebody looks is not dead: it took its file along.
#[test]
fn a_free_lock_on_a_file_that_is_gone_says_nothing() {
    let root = tempfile::tempdir().unwrap();
    let dir = LockDir::create(root.path()).unwrap();
    let make = || dir.create_locked("one.lock", || "one.tmp".to_owned(), b"x").unwrap().unwrap();
    let owner = make();
    let opened = dir.open_file("one.lock").unwrap().unwrap();
    assert!(matches!(dir.probe_opened("one.lock", &opened).unwrap(), Some(Probe::Held)));
    dir.remove_held("one.lock", &owner).unwrap();
    drop(owner);
    assert!(dir.probe_opened("one.lock", &opened).unwrap().is_none(), "removed");
    let _next = make();
    assert!(dir.probe_opened("one.lock", &opened).unwrap().is_none(), "replaced");
}

/// Whoever cleans up meets files that are just being made, and may be faster: then they are made anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sweeping_does_not_disturb_those_who_come_to_life() {
    let root = tempfile::tempdir().unwrap();
    let presence = LocalPresence::new(root.path().join("owners"));
    let (sweeper, done) = (presence.clone(), std::sync::Arc::new(AtomicBool::new(false)));
    let stop = std::sync::Arc::clone(&done);
    let sweeping = tokio::spawn(async move {
        let mut rounds = 0;
        while !stop.load(Ordering::SeqCst) {
            sweeper.sweep(&HashSet::new()).await.unwrap();
            rounds += 1;
        }
        rounds
    });
    for _ in 0..500 {
        let me = presence.identify().unwrap();
        let guard = presence.announce(&me).await.unwrap();
        assert_eq!(presence.liveness(&me).await.unwrap(), Liveness::Alive);
        guard.retire();
    }
    done.store(true, Ordering::SeqCst);
    assert!(sweeping.await.unwrap() > 0);
    presence.sweep(&HashSet::new()).await.unwrap();
    assert_eq!(root.path().join("owners").read_dir().unwrap().count(), 0);
}

/// The same, at the two moments that count: between its making and its lock, it is held to be removed, or is gone.
#[test]
fn a_new_file_that_is_cleaned_up_before_it_is_locked_is_not_used() {
    let root = tempfile::tempdir().unwrap();
    let dir = LockDir::create(root.path()).unwrap();
    let new = || std::fs::File::create(root.path().join("new")).unwrap();
    assert!(dir.lock_new("new", &new()).unwrap());
    let (file, cleaner) = (new(), std::fs::File::open(root.path().join("new")).unwrap());
    cleaner.lock().unwrap();
    assert!(!dir.lock_new("new", &file).unwrap());
    cleaner.unlock().unwrap();
    std::fs::remove_file(root.path().join("new")).unwrap();
    assert!(!dir.lock_new("new", &file).unwrap());
    // Nor is it the one that somebody else made under its name since.
    new();
    assert!(!dir.lock_new("new", &file).unwrap());
}

/// Within a process, a guard that goes is a death.
#[tokio::test]
async fn a_manager_of_this_process_lives_as_long_as_its_guard() {
    let presence = ProcessPresence::default();
    let (me, other) = (presence.identify().unwrap(), presence.identify().unwrap());
    let dead = Liveness::Dead { evidence: Evidence::LockReleased };
    assert_eq!(presence.liveness(&me).await.unwrap(), dead);
    let guard = presence.announce(&me).await.unwrap();
    assert_eq!(presence.liveness(&me).await.unwrap(), Liveness::Alive);
    assert_eq!(presence.liveness(&other).await.unwrap(), dead);
    drop(guard);
    assert_eq!(presence.liveness(&me).await.unwrap(), dead);
}

/// Whatever the umask of whoever makes them, lock files are for their user, who can open them again.
#[test]
fn lock_files_are_for_their_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let root = tempfile::tempdir().unwrap();
    let dir = LockDir::create(root.path()).unwrap();
    let held = dir.try_lock("held").unwrap().unwrap();
    let made = dir.create_locked("made", || "temporary".to_owned(), b"x").unwrap().unwrap();
    for file in [held, made] {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    // What is no file is no lock, and nobody waits at it.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    assert_eq!(dir.try_lock("pipe").unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

type Move = fn(&LockDir, &str, &str) -> io::Result<bool>;

#[test]
fn a_name_that_is_taken_is_not_replaced() {
    let root = tempfile::tempdir().unwrap();
    let dir = LockDir::create(root.path()).unwrap();
    let there = |name: &str| std::fs::read_to_string(root.path().join(name)).ok();
    for (n, by) in [LockDir::rename_new as Move, LockDir::link_new].into_iter().enumerate() {
        let (from, to) = (format!("from{n}"), format!("to{n}"));
        std::fs::write(root.path().join(&from), "new").unwrap();
        assert!(by(&dir, &from, &to).unwrap());
        assert_eq!((there(&from), there(&to).as_deref()), (None, Some("new")));
        std::fs::write(root.path().join(&from), "other").unwrap();
        assert!(!by(&dir, &from, &to).unwrap());
        assert_eq!((there(&from).as_deref(), there(&to).as_deref()), (Some("other"), Some("new")));
    }
}

/// Its file is removed with each release, and made anew by whoever comes next: nobody may believe to have the lock by
/// holding one on a file that is gone.
#[test]
fn one_at_a_time_has_a_sessions_lock() {
    let root = tempfile::tempdir().unwrap();
    let presence = LocalPresence::new(root.path());
    let id = SessionId::random();
    let (inside, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let lock = presence.session_lock(id);
                while taken.load(Ordering::SeqCst) < 2_000 {
                    let Some(held) = lock.try_acquire().unwrap() else { continue };
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two have it at once");
                    taken.fetch_add(1, Ordering::SeqCst);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    held.release();
                }
            });
        }
    });
}
