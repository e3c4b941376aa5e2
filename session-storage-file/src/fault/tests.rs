//! Tests of the fault disk: a test double that is more lenient than a real disk proves nothing.

use std::io::ErrorKind;
use std::path::Path;

use rustix::io::Errno;

use super::*;
use crate::disk::{Disk, DiskFile, LockMode, Open};

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn read(disk: &FaultDisk, name: &str) -> Option<Vec<u8>> {
    match disk.tree().remove(path(name)) {
        Some(Content::File(bytes)) => Some(bytes.to_vec()),
        Some(Content::Dir) | None => None,
    }
}

fn put(disk: &FaultDisk, name: &str, bytes: &[u8]) -> Box<dyn DiskFile> {
    let file = disk.open(path(name), Open::Create).unwrap();
    assert_eq!(file.write_at(bytes, 0).unwrap(), bytes.len());
    file
}

/// Creates a folder `/d` with a synced file `/d/f` that contains `old`.
fn synced() -> (FaultDisk, Box<dyn DiskFile>) {
    let disk = FaultDisk::new();
    disk.create_dir(path("/d")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    let file = put(&disk, "/d/f", b"old");
    file.sync().unwrap();
    disk.sync_dir(path("/d")).unwrap();
    (disk, file)
}

#[test]
fn a_file_survives_once_its_bytes_and_name_are_synced() {
    let disk = FaultDisk::new();
    let file = put(&disk, "/f", b"abc");
    assert_eq!(read(&disk.now().cut(Keep::Synced), "/f"), None);
    assert_eq!(read(&disk.now().cut(Keep::Names), "/f"), Some(vec![]));
    assert_eq!(read(&disk.now().cut(Keep::Contents), "/f"), None);
    file.sync().unwrap();
    assert_eq!(read(&disk.now().cut(Keep::Synced), "/f"), None);
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(read(&disk.now().cut(Keep::Synced), "/f").unwrap(), b"abc");
    assert!(disk.now().is_synced());
}

#[test]
fn an_unsynced_append_is_lost_torn_or_zero_filled() {
    let (disk, file) = synced();
    file.write_at(b"+new!", 3).unwrap();
    let found = |keep| read(&disk.now().cut(keep), "/d/f").unwrap();
    assert_eq!(found(Keep::Synced), b"old");
    assert_eq!(found(Keep::All), b"old+new!");
    assert_eq!(found(Keep::Lengths), b"old\0\0\0\0\0");
    assert_eq!(found(Keep::Bytes), b"old");
    assert_eq!(disk.now().last_write(), 5);
    for at in 0..=5 {
        assert_eq!(found(Keep::Torn(at)), b"old+new!"[..3 + at]);
        let mut zeroed = b"old+new!".to_vec();
        zeroed[3 + at..].fill(0);
        assert_eq!(found(Keep::ZeroFilled(at)), zeroed);
    }
}

#[test]
fn any_part_of_an_unsynced_change_may_survive() {
    let (disk, file) = synced();
    file.write_at(b"NEW", 0).unwrap();
    assert_eq!(read(&disk.now().cut(Keep::Bytes), "/d/f").unwrap(), b"NEW");
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..400 {
        let found = read(&disk.now().cut(Keep::Random(seed)), "/d/f").unwrap();
        assert!((0..3).all(|i| [b"old"[i], b"NEW"[i]].contains(&found[i])), "seed {seed}: {found:?}");
        seen.insert(found);
    }
    assert_eq!(seen.len(), 8, "each byte survives or is lost independently");
    file.set_len(1).unwrap();
    assert_eq!(read(&disk.now().cut(Keep::All), "/d/f").unwrap(), b"N");
    assert_eq!(read(&disk.now().cut(Keep::Bytes), "/d/f").unwrap(), b"NEW");
    let lengths: std::collections::BTreeSet<usize> =
        (0..100).map(|seed| read(&disk.now().cut(Keep::Random(seed)), "/d/f").unwrap().len()).collect();
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn unsynced_name_changes_survive_independently() {
    let (disk, _file) = synced();
    put(&disk, "/d/made", b"");
    disk.remove_file(path("/d/f")).unwrap();
    put(&disk, "/d/tmp", b"");
    disk.rename(path("/d/tmp"), path("/d/renamed")).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..400 {
        let image = disk.now().cut(Keep::Random(seed));
        let has = |name: &str| read(&image, name).is_some();
        seen.insert((has("/d/made"), has("/d/f"), has("/d/tmp"), has("/d/renamed")));
    }
    for made in [false, true] {
        for old in [false, true] {
            assert!(seen.contains(&(made, old, false, false)), "{seen:?}");
            assert!(seen.contains(&(made, old, true, false)), "{seen:?}");
            assert!(seen.contains(&(made, old, false, true)), "{seen:?}");
        }
    }
    assert!(seen.iter().all(|(.., tmp, renamed)| !(*tmp && *renamed)), "a rename within a folder is atomic");
}

#[test]
fn a_cross_folder_rename_survives_once_both_are_synced() {
    let (disk, _file) = synced();
    disk.create_dir(path("/e")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    disk.rename(path("/d/f"), path("/e/f")).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let image = disk.now().cut(Keep::Random(seed));
        seen.insert((read(&image, "/d/f").is_some(), read(&image, "/e/f").is_some()));
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
    disk.sync_dir(path("/d")).unwrap();
    assert_eq!(read(&disk.now().cut(Keep::Synced), "/d/f"), None);
    assert_eq!(read(&disk.now().cut(Keep::Synced), "/e/f"), None, "the other half is not guaranteed");
    disk.sync_dir(path("/e")).unwrap();
    assert_eq!(read(&disk.now().cut(Keep::Synced), "/e/f").unwrap(), b"old");
}

#[test]
fn a_folder_is_never_in_two_places() {
    let (disk, _file) = synced();
    disk.create_dir(path("/e")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    disk.rename(path("/d"), path("/e/d")).unwrap();
    for seed in 0..200 {
        let image = disk.now().cut(Keep::Random(seed));
        let places = ["/d/f", "/e/d/f"].iter().filter(|path| read(&image, path).is_some()).count();
        assert!(places <= 1, "seed {seed}");
    }
    disk.sync_dir(path("/e")).unwrap();
    assert_eq!(read(&disk.now().cut(Keep::Synced), "/e/d/f").unwrap(), b"old");
    assert!(!disk.now().cut(Keep::Synced).tree().contains_key(path("/d")));
}

#[test]
fn a_later_sync_does_not_cover_writes_of_a_failed_one() {
    for (after, seen) in [(AfterFailedSync::Kept, &b"old+1+2"[..]), (AfterFailedSync::Dropped, b"old\0\0+2")]
    {
        let (disk, file) = synced();
        disk.after_failed_sync(after);
        disk.inject(Fault::nth(0, Effect::Error(Errno::IO)).on(Call::Sync));
        file.write_at(b"+1", 3).unwrap();
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
        assert_eq!(disk.triggered_faults(), 1);
        assert!(disk.violations().is_empty());
        file.write_at(b"+2", 5).unwrap();
        assert_eq!(disk.violations().len(), 1);
        assert_eq!(read(&disk, "/d/f").unwrap(), seen);
        file.sync().unwrap();
        assert_eq!(disk.violations().len(), 2);
        assert_eq!(read(&disk.now().cut(Keep::Synced), "/d/f").unwrap(), b"old\0\0+2");
    }
}

#[test]
fn a_failed_folder_sync_can_be_retried() {
    let disk = FaultDisk::new();
    put(&disk, "/f", b"").sync().unwrap();
    disk.inject(Fault::nth(0, Effect::Error(Errno::IO)).on(Call::SyncDir));
    disk.sync_dir(path("/")).unwrap_err();
    assert_eq!(read(&disk.now().cut(Keep::Synced), "/f"), None);
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(read(&disk.now().cut(Keep::Synced), "/f").unwrap(), b"");
}

#[test]
fn a_fault_triggers_once_unless_it_is_persistent() {
    let (disk, file) = synced();
    disk.inject(Fault::nth(1, Effect::Short).on(Call::WriteAt));
    assert_eq!(file.write_at(b"four", 0).unwrap(), 4);
    assert_eq!(file.write_at(b"four", 0).unwrap(), 2);
    assert_eq!(file.write_at(b"four", 0).unwrap(), 4);
    let other = disk.process();
    disk.inject(Fault::nth(0, Effect::Error(Errno::ACCESS)).in_process(other.process_number()).persistent());
    assert!(disk.kind(path("/d")).is_ok());
    for _ in 0..2 {
        assert_eq!(other.kind(path("/d")).unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    disk.clear_faults();
    assert!(other.kind(path("/d")).is_ok());
    assert_eq!(disk.triggered_faults(), 3);
}

#[test]
fn locks_belong_to_open_files_until_their_process_dies() {
    let (disk, file) = synced();
    let other = disk.process();
    let theirs = other.open(path("/d/f"), Open::Write).unwrap();
    assert!(file.try_lock(LockMode::Shared).unwrap());
    assert!(theirs.try_lock(LockMode::Shared).unwrap());
    assert!(!file.try_lock(LockMode::Exclusive).unwrap());
    file.unlock().unwrap();
    assert!(theirs.try_lock(LockMode::Exclusive).unwrap());
    assert!(!file.try_lock(LockMode::Shared).unwrap());
    assert_eq!(disk.open_files(), 2);
    other.kill();
    assert!(other.is_dead() && disk.open_files() == 1);
    assert!(file.try_lock(LockMode::Exclusive).unwrap());
    assert!(theirs.write_at(b"x", 0).is_err() && other.open(path("/d/f"), Open::Read).is_err());
    assert_eq!(read(&disk, "/d/f").unwrap(), b"old");
    drop(theirs);
    drop(file);
    assert_eq!(disk.open_files(), 0);
}

#[test]
fn unsynced_writes_of_a_killed_process_stay_visible() {
    let (disk, _file) = synced();
    let doomed = disk.process();
    doomed.inject(Fault::nth(2, Effect::Death).in_process(doomed.process_number()));
    let file = doomed.open(path("/d/f"), Open::Write).unwrap();
    file.write_at(b"+", 3).unwrap();
    assert!(file.sync().is_err() && doomed.is_dead());
    assert_eq!(read(&disk, "/d/f").unwrap(), b"old+");
    assert_eq!(read(&disk.now().kill(), "/d/f").unwrap(), b"old+");
    assert_eq!(read(&disk.now().cut(Keep::Synced), "/d/f").unwrap(), b"old");
    assert!(disk.violations().is_empty());
}

#[test]
fn a_full_disk_accepts_writes_up_to_its_capacity() {
    let (disk, file) = synced();
    disk.set_capacity(disk.used() + 2);
    assert_eq!(file.write_at(b"abcd", 3).unwrap(), 2);
    assert_eq!(file.write_at(b"cd", 5).unwrap_err().raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    assert_eq!(file.write_at(b"OLD", 0).unwrap(), 3, "existing bytes can be overwritten");
    assert!(disk.open(path("/d/g"), Open::Create).is_err() && disk.create_dir(path("/g")).is_err());
    file.set_len(0).unwrap();
    assert_eq!(file.write_at(b"abcd", 0).unwrap(), 4);
    disk.set_capacity(usize::MAX);
    put(&disk, "/d/g", b"g");
}

#[test]
fn an_unlinked_file_lives_until_it_is_closed() {
    let (disk, file) = synced();
    let number = file.identity().unwrap();
    let used = disk.used();
    disk.remove_file(path("/d/f")).unwrap();
    let mut buffer = [0; 8];
    assert_eq!(file.read_at(&mut buffer, 1).unwrap(), 2);
    assert_ne!(put(&disk, "/d/f", b"new").identity().unwrap(), number);
    drop(file);
    assert_eq!(disk.used(), used);
    assert_eq!(put(&disk, "/d/g", b"").identity().unwrap(), number);
}

#[test]
fn recorded_moments_and_images_are_independent() {
    let (disk, file) = synced();
    disk.start_recording();
    for (at, letter) in b"abc".iter().enumerate() {
        file.write_at(&[*letter], at as u64).unwrap();
    }
    let moments = disk.moments();
    assert_eq!((moments.len(), disk.moment_index()), (4, 3));
    let all = |moment: &Moment| read(&moment.cut(Keep::All), "/d/f").unwrap();
    assert_eq!(moments.iter().map(all).collect::<Vec<_>>(), [b"old", b"ald", b"abd", b"abc"]);
    let image = moments[1].cut(Keep::All);
    image.edit(path("/d/f"), |bytes| bytes.push(b'!')).unwrap();
    assert_eq!(read(&image, "/d/f").unwrap(), b"ald!");
    assert_eq!(all(&moments[1]), b"ald");
    assert_ne!(disk.boot().unwrap(), image.boot().unwrap());
    assert_eq!(disk.boot().unwrap(), moments[1].kill().boot().unwrap());
}
