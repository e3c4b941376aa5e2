//! Checks after a call has failed: nothing acknowledged is lost, nothing is invented, errors have a code, and the
//! store works.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::plan::Case;
use super::scene::{LOST_REPORT, REACTION, Scene, named};
use crate::command::{Output, Place, number, text};
use crate::outcome::Result;

/// States in which a session has ended.
const ENDED: [&str; 3] = ["completed", "failed", "cancelled"];

/// Lists what is wrong after a case. Without a case the verb must have succeeded. `hangs`: it hung where that is known,
/// and was killed.
pub(super) fn judge(
    scene: &Scene,
    place: &Place,
    case: Option<&Case>,
    output: &Output,
    hangs: bool,
) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let hung = hangs && output.code.is_some_and(|code| code == 137);
    let killed = hung || case.is_some_and(Case::kills);
    if output.code.is_none() {
        wrong.push("hang".to_owned());
    }
    if output.panicked() {
        wrong.push("panic".to_owned());
    }
    let exits: &[i32] = match scene.verb {
        "run" => &[7],
        _ => &[0],
    };
    let success = output.code.is_some_and(|code| exits.contains(&code));
    if !success && case.is_none() {
        wrong.push(format!("it fails: {}", output.describe()));
    }
    if !success && !killed && output.error_code().is_none() {
        wrong.push("the error has no code".to_owned());
    }
    let heads = match place.heads() {
        Ok(heads) => heads,
        Err(error) => return Ok([wrong, vec![error]].concat()),
    };
    wrong.extend(place.verify().unwrap_or_else(|error| vec![error]));
    if scene.verb == "run" {
        wrong.extend(judge_run(place, killed, output, &heads));
    } else {
        wrong.extend(judge_others(scene, &heads));
        wrong.extend(judge_verb(scene, place, success, output, &heads)?);
    }
    wrong.extend(judge_future(place, &heads)?);
    Ok(wrong)
}

/// Compares a `run` with the marks that its program left behind.
fn judge_run(place: &Place, killed: bool, output: &Output, heads: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    let marks = fs::read_to_string(place.folder.join("marks")).unwrap_or_default();
    let has = |mark: &str| marks.lines().any(|line| line == mark);
    let acknowledged = output.err.contains(" started; next:") || has("started");
    let Some(head) = named(heads, "case") else {
        if acknowledged {
            wrong.push("an acknowledged session is missing".to_owned());
        }
        return wrong;
    };
    let (state, code) = (text(head, "state"), head["exit_code"].as_i64());
    if has("started") && head["started_at"].is_null() {
        wrong.push("the program ran, and the log has no start".to_owned());
    }
    if state == "completed" || (state == "failed" && code == Some(7) && !has("ended")) {
        wrong.push(format!("an end was invented: {state}, exit code {code:?}"));
    }
    if output.code == Some(7) && output.error_code().is_none() && !(state == "failed" && code == Some(7)) {
        wrong.push(format!("exit code 7 without an error, and the session is {state}"));
    }
    if has("acked")
        && !killed
        && head.get("progress").is_none_or(|progress| number(progress, "percent") < 50.0)
    {
        wrong.push(format!("{LOST_REPORT}, the session is {state}"));
    }
    let codes: &[i32] = if killed { &[1, 7, 125, 137] } else { &[7, 125, 126, 127] };
    if output.code.is_some_and(|code| !codes.contains(&code)) {
        wrong.push("the exit code is none that `run` documents".to_owned());
    }
    wrong
}

/// Compares the sessions that the verb is not about with those of before.
fn judge_others(scene: &Scene, heads: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, (state, revision)) in &scene.before {
        let head = heads.iter().find(|head| text(head, "id") == id);
        match head {
            None if matches!(scene.verb, "gc" | "import") => {}
            None if scene.verb == "rm" && state == "completed" => {}
            None => wrong.push(format!("a session that was {state} is gone")),
            Some(head) if scene.verb == "import" && text(head, "state") != state => {}
            Some(head) if text(head, "state") != state || head["revision"].as_u64() != Some(*revision) => {
                wrong.push(format!(
                    "a session was {state} at {revision}, is {} at {}",
                    text(head, "state"),
                    head["revision"]
                ));
            }
            Some(_) => {}
        }
    }
    wrong
}

/// Compares the success of a verb with its effect.
fn judge_verb(
    scene: &Scene,
    place: &Place,
    success: bool,
    output: &Output,
    heads: &[Value],
) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let state = |name: &str| named(heads, name).map_or("gone", |head| text(head, "state")).to_owned();
    let mut claims = |name: &str, expected: &str| {
        let found = state(name);
        if success && found != expected {
            wrong.push(format!("it succeeded, and `{name}` is {found} instead of {expected}"));
        }
    };
    match scene.verb {
        "resume" => claims("vic", "completed"),
        "cancel" => claims("vic", "cancelled"),
        "recover" => claims("vic", "failed"),
        "rm" => claims("done", "gone"),
        "gc" => {
            claims("done", "gone");
            claims("bad", "gone");
        }
        "pause" | "cancel-live" => wrong.extend(judge_live(scene, place, success)?),
        "import" => {
            if success && heads.len() != scene.before.len() {
                wrong.push(format!("it succeeded, and stored {} sessions", heads.len()));
            }
            let stream = place.folder.join("stream").display().to_string();
            wrong.extend(again(&place.call(&["import", &stream])?));
            wrong.extend(equal_stream(scene, place)?);
        }
        "migrate" => {
            let target = scene.target(place);
            if success {
                wrong.extend(equal_stream(scene, &target)?);
            }
            wrong.extend(again(&place.call(&["migrate", "--to", &target.url()])?));
            wrong.extend(equal_stream(scene, &target)?);
        }
        "export" if success && !same_stream(&output.out, &scene.stream) => {
            wrong.push("it succeeded, and the stream is another one".to_owned());
        }
        _ => {}
    }
    Ok(wrong)
}

