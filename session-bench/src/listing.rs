//! Stores with many sessions: how long lists take, and what an idle session costs in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use session_core::{
    Batch, Durability, Expected, InMemorySessionManager, SessionConfig, SessionEvent, SessionFilter,
    SessionManager, SessionStorage, SessionStorageExt as _, SessionSummary, StorageMaintenance as _,
};
use session_storage_file::{FileStorage, FileStorageOptions};
use tokio::runtime::Runtime;

use crate::Settings;
use crate::appends::{manager, runtime, start};
use crate::device::{Device, SlowDisk};
use crate::events::Log;
use crate::report::{Bound, Section};
use crate::stats::{count, median, millis};

/// Unended sessions of each store.
pub(crate) const ACTIVE: usize = 1000;
/// Sessions that are made at once.
const AT_ONCE: usize = 32;

/// The store at this path, as a process opens it that has seen nothing yet.
pub(crate) fn open(path: &Path) -> FileStorage {
    FileStorage::open(FileStorageOptions::new(path)).expect("a store can be opened")
}

/// A store of so many sessions, of which some are unended, made on a disk that flushes nothing.
pub(crate) fn fill(runtime: &Runtime, path: &Path, sessions: usize, active: usize) {
    let options = FileStorageOptions::new(path);
    let disk = Arc::new(SlowDisk(Device::idle()));
    let storage = FileStorage::with_disk(disk, options).expect("a store can be opened");
    let config = |number| SessionConfig::new("bench").name(format!("import-{number}"));
    fill_all(runtime, &storage, sessions, active, &config);
}

/// Makes so many sessions, of which some are unended.
pub(crate) fn fill_all(
    runtime: &Runtime,
    storage: &(impl SessionStorage + Clone + 'static),
    sessions: usize,
    active: usize,
    config: &dyn Fn(usize) -> SessionConfig,
) {
    let owner = session_core::this_process().expect("a process knows itself");
    runtime.block_on(async {
        let mut makers = tokio::task::JoinSet::new();
        for number in 0..sessions {
            let (mut log, mut records) = Log::begin_with(config(number), &owner);
            if number >= active {
                records.push(log.next(SessionEvent::Completed { summary: SessionSummary::new() }));
            }
            let storage = storage.clone();
            if makers.len() >= AT_ONCE {
                makers.join_next().await.expect("there is one").expect("a session can be made");
            }
            makers.spawn(async move {
                let batch = Batch::new(records, log.head.clone());
                let made = storage.append(log.head.id, Expected::Absent, batch, Durability::Flushed);
                made.await.expect("a session can be made");
            });
        }
        makers.join_all().await;
    });
}

/// Lists of stores of different sizes.
pub(crate) fn lists(settings: &Settings) -> Vec<Section> {
    let runtime = runtime();
    let mut sections = Vec::new();
    for &sessions in settings.stores {
        eprintln!("a store of {sessions} sessions …");
        let path = settings.folder.join(format!("list-{sessions}"));
        fill(&runtime, &path, sessions, ACTIVE);
        let title = format!("lists of {sessions} sessions, {ACTIVE} of them active");
        let mut section = Section::new(title, &["ms", "us/session"]);
        let filters = [("active", SessionFilter::active(), ACTIVE), ("all", SessionFilter::all(), sessions)];
        for (name, filter, expected) in filters {
            let rounds = if expected > 50_000 { 1 } else { settings.rounds };
            let list = |storage: &FileStorage| {
                let start = Instant::now();
                let page = runtime.block_on(storage.list_all(&filter)).expect("a store can be listed");
                assert_eq!(page.heads.len(), expected);
                millis(start.elapsed())
            };
            let each = |ms: f64| [ms, ms * 1e3 / count(expected)];
            if settings.drop_caches {
                let cold: Vec<f64> = (0..rounds.min(3))
                    .map(|_| {
                        std::fs::write("/proc/sys/vm/drop_caches", "3").expect("only root can drop caches");
                        list(&open(&path))
                    })
                    .collect();
                section.row(format!("{name}, nothing cached"), &each(median(&cold)));
            }
            let new: Vec<f64> = (0..rounds).map(|_| list(&open(&path))).collect();
            section.row(format!("{name}, new process"), &each(median(&new)));
            let storage = open(&path);
            list(&storage);
            let warm: Vec<f64> = (0..rounds).map(|_| list(&storage)).collect();
            section.row(format!("{name}, again"), &each(median(&warm)));
            if name == "active" && sessions == 10_000 {
                let what = "ms for 1000 active among 10000, again";
                section.aim(what, median(&warm), Bound::AtMost(10.0));
            }
        }
        sections.push(section);
        sections.push(memory(sessions, &path));
        std::fs::remove_dir_all(&path).expect("a store can be removed");
    }
    sections
}

/// What one idle session costs in memory, measured in processes of their own.
fn memory(sessions: usize, path: &Path) -> Section {
    let mut section = Section::new(format!("memory for each of {sessions} idle sessions"), &["bytes"]);
    let measure = |kind: &str| {
        let this = std::env::current_exe().expect("a process knows its program");
        let output = std::process::Command::new(this)
            .args([crate::MEMORY, kind, &sessions.to_string()])
            .arg(path)
            .output()
            .expect("a program can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let bytes: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("it prints a number");
        bytes / count(sessions)
    };
    let idle = measure("file");
    section.row("not owned here, file", &[idle]);
    section.row("not owned here, all in memory, logs included", &[measure("memory")]);
    if sessions <= 10_000 {
        section.row("owned here, in memory, logs included", &[measure("owned")]);
    }
    section.aim("bytes for one that is not owned here", idle, Bound::AtMost(2048.0));
    section
}

/// The part of [`memory`] that runs in a process of its own: prints by how many bytes it grew.
pub(crate) fn measure_memory(kind: &str, sessions: usize, path: &Path) -> String {
    let runtime = runtime();
    let grown = runtime.block_on(async {
        match kind {
            "file" => {
                let storage = open(path);
                let owners = storage.owners_dir();
                let manager = manager(storage, &owners).await;
                let before = resident();
                let mut heads = manager.storage().heads(SessionFilter::all());
                let mut seen = 0;
                while let Some(page) = heads.next_page().await.expect("a store can be listed") {
                    for head in &page.heads {
                        manager.get_state(head.id).await.expect("a session can be looked at");
                    }
                    seen += page.heads.len();
                }
                assert_eq!(seen, sessions);
                resident().saturating_sub(before)
            }
            "owned" => {
                let manager: Arc<dyn SessionManager> = Arc::new(InMemorySessionManager::new());
                let before = resident();
                let started = start(&manager, sessions).await;
                let grown = resident().saturating_sub(before);
                drop(started);
                grown
            }
            _ => {
                let storage = session_core::MemoryStorage::new();
                let owner = session_core::this_process().expect("a process knows itself");
                let before = resident();
                for number in 0..sessions {
                    let (log, records) = Log::begin(&format!("import-{number}"), &owner);
                    let batch = Batch::new(records, log.head.clone());
                    let made = storage.append(log.head.id, Expected::Absent, batch, Durability::Flushed);
                    made.await.expect("a session can be made");
                }
                resident().saturating_sub(before)
            }
        }
    });
    grown.to_string()
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the system tells of a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("the system tells how large a process is") * 1024
}
