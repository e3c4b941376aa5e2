//! Verification and repair of sessions: `verify`, `verify --repair`, `--accept-loss`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use session_core::maintenance::{AcceptedLoss, Condition, Loss, RepairReport, SessionHealth, StoreHealth};
use session_core::{InstanceId, Owner, SessionId, StorageError};

use crate::condition::{Assessment, CachedHead};
use crate::deletion::is_refused_by_layers;
use crate::disk::{Kind, LockMode, Open};
use crate::error::IoContext;
use crate::format::{CreateIfMissing, Probe, probe};
use crate::handle::{Handle, LogPosition, LogState};
use crate::lock;
use crate::slots::{Slot, Slots};
use crate::store::Store;

impl Store {
    /// Verifies one session; `None` if it does not exist. Read-only.
    pub(crate) fn verify(&self, id: SessionId) -> Result<Option<SessionHealth>, StorageError> {
        let first = self.health(id)?;
        if first.as_ref().is_none_or(|health| health.condition == Condition::Healthy && !health.untrusted) {
            return Ok(first);
        }
        // What looks like damage may be an unfinished write: the second read excludes writers.
        let path = self.layout.session(id).lock;
        let Ok(file) = self.disk.open(&path, Open::Read) else { return Ok(first) };
        match lock::acquire(&*file, &path, LockMode::Shared, self.deadline()) {
            Ok(()) => self.health(id),
            Err(_) => Ok(first),
        }
    }

    fn health(&self, id: SessionId) -> Result<Option<SessionHealth>, StorageError> {
        let assessed = match self.find(id) {
            Ok(None) => return Ok(None),
            Ok(Some(paths)) => self.assess_unlocked(id, &paths, CachedHead::Ignore),
            Err(error) => Err(error),
        };
        let losses = self.unacknowledged_losses(id)?;
        let (found, slots) = match assessed {
            Ok(assessed) => assessed,
            Err(_) if matches!(self.is_gone(id), Ok(true)) => return Ok(None),
            Err(error @ StorageError::Corrupt { .. }) => {
                let found = Assessment::unreadable(id);
                let slots = Slots::default();
                let mut health = health(&found, &slots, losses);
                health.problem = Some(error);
                return Ok(Some(health));
            }
            Err(error) => return Err(error),
        };
        Ok(Some(health(&found, &slots, losses)))
    }

    /// Verifies all sessions. Read-only.
    pub(crate) fn verify_all(&self) -> Result<StoreHealth, StorageError> {
        let mut all = StoreHealth::default();
        if let Probe::Damaged(damage) = probe(&*self.disk, &self.layout)? {
            all.problems.push(damage.problem(&self.layout));
        }
        let sessions = self.layout.sessions();
        if !self.is_folder(&sessions)? {
            return Ok(all);
        }
        let names = self.disk.read_dir(&sessions).context("list", &sessions)?;
        all.foreign = names.into_iter().filter(|name| name.parse::<SessionId>().is_err()).collect();
        for id in self.ids(&sessions)? {
            match self.verify(id) {
                Ok(report) => all.sessions.extend(report),
                Err(error) => all.failed.push((id, error)),
            }
            let unended = matches!(self.read_head(id), Ok(Some(head)) if !head.state().is_final());
            let marker = self.layout.marker(id);
            if unended && self.disk.kind(&marker).context("stat", &marker)?.is_none() {
                all.unmarked.push(id);
            }
        }
        Ok(all)
    }

