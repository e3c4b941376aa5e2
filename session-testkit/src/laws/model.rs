//! Laws 1 to 5 combined: random calls whose results are compared with a model.

use std::collections::BTreeMap;

use session_core::backend::{Batch, Expected, Sum, Tip};
use session_core::{
    Durability, Owner, PauseReason, SessionConfig, SessionEvent, SessionFilter, SessionId, StateName,
    StepOutcome, StorageError,
};

use super::{Handle, all_heads, check_absent, check_reads, limit, open_handles};
use crate::harness::Harness;
use crate::law::{Outcome, abbreviate, check, check_eq};
use crate::logs::{self, Log};
use crate::random::{Random, seeds};

const SEEDS: u64 = 8;
const CALLS: usize = 150;

/// The expected contents of the store.
struct Model {
    random: Random,
    logs: BTreeMap<SessionId, Log>,
    ids: Vec<SessionId>,
    ended: Vec<Log>,
}

pub(crate) async fn law_5_random_calls_agree_with_a_model(harness: &dyn Harness) -> Outcome {
    let handles = open_handles(harness, 3).await?;
    for seed in seeds(SEEDS) {
        run(&handles, seed, CALLS)
            .await
            .map_err(|finding| finding.context(format!("SESSION_TESTKIT_SEED={seed}")))?;
    }
    Ok(())
}

/// Returns the same owner for a session each time, so that a seed determines every byte, including checksums.
fn owner_of(id: SessionId) -> Owner {
    let mut owner = logs::owner();
    owner.instance = id.to_string().parse().expect("all ids have the same form");
    owner
}

/// Runs random calls on an empty store, and empties it again. The calls depend only on the seed.
pub(crate) async fn run(handles: &[Handle], seed: u64, calls: usize) -> Outcome {
    let ids = (0..6).map(|n| SessionId::from_key(&format!("model {seed} {n}"))).collect();
    let mut model = Model { random: Random::new(seed), logs: BTreeMap::new(), ids, ended: Vec::new() };
    for call in 0..calls {
        let storage = handles.get(model.random.below(handles.len())).expect("below the length");
        model.step(storage).await.map_err(|finding| finding.context(format!("call {call}")))?;
    }
    let storage = handles.first().expect("there is a handle");
    for id in model.ids.clone() {
        match model.logs.get(&id) {
            Some(log) => check_reads(&**storage, log).await?,
            None => check_absent(&**storage, id).await?,
        }
    }
    // The next seed needs an empty store.
    for log in model.logs.into_values() {
        storage.delete(log.id(), log.tip()).await?;
    }
    check_eq!(all_heads(&**storage).await?, Vec::new(), "the list at the end");
    Ok(())
}

impl Model {
    async fn step(&mut self, storage: &Handle) -> Outcome {
        let id = *self.random.pick(&self.ids).expect("there are ids");
        match self.random.below(10) {
            0 | 1 => self.create(storage, id).await,
            2..=5 => self.append(storage, id).await,
            6 => self.delete(storage, id).await,
            7 => self.records(storage, id).await,
            8 => self.list(storage).await,
            _ => {
                let head = storage.head(id).await?;
                check_eq!(head.as_ref(), self.logs.get(&id).map(Log::head), "the head");
                Ok(())
            }
        }
    }

    fn durability(&mut self) -> Durability {
        if self.random.one_in(2) { Durability::Flushed } else { Durability::Buffered }
    }

    /// Returns a tip to expect: mostly the right one, sometimes a wrong one or that of an earlier log of the id.
    fn guess(&mut self, id: SessionId) -> Tip {
        let log = self.logs.get(&id);
        let right = log.map(Log::tip);
        match (self.random.below(6), right, log) {
            (0, Some(tip), _) => Tip { sum: Sum::from_u64(tip.sum.as_u64() ^ 1), ..tip },
            (1, Some(_), Some(log)) => log.up_to(1 + self.random.below(log.records().len()) as u64).tip(),
            (2, ..) | (_, None, _) => self.ended.last().map_or_else(
                || Log::created_by(owner_of(id), id, SessionConfig::new("never")).tip(),
                Log::tip,
            ),
            (_, Some(tip), _) => tip,
        }
    }

    async fn create(&mut self, storage: &Handle, id: SessionId) -> Outcome {
        let name = ["a", "b"].get(self.random.below(2)).copied().unwrap_or_default();
        let config = SessionConfig::new("test").name(name).label("name", name);
        let inherits = if self.random.one_in(4) { 2 } else { 0 };
        let mut log = Log::inheriting(owner_of(id), id, config, inherits);
        for n in 0..self.random.below(4) {
            log.noted(n);
        }
        let within = self.random.one_in(2).then(|| limit(1 + self.random.below(4)));
        let expected = within.map_or(Expected::Absent, Expected::AbsentWithin);
        let durability = self.durability();
        let answer = log.take().expecting(expected).send(&**storage, durability).await;
        let held = self.places(id);
        match (self.logs.get(&id), within) {
            (Some(there), _) => super::check_conflict(&answer, id, None, Some(there.tip())),
            (None, Some(limit)) if held >= limit.get() => super::check_limit_reached(&answer, limit.get()),
            (None, _) => {
                check_eq!(answer?, log.tip(), "the result of a creation");
                self.logs.insert(id, log);
                Ok(())
            }
        }
    }

