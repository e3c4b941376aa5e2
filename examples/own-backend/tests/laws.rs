//! All laws, on a file of the system and on a disk in memory whose power can be cut and whose flushes can fail.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use own_backend::RedbStorage;
use redb::{Database, ReadableDatabase as _, StorageBackend, TableDefinition};
use session_core::{MemoryStorage, SessionId, SessionStorage, StorageError};
use session_testkit::random::Random;
use session_testkit::{Crash, Damage, Kept, Harness, NotSupported, random, compare_backends, storage_laws};

/// The disk's file: as it is seen, as it is after a loss of power, and what is on its way from the one to the other.
#[derive(Debug, Clone, Default)]
struct File {
    seen: Vec<u8>,
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
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    /// What a crash leaves.
    fn after(mut self, crash: Crash) -> Self {
        let kept: Box<dyn FnMut() -> bool> = match crash {
            Crash::PowerLoss(Kept::Nothing) => Box::new(|| false),
            Crash::PowerLoss(Kept::Everything) => Box::new(|| true),
            Crash::PowerLoss(Kept::Some(seed)) => {
                let mut random = Random::new(seed);
                Box::new(move || random.one_in(2))
            }
            // A kill takes nothing that the system has.
            _ => return Self { fails: false, ..self },
        };
        let mut kept = kept;
        for change in self.pending.drain(..) {
            // A file never shrinks by half.
            if matches!(change, Change::Length(_)) || kept() {
                change.apply(&mut self.durable);
            }
        }
        Self { seen: self.durable.clone(), durable: self.durable, pending: Vec::new(), fails: false }
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
        Ok(self.file().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).expect("the file is in memory");
        let file = self.file();
        let bytes = file.seen.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
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
            // As systems do: it counts as written from now on, and is not.
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

/// The rows of a session, changed behind the storage's back.
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
            // A bit may make it something that is no text; redb gives back texts only, so the nearest one stands for it.
            rows.insert((session, revision), &*String::from_utf8_lossy(line)).unwrap();
        }
    }
    write.commit().unwrap();
}

/// One process, whose handles are clones: nobody else can have the database meanwhile.
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
        Ok(Arc::new(open.clone().expect("it was opened")))
    }

    async fn crash(&self, crash: Crash) -> Result<(), NotSupported> {
        let mut disk = self.disk.lock().unwrap();
        // The handles that are open stay with the disk as it was, and change nothing on this one.
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
            Ok(Arc::new(open.clone().expect("it was opened")))
        }

        async fn crash(&self, _: Crash) -> Result<(), NotSupported> {
            Err(NotSupported("a test can neither kill itself nor cut the power of a real disk"))
        }

        async fn fail_next_flush(&self) -> Result<(), NotSupported> {
            Err(NotSupported("a real disk fails when it wants to"))
        }

        async fn damage(&self, id: SessionId, damage: Damage) -> Result<(), NotSupported> {
            self.1.lock().unwrap().take();
            damage_rows(&Database::create(self.0.path().join("sessions.redb")).unwrap(), id, damage);
            Ok(())
        }
    }

    storage_laws!(|| async { Folder(tempfile::tempdir().expect("a temporary folder"), Mutex::default()) });
}

/// Random calls, as `sessionkit/tests/backends.rs` makes them to all backends of the project: the same answers.
/// `SESSION_BACKENDS_SEQUENCES` asks for more of them.
#[tokio::test]
async fn it_answers_as_the_storage_in_memory_does() {
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
