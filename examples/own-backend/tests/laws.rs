//! All laws, on a real file and on a disk in memory that supports power loss and failed flushes.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use own_backend::RedbStorage;
use redb::{Database, ReadableDatabase as _, StorageBackend, TableDefinition};
use session_core::backend::{MemoryStorage, SessionStorage};
use session_core::{SessionId, StorageError};
use session_testkit::random::Random;
use session_testkit::{Crash, Damage, Harness, Kept, NotSupported, compare_backends, random, storage_laws};

/// The disk's file: live bytes, bytes that survive power loss, and the changes between them.
#[derive(Debug, Clone, Default)]
struct File {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    fails: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Write(at, data) => {
                bytes.resize(bytes.len().max(at + data.len()), 0);
                bytes[*at..at + data.len()].copy_from_slice(data);
            }
        }
    }
}

impl File {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    /// Returns the file after a crash.
    fn after(mut self, crash: Crash) -> Self {
        let kept: Box<dyn FnMut() -> bool> = match crash {
            Crash::PowerLoss(Kept::Nothing) => Box::new(|| false),
            Crash::PowerLoss(Kept::Everything) => Box::new(|| true),
            Crash::PowerLoss(Kept::Some(seed)) => {
                let mut random = Random::new(seed);
                Box::new(move || random.one_in(2))
            }
            // A kill does not lose data that the operating system has.
            _ => return Self { fails: false, ..self },
        };
        let mut kept = kept;
        for change in self.pending.drain(..) {
            // In this model only writes are lost, never changes of the length.
            if matches!(change, Change::Length(_)) || kept() {
                change.apply(&mut self.durable);
            }
        }
        Self { live: self.durable.clone(), durable: self.durable, pending: Vec::new(), fails: false }
    }
}

#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<File>>);

impl Disk {
    fn file(&self) -> MutexGuard<'_, File> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).expect("the file is in memory");
        let file = self.file();
        let bytes = file.live.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file().change(Change::Length(usize::try_from(len).expect("the file is in memory")));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut file = self.file();
        if std::mem::take(&mut file.fails) {
            // Like real systems: the lost data is treated as clean from now on.
            file.pending.clear();
            return Err(io::Error::other("the flush failed"));
        }
        let File { durable, pending, .. } = &mut *file;
        pending.drain(..).for_each(|change| change.apply(durable));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file()
            .change(Change::Write(usize::try_from(offset).expect("the file is in memory"), data.to_vec()));
        Ok(())
    }
}

/// Damages the rows of a session, bypassing the storage.
fn damage_rows(database: &Database, id: SessionId, damage: Damage) {
    const RECORDS: TableDefinition<'_, (u128, u64), &str> = TableDefinition::new("records");
    let session = u128::from_be_bytes(*id.as_bytes());
    let all = (session, 0)..=(session, u64::MAX);
    let read = database.begin_read().unwrap();
    let rows = read.open_table(RECORDS).unwrap();
    let mut lines: Vec<Vec<u8>> =
        rows.range(all.clone()).unwrap().map(|row| row.unwrap().1.value().as_bytes().to_vec()).collect();
    damage.apply(&mut lines, |line| line);
    let write = database.begin_write().unwrap();
    {
        let mut rows = write.open_table(RECORDS).unwrap();
        rows.retain_in(all, |_, _| false).unwrap();
        for (revision, line) in (1..).zip(&lines) {
            // The flipped bit may make the line invalid UTF-8, which redb cannot store as text: it is replaced.
            rows.insert((session, revision), &*String::from_utf8_lossy(line)).unwrap();
        }
    }
    write.commit().unwrap();
}

/// A harness with one process, whose handles are clones, because redb does not share a database.
#[derive(Default)]
struct InMemory {
    disk: Mutex<Disk>,
    open: Mutex<Option<RedbStorage>>,
}

#[async_trait]
impl Harness for InMemory {
    async fn open(&self) -> Result<Arc<dyn SessionStorage>, StorageError> {
        let mut open = self.open.lock().unwrap();
        if open.is_none() {
            let disk = self.disk.lock().unwrap().clone();
            *open = Some(RedbStorage::with_backend("a disk in memory", move || Ok(disk.clone()))?);
        }
        Ok(Arc::new(open.clone().expect("the database was opened")))
    }

    async fn crash(&self, crash: Crash) -> Result<(), NotSupported> {
        let mut disk = self.disk.lock().unwrap();
        // Open handles keep the old disk and cannot change the new one.
        let file = disk.file().clone().after(crash);
        *disk = Disk(Arc::new(Mutex::new(file)));
        self.open.lock().unwrap().take();
        Ok(())
    }

    async fn fail_next_flush(&self) -> Result<(), NotSupported> {
        self.disk.lock().unwrap().file().fails = true;
        Ok(())
    }

    async fn damage(&self, id: SessionId, damage: Damage) -> Result<(), NotSupported> {
        self.open.lock().unwrap().take();
        let disk = self.disk.lock().unwrap().clone();
        damage_rows(&Database::builder().create_with_backend(disk).unwrap(), id, damage);
        Ok(())
    }
}

mod in_memory {
    use super::*;

    storage_laws!(|| async { InMemory::default() });
}

mod file {
    use super::*;

    struct Folder(tempfile::TempDir, Mutex<Option<RedbStorage>>);

    #[async_trait]
    impl Harness for Folder {
        async fn open(&self) -> Result<Arc<dyn SessionStorage>, StorageError> {
            let mut open = self.1.lock().unwrap();
            if open.is_none() {
                *open = Some(RedbStorage::open(self.0.path().join("sessions.redb"))?);
            }
            Ok(Arc::new(open.clone().expect("the database was opened")))
        }

        async fn crash(&self, _: Crash) -> Result<(), NotSupported> {
            Err(NotSupported("a test can neither kill itself nor cut the power of a real disk"))
        }

        async fn fail_next_flush(&self) -> Result<(), NotSupported> {
            Err(NotSupported("a real disk cannot be made to fail"))
        }

        async fn damage(&self, id: SessionId, damage: Damage) -> Result<(), NotSupported> {
            self.1.lock().unwrap().take();
            damage_rows(&Database::create(self.0.path().join("sessions.redb")).unwrap(), id, damage);
            Ok(())
        }
    }

    storage_laws!(|| async { Folder(tempfile::tempdir().expect("a temporary folder"), Mutex::default()) });
}

/// The same random calls as in `sessionkit/tests/backends.rs`. `SESSION_BACKENDS_SEQUENCES` sets another number.
#[tokio::test]
async fn it_returns_the_same_results_as_the_memory_storage() {
    let sequences = std::env::var("SESSION_BACKENDS_SEQUENCES").map_or(200, |n| n.parse().unwrap());
    let memory: Arc<dyn SessionStorage> = Arc::new(MemoryStorage::new());
    let disk = Disk::default();
    let redb: Arc<dyn SessionStorage> =
        Arc::new(RedbStorage::with_backend("a disk in memory", move || Ok(disk.clone())).unwrap());
    let storages = [("memory".to_owned(), vec![memory; 2]), ("redb".to_owned(), vec![redb; 2])];
    for seed in random::seeds(sequences) {
        compare_backends(&storages, seed, 200).await.unwrap();
    }
}
