//! Real processes killed with `kill -9`: nothing that they acknowledged is lost.
//!
//! `SESSION_KILL_CYCLES` sets the number of kills, `SESSION_KILL_SEED` their times; a failure prints the seed. A seed
//! repeats the choices, not the timing of the processes.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

#[path = "common/logs.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod logs;
#[path = "common/process.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod process;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use logs::{Dice, Log, number, read};
use process::{Process, print_line};
use session_core::backend::{Chain, SessionStorage, SessionStorageExt as _};
use session_core::maintenance::{Condition, StorageMaintenance as _};
use session_core::{Durability, SessionFilter, SessionId};
use session_storage_sled::{SledStorage, SledStorageOptions};

const LINE_TIMEOUT: Duration = Duration::from_secs(60);
/// The number of concurrent writers in a process.
const WRITERS: u64 = 4;

/// The body of the started processes, not a test itself. Without a role it does nothing.
#[test]
fn process_with_a_role() {
    if let Some((_, store)) = process::role() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(write(&store));
    }
}

/// Continues existing sessions, creates others, deletes some, and prints what was acknowledged.
async fn write(store: &Path) {
    let storage = Arc::new(SledStorage::open(SledStorageOptions::new(store)).unwrap());
    let existing = storage.list_all(&SessionFilter::all()).await.unwrap();
    assert!(existing.unreadable.is_empty(), "{existing:?}");
    print_line("open");
    let mut logs: Vec<Log> = existing.heads.into_iter().map(Log::of).collect();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let mut log = logs.pop();
        let storage = Arc::clone(&storage);
        writers.push(tokio::spawn(async move {
            let mut dice = Dice(u64::from(std::process::id()) * 31 + writer);
            loop {
                let mut now = log.take().unwrap_or_else(Log::new);
                let durability = if dice.below(3) == 0 { Durability::Buffered } else { Durability::Flushed };
                let size = match dice.below(40) {
                    0 => dice.below(400_000),
                    1..4 => dice.below(20_000),
                    _ => dice.below(300),
                };
                let text = "x".repeat(usize::try_from(size).unwrap());
                let tip = now.next(&*storage, durability, text).await.unwrap();
                now.records.clear();
                print_line(&format!("ack {} {} {}", now.id, tip.revision, tip.sum));
                if now.revision() > 20 && dice.below(20) == 0 {
                    print_line(&format!("deleting {}", now.id));
                    storage.delete(now.id, tip).await.unwrap();
                    print_line(&format!("deleted {}", now.id));
                } else {
                    log = Some(now);
                }
            }
        }));
    }
    // The writers run until the process is killed, or one of them fails.
    let failed = writers.remove(0).await.unwrap_err();
    panic!("{failed}");
}

/// The acknowledged records: the sum of each revision of each session; and the sessions whose deletion has started,
/// `true` if it was acknowledged.
#[derive(Debug, Default)]
struct Acknowledged {
    sums: BTreeMap<SessionId, BTreeMap<u64, String>>,
    deletions: BTreeMap<SessionId, bool>,
}

impl Acknowledged {
    fn add_line(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["ack", id, revision, sum] => {
                let id = id.parse().unwrap();
                self.sums.entry(id).or_default().insert(revision.parse().unwrap(), (*sum).to_owned());
            }
            ["deleting", id] => drop(self.deletions.insert(id.parse().unwrap(), false)),
            ["deleted", id] => drop(self.deletions.insert(id.parse().unwrap(), true)),
            _ => {}
        }
    }

    /// Checks that all acknowledged records are stored, and that all sessions are healthy. Returns the number of
    /// records.
    async fn check(&mut self, storage: &SledStorage, case: &str) -> u64 {
        let health = storage.verify_all().await.unwrap();
        assert!(health.failed.is_empty() && health.foreign.is_empty(), "{case}: {health:?}");
        for session in &health.sessions {
            assert_eq!(session.condition, Condition::Healthy, "{case}: {session:?}");
        }
        let mut records = 0;
        for (id, sums) in std::mem::take(&mut self.sums) {
            let (found, end) = match self.deletions.get(&id) {
                Some(deleted) => {
                    let head = storage.head(id).await.unwrap();
                    assert!(!deleted || head.is_none(), "{case}: {id} was deleted but exists");
                    if head.is_none() {
                        continue;
                    }
                    read(storage, id).await
                }
                None => read(storage, id).await,
            };
            end.unwrap_or_else(|error| panic!("{case}: {id}: {error}"));
            let mut chain = Chain::start(id);
            for record in &found {
                chain.follow(record).unwrap_or_else(|error| panic!("{case}: {id}: {error}"));
                if let Some(sum) = sums.get(&record.revision()) {
                    // A sum covers every byte up to its record.
                    assert_eq!(
                        &record.tip().sum.to_string(),
                        sum,
                        "{case}: {id}, revision {}",
                        record.revision()
                    );
                }
            }
            let highest = sums.keys().next_back().copied().unwrap_or(0);
            assert!(chain.revision() >= highest, "{case}: {id} has {} of {highest}", chain.revision());
            records += chain.revision();
            self.sums.insert(id, sums);
        }
        records
    }
}

#[test]
fn nothing_acknowledged_is_lost_to_kill_9() {
    let cycles = number("SESSION_KILL_CYCLES", 20);
    let seed = number("SESSION_KILL_SEED", u64::from(std::process::id()));
    let mut dice = Dice(seed);
    let mut folder = tempfile::tempdir().unwrap();
    // After a failure the store is kept for inspection.
    folder.disable_cleanup(true);
    println!("kill: {cycles} cycles, SESSION_KILL_SEED={seed}, in {}", folder.path().display());
    let store = folder.path().join("store");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut acknowledged = Acknowledged::default();
    let (mut received, mut records) = (0, 0);
    for cycle in 0..cycles {
        let case = format!("seed {seed}, cycle {cycle}");
        let mut writer = Process::start("writer", &store, false);
        // Sometimes before it has opened the store.
        if dice.below(5) > 0 {
            for _ in 0..=dice.below(150) {
                writer
                    .line(LINE_TIMEOUT)
                    .unwrap_or_else(|| panic!("{case}: after {:?}", writer.received.last()));
            }
        }
        std::thread::sleep(Duration::from_micros(dice.below(5_000)));
        writer.kill();
        for line in &writer.received {
            acknowledged.add_line(line);
        }
        received += writer.received.len();
        records = runtime.block_on(async {
            let storage = SledStorage::open(SledStorageOptions::new(&store))
                .unwrap_or_else(|error| panic!("{case}: {error}"));
            let records = acknowledged.check(&storage, &case).await;
            let reconciled = storage.reconcile().await.unwrap();
            assert!(reconciled.repaired.is_empty() && reconciled.failed.is_empty(), "{case}: {reconciled:?}");
            records
        });
    }
    println!("tally: killed={cycles} acknowledgements-kept={received} records-at-the-end={records}");
    assert!(received > 0 && records > 0);
    folder.disable_cleanup(false);
}