    /// Repairs one session, as far as `acceptance` allows, and acknowledges its losses.
    pub(crate) fn repair(
        &self,
        id: SessionId,
        acceptance: &AcceptedLoss,
    ) -> Result<RepairReport, StorageError> {
        let Some(_lock) = self.lock_store(CreateIfMissing::No, self.deadline())? else {
            return Err(StorageError::NotFound { id });
        };
        let before = self.health(id)?.ok_or(StorageError::NotFound { id })?;
        let AcceptedLoss::Of { dead } = acceptance else {
            return self.repair_without_loss(id, before.condition);
        };
        if before.condition != Condition::Corrupt {
            return self.repair_without_loss(id, before.condition);
        }
        let deadline = self.deadline();
        let cut = self.with_session_lock(&mut None, id, deadline, |handle| self.accept_loss(handle, dead));
        match cut {
            Ok(Some(repaired)) => Ok(repaired),
            Ok(None) => Err(StorageError::NotFound { id }),
            // Nothing can be read, or a file is missing or of another type.
            Err(StorageError::Corrupt { readable: 0, .. }) => self.quarantine_session(id, &before, dead),
            Err(error) => Err(error),
        }
    }

    /// Repairs a session without losing flushed records.
    fn repair_without_loss(&self, id: SessionId, before: Condition) -> Result<RepairReport, StorageError> {
        let deadline = self.deadline();
        let tip = self
            .with_session_lock(&mut None, id, deadline, |handle| {
                self.rescan(handle)?;
                Ok(handle.state().position.tip)
            })?
            .ok_or(StorageError::NotFound { id })?;
        let losses = self.unacknowledged_losses(id)?;
        for path in &losses {
            self.acknowledge(path)?;
        }
        Ok(RepairReport::new(before, Some(tip)).acknowledged(losses.len()))
    }

    /// Truncates a log to its readable records. The log is replaced before the slots: a process that reads in
    /// between finds the session as damaged as before.
    fn accept_loss(&self, handle: &mut Handle, dead: &[InstanceId]) -> Result<RepairReport, StorageError> {
        let slots = Slots::read(handle.id, &*handle.slots).context("read", &handle.paths.slots)?;
        let found = self.assess(handle, &slots, CachedHead::Ignore)?;
        if found.condition() != Condition::Corrupt {
            // Another process has repaired it meanwhile: there is no loss left to accept.
            let before = self.rescan(handle)?;
            return Ok(RepairReport::new(before, Some(handle.state().position.tip)));
        }
        refuse_while_owned(handle.id, &owners(&found, &slots), dead)?;
        if found.tip.is_none() {
            return Err(found.damage());
        }
        let kept = self.quarantine(handle, &found, "lost")?;
        let new = self.copy_log(handle, &*handle.log, found.end)?;
        self.replace_log(handle, new)?;
        handle.adopt(&found, &slots)?;
        self.reset_slots(handle)?;
        let LogState { position, .. } = handle.state();
        let (tip, head) = (position.tip, position.head.clone());
        if !head.state().is_final() {
            self.mark_active(handle.id)?;
        }
        let loss = Loss {
            readable: tip.revision,
            flushed: found.flushed,
            bytes: found.length - found.end,
            owned: head.lifecycle.owner.is_some(),
            kept,
        };
        Ok(RepairReport::new(Condition::Corrupt, Some(tip)).loss(loss))
    }

    /// Replaces the slots whose marks refer to lost records; durably, or power loss would bring them back.
    fn reset_slots(&self, handle: &mut Handle) -> Result<(), StorageError> {
        let path = handle.paths.rebuilt_slots();
        self.remove_tree(&path)?;
        let file = self.disk.open(&path, Open::Create).context("create", &path)?;
        let id = handle.id;
        let state = handle.state();
        state.mark = Some(state.position.mark());
        for _ in 0..2 {
            state.turn += 1;
            let LogPosition { end, head, .. } = &state.position;
            let slot = Slot::new(state.turn, &self.boot, state.mark, *end, Some(head));
            slot.write(id, &*file).context("write", &path)?;
        }
        file.sync().context("flush", &path)?;
        self.disk.rename(&path, &handle.paths.slots).context("rename", &path)?;
        self.disk.sync_dir(&handle.paths.dir).context("flush", &handle.paths.dir)
    }

