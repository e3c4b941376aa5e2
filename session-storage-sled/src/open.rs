//! Opening of a database: under the store's lock, after saving what an unclean shutdown left, and with a comparison
//! against the marks. sled may panic on damaged files.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use session_core::StorageError;
use session_storage_engine::{Folders, Marks, Reserve, StoreId, storage_error};
use tokio::sync::Notify;

use crate::db::{ChangeSet, Db, Meta};
use crate::durable::Durable;
use crate::engine::{Engine, scan_heads};
use crate::error::{Fault, unavailable};
use crate::layout::Layout;
use crate::lock::{self, StoreLock};
use crate::options::SledStorageOptions;
use crate::panic_guard::guard;
use crate::unclean_shutdown::{self, DirtyMarker, PreviousShutdown};
use crate::writer::Writer;
use crate::{files, format};

/// The longest wait for sled to release its files, which it does on its own threads.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between two attempts to open.
const RELEASE_PAUSE: Duration = Duration::from_millis(5);

/// Acquires the lock, handles the previous shutdown, and opens the database.
pub(crate) fn open_store(
    options: &SledStorageOptions,
    layout: &Layout,
    changes: &Arc<Notify>,
) -> Result<(Writer, StoreLock), StorageError> {
    let lock = lock::acquire(&layout.lock(), Instant::now() + options.lock_timeout)?;
    let boot = session_core::backend::this_process()?.boot;
    let identity = format::identify(layout, options.purpose)?;
    let is_new = identity.is_none();
    let store = identity.map_or_else(StoreId::random, |identity| identity.store);
    let damage = identity.and_then(|identity| identity.damage);
    if is_new {
        // A crash interrupted the creation of the store: nothing was ever acknowledged in it.
        files::remove(&layout.db())?;
        files::remove(&layout.unclean())?;
    }
    let marks = Marks::open(layout.folders().marks(), store).map_err(|error| {
        // Either FORMAT or the marks are wrong; the database shows which.
        let damage = if is_new { Ok(None) } else { format::other_store(layout, store) };
        damage.ok().flatten().map_or(error, |damage| damage.error(layout))
    })?;
    let previous = unclean_shutdown::read_previous(layout, &boot)?;
    unclean_shutdown::finish_copies(layout)?;
    unclean_shutdown::check_files(layout)?;
    unclean_shutdown::set_aside(layout, previous)?;
    if !is_new && !Folders::is_file(&layout.data())? {
        // sled would create an empty database.
        return Err(loss_error(layout, &marks, "has lost its database: the file `db/db` is missing"));
    }
    if !is_new {
        // sled takes a read that fails while it opens for the end of its log, and cuts that off.
        files::read_through(&layout.data())?;
    }
    let start = || {
        Folders::create(&layout.db())?;
        let marker = DirtyMarker::write(layout, &boot)?;
        Ok((marker, open_db(options, layout, previous)?))
    };
    let (reserve, mut given_up) = (layout.reserve(), 0);
    let (marker, db) = loop {
        match start() {
            // Opening writes to the disk. On a full one it gets some of the reserved room, so that sessions can be
            // deleted.
            Err(StorageError::Full { .. }) if reserve.release_part(0) => given_up += Reserve::PART,
            started => break started?,
        }
    };
    if is_new {
        create_store(layout, store, &db).map_err(|fault| open_error(layout, &fault))?;
        format::write(layout, store)?;
    }
    if given_up == 0 {
        reserve.fill();
    }
    let scanned = guard(|| Ok((db.meta()?, scan_heads(&db, &marks)?)));
    let (meta, mut state) = match scanned.flatten() {
        Ok(scanned) => scanned,
        Err(fault) => {
            // sled opens some databases that it cannot read. Nothing was written to this one.
            drop(db);
            set_aside_once(layout, previous)?;
            return Err(open_error(layout, &fault));
        }
    };
    if let Some(meta) = meta.filter(|meta| meta.store != store) {
        return Err(unavailable(format!(
            "{} is store {store}, but its database belongs to store {}: restore the files of the same store",
            layout.root().display(),
            meta.store
        )));
    }
    if let Some(damage) = damage {
        if meta.is_none() {
            return Err(damage.refusal(layout, "the database does not name its store either"));
        }
        state.format_damage = Some(damage);
    }
    let (change, flushed) = (meta.map_or(0, |meta| meta.change), marks.change());
    if meta.is_none() || change < flushed {
        tracing::error!(store = %layout.root().display(), found = change, expected = flushed, "acknowledged changes are lost");
        state.behind_marks = Some((change, flushed));
    }
    drop(marker.set_opened());
    let durable = Durable::new(layout, marker)?;
    let engine = Engine::new(layout.clone(), store, marks, db.clone(), state, Arc::clone(changes));
    let mut writer = Writer { engine: Arc::new(engine), db, durable, change, given_up };
    discard_imports(&mut writer).map_err(|fault| open_error(layout, &fault))?;
    Ok((writer, lock))
}

