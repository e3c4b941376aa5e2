//! What all connections to a store share: where its files are, whether they are ours, and its marks. Nothing here opens the
//! database's file but `SQLite`: closing another handle on it would let go of all locks that this process has on it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use session_core::StorageError;
use session_storage_engine::{
    Folders, Identity, IoContext as _, Kind, Marks, StoreId, identity_at, refuse_remote,
};

use crate::error::{DbContext as _, newer};
use crate::schema;

/// What a wait for another process begins with, and its longest step.
const PAUSES: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(10));
/// Pages of the write-ahead log after which it is copied into the database: commits of many sessions touch many pages, and
/// of those that come again and again only the last version is copied.
const WAL_PAGES: i64 = 4096;
/// Bytes of it that are kept then: of all these pages, and of some more that a commit of many sessions adds.
const WAL_KEPT: i64 = WAL_PAGES * 5000;
/// What the writer keeps of the database in memory, in KiB: the pages that sessions with random ids lead to.
const CACHE: i64 = 16 << 10;
/// Prepared statements that a connection keeps.
const STATEMENTS: usize = 64;

/// A store, used in blocking calls only.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    pub(crate) folders: Folders,
    lock_timeout: Duration,
    max_pages: Option<u32>,
    known: Mutex<Option<Known>>,
}

/// What was found out about the database at the path.
#[derive(Debug, Clone)]
struct Known {
    identity: Identity,
    marks: Arc<Marks>,
}

/// An open database.
#[derive(Debug)]
pub(crate) struct Db {
    pub(crate) connection: Connection,
    pub(crate) marks: Arc<Marks>,
    identity: Identity,
    /// The version of its tables, if that is newer than this one's.
    pub(crate) newer: Option<i64>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    Write,
}

impl Store {
    pub(crate) fn new(
        path: &Path,
        lock_timeout: Duration,
        max_pages: Option<u32>,
    ) -> Result<Self, StorageError> {
        let Some(name) = path.file_name() else {
            return Err(StorageError::InvalidArgument {
                what: format!("{} names no file for a database", path.display()),
            });
        };
        refuse_remote(path)?;
        // Links above the store are the user's own; SQLite follows none that it is given.
        let absolute = std::path::absolute(path).context("find", path)?;
        let path = without_links(absolute.parent().unwrap_or(Path::new("/"))).join(name);
        let folders = Folders::new(beside(&path, "-files"));
        Ok(Self { path, folders, lock_timeout, max_pages, known: Mutex::default() })
    }

    /// The database's file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What stands in the place of the database and is one, as far as names tell; `None` where there is no store yet.
    pub(crate) fn look(&self) -> Result<Option<Identity>, StorageError> {
        Folders::is_folder(self.folders.root())?;
        let beside = ["-wal", "-shm", "-journal"].map(|ending| beside(&self.path, ending));
        let mut left = None;
        for path in &beside {
            if Folders::is_file(path)? {
                left = Some(path);
            }
        }
        match identity_at(&self.path).context("look at", &self.path)? {
            Some((Kind::File, identity)) => return Ok(Some(identity)),
            Some((Kind::Folder | Kind::Other, _)) => {
                return Err(self.unavailable("is not a regular file: put it away and try again"));
            }
            None => {}
        }
        if let Some(found) = Marks::find(&self.folders.marks())? {
            let what = format!(
                "is missing, and {} knows of {} sessions that were stored in it: put it back, or put {} away as well",
                self.folders.marks().display(),
                found.sessions,
                self.folders.root().display()
            );
            return Err(self.unavailable(&what));
        }
        match left {
            Some(left) => {
                let what =
                    format!("is missing, and {} belongs to it: put both back, or that away", left.display());
                Err(self.unavailable(&what))
            }
            None => Ok(None),
        }
    }

    /// Opens the database; `None` where there is no store yet.
    pub(crate) fn connect(&self, purpose: Use) -> Result<Option<Db>, StorageError> {
        let Some(identity) = self.look()? else { return Ok(None) };
        self.refuse_foreign(identity)?;
        let access = match purpose {
            Use::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Use::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
        };
        let mut connection = self.open(access)?;
        let version = schema::version(&connection).context("read", &self.path)?;
        if version > schema::VERSION
            && schema::readers(&connection).context("read", &self.path)? > schema::VERSION
        {
            return Err(newer(&self.path, version));
        }
        if purpose == Use::Write && version < schema::VERSION {
            schema::migrate(&mut connection).context("bring to this version", &self.path)?;
        }
        if purpose == Use::Write {
            self.prepare(&connection).context("open", &self.path)?;
        }
        let marks = self.marks_of(identity, &connection)?;
        let newer = (version > schema::VERSION).then_some(version);
        Ok(Some(Db { connection, marks, identity, newer }))
    }