    /// Quarantines a whole session of which nothing can be read. The caller holds the store's lock.
    fn quarantine_session(
        &self,
        id: SessionId,
        before: &SessionHealth,
        dead: &[InstanceId],
    ) -> Result<RepairReport, StorageError> {
        refuse_while_owned(id, &before.owners, dead)?;
        let paths = self.layout.session(id);
        let folder = self.quarantine_folder(id)?;
        let kept = self.unused_name(&folder.join("whole"))?;
        let renamed = self.disk.rename_new(&paths.dir, &kept);
        if is_refused_by_layers(&renamed) {
            self.move_tree(&paths.dir, &kept)?;
        } else {
            renamed.context("rename", &paths.dir)?;
        }
        let unknown = |error| StorageError::OutcomeUnknown { id, source: Arc::new(error) };
        self.disk.sync_dir(&folder).context("flush", &folder).map_err(unknown)?;
        self.sync_sessions_dir().map_err(unknown)?;
        self.remove_tree(&self.layout.marker(id))?;
        let loss = Loss { readable: 0, flushed: before.flushed, bytes: before.behind, owned: false, kept };
        Ok(RepairReport::new(before.condition, None).loss(loss))
    }

    /// Moves a folder that cannot be renamed: its files are, one by one. After a failure a part is at the new place, and a
    /// later repair moves the rest to another one.
    fn move_tree(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        self.disk.create_dir(to).context("create", to)?;
        for name in self.disk.read_dir(from).context("list", from)? {
            let (old, new) = (from.join(&name), to.join(&name));
            match self.disk.kind(&old).context("stat", &old)? {
                Some((Kind::Dir, _)) => self.move_tree(&old, &new)?,
                Some((Kind::File | Kind::Other, _)) => {
                    self.disk.rename_new(&old, &new).context("rename", &old)?;
                }
                None => {}
            }
        }
        self.disk.sync_dir(to).context("flush", to)?;
        self.disk.remove_dir(from).context("remove", from)
    }

    pub(crate) fn unused_name(&self, path: &Path) -> Result<PathBuf, StorageError> {
        let mut number = 1u32;
        loop {
            let numbered = path.with_extension(number.to_string());
            if self.disk.kind(&numbered).context("stat", &numbered)?.is_none() {
                return Ok(numbered);
            }
            number += 1;
        }
    }
}

fn health(found: &Assessment, slots: &Slots, losses: Vec<PathBuf>) -> SessionHealth {
    let mut condition = found.condition();
    if matches!(condition, Condition::Healthy | Condition::Torn) && !losses.is_empty() {
        condition = Condition::Degraded;
    }
    let problem = match found.condition() {
        Condition::Healthy | Condition::Torn => None,
        Condition::Degraded => Some(found.damage()),
        Condition::Corrupt | Condition::Invalid | Condition::Unsupported | _ => found.refusal(),
    };
    let mut health = SessionHealth::new(found.id, condition);
    health.tip = found.tip;
    health.flushed = found.flushed;
    health.seen = found.seen;
    health.behind = found.length - found.end;
    health.untrusted = slots.flushing();
    health.problem = problem;
    health.owners = owners(found, slots);
    health.losses = losses;
    health
}

/// Returns all possible owners of a session: the log may have lost the current owner's record, and the slots
/// may be of an earlier owner.
fn owners(found: &Assessment, slots: &Slots) -> Vec<Owner> {
    let heads = found.head.iter().chain(slots.iter().filter_map(|slot| slot.head.as_deref()));
    let mut owners: Vec<Owner> = Vec::new();
    for owner in heads.filter_map(|head| head.lifecycle.owner.as_ref()) {
        if owners.iter().all(|other| other.instance != owner.instance) {
            owners.push(owner.clone());
        }
    }
    owners
}

fn refuse_while_owned(id: SessionId, owners: &[Owner], dead: &[InstanceId]) -> Result<(), StorageError> {
    match owners.iter().find(|owner| !dead.contains(&owner.instance)) {
        None => Ok(()),
        Some(owner) => Err(StorageError::Unavailable {
            what: format!("session {id} may still be owned by {owner}: stop that process, then repair again"),
            source: None,
        }),
    }
}
