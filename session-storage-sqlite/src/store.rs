//! A store's paths, the checks of its files, and its marks, shared by all connections. Only `SQLite` opens the database
//! file: closing any other descriptor of it would release all POSIX locks of this process on it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};
use session_core::StorageError;
use session_storage_engine::{
    FileIdentity, FileKind, Folders, IoContext as _, Marks, Reserve, StoreId, refuse_remote, stat_path,
};

use crate::error::{DbContext as _, newer};
use crate::list::IndexHints;
use crate::options::SqliteStorageOptions;
use crate::schema;
use crate::schema_check::{self, IndexDamage};
use crate::statement_limit::StatementLimit;

/// The first and the longest pause while waiting for another process.
const BUSY_PAUSES: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(10));
/// Pages of the write-ahead log after which it is checkpointed: commits of many sessions touch many pages, and of a
/// page that is written repeatedly only the last version is copied.
const WAL_PAGES: i64 = 4096;
/// Bytes of the log file kept after a checkpoint: all these pages, and some more that a commit of many sessions adds.
const WAL_KEPT: i64 = WAL_PAGES * 5000;
/// The page cache of the writer, in KiB: sessions with random ids touch many pages.
pub(crate) const CACHE: i64 = 16 << 10;
/// The longest value that a reader takes from a database, in bytes: more than any row of ours has.
const LONGEST_VALUE: i32 = 4 << 20;
/// The number of prepared statements that a connection caches.
const STATEMENTS: usize = 64;

/// Bytes of room for deletions on a full disk: the write-ahead log of one that removes a large session, and the index of
/// that log in shared memory.
const RESERVE: u64 = 2 << 20;
/// Bytes of it that are kept from processes that only read.
const DELETE_RESERVE: u64 = RESERVE / 4;

/// A store, used in blocking calls only.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    pub(crate) folders: Folders,
    pub(crate) reserve: Reserve,
    lock_timeout: Duration,
    statement_timeout: Duration,
    max_pages: Option<u32>,
    opened: Mutex<Option<OpenedStore>>,
}

/// The database that was opened last, by identity, with its marks.
#[derive(Debug, Clone)]
struct OpenedStore {
    identity: FileIdentity,
    marks: Arc<Marks>,
}

/// An open database.
#[derive(Debug)]
pub(crate) struct Db {
    pub(crate) connection: Connection,
    pub(crate) marks: Arc<Marks>,
    identity: FileIdentity,
    pub(crate) limit: StatementLimit,
    /// The indexes that are missing or wrong: until they are rebuilt, no statement names an index.
    pub(crate) index_damage: IndexDamage,
    /// A sentence for each index that was rebuilt when the database was opened.
    pub(crate) rebuilt: Vec<String>,
    /// The schema version, if it is newer than the one of this code.
    pub(crate) newer: Option<i64>,
}

impl Db {
    /// Returns `Named` if all indexes are as they should be.
    pub(crate) const fn index_hints(&self) -> IndexHints {
        if self.index_damage.problems.is_empty() { IndexHints::Named } else { IndexHints::None }
    }
}

