//! Tests of presence within one process: lock files, and concurrent access to them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::lock_dir::{ID, LockDir, Probe};
use super::lock_root::LockRoot;
use super::*;
use crate::id::{InstanceId, SessionId};

fn write(mut file: &File) -> io::Result<()> {
    file.write_all(b"x")
}

#[tokio::test]
async fn a_folder_on_a_network_file_system_is_refused() {
    fn nfs(path: &Path) -> io::Result<FileSystem> {
        if path.exists() {
            Ok(FileSystem::Remote { name: "NFS" })
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }
    let root = tempfile::tempdir().unwrap();
    let presence = LocalPresence::with_file_system(root.path().join("store/owners"), nfs);
    let mut me = presence.identify().unwrap();
    let errors = [
        presence.announce(&mut me).await.unwrap_err(),
        presence.liveness(&me).await.unwrap_err(),
        presence.sweep(&HashSet::new()).await.unwrap_err(),
        presence.session_lock(SessionId::random()).try_acquire().unwrap_err(),
        presence.session_lock(SessionId::random()).acquire().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.code().as_str(), "STORAGE_UNAVAILABLE");
        assert!(error.to_string().contains("is on NFS"), "{error}");
    }
    assert_eq!(root.path().read_dir().unwrap().count(), 0, "something was created nevertheless");
}

/// Only for a folder that does not exist yet, the file system of its parent decides.
#[tokio::test]
async fn a_folder_that_cannot_be_checked_is_refused() {
    fn denied(_: &Path) -> io::Result<FileSystem> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
    let root = tempfile::tempdir().unwrap();
    let presence = LocalPresence::with_file_system(root.path().join("owners"), denied);
    let error = presence.announce(&mut presence.identify().unwrap()).await.unwrap_err();
    assert_eq!(error.code().as_str(), "STORAGE_UNAVAILABLE");
    assert!(error.to_string().contains("cannot be checked"), "{error}");
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
fn a_full_disk_has_its_own_error_code() {
    let locks = LockRoot::new(Path::new("owners").into(), file_system);
    let code = |kind: io::ErrorKind| locks.failed("cannot be created", kind.into()).code();
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge] {
        assert_eq!(code(kind).as_str(), "STORAGE_FULL", "{kind}");
    }
    assert_eq!(code(io::ErrorKind::PermissionDenied).as_str(), "STORAGE_UNAVAILABLE");
}

/// A file is never visible under its name without its lock, neither while it is created nor while it is removed.
#[test]
fn a_file_is_locked_for_as_long_as_it_has_its_name() {
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
            let file = dir.create_locked("one.lock", temporary, write).unwrap().unwrap();
            dir.remove_held("one.lock", &file).unwrap();
            rounds += 1;
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(dir.names().unwrap().iter().all(|name| name.starts_with('.')), "leftovers");
}

/// An owner that retires during a check is not dead: it removed its file.
#[test]
fn a_free_lock_on_a_removed_file_proves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let dir = LockDir::create(root.path()).unwrap();
    let make = || dir.create_locked("one.lock", || "one.tmp".to_owned(), write).unwrap().unwrap();
    let owner = make();
    let opened = dir.open_file("one.lock").unwrap().unwrap();
    assert!(matches!(dir.probe_opened("one.lock", &opened).unwrap(), Some(Probe::Held)));
    dir.remove_held("one.lock", &owner).unwrap();
    drop(owner);
    assert!(dir.probe_opened("one.lock", &opened).unwrap().is_none(), "removed");
    let _next = make();
    assert!(dir.probe_opened("one.lock", &opened).unwrap().is_none(), "replaced");
}

/// A sweep may lock or remove a file that is just being created: then it is created again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sweeping_does_not_disturb_owners_being_announced() {
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
        let mut me = presence.identify().unwrap();
        let guard = presence.announce(&mut me).await.unwrap();
        assert_eq!(presence.liveness(&me).await.unwrap(), Liveness::Alive);
        guard.retire();
    }
    done.store(true, Ordering::SeqCst);
    assert!(sweeping.await.unwrap() > 0);
    presence.sweep(&HashSet::new()).await.unwrap();
    assert_eq!(root.path().join("owners").read_dir().unwrap().count(), 1, "the folder's id");
}

/// The two critical moments between creating and locking a file: a sweep holds its lock, or has removed it.
#[test]
fn a_new_file_swept_before_it_is_locked_is_not_used() {
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
    // A file that was since created under the same name is not ours either.
    new();
    assert!(!dir.lock_new("new", &file).unwrap());
}

