//! The items of a session's eaches, as its log has them.

use std::collections::HashMap;

use session_core::{
    InheritedItem, ItemIdentity, ItemMoves, SessionEvent, StepIdentity, StepOutcome, Timestamp,
};

/// The eaches of a session by their identity: the fold of its log.
#[derive(Debug, Clone, Default)]
pub struct EachTable {
    eaches: HashMap<StepIdentity, EachStatus>,
    /// The each that was started, or whose items were taken over, at a revision.
    starts: HashMap<u64, StepIdentity>,
}

/// One each: a command or work that runs once for every item of its input.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct EachStatus {
    /// The fingerprint of what it runs for each item.
    pub fingerprint: String,
    /// The command that it runs for each item, for people.
    pub command: Option<String>,
    /// The revision of its first start, or at which items were taken over.
    pub first_start: u64,
    /// The time of its last start.
    pub started_at: Option<Timestamp>,
    /// The attempt of its last start; 0 if its items were only taken over.
    pub attempt: u32,
    /// The number of times that its recorded ends were given up on purpose.
    pub reruns: u64,
    /// The number of items in its input, once it was known.
    pub total: Option<u64>,
    /// `true` if the values of its items together are longer than they may be.
    pub is_too_long: bool,
    items: HashMap<u64, ItemStatus>,
    numbers: HashMap<ItemIdentity, u64>,
    last_number: u64,
    done: u64,
}

/// One item of an each.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ItemStatus {
    /// The item.
    pub identity: ItemIdentity,
    /// The state.
    pub state: ItemState,
    /// The number of deaths of an owner at which it was open, without an end since.
    pub deaths: u64,
    /// The revision of its last start, or at which it was taken over.
    pub start: u64,
    /// The revision of its recorded end; 0 if it has none.
    pub end: u64,
    /// The parts of its value.
    pub(crate) value: ItemValue,
}

/// The value of an item: the revisions of its parts, and its size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ItemValue {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

impl ItemValue {
    fn add(&mut self, revision: u64, bytes: usize) {
        if self.count == 0 {
            self.first = revision;
        }
        self.last = revision;
        self.count += 1;
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}

/// The state of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ItemState {
    /// Started, not ended.
    Open,
    /// Recorded: it is not run again.
    Done,
    /// Failed, or its recorded end was given up: it is run again.
    Failed,
    /// Started, and its end is unknown.
    Unknown,
}

impl EachTable {
    /// Returns one each.
    #[must_use]
    pub fn get(&self, each: &StepIdentity) -> Option<&EachStatus> {
        self.eaches.get(each)
    }

    /// Returns all eaches, in the order of their first start.
    #[must_use]
    pub fn in_order(&self) -> Vec<(&StepIdentity, &EachStatus)> {
        let mut all: Vec<_> = self.eaches.iter().collect();
        all.sort_by_key(|(_, status)| status.first_start);
        all
    }

    /// Returns `true` if this each was started, or its items were taken over, at a revision.
    pub(crate) fn is_start(&self, each: &StepIdentity, revision: u64) -> bool {
        self.starts.get(&revision) == Some(each)
    }

    pub(crate) fn record_start(&mut self, each: &StepIdentity, revision: u64) {
        self.starts.insert(revision, each.clone());
    }

    pub(crate) fn get_mut(&mut self, each: &StepIdentity) -> &mut EachStatus {
        self.eaches.entry(each.clone()).or_default()
    }

    /// Folds in an event at its revision.
    pub(crate) fn apply(&mut self, event: &SessionEvent, revision: u64, at: Timestamp, attempt: u32) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only records of items change the table")]
        match event {
            SessionEvent::EachStarted { step, fingerprint, reruns, command, .. } => {
                self.record_start(step, revision);
                let start = EachStart { revision, at, attempt, fingerprint, reruns: *reruns };
                self.get_mut(step).started(&start, command.as_deref());
            }
            SessionEvent::ItemsMoved { moves } => {
                if let Some(status) = self.of_start(moves.each) {
                    status.moved(moves, revision);
                }
            }
            SessionEvent::ItemValue { each, item, part } => {
                if let Some(status) = self.of_start(*each) {
                    status.part(*item, revision, part.len());
                }
            }
            SessionEvent::Inherited { step } => {
                if let StepOutcome::Items { items, too_long } = &step.outcome {
                    self.record_start(&step.step, revision);
                    let status = self.get_mut(&step.step);
                    let start = EachStart {
                        revision,
                        at: step.at,
                        attempt: 0,
                        fingerprint: &step.fingerprint,
                        reruns: step.reruns,
                    };
                    status.started(&start, step.command.as_deref());
                    status.is_too_long |= too_long;
                    for item in items {
                        status.inherited(item, revision);
                    }
                }
            }
            _ => {}
        }
    }

    fn of_start(&mut self, start: u64) -> Option<&mut EachStatus> {
        self.eaches.get_mut(self.starts.get(&start)?)
    }

    /// The end of every open item is unknown. `died` is `true` if the owner's death is the cause.
    pub(crate) fn owner_is_gone(&mut self, died: bool) {
        let items = self.eaches.values_mut().flat_map(|status| status.items.values_mut());
        for item in items.filter(|item| item.state == ItemState::Open) {
            item.state = ItemState::Unknown;
            item.deaths += u64::from(died);
        }
    }
}

