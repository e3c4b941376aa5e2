//! Real processes on one store, killed with `kill -9` at random moments while they append to their own sessions and to
//! shared ones: nothing acknowledged is lost, flushed or not, and nothing has to be repaired.
//!
//! The processes are this test program, started again with a role in its environment. `SESSION_KILL_CYCLES` sets the
//! number of kills, `SESSION_KILL_SEED` their victims and times; a failure prints the seed, which repeats the choices.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use session_core::backend::{Chain, SessionStorage as _, SessionStorageExt as _, Tip};
use session_core::maintenance::{Condition, StorageMaintenance as _};
use session_core::{Durability, SessionId, StorageError};
use session_storage_sqlite::{SqliteStorage, SqliteStorageOptions};
use session_testkit::logs::Log;
use session_testkit::random::Random;

const STORE: &str = "SESSION_SQLITE_KILL_STORE";
const SHARED: &str = "SESSION_SQLITE_KILL_SHARED";
const SEED: &str = "SESSION_SQLITE_KILL_ROLE_SEED";
/// The prefix of lines for the test, among those of the test harness.
const MARK: char = '\u{1}';
const LINE_TIMEOUT: Duration = Duration::from_secs(120);
/// The number of concurrent processes.
const PROCESSES: usize = 3;
/// Records after which a process replaces its own session by a new one.
const LONG: u64 = 40;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

fn open(path: &Path) -> SqliteStorage {
    SqliteStorage::open(SqliteStorageOptions::new(path)).unwrap()
}

/// The body of the started processes, not a test itself. Without a store it does nothing.
#[test]
fn process_with_a_role() {
    let Some(store) = std::env::var_os(STORE) else { return };
    let shared = std::env::var(SHARED).unwrap().split(',').map(|id| id.parse().unwrap()).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(write(&open(Path::new(&store)), shared, number(SEED, 0)));
}

/// Appends forever and prints what was acknowledged: four concurrent tasks, so that commits are shared.
async fn write(storage: &SqliteStorage, shared: Vec<SessionId>, seed: u64) {
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4 {
        let (storage, shared) = (storage.clone(), shared.clone());
        tasks.spawn(async move {
            let mut random = Random::new(seed * 4 + task);
            let mut own = Log::plain();
            loop {
                if own.revision() > LONG {
                    // Some ended sessions are deleted: that is acknowledged too.
                    if random.one_in(2) {
                        storage.delete(own.id(), own.tip()).await.unwrap();
                        print_line(&format!("deleted {}", own.id()));
                    }
                    own = Log::plain();
                }
                if random.one_in(3) {
                    append_shared(&storage, *random.pick(&shared).unwrap(), &mut random).await;
                    continue;
                }
                if own.revision() > 1 || random.one_in(2) {
                    for n in 0..=random.below(3) {
                        own.noted("x".repeat(random.below(400) * (n + 1)));
                    }
                }
                let durability = durability(&mut random);
                let tip = own.take().send(&storage, durability).await.unwrap();
                print_tip(own.id(), tip);
            }
        });
    }
    tasks.join_all().await;
}

fn durability(random: &mut Random) -> Durability {
    if random.one_in(3) { Durability::Buffered } else { Durability::Flushed }
}