/// Within a process, dropping the guard is the owner's death.
#[tokio::test]
async fn an_owner_of_this_process_lives_as_long_as_its_guard() {
    let presence = ProcessPresence::default();
    let (mut me, other) = (presence.identify().unwrap(), presence.identify().unwrap());
    let dead = Liveness::Dead { evidence: Evidence::LockReleased };
    assert_eq!(presence.liveness(&me).await.unwrap(), dead);
    let guard = presence.announce(&mut me).await.unwrap();
    assert_eq!(presence.liveness(&me).await.unwrap(), Liveness::Alive);
    assert_eq!(presence.liveness(&other).await.unwrap(), dead);
    drop(guard);
    assert_eq!(presence.liveness(&me).await.unwrap(), dead);
}

/// Lock files are accessible to their user only, and reopenable, with any umask.
#[test]
fn lock_files_are_private_to_their_user() {
    use std::os::unix::fs::PermissionsExt as _;

    let root = tempfile::tempdir().unwrap();
    let dir = LockDir::create(root.path()).unwrap();
    let held = dir.try_lock("held").unwrap().unwrap();
    let made = dir.create_locked("made", || "temporary".to_owned(), write).unwrap().unwrap();
    for file in [held, made] {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    // Anything but a regular file is not a lock, and opening it does not block.
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

/// Each release removes the file, and the next acquisition creates it again: a lock on a removed file must not pass for
/// the session's lock.
#[test]
fn a_session_lock_has_one_holder_at_a_time() {
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
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders");
                    taken.fetch_add(1, Ordering::SeqCst);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    held.release();
                }
            });
        }
    });
}

fn temporary() -> String {
    format!("{}.tmp", InstanceId::random())
}

/// Whatever a power cut left of the file: nothing, a part, or other bytes.
#[test]
fn a_damaged_folder_id_is_replaced_by_one() {
    let root = tempfile::tempdir().unwrap();
    let dir = LockDir::create(root.path()).unwrap();
    let path = root.path().join(ID);
    let first = dir.ensure_id(temporary).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!((dir.id().unwrap(), text.len()), (Some(first), 37));
    for damaged in ["", &text[..20], &text[..36], &format!("{text}\n"), &text.to_uppercase(), "\0\0"] {
        for _ in 0..20 {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(dir.id().unwrap(), None, "{damaged:?}");
            let made = std::thread::scope(|scope| {
                let made: Vec<_> =
                    (0..3).map(|_| scope.spawn(|| dir.ensure_id(temporary).unwrap())).collect();
                made.into_iter().map(|made| made.join().unwrap()).collect::<HashSet<_>>()
            });
            assert_eq!(made.len(), 1, "{damaged:?}: {made:?}");
            assert_eq!(dir.id().unwrap(), made.into_iter().next());
        }
    }
    assert_eq!(root.path().read_dir().unwrap().count(), 1, "leftovers");
}

#[test]
fn threads_that_create_a_folder_id_agree() {
    for _ in 0..100 {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("store/owners");
        let create = || LockDir::create(&path).unwrap().ensure_id(temporary).unwrap();
        let made = std::thread::scope(|scope| {
            let made: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
            made.into_iter().map(|made| made.join().unwrap()).collect::<HashSet<_>>()
        });
        assert_eq!(made.len(), 1, "{made:?}");
    }
}

#[test]
fn something_else_in_the_place_of_the_folder_id_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = LockDir::create(root.path()).unwrap();
    let path = root.path().join(ID);
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    assert_eq!(dir.id().unwrap(), None);
    assert_eq!(dir.ensure_id(temporary).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(dir.ensure_id(temporary).is_err());
    assert_eq!(root.path().read_dir().unwrap().count(), 1, "leftovers");
}

/// A sweep that removed the id would make all owners of the folder unknown.
#[tokio::test]
async fn a_sweep_leaves_the_folder_id() {
    let root = tempfile::tempdir().unwrap();
    let presence = LocalPresence::new(root.path());
    let id = LockDir::create(root.path()).unwrap().ensure_id(temporary).unwrap();
    std::fs::write(root.path().join(temporary()), "of a process that died before it had an id").unwrap();
    presence.sweep(&HashSet::new()).await.unwrap();
    assert_eq!(LockDir::open(root.path()).unwrap().unwrap().id().unwrap(), Some(id));
    assert_eq!(root.path().read_dir().unwrap().count(), 1);
}
