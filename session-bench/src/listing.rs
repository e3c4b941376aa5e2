//! Stores with many sessions: time of lists, and memory of idle sessions.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use session_core::backend::{Batch, Expected, SessionStorage, SessionStorageExt as _};
use session_core::maintenance::StorageMaintenance as _;
use session_core::{
    Durability, InMemorySessionManager, Question, SessionConfig, SessionEvent, SessionFilter, SessionManager,
    SessionSummary, StepIdentity,
};
use session_storage_file::{FileStorage, FileStorageOptions};
use tokio::runtime::Runtime;

use crate::Settings;
use crate::appends::{manager, runtime, start};
use crate::device::{Device, SlowDisk};
use crate::events::Log;
use crate::report::{Bound, Section};
use crate::stats::{count, median, millis};

/// Active sessions in each store.
pub(crate) const ACTIVE: usize = 1000;
/// Sessions that are created concurrently.
const CONCURRENT_CREATIONS: usize = 32;

/// Opens the store at this path, with nothing cached in the process.
pub(crate) fn open(path: &Path) -> FileStorage {
    FileStorage::open(FileStorageOptions::new(path)).expect("a store can be opened")
}

/// Creates a store with this number of sessions, some of them active, on a disk without flushes.
pub(crate) fn fill(runtime: &Runtime, path: &Path, sessions: usize, active: usize) {
    fill_all(runtime, &without_flushes(path), sessions, active, &config);
}

/// Creates a store like [`fill`] whose active sessions wait for an answer.
pub(crate) fn fill_asking(runtime: &Runtime, path: &Path, sessions: usize, asking: usize) {
    let event = |number| {
        if number >= asking {
            return Some(SessionEvent::Completed { summary: SessionSummary::new() });
        }
        let mut question =
            Question::new(StepIdentity::nth("deploy", 1), "Deploy this version to production?");
        question.choices = vec!["yes".to_owned(), "no".to_owned()];
        Some(SessionEvent::Asked { question: Box::new(question) })
    };
    fill_with(runtime, &without_flushes(path), sessions, &config, &event);
}

fn without_flushes(path: &Path) -> FileStorage {
    let disk = Arc::new(SlowDisk(Device::instant()));
    FileStorage::with_disk(disk, FileStorageOptions::new(path)).expect("a store can be opened")
}

fn config(number: usize) -> SessionConfig {
    SessionConfig::new("bench").name(format!("import-{number}"))
}

/// Creates this number of sessions in a storage, some of them active.
pub(crate) fn fill_all(
    runtime: &Runtime,
    storage: &(impl SessionStorage + Clone + 'static),
    sessions: usize,
    active: usize,
    config: &dyn Fn(usize) -> SessionConfig,
) {
    let end = |number| (number >= active).then(|| SessionEvent::Completed { summary: SessionSummary::new() });
    fill_with(runtime, storage, sessions, config, &end);
}

/// Creates this number of sessions in a storage, each started and with a last event.
fn fill_with(
    runtime: &Runtime,
    storage: &(impl SessionStorage + Clone + 'static),
    sessions: usize,
    config: &dyn Fn(usize) -> SessionConfig,
    event: &dyn Fn(usize) -> Option<SessionEvent>,
) {
    let owner = session_core::backend::this_process().expect("the identity of this process can be read");
    runtime.block_on(async {
        let mut creators = tokio::task::JoinSet::new();
        for number in 0..sessions {
            let (mut log, mut records) = Log::begin_with(config(number), &owner);
            records.extend(event(number).map(|event| log.next(event)));
            let storage = storage.clone();
            if creators.len() >= CONCURRENT_CREATIONS {
                creators.join_next().await.expect("there is one").expect("a session can be created");
            }
            creators.spawn(async move {
                let batch = Batch::new(records, log.head.clone());
                let created = storage.append(log.head.id, Expected::Absent, batch, Durability::Flushed);
                created.await.expect("a session can be created");
            });
        }
        creators.join_all().await;
    });
}

/// Measures lists of stores of different sizes.
pub(crate) fn lists(settings: &Settings) -> Vec<Section> {
    let runtime = runtime();
    let mut sections = Vec::new();
    for &sessions in settings.store_sizes {
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
                let what = "1000 active of 10000, again, ms";
                section.target(what, median(&warm), Bound::AtMost(10.0));
            }
        }
        sections.push(section);
        sections.push(memory(sessions, &path));
        std::fs::remove_dir_all(&path).expect("a store can be removed");
    }
    sections
}

/// Measures the memory of an idle session, in child processes.
fn memory(sessions: usize, path: &Path) -> Section {
    let mut section = Section::new(format!("memory of each of {sessions} idle sessions"), &["bytes"]);
    let measure = |kind: &str| {
        let this = std::env::current_exe().expect("the path of this program can be read");
        let output = std::process::Command::new(this)
            .args([crate::MEMORY, kind, &sessions.to_string()])
            .arg(path)
            .output()
            .expect("a program can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let bytes: f64 =
            String::from_utf8_lossy(&output.stdout).trim().parse().expect("the child prints a number");
        bytes / count(sessions)
    };
    let idle = measure("file");
    section.row("not owned by this process, file", &[idle]);
    section.row("not owned by this process, in memory, with log", &[measure("memory")]);
    if sessions <= 10_000 {
        section.row("owned by this process, in memory, with log", &[measure("owned")]);
    }
    section.target("memory of a session not owned by this process, bytes", idle, Bound::AtMost(2048.0));
    section
}

/// Measures by how many bytes this process grows. [`memory`] runs it in a child process.
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
                        manager.get_state(head.id).await.expect("the state of a session can be read");
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
                let storage = session_core::backend::MemoryStorage::new();
                let owner =
                    session_core::backend::this_process().expect("the identity of this process can be read");
                let before = resident();
                for number in 0..sessions {
                    let (log, records) = Log::begin(&format!("import-{number}"), &owner);
                    let batch = Batch::new(records, log.head.clone());
                    let created = storage.append(log.head.id, Expected::Absent, batch, Durability::Flushed);
                    created.await.expect("a session can be created");
                }
                resident().saturating_sub(before)
            }
        }
    });
    grown.to_string()
}

/// Returns the resident memory of this process in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the status of a process can be read");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("the status contains the resident memory") * 1024
}
