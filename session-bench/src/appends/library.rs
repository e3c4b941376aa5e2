//! This library's contenders: a backend alone, with prepared batches, and the manager on the file backend.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use session_core::backend::{Batch, Expected, LocalPresence, SessionStorage, Tip};
use session_core::maintenance::StorageMaintenance as _;
use session_core::{
    Durability, ManagerOptions, PersistentSessionManager, Session, SessionConfig, SessionManager,
};
use session_storage_file::{FileStorage, FileStorageOptions};
use tokio::runtime::Runtime;

use super::race::{self, Round};
use super::{Contender, Location};
use crate::events::{self, Log};
use crate::stats::micros;

/// Sessions that are created concurrently during preparation.
const CONCURRENT_CREATIONS: usize = 16;

pub(super) fn storage(place: &Location) -> FileStorage {
    let options = FileStorageOptions::new(place.folder.join("store"));
    FileStorage::with_disk(Arc::clone(&place.disk), options).expect("a store can be opened")
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be created")
}

/// A storage alone, with prepared batches.
pub(super) struct Backend {
    name: String,
    runtime: Runtime,
    storage: Arc<dyn SessionStorage>,
    sessions: Vec<(Log, VecDeque<(Tip, Batch)>)>,
}

impl Backend {
    /// Creates a file backend on the given disk.
    pub(super) fn file(place: &Location, sessions: usize) -> Self {
        Self::new(Arc::new(storage(place)), sessions)
    }

    pub(super) fn new(storage: Arc<dyn SessionStorage>, sessions: usize) -> Self {
        let (name, runtime) = (format!("{} backend, bare", storage.profile().name), runtime());
        let owner = session_core::backend::this_process().expect("the identity of this process can be read");
        let logs = (0..sessions).map(|number| Log::begin(&format!("bench-{number}"), &owner));
        let sessions = runtime.block_on(async {
            let mut created = Vec::new();
            for (log, records) in logs {
                let batch = Batch::new(records, log.head.clone());
                let creating = storage.append(log.head.id, Expected::Absent, batch, Durability::Flushed);
                creating.await.expect("a session can be created");
                created.push((log, VecDeque::new()));
            }
            created
        });
        Self { name, runtime, storage, sessions }
    }
}

impl Contender for Backend {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn prepare(&mut self, each: usize) {
        for (log, batches) in &mut self.sessions {
            for _ in 0..each {
                let before = log.head.tip;
                let record = log.next(events::command());
                batches.push_back((before, Batch::new(vec![record], log.head.clone())));
            }
        }
    }

    fn run(&mut self) -> Round {
        let session = |(log, batches): &mut (Log, VecDeque<(Tip, Batch)>)| {
            let (id, batches, storage) = (log.head.id, std::mem::take(batches), Arc::clone(&self.storage));
            async move {
                let mut latencies = Vec::with_capacity(batches.len());
                for (before, batch) in batches {
                    let start = Instant::now();
                    let appended = storage.append(id, Expected::At(before), batch, Durability::Flushed).await;
                    latencies.push(micros(start.elapsed()));
                    appended.expect("the append succeeds");
                }
                latencies
            }
        };
        race::tasks(&self.runtime, self.sessions.iter_mut().map(session).collect())
    }
}

/// Opens a manager on a store of its own.
pub(crate) async fn manager(storage: FileStorage, owners: &Path) -> PersistentSessionManager<FileStorage> {
    let presence = Arc::new(LocalPresence::new(owners));
    let options = ManagerOptions::new().recovery(None);
    PersistentSessionManager::open(Arc::new(storage), presence, options)
        .await
        .expect("a manager can be opened")
}

/// Creates and starts sessions, some concurrently.
pub(crate) async fn start(manager: &Arc<dyn SessionManager>, sessions: usize) -> Vec<Session> {
    let mut creators = tokio::task::JoinSet::new();
    for creator in 0..CONCURRENT_CREATIONS {
        let manager = Arc::clone(manager);
        creators.spawn(async move {
            let mut created = Vec::new();
            for number in (creator..sessions).step_by(CONCURRENT_CREATIONS) {
                let config = SessionConfig::new("bench").name(format!("bench-{number}"));
                let id = manager.create_session(config).await.expect("a session can be created");
                created.push(manager.start_session(id).await.expect("a session can be started"));
            }
            created
        });
    }
    creators.join_all().await.into_iter().flatten().collect()
}

/// The manager, as a program uses it.
pub(super) struct Managed {
    runtime: Runtime,
    manager: PersistentSessionManager<FileStorage>,
    sessions: Vec<Session>,
    each: usize,
}

impl Managed {
    pub(super) fn new(place: &Location, sessions: usize) -> Self {
        let (runtime, storage) = (runtime(), storage(place));
        let owners = storage.owners_dir();
        let manager = runtime.block_on(manager(storage, &owners));
        let sessions = runtime.block_on(start(&manager.to_shared(), sessions));
        Self { runtime, manager, sessions, each: 0 }
    }
}

impl Contender for Managed {
    fn name(&self) -> String {
        "through the manager".to_owned()
    }

    fn prepare(&mut self, each: usize) {
        self.each = each;
    }

    fn run(&mut self) -> Round {
        let session = |session: &Session| {
            let (id, manager, each) = (session.id(), self.manager.clone(), self.each);
            async move {
                let mut latencies = Vec::with_capacity(each);
                for _ in 0..each {
                    let start = Instant::now();
                    let recorded = manager.record_event(id, events::command()).await;
                    latencies.push(micros(start.elapsed()));
                    recorded.expect("the event is recorded");
                }
                latencies
            }
        };
        race::tasks(&self.runtime, self.sessions.iter().map(session).collect())
    }
}
