//! A store on a network file system is refused with a reason and not touched.

#![cfg(feature = "file")]

use std::io;
use std::path::Path;
use std::sync::Arc;

use sessionkit::ErrorCode;
use sessionkit::backend::FileSystem;
use sessionkit::storage::file::{
    Disk, DiskFile, FileStorage, FileStorageOptions, Identity, Kind, Open, RealDisk,
};

/// This machine's disk, reported as a network file system.
#[derive(Debug)]
struct NetworkDisk;

impl Disk for NetworkDisk {
    fn file_system(&self, _: &Path) -> io::Result<FileSystem> {
        Ok(FileSystem::Remote { name: "NFS" })
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.open(path, how)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        panic!("{} was created", path.display())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        panic!("{} was removed", path.display())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        RealDisk.read_dir(path)
    }

    fn rename(&self, from: &Path, _: &Path) -> io::Result<()> {
        panic!("{} was renamed", from.display())
    }

    fn rename_new(&self, from: &Path, _: &Path) -> io::Result<()> {
        panic!("{} was renamed", from.display())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        panic!("{} was removed", path.display())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }

    fn kind(&self, path: &Path) -> io::Result<Option<(Kind, Identity)>> {
        RealDisk.kind(path)
    }

    fn boot(&self) -> io::Result<String> {
        RealDisk.boot()
    }
}

#[test]
fn a_store_on_a_network_file_system_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("not/yet")] {
        let error =
            FileStorage::with_disk(Arc::new(NetworkDisk), FileStorageOptions::new(&path)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::StorageUnavailable);
        let message = error.to_string();
        assert!(message.contains("NFS") && message.contains("local"), "{message}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
