//! The uses of names in an attempt: the numbers that identify them, and those that are open.

use std::collections::HashMap;

use session_core::{StepIdentity, StepOccurrence};

use crate::fingerprint::Fingerprint;

/// The uses of names in an attempt.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The last use of each name without a key.
    last: HashMap<String, Use>,
    /// The open steps of each name.
    open: HashMap<String, Vec<Open>>,
}

#[derive(Debug)]
struct Open {
    key: Option<String>,
    /// `true` while its processes are being ended: its name will be free.
    is_ending: bool,
}

/// The reason why a name cannot be used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// A step that runs has it.
    Running,
    /// A step has it whose processes are being ended.
    Ending,
}

#[derive(Debug)]
struct Use {
    number: u64,
    /// The fingerprint of an end that is not kept: the next use with the same one is this use again.
    unkept: Option<Fingerprint>,
}

impl Names {
    /// Returns the reason why a name and key cannot be used now. Steps of one name are concurrent only if all have keys.
    pub(crate) fn taken(&self, name: &str, key: Option<&str>) -> Option<Taken> {
        let open = self.open.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut conflicts = open.iter().filter(|other| match (key, &other.key) {
            (Some(key), Some(other)) => key == other,
            _ => true,
        });
        let first = conflicts.next()?;
        let is_ending = first.is_ending && conflicts.all(|other| other.is_ending);
        Some(if is_ending { Taken::Ending } else { Taken::Running })
    }

    /// Returns the number of the next use of a name.
    pub(crate) fn next_number(&self, name: &str, fingerprint: &Fingerprint) -> u64 {
        match self.last.get(name) {
            None => 1,
            Some(last) if last.unkept.as_ref() == Some(fingerprint) => last.number,
            Some(last) => last.number + 1,
        }
    }

    pub(crate) fn open(&mut self, step: &StepIdentity) {
        let key = match &step.occurrence {
            StepOccurrence::Number(number) => {
                self.last.insert(step.name.clone(), Use { number: *number, unkept: None });
                None
            }
            StepOccurrence::Key(key) => Some(key.clone()),
        };
        self.open.entry(step.name.clone()).or_default().push(Open { key, is_ending: false });
    }

    /// Takes note that the processes of an open step are being ended.
    pub(crate) fn set_ending(&mut self, step: &StepIdentity) {
        let open = self.open.get_mut(&step.name).into_iter().flatten();
        open.filter(|open| open.key.as_deref() == key_of(step)).for_each(|open| open.is_ending = true);
    }

    /// Frees the name of an open step.
    pub(crate) fn close(&mut self, step: &StepIdentity) {
        if let Some(open) = self.open.get_mut(&step.name) {
            if let Some(place) = open.iter().position(|open| open.key.as_deref() == key_of(step)) {
                open.swap_remove(place);
            }
            if open.is_empty() {
                self.open.remove(&step.name);
            }
        }
    }

    /// Frees the number of a use that was given up before it was recorded.
    pub(crate) fn unused(&mut self, step: &StepIdentity) {
        if let StepOccurrence::Number(number) = step.occurrence {
            match number {
                0 | 1 => drop(self.last.remove(&step.name)),
                _ => drop(self.last.insert(step.name.clone(), Use { number: number - 1, unkept: None })),
            }
        }
    }

    /// Records the end of a use: `unkept` is its fingerprint if it is run again at the next use.
    pub(crate) fn used(&mut self, step: &StepIdentity, unkept: Option<Fingerprint>) {
        if let StepOccurrence::Number(number) = step.occurrence {
            self.last.insert(step.name.clone(), Use { number, unkept });
        }
    }
}

fn key_of(step: &StepIdentity) -> Option<&str> {
    match &step.occurrence {
        StepOccurrence::Number(_) => None,
        StepOccurrence::Key(key) => Some(key),
    }
}
