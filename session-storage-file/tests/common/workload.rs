//! A random workload: processes that use one store, some of which are killed in the middle of an operation.

use std::num::NonZeroUsize;
use std::sync::Arc;

use rustix::io::Errno;
use session_core::backend::{Batch, Expected, SessionStorage, SessionStorageExt};
use session_core::{Durability, Head, SessionId, StorageError};
use session_storage_file::FileStorage;
use session_storage_file::fault::{AfterFailedSync, Call, Effect, Fault, FaultDisk, Rng};

use super::ledger::Ledger;
use super::logs::{self, chain_of, fold, id, seal, wait};
use super::random_events;
use super::store::open;

/// A process on the disk.
#[derive(Debug)]
struct Process {
    disk: FaultDisk,
    storage: Arc<FileStorage>,
    owner: u64,
}

impl Process {
    fn new(disk: &FaultDisk, owner: u64) -> Result<Self, String> {
        let disk = disk.process();
        let storage = open(&disk).map_err(|error| format!("open: {}", chain_of(&error)))?;
        Ok(Self { disk, storage: Arc::new(storage), owner })
    }
}

/// The state of a workload: processes, expected contents and history.
#[derive(Debug)]
pub(crate) struct Workload {
    disk: FaultDisk,
    pub(crate) ledger: Ledger,
    processes: Vec<Process>,
    rng: Rng,
    next_id: u64,
    next_owner: u64,
    /// The operations so far, for failure messages.
    pub(crate) history: Vec<String>,
}

/// An operation of one process on one session.
#[derive(Debug)]
enum Operation {
    Append(Expected, Box<Batch>, Durability),
    Delete(session_core::backend::Tip),
}

impl Workload {
    /// Creates a workload of one to three processes on a disk that is recorded from here on. Session ids start
    /// at `first_id`.
    pub(crate) fn new(disk: FaultDisk, ledger: Ledger, seed: u64, first_id: u64) -> Result<Self, String> {
        disk.start_recording();
        let mut workload = Self {
            disk,
            ledger,
            processes: Vec::new(),
            rng: Rng::new(seed),
            next_id: first_id,
            next_owner: seed % 1000,
            history: Vec::new(),
        };
        if workload.rng.coin() {
            workload.disk.after_failed_sync(AfterFailedSync::Dropped);
        }
        for _ in 0..=workload.rng.below(3) {
            workload.spawn()?;
        }
        Ok(workload)
    }

    fn spawn(&mut self) -> Result<(), String> {
        self.next_owner += 1;
        self.processes.push(Process::new(&self.disk, self.next_owner)?);
        Ok(())
    }

    /// Runs one operation in one process. One in six is killed during it; one in eight of the others gets a
    /// failing call of the disk.
    pub(crate) fn step(&mut self) -> Result<(), String> {
        let (id, operation) = self.choose_operation()?;
        let doomed = self.rng.one_in(6);
        let actor = &self.processes[0];
        if doomed {
            let after = self.rng.below(40) as u64;
            actor.disk.inject(Fault::nth(after, Effect::Death).in_process(actor.disk.process_number()));
        }
        let unlucky = !doomed && self.rng.one_in(8);
        if unlucky {
            let errors = [Errno::IO, Errno::NOSPC, Errno::INTR];
            let effect = Effect::Error(errors[self.rng.below(errors.len())]);
            // Failed flushes matter most.
            let fault = if self.rng.coin() {
                Fault::nth(self.rng.below(2) as u64, effect).on(Call::Sync)
            } else {
                Fault::nth(self.rng.below(40) as u64, effect)
            };
            actor.disk.inject(fault.in_process(actor.disk.process_number()));
        }
        let triggered = self.disk.triggered_faults();
        let now = self.disk.moment_index();
        let what = format!("{now}: process {} {id}: {}", actor.disk.process_number(), describe(&operation));
        let result = match operation {
            Operation::Append(expected, batch, durability) => {
                self.ledger.submit(id, now, &batch);
                wait(actor.storage.append(id, expected, *batch, durability))
                    .map(|tip| Some((tip, durability == Durability::Flushed)))
            }
            Operation::Delete(tip) => {
                self.ledger.sessions.entry(id).or_default().deleting = Some(now);
                wait(actor.storage.delete(id, tip)).map(|()| None)
            }
        };
        let actor = &self.processes[0];
        let is_dead = actor.disk.is_dead();
        self.disk.clear_faults();
        self.history.push(format!("{what} -> {result:?}, died: {is_dead}"));
        let now = self.disk.moment_index();
        match result {
            // A killed process acknowledged nothing.
            _ if is_dead => {
                self.processes.remove(0);
                self.spawn()?;
            }
            Ok(Some((tip, flushed))) => self.ledger.acknowledge(id, now, tip, flushed),
            Ok(None) => self.ledger.sessions.entry(id).or_default().deleted = Some(now),
            Err(StorageError::MaxSessions { .. }) => {}
            // Nothing was acknowledged: the next read shows if it happened.
            Err(_) if unlucky && self.disk.triggered_faults() > triggered => {}
            Err(error) => return Err(format!("{what}: {}", chain_of(&error))),
        }
        let next = self.rng.below(self.processes.len());
        self.processes.rotate_left(next);
        Ok(())
    }

