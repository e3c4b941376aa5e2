//! A full disk: sessions are listed and deleted, also after a crash.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

#[path = "common/logs.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod logs;
#[path = "common/process.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod process;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use logs::Log;
use process::Process;
use session_core::backend::{SessionStorage as _, SessionStorageExt as _};
use session_core::maintenance::{Condition, StorageMaintenance as _};
use session_core::{Durability, SessionFilter};
use session_storage_sled::{SledStorage, SledStorageOptions};

/// A small file system, mounted for the test and unmounted at its end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(at).output();
        let is_mounted = mount.is_ok_and(|output| output.status.success());
        if !is_mounted {
            drop(writeln!(std::io::stderr().lock(), "not run: cannot mount a small file system here"));
        }
        is_mounted.then(|| Self(at.to_owned()))
    }

    /// Takes all room that is left, like another program.
    fn fill(&self, name: &str) {
        let mut file = fs::File::create(self.0.join(name)).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

fn open(store: &Path) -> SledStorage {
    SledStorage::open(SledStorageOptions::new(store)).unwrap()
}

/// The body of a process that is killed with an open store, not a test itself. Without a role it does nothing.
#[test]
fn process_with_a_role() {
    if let Some((_, store)) = process::role() {
        process::hold(open(&store));
    }
}

/// The previous end of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Clean,
    Crash,
    CrashDuringFlush,
}

/// Not even a list was possible after a crash on a full disk: opening wants a copy of the database first.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_deleted_on_a_full_disk() {
    for end in [End::Clean, End::Crash, End::CrashDuringFlush] {
        let place = tempfile::tempdir().unwrap();
        let Some(disk) = SmallDisk::mount(place.path()) else { return };
        let store = disk.0.join("store");
        let storage = open(&store);
        let mut logs = Vec::new();
        for size in [3000, 1] {
            let mut log = Log::stored(&storage, 1).await;
            for n in 0..200 {
                log.next(&storage, Durability::Flushed, format!("{n} {}", "x".repeat(size))).await.unwrap();
            }
            logs.push(log);
        }
        drop(storage);
        if end != End::Clean {
            let mut holder = Process::start("holder", &store, false);
            assert_eq!(holder.line(Duration::from_secs(60)).as_deref(), Some("open"));
            holder.kill();
        }
        if end == End::CrashDuringFlush {
            let marker = fs::OpenOptions::new().write(true).open(store.join("unclean")).unwrap();
            marker.write_all_at(b"1", "flushing ".len() as u64).unwrap();
        }
        while let Some(log) = logs.first() {
            for round in 0..3 {
                disk.fill(&format!("{} {round}", log.id));
                let found = open(&store).list_all(&SessionFilter::all()).await.unwrap();
                assert_eq!(found.heads.len(), logs.len(), "{end:?}");
            }
            disk.fill(&format!("{}", log.id));
            let storage = open(&store);
            storage.delete(log.id, log.tip().unwrap()).await.unwrap();
            logs.remove(0);
        }
        let storage = open(&store);
        assert!(storage.verify_all().await.unwrap().problems.is_empty(), "{end:?}");
        assert!(storage.list_all(&SessionFilter::all()).await.unwrap().heads.is_empty());
    }
}

/// With room for it, the copy is made, and it replaces the one of an earlier crash if there is room for one only.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_makes_room_for_the_new_one() {
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(place.path()) else { return };
    let store = disk.0.join("store");
    let log = Log::stored(&open(&store), 3).await;
    for _ in 0..2 {
        let mut holder = Process::start("holder", &store, false);
        assert_eq!(holder.line(Duration::from_secs(60)).as_deref(), Some("open"));
        holder.kill();
        let health = open(&store).verify(log.id).await.unwrap();
        assert_eq!(health.condition, Condition::Healthy);
        assert!(store.join("aside/db").is_file());
        disk.fill("ballast");
    }
}
