//! Presence on one machine: an owner holds a kernel lock while its process lives. Age proves nothing and is never
//! checked.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;

use super::lock_dir::{LockDir, Probe};
use super::lock_root::LockRoot;
use super::session_lock::SessionLock;
use super::system::{FileSystem, file_system, process_start_time, this_process};
use super::{Liveness, Presence, PresenceGuard};
use crate::id::{InstanceId, SessionId};
use crate::owner::{Evidence, Owner};
use crate::storage::StorageError;
use crate::time::Timestamp;

const OWNER: &str = ".lock";
const SESSION: &str = ".session.lock";
const TEMPORARY: &str = ".tmp";

/// Presence on this machine, by lock files in a folder that all its processes share.
///
/// An owner holds the kernel lock on `<instance>.lock`. The kernel releases it when the process ends, for any
/// reason: a death is detected immediately, and a process that is slow, stopped or asleep is alive. The file contains
/// the owner as JSON, for people.
///
/// | finding | the owner is |
/// |---|---|
/// | it was on another machine | unknown |
/// | it was on this machine, before the last boot | dead: rebooted |
/// | its lock is held | alive |
/// | its lock is free | dead: lock released |
/// | its file is gone, and no process has its id and start time | dead: process gone |
/// | its file is gone, but the process exists | unknown |
///
/// The folder is created when the first owner is announced; checks leave no trace. A file is removed only under its
/// exclusive lock. Folders on network and FUSE file systems are refused, because their locks depend on their servers. A
/// process that forks without exec keeps its owner's lock held in the child; this is not supported. Processes that
/// share the folder must share one namespace of process ids.
///
/// Each call is a few system calls on local files and never blocks on another process; [`sweep`](Presence::sweep) runs
/// on tokio's blocking threads.
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
        let dir = self.locks.open()?;
        let name = format!("{}{OWNER}", owner.instance);
        let failed = |error| self.locks.failed("cannot be read", error);
        let (machine, boot) = self.here()?;
        if owner.machine != *machine {
            let file = dir.as_ref().map_or(Ok(None), |dir| dir.open_file(&name)).map_err(failed)?;
            return Ok(Liveness::Unknown { last_seen: file.as_ref().and_then(modified) });
        }
        if owner.boot != *boot {
            return Ok(Liveness::Dead { evidence: Evidence::Rebooted { boot: boot.clone() } });
        }
        let probe = dir.as_ref().map_or(Ok(Probe::Missing), |dir| dir.probe(&name)).map_err(failed)?;
        Ok(match probe {
            Probe::Held => Liveness::Alive,
            Probe::Free => Liveness::Dead { evidence: Evidence::LockReleased },
            Probe::Missing => match process_start_time(owner.pid) {
                Ok(Some(started)) if started == owner.start_time => Liveness::Unknown { last_seen: None },
                // A process with the same id but another start time is another process.
                Ok(_) => Liveness::Dead { evidence: Evidence::ProcessGone },
                Err(error) => {
                    return Err(StorageError::Unavailable {
                        what: format!("cannot determine whether process {} exists", owner.pid),
                        source: Some(Arc::new(error)),
                    });
                }
            },
        })
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

    async fn announce(&self, owner: &Owner) -> Result<Box<dyn PresenceGuard>, StorageError> {
        let dir = self.locks.create()?;
        let name = format!("{}{OWNER}", owner.instance);
        let temporary = || format!("{}{TEMPORARY}", InstanceId::random());
        let failed = |error| self.locks.failed("cannot be written to", error);
        let mut content = serde_json::to_vec(owner).map_err(|error| failed(error.into()))?;
        content.push(b'\n');
        match dir.create_locked(&name, temporary, &content).map_err(failed)? {
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
        match tokio::task::spawn_blocking(move || this.remove_leftovers(&keep)).await {
            Ok(result) => result,
            Err(error) => Err(self.locks.failed("was not swept", io::Error::other(error))),
        }
    }
}
