//! `docs/state-machine.md`: the table and the diagram of the machine. Nothing is copied from its rules: each pair is
//! tried, and the page says what came of it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use session_core::{
    Envelope, EventKind, Lifecycle, Record, Role, Rule, SessionEvent, StateName, Sum, Timestamp,
    TransitionError, rule,
};

use super::row;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// An event of each kind as a log has it. Where the machine looks into the payload, there is one for each case.
const SAMPLES: &[&str] = &[
    r#"{"created":{"format":1,"config":{"operation":"o"},"creator":OWNER}}"#,
    r#"{"started":{"owner":OWNER}}"#,
    r#"{"iteration_started":{"number":1}}"#,
    r#"{"iteration_completed":{"number":1,"changes":{}}}"#,
    r#"{"command_executed":{"command":"c","duration_ms":1,"output_bytes":1}}"#,
    r#"{"analysis_completed":{"results":1}}"#,
    r#"{"checkpoint_saved":{"state":1,"resumable":true}}"#,
    r#"{"progress_reported":{}}"#,
    r#"{"noted":{"kind":"v.n","data":1}}"#,
    r#"{"pause_requested":{"reason":"r","by":"b"}}"#,
    r#"{"resume_requested":{"by":"b"}}"#,
    r#"{"cancel_requested":{"reason":"r","by":"b","force":false}}"#,
    r#"{"input_provided":{"value":1,"by":"b"}}"#,
    r#"{"paused":{"reason":{"requested":"r"}}}"#,
    r#"{"interrupted":{"evidence":"shutdown"}}"#,
    r#"{"resumed":{"owner":OWNER}}"#,
    r#"{"completed":{"summary":{}}}"#,
    r#"{"failed":{"error":{"message":"m","cause":"work"}}}"#,
    r#"{"cancelled":{"reason":"r"}}"#,
];

const AWAITING: &str = r#"{"paused":{"reason":{"awaiting_input":"?"}}}"#;

const OWNER: &str = r#"{"instance":"00000000-0000-4000-8000-000000000000","host":"h","machine":"m","boot":"b","pid":1,"start_time":1}"#;

const TOP: &str = "\
<!-- Made by `cargo xtask codegen`, which tries each pair on the machine: change session-core/src/machine, not this. -->

# The state machine

A session is what its log makes of it, record by record: one pure function, `Lifecycle::apply`, says what a record makes of a
session, or why it may not follow. Live changes, replay, recovery, import and `verify` all call it.

What it knows of a session is its `Lifecycle`: the state, the attempt, the owner, the last completed iteration and whether one is
open, and the requests that wait for an answer. A session that has ended never lives again.

";

const WHO: &str = "
## Who may append what

