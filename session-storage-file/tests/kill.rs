//! Real processes on one store that are killed, stopped, and race each other.
//!
//! The processes are this test program, started again with a role in its environment. `SESSION_KILL_CYCLES`,
//! `SESSION_KILL_RACES` and `SESSION_KILL_PLACES` set the number of killed writers and of races.
//! `SESSION_KILL_SEED` selects the victims and the times; a failure prints the seed. Since the processes run
//! freely, a seed repeats the choices, not the interleaving.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

#[path = "kill/process.rs"]
mod process;
#[path = "kill/roles.rs"]
mod roles;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use process::{Process, Rng};
use session_core::backend::*;
use session_core::maintenance::StorageMaintenance as _;
use session_core::*;
use session_storage_file::{FileStorage, FileStorageOptions};

/// The fewest concurrent writers, and the range above that.
const WRITERS: (u64, u64) = (4, 9);
/// The longest time from the last line of a writer that was read until it is killed, in microseconds.
const MAX_RUN_ON: u64 = 3_000;
const TIMEOUT: Duration = Duration::from_secs(60);

/// Not a test: the entry point of the child processes. Without a role it does nothing.
#[test]
fn process_with_a_role() {
    if let Ok(role) = std::env::var(roles::ROLE) {
        roles::run(&role);
    }
}

async fn manager(store: &Path) -> PersistentSessionManager<FileStorage> {
    let storage = FileStorage::open(FileStorageOptions::new(store)).unwrap();
    let presence = LocalPresence::new(storage.owners_dir());
    let options = ManagerOptions::new().recovery(None);
    PersistentSessionManager::open(Arc::new(storage), Arc::new(presence), options).await.unwrap()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// The acknowledgements that writers reported: for each session, the value of each revision.
#[derive(Debug, Default)]
struct Acknowledged(HashMap<SessionId, HashMap<u64, u64>>);

impl Acknowledged {
    fn record(&mut self, line: &str) {
        let Some(id) = Self::session(line) else { return };
        let mut words = line.split(' ').skip(2);
        let [revision, value] = [(); 2].map(|()| words.next().unwrap().parse::<u64>().unwrap());
        self.0.entry(id).or_default().insert(revision, value);
    }

    /// Returns the session of a line that reports an acknowledgement.
    fn session(line: &str) -> Option<SessionId> {
        line.strip_prefix("ack ")?.split(' ').next()?.parse().ok()
    }

    /// Checks that the log has every acknowledged record at its revision, and obeys the state machine.
    async fn check(&self, storage: &FileStorage, id: SessionId, case: &str) -> Head {
        let mut head = None;
        let mut chain = Chain::start(id);
        let mut found = HashMap::new();
        for stored in storage.records_after(id, 0).await.unwrap() {
            chain.follow(&stored).unwrap_or_else(|error| panic!("{case}: {id}: {error}"));
            let record = stored.decode().unwrap();
            Head::fold(&mut head, id, &record).unwrap_or_else(|error| panic!("{case}: {id}: {error}"));
            if let SessionEvent::CheckpointSaved { state, .. } = &record.event {
                found.insert(record.envelope.seq, state.as_u64().unwrap());
            }
        }
        for (revision, value) in self.0.get(&id).into_iter().flatten() {
            assert_eq!(
                found.get(revision),
                Some(value),
                "{case}: {id}: revision {revision} was acknowledged"
            );
        }
        head.unwrap()
    }
}

/// Writers on one store are killed at random points: no acknowledged record is lost, a killed owner is
/// recognized as dead immediately, and a running owner never is.
#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_nothing_acknowledged() {
    let cycles = number("SESSION_KILL_CYCLES", 40);
    let seed = number("SESSION_KILL_SEED", u64::from(std::process::id()));
    let mut rng = Rng::new(seed);
    let mut folder = tempfile::tempdir().unwrap();
    // A failure leaves the store for inspection.
    folder.disable_cleanup(true);
    println!("kill: {cycles} cycles, SESSION_KILL_SEED={seed}, in {}", folder.path().display());
    let store = folder.path().join("store");
    let manager = manager(&store).await;
    let mut acknowledged = Acknowledged::default();
    let writer_count = WRITERS.0 + rng.below(WRITERS.1);
    let mut writers: Vec<Process> =
        (0..writer_count).map(|_| Process::start("writer", &store, &[])).collect();
    let mut events = 0;
    for cycle in 0..cycles {
        let case = format!("seed {seed}, cycle {cycle}");
        let victim = usize::try_from(rng.below(writer_count)).unwrap();
        for _ in 0..rng.below(60) {
            acknowledged.record(&writers[victim].line(TIMEOUT));
        }
        // Anywhere between two of its lines.
        std::thread::sleep(Duration::from_micros(rng.below(MAX_RUN_ON)));
        let mut dead = std::mem::replace(&mut writers[victim], Process::start("writer", &store, &[]));
        let instance = dead.value_of("instance", TIMEOUT);
        let rest = dead.kill();
        dead.received.extend(rest);
        for line in &dead.received {
            acknowledged.record(line);
        }
        for crashed in manager.find_crashed_sessions().await.unwrap().sessions {
            let responsible = crashed.head.responsible_process().unwrap();
            assert_eq!(crashed.evidence, Evidence::LockReleased, "{case}");
            let alive = writers
                .iter_mut()
                .any(|writer| writer.has_sent("instance", &responsible.instance.to_string()));
            assert!(!alive, "{case}: a running owner is reported as dead");
        }
        let owned: Vec<Head> = manager
            .list_active_sessions()
            .await
            .unwrap()
            .heads
            .into_iter()
            .filter(|head| {
                head.lifecycle.owner.as_ref().is_some_and(|owner| owner.instance.to_string() == instance)
            })
            .collect();
        for head in owned {
            let liveness = manager.liveness(head.id).await.unwrap();
            // Another writer may have taken it over since the list was read.
            if manager.get_head(head.id).await.unwrap().tip == head.tip {
                assert!(matches!(liveness, Some(Liveness::Dead { .. })), "{case}: {liveness:?}");
            }
        }
        // Acknowledgements of the killed writer are checked now, those of all writers at the end.
        let mut affected: Vec<SessionId> =
            dead.received.iter().filter_map(|line| Acknowledged::session(line)).collect();
        affected.dedup();
        for id in affected {
            events += acknowledged.check(manager.storage(), id, &case).await.tip.revision;
        }
    }
    for writer in &mut writers {
        let rest = writer.kill();
        writer.received.extend(rest);
        for line in &writer.received {
            acknowledged.record(line);
        }
    }
    let report = manager.recover(RecoveryOptions::new(RecoveryPolicy::Fail)).await.unwrap();
    assert!(report.failed.is_empty(), "seed {seed}: {report:?}");
    let list = manager.list_sessions(SessionFilter::all()).await.unwrap();
    assert!(list.unreadable.is_empty(), "seed {seed}: {list:?}");
    for head in &list.heads {
        assert!(head.state().is_final(), "seed {seed}: {head:?}");
        assert_eq!(&acknowledged.check(manager.storage(), head.id, "at the end").await, head, "seed {seed}");
    }
    let acknowledgements: usize = acknowledged.0.values().map(HashMap::len).sum();
    println!(
        "kill: {} sessions of {writer_count} concurrent writers, {events} records checked on the way\n\
         tally: killed={cycles} acknowledgements-kept={acknowledgements}",
        list.heads.len()
    );
    assert!(acknowledgements > 0);
    folder.disable_cleanup(false);
}