/// A request that was acknowledged is in the log, and the living session acts on it.
fn judge_live(scene: &Scene, place: &Place, success: bool) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let (request, goal) =
        if scene.verb == "pause" { ("pause_requested", "paused") } else { ("cancel_requested", "cancelled") };
    let events = place.call(&["events", "live"])?;
    if success && !events.out.contains(request) && !events.out.contains(goal) {
        wrong.push(format!("it succeeded, and the log has no `{request}`"));
    }
    if success || events.out.contains(request) {
        let limit = format!("{}s", REACTION.as_secs());
        place.call(&["wait", "live", "--for", goal, "--timeout", &limit])?;
        let heads = place.heads()?;
        let state = named(&heads, "live").map_or("gone", |head| text(head, "state"));
        if state != goal {
            wrong.push(format!("the request is in the log, and the session is {state}"));
        }
    }
    place.call(&["cancel", "live", "--force"])?;
    place.call(&["wait", "live", "--timeout", "10s"])?;
    let left = crate::processes::wait_for_end(&place.tag, REACTION)?;
    if !left.is_empty() {
        wrong.push(format!("the cancelled session leaves {left:?}"));
        crate::processes::kill(&left);
    }
    Ok(wrong)
}

fn again(output: &Output) -> Option<String> {
    (output.code != Some(0)).then(|| format!("the same command again: {}", output.describe()))
}

/// The sessions of before are in this store, byte for byte.
fn equal_stream(scene: &Scene, place: &Place) -> Result<Option<String>> {
    let output = place.call(&["export"])?;
    let equal = same_stream(&output.out, &scene.stream);
    Ok((!equal).then(|| "the copy differs from the original".to_owned()))
}

/// Compares streams session by session: one whose head could not be read comes last.
fn same_stream(one: &str, other: &str) -> bool {
    let sorted = |stream: &str| {
        let (sessions, _) = stream.split_once("{\"export_end\":").unwrap_or((stream, ""));
        let mut sessions: Vec<_> = sessions.split("{\"session\":").map(str::to_owned).collect();
        sessions.sort_unstable();
        sessions
    };
    sorted(one) == sorted(other)
}

/// A following command works, everything can be ended, and nothing is left over.
fn judge_future(place: &Place, heads: &[Value]) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let next = place.call(&["run", "--name", "next", "--", "true"])?;
    if next.code != Some(0) {
        wrong.push(format!("the next `run`: {}", next.describe()));
    }
    if heads.iter().any(|head| !ENDED.contains(&text(head, "state"))) {
        let recover = place.call(&["recover", "--policy", "fail"])?;
        if recover.code != Some(0) {
            wrong.push(format!("recover: {}", recover.describe()));
        }
        for head in place.heads()? {
            if !ENDED.contains(&text(&head, "state")) {
                let cancel = place.call(&["cancel", text(&head, "id"), "--force"])?;
                if cancel.code != Some(0) {
                    wrong.push(format!(
                        "a session that is {} cannot be ended: {}",
                        text(&head, "state"),
                        cancel.describe()
                    ));
                }
            }
        }
    }
    let gc = place.call(&["gc", "--older-than", "1h"])?;
    if gc.code != Some(0) {
        wrong.push(format!("gc: {}", gc.describe()));
    }
    wrong.extend(leftovers(place)?);
    Ok(wrong)
}

/// Lists files of dead processes that `gc` has left.
pub(crate) fn leftovers(place: &Place) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let store = place.folder.join("store");
    let folders = [
        store.join("stage"),
        store.join("trash"),
        store.join("active"),
        store.join("owners"),
        place.folder.join("store-files/owners"),
        place.folder.join("run/sessionctl"),
        place.folder.join("tmp"),
    ];
    for folder in folders {
        let names = names(&folder)?;
        if !names.is_empty() {
            let name = folder.strip_prefix(&place.folder).unwrap_or(&folder).display().to_string();
            found.push(format!("files are left in {name}: {names:?}"));
        }
    }
    Ok(found)
}

/// Lists the files in a folder and its folders.
fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    if !folder.is_dir() {
        return Ok(names);
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let owned = folder.file_name().is_some_and(|folder| folder != "tmp" && folder != "run");
        if entry.file_type()?.is_dir() && !owned {
            names.extend(self::names(&entry.path())?);
        } else if name != ".id" {
            names.push(name);
        }
    }
    Ok(names)
}