async fn append_shared(storage: &SqliteStorage, id: SessionId, random: &mut Random) {
    loop {
        let mut log = Log::read(storage, id).await.unwrap();
        log.noted("shared");
        match log.take().send(storage, durability(random)).await {
            Ok(tip) => return print_tip(id, tip),
            Err(StorageError::Conflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn print_tip(id: SessionId, tip: Tip) {
    print_line(&format!("ack {id} {} {}", tip.revision, tip.sum));
}

fn print_line(line: &str) {
    // One write: a line is printed completely or not at all.
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("{MARK}{line}\n").as_bytes()).unwrap();
    stdout.flush().unwrap();
}

struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    fn start(store: &Path, shared: &str, seed: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process_with_a_role", "--nocapture"])
            .env(STORE, store)
            .env(SHARED, shared)
            .env(SEED, seed.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let Ok(line) = line else { break };
                if let Some((_, line)) = line.split_once(MARK)
                    && sender.send(line.to_owned()).is_err()
                {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Kills the process, and returns the lines that were not received yet.
    fn kill(&mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.iter().collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The acknowledged tips of each session; `None` for a deleted one.
#[derive(Default)]
struct Acknowledged(BTreeMap<SessionId, Option<Vec<Tip>>>);

impl Acknowledged {
    fn add_line(&mut self, line: &str) -> Option<SessionId> {
        let mut words = line.split(' ');
        let verb = words.next()?;
        let id: SessionId = words.next()?.parse().ok()?;
        if verb == "deleted" {
            self.0.insert(id, None);
            return None;
        }
        let tip = Tip { revision: words.next()?.parse().ok()?, sum: words.next()?.parse().ok()? };
        self.0.entry(id).or_insert_with(|| Some(Vec::new())).as_mut()?.push(tip);
        Some(id)
    }

    /// Checks a session by its checksums: each covers every byte of its record and of all records before it.
    async fn check(&self, storage: &SqliteStorage, id: SessionId, case: &str) {
        let Some(Some(tips)) = self.0.get(&id) else { return };
        let records = match storage.records_after(id, 0).await {
            // Killed between a deletion and its acknowledgement.
            Err(StorageError::NotFound { .. }) if tips.last().is_some_and(|tip| tip.revision > LONG) => {
                return;
            }
            records => records.unwrap_or_else(|error| panic!("{case}: {id}: {error}")),
        };
        let mut chain = Chain::start(id);
        for record in &records {
            chain.follow(record).unwrap_or_else(|error| panic!("{case}: {id}: {error}"));
        }
        for tip in tips {
            let found = records.get(usize::try_from(tip.revision).unwrap() - 1);
            assert_eq!(
                found.map(session_core::StoredRecord::tip),
                Some(*tip),
                "{case}: {id} was acknowledged"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_to_kill_9() {
    let cycles = number("SESSION_KILL_CYCLES", 20);
    let seed = number("SESSION_KILL_SEED", u64::from(std::process::id()));
    let mut random = Random::new(seed);
    let mut folder = tempfile::tempdir().unwrap();
    // After a failure the store is kept for inspection.
    folder.disable_cleanup(true);
    println!("kill: {cycles} cycles, SESSION_KILL_SEED={seed}, in {}", folder.path().display());
    let store = folder.path().join("sessions.db");
    let storage = open(&store);
    let mut acknowledged = Acknowledged::default();
    let mut shared = Vec::new();
    for _ in 0..3 {
        let mut log = Log::plain();
        log.take().send(&storage, Durability::Flushed).await.unwrap();
        shared.push(log.id());
    }
    let names = shared.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let start = |random: &mut Random| Process::start(&store, &names, random.number() >> 8);
    let mut processes: Vec<Process> = (0..PROCESSES).map(|_| start(&mut random)).collect();
    for cycle in 0..cycles {
        let case = format!("seed {seed}, cycle {cycle}");
        let victim = processes.get_mut(random.below(PROCESSES)).unwrap();
        let mut received: Vec<String> = (0..=random.below(150))
            .map(|_| {
                victim.lines.recv_timeout(LINE_TIMEOUT).unwrap_or_else(|error| panic!("{case}: {error}"))
            })
            .collect();
        // At any point between two lines.
        std::thread::sleep(Duration::from_micros(random.number() % 3000));
        received.extend(victim.kill());
        *victim = start(&mut random);
        let mut touched: Vec<SessionId> =
            received.iter().filter_map(|line| acknowledged.add_line(line)).collect();
        touched.sort_unstable();
        touched.dedup();
        // While the other processes continue.
        for id in touched {
            acknowledged.check(&storage, id, &case).await;
        }
    }
    for process in &mut processes {
        for line in process.kill() {
            acknowledged.add_line(&line);
        }
    }
    let reconciled = storage.reconcile().await.unwrap();
    assert!(reconciled.repaired.is_empty() && reconciled.failed.is_empty(), "seed {seed}: {reconciled:?}");
    let health = storage.verify_all().await.unwrap();
    assert!(health.problems.is_empty() && health.failed.is_empty(), "seed {seed}: {health:?}");
    for health in &health.sessions {
        assert_eq!(health.condition, Condition::Healthy, "seed {seed}: {health:?}");
    }
    let (mut kept, mut deleted) = (0, 0);
    for (id, tips) in &acknowledged.0 {
        acknowledged.check(&storage, *id, &format!("seed {seed}, at the end")).await;
        if let Some(tips) = tips {
            kept += tips.len();
        } else {
            deleted += 1;
            assert_eq!(storage.head(*id).await.unwrap(), None, "seed {seed}: {id} was deleted");
        }
    }
    println!(
        "kill: {} sessions of {PROCESSES} concurrent processes, {deleted} deletions kept\n\
         tally: killed={cycles} acknowledgements-kept={kept}",
        health.sessions.len()
    );
    assert!(kept > 0);
    folder.disable_cleanup(false);
}