/// Removes what a process left that died during an import. A store that has lost something is left as it is: nothing
/// is written to it before that is repaired.
fn discard_imports(writer: &mut Writer) -> Result<(), Fault> {
    let imports = {
        let state = writer.engine.lock();
        if state.format_damage.is_some() || state.behind_marks.is_some() {
            return Ok(());
        }
        state.imports.clone()
    };
    for id in imports {
        tracing::warn!(session = %id, "removing what is left of an import that was not completed");
        writer.discard_import(id)?;
    }
    Ok(())
}

/// Writes and flushes the first row, before the folder is treated as a store.
fn create_store(layout: &Layout, store: StoreId, db: &Db) -> Result<(), Fault> {
    let flushed = |error: std::io::Error| Fault::Flush(Arc::new(error));
    db.apply(ChangeSet::new(Meta { store, change: 0 }))?;
    db.flush()?;
    for name in files::names(&layout.db()).unwrap_or_default() {
        std::fs::File::open(layout.db().join(name)).and_then(|file| file.sync_all()).map_err(flushed)?;
    }
    std::fs::File::open(layout.db()).and_then(|folder| folder.sync_all()).map_err(flushed)?;
    std::fs::File::open(layout.root()).and_then(|folder| folder.sync_all()).map_err(flushed)
}

/// Opens sled, and again without its snapshots if these may be damaged.
fn open_db(
    options: &SledStorageOptions,
    layout: &Layout,
    previous: PreviousShutdown,
) -> Result<Db, StorageError> {
    let first = match open_once(options, layout) {
        Ok(db) => return Ok(db),
        Err(fault) => fault,
    };
    if !first.is_damage() {
        return Err(open_error(layout, &first));
    }
    set_aside_once(layout, previous)?;
    if !unclean_shutdown::set_snapshots_aside(layout)? {
        return Err(open_error(layout, &first));
    }
    tracing::warn!(
        store = %layout.root().display(),
        fault = first.summary(),
        "could not open the database with its snapshots, trying without them"
    );
    open_once(options, layout).map_err(|second| {
        tracing::error!(store = %layout.root().display(), fault = second.summary(), "could not open the database without its snapshots");
        open_error(layout, &first)
    })
}

/// Saves a copy of a database that cannot be read, unless that was done before the first attempt.
fn set_aside_once(layout: &Layout, previous: PreviousShutdown) -> Result<(), StorageError> {
    if previous == PreviousShutdown::Clean {
        unclean_shutdown::set_aside(layout, PreviousShutdown::Unclean)
    } else {
        Ok(())
    }
}

fn open_once(options: &SledStorageOptions, layout: &Layout) -> Result<Db, Fault> {
    let deadline = Instant::now() + RELEASE_TIMEOUT;
    loop {
        let opened = guard(|| Db::open(&layout.db(), options.cache_bytes).map_err(Fault::from));
        let fault = match opened.flatten() {
            Ok(db) => return Ok(db),
            Err(fault) => fault,
        };
        // This process holds the store's lock: sled's lock is held by threads of this process that are about to end.
        if !fault.is_locked() || Instant::now() > deadline {
            return Err(fault);
        }
        thread::sleep(RELEASE_PAUSE);
    }
}

fn loss_error(layout: &Layout, marks: &Marks, what: &str) -> StorageError {
    unavailable(format!("the store {} {what}; {}", layout.root().display(), advice(layout, marks)))
}

/// Describes the stored sessions of a database that cannot be opened, and what to do.
fn advice(layout: &Layout, marks: &Marks) -> String {
    let aside = if matches!(Folders::is_file(&layout.aside().join("db")), Ok(true)) {
        format!("a copy of the damaged database is in {}", layout.aside().display())
    } else {
        "there is no copy of it".to_owned()
    };
    format!(
        "{} sessions were stored, up to change {}: nothing was discarded; {aside}: replace `db` by a copy that you made \
         earlier",
        marks.tips().len(),
        marks.change()
    )
}

/// Creates the error of a database that cannot be opened.
pub(crate) fn open_error(layout: &Layout, fault: &Fault) -> StorageError {
    let what = format!("has a damaged database that cannot be opened ({})", fault.summary());
    let marks = match format::detect(layout) {
        Ok(Some(store)) => Marks::open(layout.folders().marks(), store).ok(),
        Ok(None) | Err(_) => None,
    };
    match (fault, marks) {
        (Fault::Sled(sled::Error::Io(error)), _) if !fault.is_damage() => {
            let error = std::io::Error::new(error.kind(), error.to_string());
            storage_error("open the database of", layout.root(), error)
        }
        (Fault::Hang(_), _) => unavailable(format!(
            "cannot open the store {}: {fault}; end this process, then try again",
            layout.root().display()
        )),
        (_, Some(marks)) => loss_error(layout, &marks, &what),
        (_, None) => unavailable(format!("the store {} {what}", layout.root().display())),
    }
}