/// A stopped owner is slow, not dead: no other process may take its session, however long it is stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_owner_is_never_called_dead() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let manager = manager(&store).await;
    let mut owner = Process::start("writer", &store, &[]);
    let acknowledged = owner.value_of("ack", TIMEOUT);
    let id: SessionId = acknowledged.split(' ').next().unwrap().parse().unwrap();
    owner.sigstop();
    for _ in 0..50 {
        assert!(manager.find_crashed_sessions().await.unwrap().sessions.is_empty());
        assert!(
            manager
                .recover(RecoveryOptions::new(RecoveryPolicy::Fail).force("me"))
                .await
                .unwrap()
                .recovered
                .is_empty()
        );
        let error = manager.resume_session(id).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Conflict, "{error}");
    }
    owner.sigcont();
    // It continues normally.
    let before = manager.get_head(id).await.unwrap().tip.revision;
    let deadline = Instant::now() + TIMEOUT;
    while manager.get_head(id).await.unwrap().tip.revision == before {
        assert!(Instant::now() < deadline, "the owner never continued");
        owner.line(TIMEOUT);
    }
    owner.kill();
}

/// Two processes resume the same orphan: one succeeds, and the other writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_of_two_processes_resumes_an_orphan() {
    let rounds = number("SESSION_KILL_RACES", 20);
    let seed = number("SESSION_KILL_SEED", u64::from(std::process::id()));
    let mut rng = Rng::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let manager = manager(&store).await;
    let mut rivals = [(); 2].map(|()| Process::start("rival", &store, &[]));
    for round in 0..rounds {
        let case = format!("SESSION_KILL_SEED={seed}, round {round}");
        let mut owner = Process::start("writer", &store, &["waits"]);
        let id: SessionId = owner.value_of("ack", TIMEOUT).split(' ').next().unwrap().parse().unwrap();
        for _ in 0..rng.below(15) {
            owner.send("continue");
            owner.line(TIMEOUT);
        }
        owner.kill();
        let first = usize::try_from(rng.below(2)).unwrap();
        rivals[first].send(&format!("{id}"));
        // From concurrent to one after the other.
        std::thread::sleep(Duration::from_micros(rng.below(2_000) * rng.below(2)));
        rivals[1 - first].send(&format!("{id}"));
        let answers = rivals.each_mut().map(|rival| rival.line(TIMEOUT));
        let won = answers.iter().filter(|line| *line == "won").count();
        assert_eq!(won, 1, "{case}: {answers:?}");
        let lost = answers.iter().find(|line| *line != "won").unwrap();
        assert!(["FENCED", "CONFLICT"].contains(&lost.as_str()), "{case}: {answers:?}");
        let winner = answers.iter().position(|line| line == "won").unwrap();
        rivals[winner].send("complete");
        assert_eq!(rivals[winner].line(TIMEOUT), "completed", "{case}");
        let log = manager.storage().records_after(id, 0).await.unwrap();
        let kinds: Vec<_> = log.iter().map(|stored| stored.decode().unwrap().event.kind()).collect();
        let takeovers = kinds.iter().filter(|kind| **kind == EventKind::Resumed).count();
        assert_eq!(takeovers, 1, "{case}: {kinds:?}");
        assert_eq!(kinds.last(), Some(&EventKind::Completed), "{case}: the winner completes it: {kinds:?}");
    }
    for rival in &mut rivals {
        rival.kill();
    }
    println!("tally: races={rounds}");
}

