//! Unclean shutdown: the marker that detects it, the copy of the database saved before sled may truncate its log, and
//! the rewrite of a file whose last flush may have failed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use session_core::StorageError;
use session_storage_engine::{Folders, IoContext as _};

use crate::files::{self, CopyMode, OpenMode};
use crate::layout::Layout;

/// The offset of the flag for a flush in progress.
const FLUSHING_AT: u64 = "flushing ".len() as u64;
/// The offset of the flag for a database that sled has opened.
const OPENED_AT: u64 = "flushing 0\nopened ".len() as u64;

/// The marker that the database is open. It survives a kill of the process and power loss.
#[derive(Debug)]
pub(crate) struct DirtyMarker {
    file: File,
}

/// The kind of shutdown of the previous process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PreviousShutdown {
    /// A clean shutdown.
    Clean,
    /// sled could not open the database: it may have changed it in the attempt, and the saved copy is from before that.
    NeverOpened,
    /// A shutdown without closing the database.
    Unclean,
    /// A flush started in this boot and may have failed: the content that a reader of the file sees may not be on the
    /// disk, and no later flush would report that (`fsync` reports an error once, and only on descriptors that were
    /// open then).
    DuringFlush,
}

/// Reads the marker of the previous process. `boot` is the current boot id.
pub(crate) fn read_previous(layout: &Layout, boot: &str) -> Result<PreviousShutdown, StorageError> {
    Folders::is_file(&layout.unclean())?;
    let Some(bytes) = files::read_start(&layout.unclean(), 256)? else { return Ok(PreviousShutdown::Clean) };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let (was_flushing, was_opened) = (lines.next() == Some("flushing 1"), lines.next() != Some("opened 0"));
    // After a reboot, what can be read is on the disk.
    let same_boot = lines.next().is_some_and(|line| line == format!("boot {boot}"));
    Ok(match (was_flushing && same_boot, was_opened) {
        (true, _) => PreviousShutdown::DuringFlush,
        (false, true) => PreviousShutdown::Unclean,
        (false, false) => PreviousShutdown::NeverOpened,
    })
}

impl DirtyMarker {
    /// Writes and flushes the marker, before sled opens the database.
    pub(crate) fn write(layout: &Layout, boot: &str) -> Result<Self, StorageError> {
        let path = layout.unclean();
        files::remove(&path)?;
        let file = files::open(&path, OpenMode::CreateNew).context("create", &path)?;
        let written = file
            .write_all_at(format!("flushing 0\nopened 0\nboot {boot}\n").as_bytes(), 0)
            .context("write", &path)
            .and_then(|()| file.sync_all().context("flush", &path))
            .and_then(|()| files::sync_folder(layout.root()));
        // An incomplete marker would make the next process copy a database that was never opened.
        written.inspect_err(|_| drop(files::remove(&path)))?;
        Ok(Self { file })
    }

    /// Sets the flag for a flush in progress. Needs no flush: it is read after the death of this process, not after
    /// power loss.
    pub(crate) fn set_flushing(&self, is_flushing: bool) -> std::io::Result<()> {
        self.file.write_all_at(if is_flushing { b"1" } else { b"0" }, FLUSHING_AT)
    }

    /// Sets the flag for a database that sled has opened.
    pub(crate) fn set_opened(&self) -> std::io::Result<()> {
        self.file.write_all_at(b"1", OPENED_AT)
    }

    /// Removes the marker, after everything is flushed and sled is closed.
    pub(crate) fn remove(layout: &Layout) -> Result<(), StorageError> {
        files::remove(&layout.unclean())?;
        files::sync_folder(layout.root())
    }
}

/// Completes or removes what an interrupted call of [`set_aside`] left.
pub(crate) fn finish_copies(layout: &Layout) -> Result<(), StorageError> {
    if Folders::is_folder(&layout.db_new())? {
        if Folders::is_folder(&layout.db())? {
            files::remove(&layout.db_new())?;
        } else {
            // It is complete: the old one was moved only after that.
            fs::rename(layout.db_new(), layout.db()).context("rename", &layout.db_new())?;
            files::sync_folder(layout.root())?;
        }
    }
    files::remove(&layout.aside_new())
}

