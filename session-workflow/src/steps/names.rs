//! The uses of names in an attempt: the numbers that identify them, and those that are open.

use std::collections::HashMap;

use session_core::{StepIdentity, StepOccurrence};

use crate::fingerprint::Fingerprint;

/// The uses of names in an attempt.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The last use of each name without a key.
    last: HashMap<String, Use>,
    /// The open steps of each name, with their keys.
    open: HashMap<String, Vec<Option<String>>>,
}

#[derive(Debug)]
struct Use {
    number: u64,
    /// The fingerprint of an end that is not kept: the next use with the same one is this use again.
    unkept: Option<Fingerprint>,
}

impl Names {
    /// Returns `true` if a step of this name or key is open. Steps of one name are concurrent only if all have keys.
    pub(super) fn is_open(&self, name: &str, key: Option<&str>) -> bool {
        let open = self.open.get(name).map(Vec::as_slice).unwrap_or_default();
        open.iter().any(|other| match (key, other) {
            (Some(key), Some(other)) => key == other,
            _ => true,
        })
    }

    /// Returns the number of the next use of a name.
    pub(super) fn next_number(&self, name: &str, fingerprint: &Fingerprint) -> u64 {
        match self.last.get(name) {
            None => 1,
            Some(last) if last.unkept.as_ref() == Some(fingerprint) => last.number,
            Some(last) => last.number + 1,
        }
    }

    pub(super) fn open(&mut self, step: &StepIdentity) {
        let key = match &step.occurrence {
            StepOccurrence::Number(number) => {
                self.last.insert(step.name.clone(), Use { number: *number, unkept: None });
                None
            }
            StepOccurrence::Key(key) => Some(key.clone()),
        };
        self.open.entry(step.name.clone()).or_default().push(key);
    }

    /// Frees the name of an open step.
    pub(super) fn close(&mut self, step: &StepIdentity) {
        let key = match &step.occurrence {
            StepOccurrence::Number(_) => None,
            StepOccurrence::Key(key) => Some(key),
        };
        if let Some(open) = self.open.get_mut(&step.name) {
            if let Some(place) = open.iter().position(|other| other.as_ref() == key) {
                open.swap_remove(place);
            }
            if open.is_empty() {
                self.open.remove(&step.name);
            }
        }
    }

    /// Records the end of a use: `unkept` is its fingerprint if it is run again at the next use.
    pub(super) fn used(&mut self, step: &StepIdentity, unkept: Option<Fingerprint>) {
        if let StepOccurrence::Number(number) = step.occurrence {
            self.last.insert(step.name.clone(), Use { number, unkept });
        }
    }
}