/// The purpose of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl Store {
    pub(crate) fn new(options: SqliteStorageOptions) -> Result<Self, StorageError> {
        let SqliteStorageOptions { path, lock_timeout, statement_timeout, read_threads: _, max_pages } =
            options;
        let path = path.as_path();
        let Some(name) = path.file_name() else {
            return Err(StorageError::InvalidArgument {
                what: format!("{} has no file name for a database", path.display()),
            });
        };
        refuse_remote(path)?;
        // Links above the store are the user's own and are resolved here; SQLite is opened with NOFOLLOW.
        let absolute = std::path::absolute(path).context("resolve", path)?;
        let path = without_links(absolute.parent().unwrap_or(Path::new("/"))).join(name);
        let folders = Folders::new(sibling(&path, "-files"));
        let reserve = Reserve::new(&folders, RESERVE);
        Ok(Self {
            path,
            folders,
            reserve,
            lock_timeout,
            statement_timeout,
            max_pages,
            opened: Mutex::default(),
        })
    }

    /// Returns the path of the database file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the identity of the database file, judged by names and file types only; `None` if there is no store yet.
    pub(crate) fn find_database(&self) -> Result<Option<FileIdentity>, StorageError> {
        Folders::is_folder(self.folders.root())?;
        let siblings = ["-wal", "-shm", "-journal"].map(|ending| sibling(&self.path, ending));
        let mut leftover = None;
        for path in &siblings {
            if Folders::is_file(path)? {
                leftover = Some(path);
            }
        }
        match stat_path(&self.path).context("stat", &self.path)? {
            Some((FileKind::File, identity)) => return Ok(Some(identity)),
            Some((FileKind::Folder | FileKind::Other, _)) => {
                return Err(self.unavailable("is not a regular file: move it elsewhere, then try again"));
            }
            None => {}
        }
        if let Some(found) = Marks::read_summary(&self.folders.marks())? {
            let what = format!(
                "is missing, but {} lists {} sessions that were stored in it: restore the database, or move {} elsewhere as \
                 well",
                self.folders.marks().display(),
                found.sessions,
                self.folders.root().display()
            );
            return Err(self.unavailable(&what));
        }
        match leftover {
            Some(leftover) => {
                let what = format!(
                    "is missing, but {} belongs to it: restore the database, or move that file elsewhere",
                    leftover.display()
                );
                Err(self.unavailable(&what))
            }
            None => Ok(None),
        }
    }

    /// Opens the database; `None` if there is no store yet. On a full disk this needs some reserved room, for the index
    /// of the write-ahead log.
    pub(crate) fn connect(&self, access: Access) -> Result<Option<Db>, StorageError> {
        let connected = match self.connect_once(access) {
            Err(StorageError::Full { .. }) if self.reserve.release_part(DELETE_RESERVE) => {
                self.connect_once(access)
            }
            connected => connected,
        };
        if access == Access::Write && matches!(&connected, Ok(Some(_))) {
            self.reserve.fill();
        }
        connected
    }

    fn connect_once(&self, access: Access) -> Result<Option<Db>, StorageError> {
        let Some(identity) = self.find_database()? else { return Ok(None) };
        self.check_application(identity)?;
        let flags = match access {
            Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
        };
        let (mut connection, limit) = self.open(flags)?;
        let version = schema::version(&connection).context("read", &self.path)?;
        // Before any statement uses a table.
        let mut index_damage = self.check_schema(&connection, version)?;
        if version > schema::VERSION
            && schema::readers(&connection).context("read", &self.path)? > schema::VERSION
        {
            return Err(newer(&self.path, version));
        }
        if access == Access::Read {
            connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST_VALUE).context("open", &self.path)?;
        }
        if access == Access::Write && version < schema::VERSION {
            // For as long as it takes to copy the logs.
            limit.suspend();
            schema::migrate(&mut connection).context("migrate", &self.path)?;
            limit.restart();
            index_damage = self.check_schema(&connection, schema::VERSION)?;
        }
        let (newer, mut rebuilt) = ((version > schema::VERSION).then_some(version), Vec::new());
        if access == Access::Write {
            self.prepare(&connection).context("open", &self.path)?;
            if !index_damage.problems.is_empty() && newer.is_none() {
                limit.suspend();
                rebuilt.clone_from(&index_damage.problems);
                index_damage = self.rebuild_indexes(&mut connection, index_damage);
                rebuilt.retain(|problem| !index_damage.problems.contains(problem));
                limit.restart();
            }
        }
        let marks = self.marks_for(identity, &connection)?;
        Ok(Some(Db { connection, marks, identity, limit, index_damage, rebuilt, newer }))
    }

    fn check_schema(&self, connection: &Connection, version: i64) -> Result<IndexDamage, StorageError> {
        schema_check::check(connection, version)
            .context("read", &self.path)?
            .map_err(|problem| self.unavailable(&problem))
    }

    /// Rebuilds wrong indexes; returns those that are still wrong. Everything works without them, only slower.
    fn rebuild_indexes(&self, connection: &mut Connection, damage: IndexDamage) -> IndexDamage {
        match schema_check::rebuild_indexes(connection) {
            Ok(()) => {
                tracing::warn!(store = %self.path.display(), problems = ?damage.problems, "rebuilt indexes");
                IndexDamage::default()
            }
            Err(error) => {
                let problems = &damage.problems;
                tracing::warn!(store = %self.path.display(), ?problems, %error, "could not rebuild indexes");
                damage
            }
        }
    }

    fn open(&self, access: OpenFlags) -> Result<(Connection, StatementLimit), StorageError> {
        let flags = access | OpenFlags::SQLITE_OPEN_NOFOLLOW | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || -> rusqlite::Result<(Connection, StatementLimit)> {
            let mut connection = Connection::open_with_flags(&self.path, flags)?;
            let limit = StatementLimit::new(&mut connection, self.statement_timeout)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            // The content of a damaged or hostile file must not run as code.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
            // One query plan for all values: a statement is prepared once, not again for each bound id.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
            connection.pragma_update(None, "trusted_schema", false)?;
            connection.pragma_update(None, "cell_size_check", true)?;
            Ok((self.wait_for_others(connection)?, limit))
        };
        open().context("open", &self.path)
    }

    /// Sets a busy handler that waits for writing processes up to the timeout, with growing pauses.
    fn wait_for_others(&self, mut connection: Connection) -> rusqlite::Result<Connection> {
        let timeout = self.lock_timeout;
        let mut since = Instant::now();
        connection.busy_handler(Some(move |tries: i32| {
            if tries == 0 {
                since = Instant::now();
            }
            let remaining = timeout.saturating_sub(since.elapsed());
            let pause = BUSY_PAUSES.0 * 2u32.saturating_pow(u32::try_from(tries).unwrap_or(0).min(8));
            thread::sleep(pause.min(BUSY_PAUSES.1).min(remaining));
            !remaining.is_zero()
        }))?;
        Ok(connection)
    }

    fn prepare(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "journal_size_limit", WAL_KEPT)?;
        connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
        connection.pragma_update(None, "cache_size", -CACHE)?;
        if let Some(pages) = self.max_pages {
            connection.pragma_update(None, "max_page_count", pages)?;
        }
        Ok(())
    }

    /// Returns `true` if the file at the path is still the opened one.
    pub(crate) fn is_current(&self, db: &Db) -> bool {
        matches!(stat_path(&self.path), Ok(Some((_, identity))) if identity == db.identity)
    }

    /// Refuses a database of another application without changing it: reads its header without locks and without the
    /// files that `SQLite` creates next to it.
    fn check_application(&self, identity: FileIdentity) -> Result<(), StorageError> {
        if self.opened().as_ref().is_some_and(|opened| opened.identity == identity) {
            return Ok(());
        }
        let read_id = |path: &Path| -> rusqlite::Result<i64> {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
                | OpenFlags::SQLITE_OPEN_URI
                | OpenFlags::SQLITE_OPEN_NOFOLLOW
                | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = self.wait_for_others(Connection::open_with_flags(path, flags)?)?;
            connection.pragma_query_value(None, "application_id", |row| row.get(0))
        };
        let application_id = match read_id(&immutable(&self.path)) {
            // During a checkpoint, or after one that was killed, the database is consistent only together with its log.
            // The log exists already, so reading both creates no file.
            Err(_) if Folders::is_file(&sibling(&self.path, "-wal"))? => read_id(&self.path),
            result => result,
        };
        if application_id.context("read", &self.path)? == schema::APPLICATION {
            return Ok(());
        }
        Err(self.unavailable("is not a session store: choose another path; it was not changed"))
    }

    fn marks_for(&self, identity: FileIdentity, connection: &Connection) -> Result<Arc<Marks>, StorageError> {
        let mut opened = self.opened();
        if let Some(opened) = &*opened
            && opened.identity == identity
        {
            return Ok(Arc::clone(&opened.marks));
        }
        let store: Option<String> = schema::meta(connection, "store").context("read", &self.path)?;
        let store: Option<StoreId> = store.and_then(|store| store.parse().ok());
        let Some(store) = store else {
            return Err(self.unavailable("has no store id: restore it, or choose another store"));
        };
        let marks = Arc::new(Marks::open(self.folders.marks(), store)?);
        *opened = Some(OpenedStore { identity, marks: Arc::clone(&marks) });
        Ok(marks)
    }

    fn opened(&self) -> MutexGuard<'_, Option<OpenedStore>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn unavailable(&self, what: &str) -> StorageError {
        StorageError::Unavailable { what: format!("{} {what}", self.path.display()), source: None }
    }

    /// Creates the error of a store that has less than was acknowledged.
    pub(crate) fn behind_marks(&self, found: u64, expected: u64) -> StorageError {
        let what = format!(
            "has lost acknowledged changes: it is at change {found}, but change {expected} was stored. It can be read. If \
             it cannot be restored, `sessionctl verify --repair --accept-loss` accepts the loss"
        );
        self.unavailable(&what)
    }
}

/// Resolves the links in the existing part of a folder's path.
fn without_links(folder: &Path) -> PathBuf {
    let existing = folder.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let Some((above, found)) = existing else { return folder.to_owned() };
    folder.strip_prefix(above).map_or_else(|_| folder.to_owned(), |rest| found.join(rest))
}

/// Returns the path of a file next to the database: its name with a suffix.
pub(crate) fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// Returns a URI under which `SQLite` reads a file as if on a read-only medium.
fn immutable(path: &Path) -> PathBuf {
    let mut uri = b"file:".to_vec();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => uri.push(*byte),
            other => uri.extend_from_slice(format!("%{other:02X}").as_bytes()),
        }
    }
    uri.extend_from_slice(b"?immutable=1");
    OsStr::from_bytes(&uri).into()
}