/// Saves a copy of the database before sled may truncate its log. Only the newest copy is kept. Without room for it, the
/// database is used without a copy: otherwise no session could be deleted to make room.
pub(crate) fn set_aside(layout: &Layout, previous: PreviousShutdown) -> Result<(), StorageError> {
    let mut copied = copy_aside(layout, previous);
    if matches!(copied, Err(StorageError::Full { .. })) && Folders::is_folder(&layout.aside())? {
        files::remove(&layout.aside_new())?;
        files::remove(&layout.db_new())?;
        // Of an earlier shutdown, and would be replaced.
        files::remove(&layout.aside())?;
        copied = copy_aside(layout, previous);
    }
    let Err(StorageError::Full { source, .. }) = copied else { return copied };
    files::remove(&layout.aside_new())?;
    files::remove(&layout.db_new())?;
    tracing::warn!(
        store = %layout.root().display(),
        error = %source,
        "no room for a copy of the database after an unclean shutdown, using it without one"
    );
    if previous == PreviousShutdown::DuringFlush { files::rewrite_folder(&layout.db()) } else { Ok(()) }
}

fn copy_aside(layout: &Layout, previous: PreviousShutdown) -> Result<(), StorageError> {
    if matches!(previous, PreviousShutdown::Clean | PreviousShutdown::NeverOpened)
        || !Folders::is_folder(&layout.db())?
    {
        return Ok(());
    }
    if previous == PreviousShutdown::DuringFlush {
        // The readable bytes are rewritten, so that they are certainly on the disk; the original file is set aside.
        files::copy_folder(&layout.db(), &layout.db_new(), CopyMode::Bytes)?;
        files::remove(&layout.aside())?;
        fs::rename(layout.db(), layout.aside()).context("rename", &layout.db())?;
        fs::rename(layout.db_new(), layout.db()).context("rename", &layout.db_new())?;
        return files::sync_folder(layout.root());
    }
    files::copy_folder(&layout.db(), &layout.aside_new(), CopyMode::Reflink)?;
    files::remove(&layout.aside())?;
    fs::rename(layout.aside_new(), layout.aside()).context("rename", &layout.aside_new())?;
    files::sync_folder(layout.root())
}

/// The largest size of sled's settings, which are a few lines of text.
const MAX_CONF: u64 = 64 * 1024;

/// Refuses a database folder with anything but the files of sled: it would wait for a pipe, and follow a link. Moves
/// aside settings and snapshots of impossible sizes, which sled would read into memory.
pub(crate) fn check_files(layout: &Layout) -> Result<(), StorageError> {
    let db = layout.db();
    if !Folders::is_folder(&db)? {
        return Ok(());
    }
    let mut is_oversized = false;
    // A snapshot has a few bytes for each page of the log.
    let data = fs::metadata(layout.data()).map_or(0, |data| data.len());
    for name in files::names(&db)? {
        let path = db.join(&name);
        if name == "blobs" {
            Folders::is_folder(&path)?;
            for blob in files::names(&path)? {
                Folders::is_file(&path.join(blob))?;
            }
            continue;
        }
        Folders::is_file(&path)?;
        let most = if name == "conf" { MAX_CONF } else { data.saturating_add(MAX_CONF) };
        is_oversized |= fs::metadata(&path).context("stat", &path)?.len() > most;
    }
    if is_oversized && set_snapshots_aside(layout)? {
        tracing::warn!(store = %layout.root().display(), "set damaged snapshots or settings of sled aside");
    }
    Ok(())
}

/// Moves aside the files that sled reads at its start and does not need: its snapshots, which are caches of its log,
/// and `conf`, whose settings are passed when opening. Returns `true` if there were any.
pub(crate) fn set_snapshots_aside(layout: &Layout) -> Result<bool, StorageError> {
    let mut names = files::names(&layout.db())?;
    names.retain(|name| name.starts_with("snap.") || name == "conf");
    if names.is_empty() {
        return Ok(false);
    }
    let folder = layout.aside().join("starts");
    Folders::create(&layout.aside())?;
    files::remove(&folder)?;
    Folders::create(&folder)?;
    for name in names {
        let path = layout.db().join(&name);
        fs::rename(&path, folder.join(&name)).context("rename", &path)?;
    }
    files::sync_folder(&layout.db())?;
    Ok(true)
}
