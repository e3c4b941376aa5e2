//! Presence on one machine: an owner holds a kernel lock while its process lives. Age proves nothing and is never
//! checked.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::lock_dir::{LockDir, Probe};
use super::lock_root::LockRoot;
use super::session_lock::SessionLock;
use super::system::{FileSystem, file_system, pid_namespace, process_start_time, this_process};
use super::{Liveness, Presence, PresenceGuard};
use crate::blocking::blocking;
use crate::id::{InstanceId, LockFolderId, SessionId};
use crate::owner::{Evidence, Owner};
use crate::storage::StorageError;
use crate::time::Timestamp;

const OWNER: &str = ".lock";
const SESSION: &str = ".session.lock";
const TEMPORARY: &str = ".tmp";
/// More than any lock file has.
const MAX_LOCK_FILE: u64 = 64 << 10;

/// Presence on this machine, by lock files in a folder that all its processes share.
///
/// An owner holds the kernel lock on `<instance>.lock`. The kernel releases it when the process ends, for any
/// reason: a death is detected immediately, and a process that is slow, stopped or asleep is alive. The file contains
/// the owner as JSON, for people.
///
/// A lock proves something only in the folder in which it was taken. Each folder has an id, which its owners record in
/// their logs ([`Owner::lock_folder`]). The first finding that applies decides:
///
/// | finding | the owner is |
/// |---|---|
/// | its lock is held | alive |
/// | it recorded no folder, or another one | unknown |
/// | it recorded another boot and another machine | unknown |
/// | it recorded another boot of this machine | dead: rebooted |
/// | its lock is free | dead: lock released |
/// | its file is gone, its process id is one of this namespace, and no process has it and its start time | dead: process gone |
/// | its file is gone otherwise | unknown |
///
/// So processes in several containers may share the folder, whatever their host names, machine ids and process ids. A
/// copy of the folder has another id. Two things cannot be distinguished: an image of a whole file system that is mounted
/// next to the original, unless the file system gives the two different ids as btrfs and ZFS do; and machines without a
/// machine id that have one host name, if the disk with the folder moves between them.
///
/// The folder is created when the first owner is announced; checks leave no trace. A file is removed only under its
/// exclusive lock. Folders on network and FUSE file systems are refused, because their locks depend on their servers. A
/// process that forks without exec keeps its owner's lock held in the child; this is not supported.
///
/// Each call is a few system calls on local files and never blocks on another process; [`sweep`](Presence::sweep), and
/// the first announcement in a folder, run on tokio's blocking threads.
#[derive(Debug, Clone)]
pub struct LocalPresence {
    locks: LockRoot,
    /// The ids of this machine and boot, which do not change while a process lives.
    here: OnceLock<(String, String)>,
}

impl LocalPresence {
    /// Creates a presence with lock files in this folder. Does not access the folder.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self::with_file_system(dir, file_system)
    }

    pub(crate) fn with_file_system(
        dir: impl Into<PathBuf>,
        file_system: fn(&Path) -> io::Result<FileSystem>,
    ) -> Self {
        Self { locks: LockRoot::new(dir.into().into(), file_system), here: OnceLock::new() }
    }

    /// Returns the lock, not yet acquired, that is held while any process of a session's program exists.
    #[must_use]
    pub fn session_lock(&self, id: SessionId) -> SessionLock {
        SessionLock::new(self.locks.clone(), format!("{id}{SESSION}"))
    }

    fn here(&self) -> Result<&(String, String), StorageError> {
        if let Some(here) = self.here.get() {
            return Ok(here);
        }
        let Owner { machine, boot, .. } = this_process()?;
        Ok(self.here.get_or_init(|| (machine, boot)))
    }

    fn check(&self, owner: &Owner) -> Result<Liveness, StorageError> {
        let failed = |error| self.locks.failed("cannot be read", error);
        let unknown = Liveness::Unknown { last_seen: None };
        let Some(dir) = self.locks.open()? else { return Ok(unknown) };
        let name = format!("{}{OWNER}", owner.instance);
        // First: no other process ever holds a lock of this name, so that a held one is proof in any folder.
        let lock = dir.probe(&name).map_err(failed)?;
        if let Probe::Held = lock {
            return Ok(Liveness::Alive);
        }
        let file = dir.open_file(&name).map_err(failed)?;
        let unknown = Liveness::Unknown { last_seen: file.as_ref().and_then(modified) };
        if owner.lock_folder.is_none() || dir.id().map_err(failed)? != owner.lock_folder {
            return Ok(unknown);
        }
        let (machine, boot) = self.here()?;
        if owner.boot != *boot {
            let rebooted = Liveness::Dead { evidence: Evidence::Rebooted { boot: boot.clone() } };
            return Ok(if owner.machine == *machine { rebooted } else { unknown });
        }
        match (lock, file) {
            (Probe::Free, Some(file)) if is_original(&file) => {
                return Ok(Liveness::Dead { evidence: Evidence::LockReleased });
            }
            (Probe::Free | Probe::Held | Probe::Missing, _) => {}
        }
        if owner.pid_namespace.is_none() || owner.pid_namespace != pid_namespace() {
            return Ok(unknown);
        }
        match process_start_time(owner.pid) {
            Ok(Some(started)) if started == owner.start_time => Ok(unknown),
            // A process with the same id but another start time is another process.
            Ok(_) => Ok(Liveness::Dead { evidence: Evidence::ProcessGone }),
            Err(error) => Err(StorageError::Unavailable {
                what: format!("cannot determine whether process {} exists", owner.pid),
                source: Some(Arc::new(error)),
            }),
        }
    }

    /// Opens the folder for an announcement, and returns it with its id. Both are created if necessary.
    async fn create(&self) -> Result<(LockDir, LockFolderId), StorageError> {
        let dir = self.locks.create()?;
        let failed = |error| self.locks.failed("cannot be written to", error);
        if let Some(id) = dir.id().map_err(failed)? {
            return Ok((dir, id));
        }
        // Flushes.
        blocking(move || dir.ensure_id(temporary).map(|id| (dir, id))).await.map_err(failed)
    }

    fn remove_leftovers(&self, keep: &HashSet<InstanceId>) -> Result<(), StorageError> {
        let Some(dir) = self.locks.open()? else { return Ok(()) };
        let failed = |error| self.locks.failed("cannot be swept", error);
        let mut result = Ok(());
        for name in dir.names().map_err(failed)? {
            if is_leftover(&name, keep)
                && let Err(error) = dir.remove_if_free(&name)
            {
                // A file that cannot be removed does not block the others.
                result = Err(failed(error));
            }
        }
        result
    }
}

