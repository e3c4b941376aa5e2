//! The state of a store once all workers have ended.

use std::time::Duration;

use super::facts::{Fact, Known};
use crate::calls::leftovers;
use crate::command::{Place, text};
use crate::outcome::Result;
use crate::processes;

/// Time after which sessions that were cancelled must have ended.
const END: Duration = Duration::from_secs(30);

/// Ends what is running and lists what is wrong.
pub(super) fn judge(place: &Place, known: &mut Known) -> Result<Vec<String>> {
    let mut wrong = std::mem::take(&mut known.wrong);
    let ended = |state: &str| matches!(state, "completed" | "failed" | "cancelled");
    // Twice: what was starting in the background may appear late.
    for _ in 0..2 {
        for head in place.heads()? {
            if !ended(text(&head, "state")) {
                place.call(&["cancel", text(&head, "id"), "--force"])?;
                place.call(&["wait", text(&head, "id"), "--timeout", "20s"])?;
            }
        }
        let left = processes::wait_for_end(&place.tag, END)?;
        if !left.is_empty() {
            let shown: Vec<_> = left.iter().map(|process| process.command.clone()).collect();
            wrong.push(format!("{} processes are left: {shown:?}", left.len()));
            processes::kill(&left);
        }
        let recover = place.call(&["recover", "--policy", "fail"])?;
        if recover.code != Some(0) {
            wrong.push(format!("recover: {}", recover.describe()));
        }
    }
    wrong.extend(place.verify().unwrap_or_else(|error| vec![error]));
    let heads = place.heads()?;
    for head in &heads {
        if !ended(text(head, "state")) {
            wrong.push(format!("{} cannot be ended: {}", text(head, "id"), text(head, "state")));
        }
    }
    for (id, facts) in &known.facts {
        let head = heads.iter().find(|head| text(head, "id") == *id);
        let has = |fact| facts.contains(&fact);
        match head {
            Some(_) if has(Fact::Removed) => wrong.push(format!("{id} was removed and is there")),
            None if !has(Fact::Removing) => {
                wrong.push(format!("{id} is acknowledged as {facts:?} and is gone"));
            }
            None => {}
            Some(head) => {
                for fact in facts {
                    if let Fact::Ended(state) = fact
                        && *state != text(head, "state")
                    {
                        wrong.push(format!("{id} is acknowledged as {state} and is {}", text(head, "state")));
                    }
                }
                if facts.iter().any(|fact| matches!(fact, Fact::Asked(_))) {
                    wrong.extend(requests(place, id, facts)?);
                }
            }
        }
    }
    let gc = place.call(&["gc", "--older-than", "1h"])?;
    if gc.code != Some(0) {
        wrong.push(format!("gc: {}", gc.describe()));
    }
    wrong.extend(leftovers(place)?);
    let next = place.call(&["run", "--", "true"])?;
    if next.code != Some(0) {
        wrong.push(format!("the next `run`: {}", next.describe()));
    }
    Ok(wrong)
}

/// A request that was acknowledged is in the log, unless the session had ended or was so already.
fn requests(place: &Place, id: &str, facts: &[Fact]) -> Result<Vec<String>> {
    let events = place.call(&["events", id, "--json"])?.out;
    let mut wrong = Vec::new();
    let has = |kind: &str| events.contains(&format!("\"{kind}\""));
    for (verb, kinds) in
        [("cancel", ["cancel_requested", "cancelled"]), ("pause", ["pause_requested", "paused"])]
    {
        if facts.contains(&Fact::Asked(verb)) && !kinds.iter().any(|kind| has(kind)) {
            wrong.push(format!("{id}: {verb} is acknowledged, and is not in the log"));
        }
    }
    if events.matches("\"started\"").count() > 1 {
        wrong.push(format!("{id} has started twice"));
    }
    Ok(wrong)
}