/// The start of an each.
pub(crate) struct EachStart<'a> {
    pub(crate) revision: u64,
    pub(crate) at: Timestamp,
    pub(crate) attempt: u32,
    pub(crate) fingerprint: &'a str,
    pub(crate) reruns: u64,
}

impl EachStatus {
    /// Returns all items that were started, in no order.
    pub fn items(&self) -> impl Iterator<Item = (u64, &ItemStatus)> {
        self.items.iter().map(|(number, item)| (*number, item))
    }

    /// Returns the number of items with a recorded end.
    #[must_use]
    pub const fn done(&self) -> u64 {
        self.done
    }

    /// Returns `true` if every item of its input has a recorded end.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.total.is_some_and(|total| self.done >= total)
            && self.items.values().all(|item| item.state == ItemState::Done)
    }

    /// Returns the number of items in a state.
    #[must_use]
    pub fn count(&self, state: ItemState) -> usize {
        self.items.values().filter(|item| item.state == state).count()
    }

    /// Returns an item by its number.
    #[must_use]
    pub fn item(&self, number: u64) -> Option<&ItemStatus> {
        self.items.get(&number)
    }

    /// Returns the number of an item, if it was started before.
    #[must_use]
    pub fn number(&self, identity: &ItemIdentity) -> Option<u64> {
        self.numbers.get(identity).copied()
    }

    /// Returns the highest number of an item.
    pub(crate) const fn last_number(&self) -> u64 {
        self.last_number
    }

    pub(crate) fn started(&mut self, start: &EachStart<'_>, command: Option<&str>) {
        if self.first_start == 0 {
            self.first_start = start.revision;
        }
        if start.reruns > self.reruns {
            self.items.values_mut().for_each(|item| item.state = ItemState::Failed);
            (self.done, self.is_too_long) = (0, false);
        }
        (self.started_at, self.attempt, self.reruns) = (Some(start.at), start.attempt, start.reruns);
        start.fingerprint.clone_into(&mut self.fingerprint);
        self.command = command.map(str::to_owned);
    }

    pub(crate) fn moved(&mut self, moves: &ItemMoves, revision: u64) {
        self.total = moves.total.or(self.total);
        self.is_too_long |= moves.too_long;
        for number in moves.done.iter().chain(&moves.skipped) {
            if let Some(item) = self.items.get_mut(number)
                && item.state != ItemState::Done
            {
                (item.state, item.deaths, item.end) = (ItemState::Done, 0, revision);
                self.done += 1;
            }
        }
        for failure in &moves.failed {
            if let Some(item) = self.items.get_mut(&failure.item).filter(|item| item.state == ItemState::Open)
            {
                item.state = if failure.unknown { ItemState::Unknown } else { ItemState::Failed };
                item.deaths = if failure.unknown { item.deaths } else { 0 };
            }
        }
        for start in &moves.begun {
            if let Some(identity) = &start.identity {
                self.add(start.item, identity, ItemState::Open, 0);
            }
            if let Some(item) = self.items.get_mut(&start.item).filter(|item| item.state != ItemState::Done) {
                (item.state, item.start, item.value) = (ItemState::Open, revision, ItemValue::default());
            }
        }
    }

    pub(crate) fn part(&mut self, number: u64, revision: u64, bytes: usize) {
        if let Some(item) = self.items.get_mut(&number) {
            item.value.add(revision, bytes);
        }
    }

    fn inherited(&mut self, item: &InheritedItem, revision: u64) {
        let state = if item.unknown { ItemState::Unknown } else { ItemState::Done };
        self.add(item.item, &item.identity, state, item.deaths);
        if let Some(item) = self.items.get_mut(&item.item) {
            item.start = revision;
            item.end = if item.state == ItemState::Done { revision } else { 0 };
        }
        self.done += u64::from(!item.unknown);
    }

    fn add(&mut self, number: u64, identity: &ItemIdentity, state: ItemState, deaths: u64) {
        // The first meaning of a number holds, and the first number of an item.
        if self.items.contains_key(&number) || self.numbers.contains_key(identity) {
            return;
        }
        self.last_number = self.last_number.max(number);
        self.numbers.insert(identity.clone(), number);
        let (identity, value) = (identity.clone(), ItemValue::default());
        self.items.insert(number, ItemStatus { identity, state, deaths, start: 0, end: 0, value });
    }
}