/// The liveness of an owner whose lock file was removed is unknown; a user declares it dead while it is only
/// stopped. When it continues, it gets `FENCED` and writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_revived_former_owner_is_fenced() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let manager = manager(&store).await;
    let mut owner = Process::start("writer", &store, &["waits"]);
    let id: SessionId = owner.value_of("ack", TIMEOUT).split(' ').next().unwrap().parse().unwrap();
    let instance = owner.value_of("instance", TIMEOUT);
    owner.sigstop();
    std::fs::remove_file(manager.storage().owners_dir().join(format!("{instance}.lock"))).unwrap();
    assert!(manager.find_crashed_sessions().await.unwrap().sessions.is_empty(), "unknown is not dead");
    let session = loop {
        manager.recover(RecoveryOptions::new(RecoveryPolicy::Pause).force("a person")).await.unwrap();
        if let Ok(session) = manager.resume_session(id).await {
            break session;
        }
    };
    let log: Vec<_> = manager.storage().records_after(id, 0).await.unwrap();
    owner.sigcont();
    owner.send("continue");
    assert_eq!(owner.value_of("error", TIMEOUT), "FENCED");
    owner.kill();
    let now: Vec<_> = manager.storage().records_after(id, 0).await.unwrap();
    assert_eq!(now, log, "the former owner wrote");
    session.complete(SessionSummary::new()).await.unwrap();
}

/// Twenty processes create sessions under a limit of four.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_creators_never_exceed_the_session_limit() {
    let rounds = number("SESSION_KILL_PLACES", 3);
    for round in 0..rounds {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        let mut creators: Vec<_> = (0..20).map(|_| Process::start("creator", &store, &["4"])).collect();
        for creator in &mut creators {
            assert_eq!(creator.line(TIMEOUT), "ready");
        }
        for creator in &mut creators {
            creator.send("go");
        }
        let answers: Vec<_> = creators.iter_mut().map(|creator| creator.line(TIMEOUT)).collect();
        let created = answers.iter().filter(|line| *line == "created").count();
        let full = answers.iter().filter(|line| *line == "MAX_SESSIONS").count();
        assert_eq!((created, full), (4, 16), "round {round}: {answers:?}");
        let manager = manager(&store).await;
        assert_eq!(manager.list_active_sessions().await.unwrap().heads.len(), 4, "round {round}");
        for creator in &mut creators {
            creator.kill();
        }
    }
    println!("tally: rushes={rounds}");
}