    fn open(&self, access: OpenFlags) -> Result<Connection, StorageError> {
        let flags = access | OpenFlags::SQLITE_OPEN_NOFOLLOW | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || {
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            // What is in a damaged or hostile file is data, not something to run.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
            // A plan for all values: a statement is prepared once, not again for each id that is bound.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
            connection.pragma_update(None, "trusted_schema", false)?;
            connection.pragma_update(None, "cell_size_check", true)?;
            self.wait_for_others(connection)
        };
        open().context("open", &self.path)
    }

    /// Others that write are waited for up to the deadline, in steps that grow.
    fn wait_for_others(&self, mut connection: Connection) -> rusqlite::Result<Connection> {
        let patience = self.lock_timeout;
        let mut since = Instant::now();
        connection.busy_handler(Some(move |tries: i32| {
            if tries == 0 {
                since = Instant::now();
            }
            let left = patience.saturating_sub(since.elapsed());
            let pause = PAUSES.0 * 2u32.saturating_pow(u32::try_from(tries).unwrap_or(0).min(8));
            thread::sleep(pause.min(PAUSES.1).min(left));
            !left.is_zero()
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

    /// Whether the file at the path still is the one that was opened.
    pub(crate) fn is_current(&self, db: &Db) -> bool {
        matches!(identity_at(&self.path), Ok(Some((_, identity))) if identity == db.identity)
    }

    /// A database that is not ours is refused, and stays as it is: one look at its beginning, without locks, without the
    /// files that `SQLite` makes beside it.
    fn refuse_foreign(&self, identity: Identity) -> Result<(), StorageError> {
        if self.known().as_ref().is_some_and(|known| known.identity == identity) {
            return Ok(());
        }
        let look = |path: &Path| -> rusqlite::Result<i64> {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
                | OpenFlags::SQLITE_OPEN_URI
                | OpenFlags::SQLITE_OPEN_NOFOLLOW
                | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = self.wait_for_others(Connection::open_with_flags(path, flags)?)?;
            connection.pragma_query_value(None, "application_id", |row| row.get(0))
        };
        let application = match look(&immutable(&self.path)) {
            // A database into which its log is being copied, or was when somebody was killed, makes sense only with the
            // log. That is there already, so that reading both adds nothing.
            Err(_) if Folders::is_file(&beside(&self.path, "-wal"))? => look(&self.path),
            result => result,
        };
        if application.context("read", &self.path)? == schema::APPLICATION {
            return Ok(());
        }
        Err(self.unavailable("is no store of sessions: choose another path; nothing of it was changed"))
    }

    fn marks_of(&self, identity: Identity, connection: &Connection) -> Result<Arc<Marks>, StorageError> {
        let mut known = self.known();
        if let Some(known) = &*known
            && known.identity == identity
        {
            return Ok(Arc::clone(&known.marks));
        }
        let store: Option<String> = schema::meta(connection, "store").context("read", &self.path)?;
        let store: Option<StoreId> = store.and_then(|store| store.parse().ok());
        let Some(store) = store else {
            return Err(self.unavailable("does not say which store it is: restore it, or choose another one"));
        };
        let marks = Arc::new(Marks::open(self.folders.marks(), store)?);
        *known = Some(Known { identity, marks: Arc::clone(&marks) });
        Ok(marks)
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn unavailable(&self, what: &str) -> StorageError {
        StorageError::Unavailable { what: format!("{} {what}", self.path.display()), source: None }
    }

    /// The store has less than was acknowledged.
    pub(crate) fn behind(&self, found: u64, expected: u64) -> StorageError {
        let what = format!(
            "has lost something that was acknowledged: it is at change {found}, and change {expected} was stored. It \
             can be read. If it cannot be restored, `sessionctl verify --repair --accept-loss` gives up what is gone"
        );
        self.unavailable(&what)
    }
}

/// A folder without the links in as much of its path as is there.
fn without_links(folder: &Path) -> PathBuf {
    let there = folder.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let Some((above, found)) = there else { return folder.to_owned() };
    folder.strip_prefix(above).map_or_else(|_| folder.to_owned(), |rest| found.join(rest))
}

/// A file beside the database.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// A name under which `SQLite` reads a file as if it were on a disk that cannot be written.
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
