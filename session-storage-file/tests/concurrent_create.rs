//! Concurrent creation of a store: another process creates its first session before each call of a process that
//! opens the same path, or creates a session there.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use session_core::backend::{FileSystem, SessionStorageExt as _};
use session_core::{Durability, SessionFilter};
use session_storage_file::{Disk, DiskFile, FileStorage, FileStorageOptions, Identity, Kind, Open, RealDisk};
use session_testkit::logs::Log;

/// The system's disk, with an action that runs right before the n-th call.
struct InterleavedDisk {
    left: Mutex<usize>,
    action: Box<dyn Fn() + Send + Sync>,
}

impl InterleavedDisk {
    fn call(&self) -> RealDisk {
        let mut left = self.left.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            if *left == 0 {
                (self.action)();
            }
        }
        RealDisk
    }

    fn has_happened(&self) -> bool {
        *self.left.lock().unwrap() == 0
    }
}

impl fmt::Debug for InterleavedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meanwhile").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Disk for InterleavedDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        self.call().open(path, how)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.call().create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.call().remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.call().read_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call().rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call().rename_new(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.call().remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call().sync_dir(path)
    }

    fn kind(&self, path: &Path) -> io::Result<Option<(Kind, Identity)>> {
        self.call().kind(path)
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        self.call().file_system(path)
    }

    fn boot(&self) -> io::Result<String> {
        self.call().boot()
    }
}

/// Polls a future once. A store without threads does everything in that poll. (There is no runtime because one
/// call runs within another.)
fn wait<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("the future is pending"),
    }
}

/// Runs `operation` while another process creates a session right before the n-th call, for each n.
fn at_each_call(before: fn(&Path), operation: fn(&FileStorage)) {
    for nth in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("store");
        before(&path);
        let disk = Arc::new(InterleavedDisk {
            left: Mutex::new(nth),
            action: Box::new({
                let path = path.clone();
                move || {
                    // No wait for the store's lock: this thread may hold it already.
                    let options = FileStorageOptions::new(&path).lock_timeout(std::time::Duration::ZERO);
                    let other = FileStorage::open(options.without_threads()).unwrap();
                    drop(wait(Log::plain().take().send(&other, Durability::Flushed)));
                }
            }),
        });
        let options = FileStorageOptions::new(&path).without_threads();
        match FileStorage::with_disk(Arc::clone(&disk) as Arc<dyn Disk>, options) {
            Ok(storage) => operation(&storage),
            Err(error) => panic!("opened while the store is created, before call {nth}: {error}"),
        }
        if !disk.has_happened() {
            assert!(nth > 5, "only {nth} calls");
            return;
        }
    }
}

fn list(storage: &FileStorage) {
    let page = wait(storage.list_all(&SessionFilter::all())).unwrap();
    assert!(page.unreadable.is_empty(), "{page:?}");
}

fn create(storage: &FileStorage) {
    wait(Log::plain().take().send(storage, Durability::Flushed)).unwrap();
    list(storage);
}

/// Regression: an open saw no FORMAT, then the session of the process that created the store meanwhile, and
/// reported a store that had lost its FORMAT.
#[test]
fn a_store_created_concurrently_is_recognized() {
    let half_created = |path: &Path| std::fs::create_dir_all(path.join("sessions")).unwrap();
    for before in [(|_: &Path| {}) as fn(&Path), half_created] {
        at_each_call(before, list);
        at_each_call(before, create);
    }
}
