//! The memory that a long log takes does not grow with it. Alone in its process, whose memory is measured.

#![expect(clippy::unwrap_used, reason = "a missing value fails the test")]

use session_core::backend::{
    Chain, CheckedLog, Imported, SessionStorage as _, SessionStorageExt as _, UnsealedRecord,
};
use session_core::maintenance::{Condition, StorageMaintenance as _};
use session_core::{Head, Owner, SessionConfig, SessionEvent, SessionId, Timestamp};
use session_storage_sled::{SledStorage, SledStorageOptions};

/// The memory limit of the process, in KiB: above that of other backends, since the allocator keeps what sled has freed.
const MEMORY: u64 = 96 * 1024;
/// The records, and the bytes of the text of each.
const RECORDS: usize = 200;
const TEXT: usize = 1_000_000;

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// Returns a log of long records, none of which is kept in memory.
fn long_log(id: SessionId) -> CheckedLog {
    let creator = Owner::new("host".into(), "machine".into(), "boot".into(), 1, 1);
    let config = Box::new(SessionConfig::new("test").name("long"));
    let created = SessionEvent::Created { format: 1, config, creator, origin: None, inherits: 0 };
    let noted = |n: usize| SessionEvent::Noted {
        kind: "test.note".into(),
        data: format!("{n}{}", "x".repeat(TEXT)).into(),
    };
    let (mut chain, mut log, mut head) = (Chain::start(id), CheckedLog::new(id), None::<Head>);
    for event in std::iter::once(created).chain((0..RECORDS).map(noted)) {
        let attempt = head.as_ref().map_or(0, |head| head.lifecycle.attempt_for(event.kind()));
        let at = Timestamp::from_millis(1_795_253_400_123).unwrap();
        let (stored, record) = chain.seal(UnsealedRecord { at, attempt, flushed: 0, event }).unwrap();
        Head::fold(&mut head, id, &record).unwrap();
        log.add(stored.line().as_bytes()).unwrap();
    }
    log
}

#[tokio::test]
async fn a_long_log_needs_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let open = || SledStorage::open(SledStorageOptions::new(folder.path().join("store"))).unwrap();
    let id = SessionId::random();
    let (storage, log) = (open(), long_log(id));
    let tip = log.tip().unwrap();
    let generated = peak();
    assert_eq!(storage.import_log(log).await.unwrap(), Imported::New(tip));
    let imported = peak();
    drop(storage);
    let closed = peak();
    let storage = open();
    let (mut pages, mut last) = (storage.log(id, 0), None);
    while let Some(page) = pages.next_page().await.unwrap() {
        last = page.last().map(session_core::StoredRecord::tip);
    }
    assert_eq!(last, Some(tip));
    let read = peak();
    assert_eq!(storage.verify(id).await.unwrap().condition, Condition::Healthy);
    let verified = peak();
    storage.delete(id, tip).await.unwrap();
    assert_eq!(storage.head(id).await.unwrap(), None);
    assert_eq!(storage.verify_all().await.unwrap().sessions.len(), 0);
    eprintln!(
        "peaks: {generated} KiB before, {imported} of the import, {closed} closed, {read} read, {verified} verified, {} deleted",
        peak()
    );
    assert!(peak() < MEMORY, "{} KiB", peak());
}