    /// Checks that all processes see everything that was acknowledged.
    pub(crate) fn check_running(&mut self) -> Result<(), String> {
        for process in &self.processes {
            let found = self.ledger.check(&*process.storage, self.disk.moment_index(), true)?;
            // An interrupted deletion is no longer pending if the session still exists.
            for id in found.keys() {
                if let Some(session) = self.ledger.sessions.get_mut(id)
                    && session.deleted.is_none()
                {
                    session.deleting = None;
                }
            }
        }
        Ok(())
    }

    fn head(&self, id: SessionId) -> Result<Option<Head>, String> {
        match wait(self.processes[0].storage.records_after(id, 0)) {
            Ok(records) => fold(id, &records),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(format!("{id}: {}", chain_of(&error))),
        }
    }

    fn choose_operation(&mut self) -> Result<(SessionId, Operation), String> {
        let known: Vec<SessionId> = self
            .ledger
            .sessions
            .iter()
            .filter(|(_, session)| session.deleted.is_none())
            .map(|(id, _)| *id)
            .collect();
        if known.is_empty() || (known.len() < 5 && self.rng.one_in(4)) {
            return Ok(self.create());
        }
        let id = known[self.rng.below(known.len())];
        let Some(head) = self.head(id)? else {
            // Its creation or deletion was interrupted: the creation is repeated, the deletion is treated as
            // done.
            let session = self.ledger.sessions.entry(id).or_default();
            if session.deleting.is_some() {
                session.deleted = session.deleting;
                return self.choose_operation();
            }
            let batch = seal(id, None, 0, vec![logs::created("again"), logs::note(self.rng.below(64))]);
            return Ok((id, Operation::Append(Expected::Absent, Box::new(batch), self.durability())));
        };
        if self.rng.one_in(12) {
            return Ok((
                id,
                Operation::Append(Expected::At(head.tip), Box::new(Batch::empty()), Durability::Flushed),
            ));
        }
        let unowned = head.lifecycle.owner.is_none();
        if unowned && self.rng.one_in(if head.state().is_final() { 2 } else { 12 }) {
            return Ok((id, Operation::Delete(head.tip)));
        }
        let Some(events) = random_events::next_events(&mut self.rng, &head, self.processes[0].owner) else {
            return Ok((
                id,
                Operation::Append(Expected::At(head.tip), Box::new(Batch::empty()), Durability::Flushed),
            ));
        };
        let durability = if random_events::ends(&events) { Durability::Flushed } else { self.durability() };
        let flushed = if self.rng.coin() { self.ledger.sessions[&id].known_flushed() } else { 0 };
        let batch = seal(id, Some(&head), flushed, events);
        let expected = match self.rng.below(8) {
            0 => Expected::AtWithin(head.tip, NonZeroUsize::MIN.saturating_add(self.rng.below(4))),
            _ => Expected::At(head.tip),
        };
        Ok((id, Operation::Append(expected, Box::new(batch), durability)))
    }

    fn create(&mut self) -> (SessionId, Operation) {
        let id = id(self.next_id);
        self.next_id += 1;
        let mut events = vec![logs::created(&format!("session-{}", self.next_id))];
        if self.rng.coin() {
            events.push(logs::started(self.processes[0].owner));
        }
        let expected = match self.rng.below(3) {
            0 => Expected::AbsentWithin(NonZeroUsize::MIN.saturating_add(self.rng.below(4))),
            _ => Expected::Absent,
        };
        (id, Operation::Append(expected, Box::new(seal(id, None, 0, events)), self.durability()))
    }

    fn durability(&mut self) -> Durability {
        if self.rng.coin() { Durability::Flushed } else { Durability::Buffered }
    }
}

fn describe(operation: &Operation) -> String {
    match operation {
        Operation::Append(expected, batch, durability) => {
            let kinds: Vec<_> = batch
                .records()
                .map(|record| record.unwrap().decode().map_or("?", |record| record.event.kind().name()))
                .collect();
            format!("append {durability:?} {kinds:?} at {expected:?}")
        }
        Operation::Delete(tip) => format!("delete at {tip}"),
    }
}