**O** is the owner: the record carries the present attempt, and the session has an owner. **U** is whoever finds the session
unowned. **A** is anyone. `started` and `resumed` carry the attempt that they begin (an owner's own `resumed` keeps its attempt),
all others the present one.

";

const TABLE: &str = "
## Every event in every state

What an event leads to where it is appended by the right one, under the right attempt. `=` changes nothing of the state, `–` is refused with
`ILLEGAL_TRANSITION`, **F** with `FENCED`.

";

const BOTTOM: &str = "
*open*: an iteration is open. *asking*: the pause waits for input. *unowned*: its owner is gone.

## Refusals

A refused event leaves the log unchanged, byte for byte. In this order:

1. While the session is running or paused, an owner's event (**O** above) that carries another attempt is `FENCED`, and so is one that only the
   owner may append where there is none, and a `resumed` that names another owner than the one that is there: whoever appends it
   was replaced, and stops. Before the first start and after the end nobody was replaced, and the next rule speaks.
2. What the table does not have is `ILLEGAL_TRANSITION`, with the kinds that would have been possible.
3. Any other record with an attempt that is not its turn is refused as `FENCED` too; in a log that is read, each of these makes the log
   invalid from there on.
4. `iteration_started` carries the number after the last completed one, `iteration_completed` that of the open one; else `ILLEGAL_TRANSITION`.

A cancel that was asked for stays pending through pauses, deaths and resumes until the end; the first reason stays, and a later request can only
add force. A pause that was asked for is answered by `paused`, or forgotten with `resumed`.
";

/// The columns of the table: a name, and the samples that lead there.
fn columns() -> Vec<(&'static str, Vec<&'static str>)> {
    let running = ["created", "started"];
    let after = |more: &[&'static str]| running.iter().chain(more).copied().collect::<Vec<_>>();
    vec![
        ("*nothing*", vec![]),
        ("Created", vec!["created"]),
        ("Running", after(&[])),
        ("Running, *open*", after(&["iteration_started"])),
        ("Paused", after(&["paused"])),
        ("Paused, *asking*", after(&["awaiting"])),
        ("Paused, *unowned*", after(&["paused", "interrupted"])),
        ("Completed", after(&["completed"])),
        ("Failed", after(&["failed"])),
        ("Cancelled", after(&["cancelled"])),
    ]
}

pub(super) fn page() -> Result<String> {
    let columns = columns()
        .into_iter()
        .map(|(name, path)| Ok((name, walk(&path)?)))
        .collect::<Result<Vec<(&str, Option<Lifecycle>)>>>()?;
    let mut text = TOP.to_owned();
    text += &diagram(&columns)?;
    text += WHO;
    text += &row(["event", "what it means", "who", "allowed in", "if", "then"]);
    text += &row(["---"; 6]);
    for kind in EventKind::ALL {
        text += &row([
            format!("`{kind}`"),
            kind.about().to_owned(),
            role(kind.role())?.to_owned(),
            allowed(*kind),
            condition(*kind)?,
            effects(*kind, &columns)?,
        ]);
    }
    text += TABLE;
    text += &row(std::iter::once("").chain(columns.iter().map(|(name, _)| *name)));
    text += &row(vec!["---"; columns.len() + 1]);
    for kind in EventKind::ALL {
        let mut cells = vec![format!("`{kind}`")];
        for (_, life) in &columns {
            cells.push(cell(life.as_ref(), *kind)?);
        }
        text += &row(cells);
    }
    Ok(text + BOTTOM)
}

fn sample(name: &str) -> Result<SessionEvent> {
    let json = if name == "awaiting" {
        Some(&AWAITING)
    } else {
        SAMPLES.iter().find(|sample| sample.starts_with(&format!("{{\"{name}\"")))
    };
    let json =
        json.ok_or_else(|| format!("`{name}` has no sample: give it one in xtask/src/codegen/machine.rs"))?;
    Ok(serde_json::from_str(&json.replace("OWNER", OWNER))?)
}

fn try_event(
    life: Option<&Lifecycle>,
    event: SessionEvent,
) -> Result<std::result::Result<Lifecycle, TransitionError>> {
    let at = Timestamp::from_millis(0).ok_or("1970 is in the calendar")?;
    let attempt = life.map_or(0, |life| life.attempt_for(event.kind()));
    let envelope = Envelope { seq: 1, at, attempt, flushed: 0 };
    Ok(Lifecycle::apply(life, &Record { envelope, event, sum: Sum::from_u64(0) }))
}

fn walk(path: &[&str]) -> Result<Option<Lifecycle>> {
    let mut life = None;
    for name in path {
        life = Some(try_event(life.as_ref(), sample(name)?)??);
    }
    Ok(life)
}

fn after(
    life: Option<&Lifecycle>,
    kind: EventKind,
) -> Result<std::result::Result<Lifecycle, TransitionError>> {
    try_event(life, sample(kind.name())?)
}

fn title(state: StateName) -> String {
    let name = state.name();
    let (first, rest) = name.split_at(1);
    first.to_uppercase() + rest
}

fn cell(life: Option<&Lifecycle>, kind: EventKind) -> Result<String> {
    Ok(match after(life, kind)? {
        Ok(next) if life.is_some_and(|life| life.state.name() == next.state.name()) => "=".to_owned(),
        Ok(next) => title(next.state.name()),
        Err(TransitionError::Fenced { .. } | TransitionError::Attempt { .. }) => "**F**".to_owned(),
        Err(_) => "–".to_owned(),
    })
}

fn diagram(columns: &[(&str, Option<Lifecycle>)]) -> Result<String> {
    let mut arrows = BTreeMap::<(usize, usize), Vec<&str>>::new();
    let place = |state: Option<StateName>| {
        state.map_or(0, |state| 1 + StateName::ALL.iter().position(|name| *name == state).unwrap_or_default())
    };
    for (_, life) in columns {
        let from = life.as_ref().map(|life| life.state.name());
        for kind in EventKind::ALL {
            let Ok(next) = after(life.as_ref(), *kind)? else { continue };
            let labels = arrows.entry((place(from), place(Some(next.state.name())))).or_default();
            if !labels.contains(&kind.name()) {
                labels.push(kind.name());
            }
        }
    }
    let name = |place: usize| match place.checked_sub(1).and_then(|at| StateName::ALL.get(at)) {
        Some(state) => title(*state),
        None => "[*]".to_owned(),
    };
    let mut text = "```mermaid\nstateDiagram-v2\n".to_owned();
    for ((from, to), labels) in &arrows {
        let labels = labels.join("<br>");
        writeln!(text, "    {} --> {}: {labels}", name(*from), name(*to))?;
    }
    for state in StateName::ALL.iter().filter(|state| state.is_final()) {
        writeln!(text, "    {} --> [*]", title(*state))?;
    }
    Ok(text + "```\n")
}

fn role(who: Role) -> Result<&'static str> {
    Ok(match who {
        Role::Anyone => "A",
        Role::Owner => "O",
        Role::Claimant => "U",
        Role::OwnerOrClaimant => "O, U",
        Role::Recoverer => "A with proof that the owner is dead; O that lets go",
        other => return Err(format!("the page has no word for {other:?}").into()),
    })
}

fn allowed(kind: EventKind) -> String {
    let states: Vec<String> = StateName::ALL
        .iter()
        .filter(|state| rule(Some(**state), kind) != Rule::Illegal)
        .map(|state| title(*state))
        .collect();
    if states.is_empty() { "nothing: it is always and only record 1".to_owned() } else { states.join(", ") }
}

fn condition(kind: EventKind) -> Result<String> {
    let mut words: Vec<&str> = Vec::new();
    for state in StateName::ALL {
        let word = match rule(Some(*state), kind) {
            Rule::Illegal | Rule::Legal => continue,
            Rule::NoIterationOpen => "none is open",
            Rule::IterationOpen => "it is open",
            Rule::AwaitingInput => "the pause waits for input",
            Rule::Owned => "owned",
            other => return Err(format!("the page has no word for {other:?}").into()),
        };
        words.push(word);
    }
    Ok(words.join(", "))
}

/// What changes beside the state, seen on lifecycles in which everything that can be pending is.
fn effects(kind: EventKind, columns: &[(&str, Option<Lifecycle>)]) -> Result<String> {
    let mut found: Vec<&str> = Vec::new();
    for (_, life) in columns {
        let mut life = life.clone();
        for request in ["pause_requested", "resume_requested", "cancel_requested", "input_provided"] {
            if request == kind.name() {
                continue;
            }
            if let Ok(next) = try_event(life.as_ref(), sample(request)?)? {
                life = Some(next);
            }
        }
        let (Some(before), Ok(next)) = (&life, after(life.as_ref(), kind)?) else { continue };
        let (was, is) = (&before.requests, &next.requests);
        let changes = [
            (before.owner.is_none() && next.owner.is_some(), "owned"),
            (before.owner.is_some() && next.owner.is_none() && !next.state.is_final(), "unowned"),
            (next.attempt > before.attempt, "where it was unowned: attempt + 1"),
            (!before.iteration_open && next.iteration_open, "the iteration is open"),
            (next.iterations_completed > before.iterations_completed, "the iteration is completed"),
            (
                before.iteration_open
                    && !next.iteration_open
                    && next.iterations_completed == before.iterations_completed,
                "an open iteration is closed as not done",
            ),
            (was.pause.is_none() && is.pause.is_some(), "a pause is pending"),
            (was.resume.is_none() && is.resume.is_some(), "a resume is pending"),
            (was.cancel.is_none() && is.cancel.is_some(), "a cancel is pending"),
            (was.answer.is_none() && is.answer.is_some(), "the answer is there"),
            (
                !next.state.is_final()
                    && (was.pause.is_some() && is.pause.is_none()
                        || was.resume.is_some() && is.resume.is_none()),
                "pause and resume requests are cleared",
            ),
            (next.state.is_final(), "nothing is pending, nobody owns it"),
        ];
        for (_, words) in changes.iter().filter(|(holds, _)| *holds) {
            if !found.contains(words) {
                found.push(words);
            }
        }
    }
    Ok(found.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_sample_of_its_own() {
        for kind in EventKind::ALL {
            assert_eq!(sample(kind.name()).unwrap().kind(), *kind);
        }
        assert_eq!(SAMPLES.len(), EventKind::ALL.len());
    }

    #[test]
    fn the_columns_are_where_they_say_they_are() {
        for (name, path) in columns() {
            let state = walk(&path).unwrap().map_or("*nothing*".to_owned(), |life| title(life.state.name()));
            assert!(name.starts_with(&state), "{name}: {state}");
        }
    }

    #[test]
    fn the_page_says_what_the_machine_does() {
        let page = page().unwrap();
        for line in [
            "    Created --> Running: started\n",
            "    Running --> Paused: paused<br>interrupted\n",
            "    Paused --> Running: resumed\n",
            "    Cancelled --> [*]\n",
        ] {
            assert!(page.contains(line), "{line}{page}");
        }
    }
}
