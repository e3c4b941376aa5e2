//! Ends without a goodbye: the note that the database is open, the copy of it that is set aside before sled may cut its
//! log, and the making anew of a file whose last flush may have failed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use session_core::StorageError;
use session_storage_engine::{Folders, IoContext as _};

use crate::files::{self, CopyMode, OpenMode};
use crate::layout::Layout;

/// Where the note says whether a flush is on its way.
const FLUSHING_AT: u64 = "flushing ".len() as u64;
/// Where it says whether sled came to open the database.
const OPENED_AT: u64 = "flushing 0\nopened ".len() as u64;

/// The note that the database is open. It outlives a process that is killed, and power loss.
#[derive(Debug)]
pub(crate) struct DirtyMarker {
    file: File,
}

/// What an end without a goodbye left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PreviousShutdown {
    /// The last end was a clean one.
    Clean,
    /// sled could not open the database: it may have changed it in trying, and what was set aside is from before that.
    NeverOpened,
    /// The database was open.
    Unclean,
    /// A flush had begun in this boot and is not known to have ended well: what a reader of the file sees may not be what
    /// is on the disk, and no later flush would say so (`fsync` reports an error once, and only to who was there).
    DuringFlush,
}

/// What the last process that had the store left. `boot` is the present one.
pub(crate) fn read_previous(layout: &Layout, boot: &str) -> Result<PreviousShutdown, StorageError> {
    let Some(bytes) = files::read_start(&layout.unclean(), 256)? else { return Ok(PreviousShutdown::Clean) };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let (was_flushing, was_opened) = (lines.next() == Some("flushing 1"), lines.next() != Some("opened 0"));
    // After a boot, what can be read is what is on the disk.
    let same_boot = lines.next().is_some_and(|line| line == format!("boot {boot}"));
    Ok(match (was_flushing && same_boot, was_opened) {
        (true, _) => PreviousShutdown::DuringFlush,
        (false, true) => PreviousShutdown::Unclean,
        (false, false) => PreviousShutdown::NeverOpened,
    })
}

impl DirtyMarker {
    /// Notes that the database is open; durable before sled sees it.
    pub(crate) fn write(layout: &Layout, boot: &str) -> Result<Self, StorageError> {
        let path = layout.unclean();
        files::remove(&path)?;
        let file = files::open(&path, OpenMode::CreateNew).context("create", &path)?;
        file.write_all_at(format!("flushing 0\nopened 0\nboot {boot}\n").as_bytes(), 0)
            .context("write", &path)?;
        file.sync_all().context("flush", &path)?;
        files::sync_folder(layout.root())?;
        Ok(Self { file })
    }

    /// Notes whether a flush is on its way. Needs no flush of its own: it tells those who come after a death of this
    /// process, not after a loss of power.
    pub(crate) fn set_flushing(&self, is_flushing: bool) -> std::io::Result<()> {
        self.file.write_all_at(if is_flushing { b"1" } else { b"0" }, FLUSHING_AT)
    }

    /// Notes that sled has opened the database.
    pub(crate) fn set_opened(&self) -> std::io::Result<()> {
        self.file.write_all_at(b"1", OPENED_AT)
    }

    /// Takes the note away: everything is durable, and sled is closed.
    pub(crate) fn remove(layout: &Layout) -> Result<(), StorageError> {
        files::remove(&layout.unclean())?;
        files::sync_folder(layout.root())
    }
}

/// Ends what an earlier call of [`set_aside`] began and did not end.
pub(crate) fn finish_copies(layout: &Layout) -> Result<(), StorageError> {
    if Folders::is_folder(&layout.db_new())? {
        if Folders::is_folder(&layout.db())? {
            files::remove(&layout.db_new())?;
        } else {
            // It is whole: the old one was put aside only then.
            fs::rename(layout.db_new(), layout.db()).context("rename", &layout.db_new())?;
            files::sync_folder(layout.root())?;
        }
    }
    files::remove(&layout.aside_new())
}

/// Keeps the database as it was left, before sled may cut its log. There is one such copy, the newest.
pub(crate) fn set_aside(layout: &Layout, previous: PreviousShutdown) -> Result<(), StorageError> {
    if matches!(previous, PreviousShutdown::Clean | PreviousShutdown::NeverOpened)
        || !Folders::is_folder(&layout.db())?
    {
        return Ok(());
    }
    if previous == PreviousShutdown::DuringFlush {
        // The bytes as they are read, written anew, are on the disk for sure; the file as it was is what is set aside.
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

/// Sets aside what sled starts from and can do without: its snapshots, which are caches of what its log says, and `conf`,
/// which says what we ask for anyway. Returns whether there was anything.
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