/// Returns `true` if a file may be removed when its lock is free. Files with other names do not belong to us.
fn is_leftover(name: &str, keep: &HashSet<InstanceId>) -> bool {
    if let Some(session) = name.strip_suffix(SESSION) {
        return session.parse::<SessionId>().is_ok();
    }
    if let Some(random) = name.strip_suffix(TEMPORARY) {
        return random.parse::<InstanceId>().is_ok();
    }
    let instance = name.strip_suffix(OWNER).and_then(|instance| instance.parse::<InstanceId>().ok());
    instance.is_some_and(|instance| !keep.contains(&instance))
}

/// The content of an owner's lock file.
#[derive(Debug, Serialize)]
struct LockFile<'a> {
    #[serde(flatten)]
    owner: &'a Owner,
    #[serde(flatten)]
    place: Place,
}

/// The place at which a lock file was created.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// The id of its file system. A snapshot that is mounted in another place has the same files, with another one.
    file_system: u64,
}

impl Place {
    fn of(file: &File) -> io::Result<Self> {
        Ok(Self { file_system: rustix::fs::fstatvfs(file)?.f_fsid })
    }
}

/// Returns `true` if a lock file is in the place where its owner created it. Only there its free lock proves a death.
fn is_original(file: &File) -> bool {
    let place = serde_json::from_reader(io::BufReader::new(file.take(MAX_LOCK_FILE)));
    place.is_ok_and(|place: Place| Place::of(file).is_ok_and(|here| here == place))
}

fn temporary() -> String {
    format!("{}{TEMPORARY}", InstanceId::random())
}

fn modified(file: &File) -> Option<Timestamp> {
    let since = file.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Timestamp::from_millis(i64::try_from(since.as_millis()).ok()?)
}

/// Holds the lock until it is dropped or the process ends.
#[derive(Debug)]
struct Guard {
    file: File,
    name: String,
    dir: LockDir,
}

impl PresenceGuard for Guard {
    fn retire(self: Box<Self>) {
        if let Err(error) = self.dir.remove_held(&self.name, &self.file) {
            // The lock is free and no session names it: the next sweep removes the file.
            tracing::debug!(name = self.name, %error, "could not remove a lock file");
        }
    }
}

#[async_trait]
impl Presence for LocalPresence {
    fn identify(&self) -> Result<Owner, StorageError> {
        this_process()
    }

    async fn announce(&self, owner: &mut Owner) -> Result<Box<dyn PresenceGuard>, StorageError> {
        let (dir, id) = self.create().await?;
        owner.lock_folder = Some(id);
        let name = format!("{}{OWNER}", owner.instance);
        let write = |mut file: &File| {
            let mut content = serde_json::to_vec(&LockFile { owner, place: Place::of(file)? })?;
            content.push(b'\n');
            file.write_all(&content)
        };
        let failed = |error| self.locks.failed("cannot be written to", error);
        match dir.create_locked(&name, temporary, write).map_err(failed)? {
            Some(file) => Ok(Box::new(Guard { file, name, dir })),
            None => Err(StorageError::InvalidArgument {
                what: format!("owner {} is or was already announced", owner.instance),
            }),
        }
    }

    async fn liveness(&self, owner: &Owner) -> Result<Liveness, StorageError> {
        self.check(owner)
    }

    async fn sweep(&self, keep: &HashSet<InstanceId>) -> Result<(), StorageError> {
        // Unlike the other methods, the duration of this one depends on the number of files.
        let (this, keep) = (self.clone(), keep.clone());
        blocking(move || this.remove_leftovers(&keep)).await
    }
}