    async fn append(&mut self, storage: &Handle, id: SessionId) -> Outcome {
        let (tip, durability) = (self.guess(id), self.durability());
        let Some(there) = self.logs.get(&id).filter(|log| log.tip() == tip) else {
            let actual = self.logs.get(&id).map(Log::tip);
            let answer = storage.append(id, Expected::At(tip), Batch::empty(), durability).await;
            return super::check_conflict(&answer, id, Some(tip), actual);
        };
        let mut log = there.clone();
        for _ in 0..self.random.below(4) {
            let state = log.head().state().name();
            let (revision, open) = (log.revision(), log.head().steps.open);
            let (lacks, refused) = (log.head().lifecycle.to_inherit > 0, log.head().lifecycle.step_refused);
            let wait = log.head().waits.changed;
            match (self.random.below(19), state) {
                (_, StateName::Completed | StateName::Failed | StateName::Cancelled) => &mut log,
                (0 | 1, StateName::Created) if lacks => log.inherited(StepOutcome::Unknown { deaths: 0 }),
                (3, StateName::Created) if lacks => log.item_value(revision, 1),
                (12, StateName::Created) if lacks => log.inherited(logs::inherited_items()),
                (13, StateName::Created) if lacks => log.inherited(logs::inherited_answer()),
                (14, StateName::Running) if !refused => log.each_started().items_begun(revision + 1, [1, 2]),
                (15, StateName::Running) if !refused => log.items_moved(revision, 1),
                (16, StateName::Running) if !refused => log.asked().sleep_started(),
                (18, StateName::Running) => log.worktree_intended().worktree_made(),
                (15 | 16, StateName::Paused) if log.head().lifecycle.owner.is_some() => {
                    log.item_failed(revision, 1).sleep_ended(revision, true).question_withdrawn(wait)
                }
                (17, _) if !lacks => log.answered((wait > 0).then_some(wait)),
                (2, StateName::Created) if lacks => log.step_value(revision, "a part"),
                (5, StateName::Running) if !refused => log.completed_step(),
                (6, StateName::Running) if !refused => log.step_started(),
                (7, StateName::Running) if open > 0 => log.step_failed(revision),
                (8, StateName::Running) => log.step_refused(),
                (9, StateName::Running) => log.paused(PauseReason::Requested("a break".into())),
                (3, StateName::Running) if refused => log.failed(),
                (0, StateName::Created) => log.push(SessionEvent::Started { owner: owner_of(id) }),
                (1, StateName::Running) => log.interrupted(),
                (2, StateName::Running) => log.iteration(),
                (3, StateName::Running) => log.completed(),
                (4, _) => log.failed(),
                (0 | 1, StateName::Paused) => log.push(SessionEvent::Resumed { owner: owner_of(id) }),
                (n, _) => log.noted("x".repeat(n * 50)),
            };
        }
        let within = self.random.one_in(2).then(|| limit(1 + self.random.below(4)));
        let expected = within.map_or(Expected::At(tip), |limit| Expected::AtWithin(tip, limit));
        let answer = log.take().expecting(expected).send(&**storage, durability).await;
        match within {
            Some(limit) if self.places(id) >= limit.get() => super::check_limit_reached(&answer, limit.get()),
            _ => {
                check_eq!(answer?, log.tip(), "the result of an append");
                self.logs.insert(id, log);
                Ok(())
            }
        }
    }

    /// Counts the other sessions that hold a place.
    fn places(&self, but: SessionId) -> usize {
        self.logs.iter().filter(|(id, log)| **id != but && log.head().holds_place()).count()
    }

    async fn delete(&mut self, storage: &Handle, id: SessionId) -> Outcome {
        let tip = self.guess(id);
        let answer = storage.delete(id, tip).await;
        match self.logs.get(&id).map(Log::tip) {
            None => check!(
                matches!(answer, Err(StorageError::NotFound { .. })),
                "expected NotFound for a deletion, not {answer:?}"
            ),
            Some(actual) if actual != tip => super::check_conflict(&answer, id, Some(tip), Some(actual))?,
            Some(_) => {
                answer?;
                self.ended.extend(self.logs.remove(&id));
            }
        }
        Ok(())
    }

    async fn records(&mut self, storage: &Handle, id: SessionId) -> Outcome {
        let (after, size) = (self.random.below(8), 1 + self.random.below(5));
        let answer = storage.records(id, after as u64, limit(size)).await;
        let Some(log) = self.logs.get(&id) else {
            check!(
                matches!(answer, Err(StorageError::NotFound { .. })),
                "expected NotFound for records, not {}",
                abbreviate(&answer)
            );
            return Ok(());
        };
        let page = answer?.records;
        let follows = log.records().get(after..).unwrap_or_default();
        check!(
            page.len() <= size && page.is_empty() == follows.is_empty(),
            "a page of {} records",
            page.len()
        );
        check_eq!(Some(page.as_slice()), follows.get(..page.len()), "a page after {after}");
        Ok(())
    }

    async fn list(&mut self, storage: &Handle) -> Outcome {
        let mut filter = SessionFilter::all();
        if self.random.one_in(2) {
            let state = self.random.pick(StateName::ALL).expect("there are states");
            filter = filter.state(*state);
        }
        if self.random.one_in(3) {
            filter = filter.name("a").label("name", "a");
        }
        if let (true, Some(log)) = (self.random.one_in(3), self.logs.values().next()) {
            filter = filter.updated_since(log.head().updated_at);
        }
        let (mut found, mut after) = (Vec::new(), None);
        let size = 1 + self.random.below(4);
        loop {
            let page = storage.list(&filter, after, limit(size)).await?;
            found.extend(page.heads);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let expected: Vec<_> =
            self.logs.values().map(Log::head).filter(|head| filter.matches(head)).cloned().collect();
        check_eq!(found, expected, "the list under {filter:?}, {size} on a page");
        Ok(())
    }
}
