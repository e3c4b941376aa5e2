//! Checks after a power cut: all that was acknowledged is there, what was removed is not, and the store works.

use std::collections::BTreeMap;

use super::workload::Mark;
use crate::command::{Place, text};
use crate::outcome::Result;

/// The knowledge about a session at the cut.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    Exists,
    Ended(&'static str),
    Removed,
    /// It may or may not exist.
    Unknown,
}

/// Lists what is wrong with the store on an image.
pub(super) fn check(place: &Place, marks: &[&Mark]) -> Result<Vec<String>> {
    let known = known(marks);
    let mut wrong = Vec::new();
    let anything = known.values().any(|known| *known != Known::Unknown);
    match place.heads() {
        Ok(heads) => {
            for (id, known) in &known {
                let state = heads.iter().find(|head| text(head, "id") == *id).map(|head| text(head, "state"));
                let right = match (known, state) {
                    (Known::Unknown, _) | (Known::Removed, None) | (Known::Exists, Some(_)) => true,
                    (Known::Ended(ended), Some(state)) => *ended == state,
                    _ => false,
                };
                if !right {
                    wrong.push(format!("{id} is acknowledged as {known:?} and is {state:?}"));
                }
            }
        }
        // Before the first acknowledgement there may be no store yet.
        Err(error) if anything => wrong.push(error),
        Err(_) => {}
    }
    if anything {
        wrong.extend(place.verify().unwrap_or_else(|error| vec![error]));
        let recover = place.call(&["recover", "--policy", "fail"])?;
        if recover.code != Some(0) {
            wrong.push(format!("recover: {}", recover.describe()));
        }
    }
    let next = place.call(&["run", "--name", "next", "--", "true"])?;
    if next.code != Some(0) {
        wrong.push(format!("the next `run`: {}", next.describe()));
    }
    let active = place.call(&["ls", "--json"])?;
    if active.code == Some(0) && active.out.contains("\"id\"") {
        wrong.push(format!("after `recover` a session has not ended: {}", active.out));
    }
    Ok(wrong)
}

/// Folds the marks before the cut.
fn known(marks: &[&Mark]) -> BTreeMap<String, Known> {
    let mut known = BTreeMap::new();
    let mut ended = BTreeMap::<&String, &'static str>::new();
    for mark in marks {
        let (id, fact) = match mark {
            Mark::Base => continue,
            // What was imported has the end of before.
            Mark::Exists(id) => (id, ended.get(id).map_or(Known::Exists, |state| Known::Ended(state))),
            Mark::Ended(id, state) => {
                ended.insert(id, *state);
                (id, Known::Ended(state))
            }
            Mark::Changing(id) => (id, Known::Unknown),
            Mark::Removed(id) => (id, Known::Removed),
        };
        known.insert(id.clone(), fact);
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mark_decides() {
        let id = || "a".to_owned();
        let of = |marks: &[Mark]| known(&marks.iter().collect::<Vec<_>>()).get("a").cloned();
        let all = [
            Mark::Exists(id()),
            Mark::Ended(id(), "failed"),
            Mark::Changing(id()),
            Mark::Removed(id()),
            Mark::Changing(id()),
            Mark::Exists(id()),
        ];
        let after = |count: usize| of(&all[..count]);
        assert_eq!([after(1), after(2)], [Some(Known::Exists), Some(Known::Ended("failed"))]);
        assert_eq!([after(3), after(5)], [Some(Known::Unknown), Some(Known::Unknown)]);
        assert_eq!([after(4), after(6)], [Some(Known::Removed), Some(Known::Ended("failed"))]);
    }
}
