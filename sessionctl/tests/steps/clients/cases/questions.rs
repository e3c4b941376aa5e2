//! Questions, sleeps, and programs outside of a session.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::case::{Case, case};

fn fails() -> Value {
    json!({ "call": "exit", "code": 1 })
}

pub(super) fn cases() -> Vec<Case> {
    [questions(), sleeps(), places()].into_iter().flatten().collect()
}

fn questions() -> Vec<Case> {
    let deploy = json!({ "call": "ask", "name": "deploy", "question": "Deploy \u{2028}1.4.0?", "choices": ["yes", "no"] });
    let ran = json!({ "code": 0 });
    vec![
        case("an answer ends the wait, and is kept")
            .calls(&json!([deploy, fails()]))
            .run()
            .waits_for_question()
            .answer("deploy", "yes")
            .ends(1, json!([{ "answer": "yes" }]))
            .says("sessionctl answer")
            .retry(&[])
            .ends(1, json!([{ "answer": "yes" }])),
        case("an answer may come before the question")
            .calls(&json!([
                { "call": "shell", "command": "echo >ready; while ! [ -e go ]; do sleep 0.01; done" },
                deploy,
                { "call": "ask", "name": "deploy", "key": "second", "question": "Again?", "default": "never", "after_ms": 1 },
            ]))
            .run()
            .waits_for("ready")
            .answer("deploy", "no")
            .write("go", "")
            .ends(0, json!([ran, { "answer": "no" }, { "answer": "never" }])),
        case("a question stays open while its owner is dead")
            .calls(&json!([deploy]))
            .run()
            .waits_for_question()
            .kill_owner()
            .answer("deploy", "yes")
            .resume()
            .ends(0, json!([{ "answer": "yes" }])),
        case("a default holds after its time")
            .calls(&json!([
                { "call": "ask", "name": "go", "question": "Go?", "default": "ja: ä", "after_ms": 300 },
                { "call": "ask", "name": "go", "question": "Go?", "default": "no", "choices": ["yes"], "after_ms": 1 },
                fails(),
            ]))
            .run()
            .ends(1, json!([{ "answer": "ja: ä" }, { "error": "INVALID_ARGUMENT" }]))
            .takes_at_least(Duration::from_millis(300)),
        case("a question that nobody can answer is refused")
            .on("sled")
            .calls(&json!([
                deploy,
                { "call": "ask", "name": "go", "question": "Go?", "default": "yes", "after_ms": 1 },
                { "call": "step", "name": "step", "argv": ["true"] },
            ]))
            .run()
            .ends(0, json!([{ "error": "INVALID_ARGUMENT" }, { "answer": "yes" }, { "code": 0, "output": "" }])),
    ]
}

fn sleeps() -> Vec<Case> {
    let nap = |after: u64| json!({ "call": "sleep", "name": "nap", "after_ms": after });
    let slept = json!({ "slept": true });
    vec![
        case("a sleep happens once")
            .calls(&json!([
                nap(400),
                { "call": "sleep", "name": "past", "until": "2020-02-29T12:00:00.000Z" },
                { "call": "sleep", "name": "none" },
                fails(),
            ]))
            .run()
            .ends(1, json!([slept, slept, { "error": "INVALID_ARGUMENT" }]))
            .takes_at_least(Duration::from_millis(400))
            .calls(&json!([nap(86_400_000), fails()]))
            .retry(&[])
            .ends(1, json!([slept])),
        case("a sleep ends at its first wake-up time")
            .calls(&json!([nap(2_000)]))
            .run()
            .waits_for_sleep()
            .kill_owner()
            .calls(&json!([nap(86_400_000), { "call": "step", "name": "after", "argv": ["true"] }]))
            .resume()
            .ends(0, json!([slept, { "code": 0, "output": "" }]))
            .takes_at_least(Duration::from_secs(2)),
    ]
}

fn places() -> Vec<Case> {
    let calls = json!([
        { "call": "step", "name": "outside", "argv": ["sh", "-c", "echo ${SESSIONCTL_STEP_KEY-none} >>ran; cat; exit 3"], "input": "x" },
        { "call": "step", "name": "outside", "argv": ["touch", "ran"], "value": false },
        { "call": "sleep", "name": "nap", "after_ms": 300 },
        { "call": "sleep", "name": "past", "until": "2020-02-29T12:00:00.000Z" },
        { "call": "ask", "name": "go", "question": "Go?", "default": "yes", "after_ms": 60_000 },
        { "call": "ask", "name": "go", "question": "Go?" },
    ]);
    let refused = json!(vec![json!({ "error": "INVALID_ARGUMENT" }); 6]);
    let plain = json!([
        { "code": 3, "output": "x" },
        { "code": 0, "output": null },
        { "slept": true },
        { "slept": true },
        { "answer": "yes" },
        { "error": "INVALID_ARGUMENT" },
    ]);
    vec![
        case("outside of a session nothing runs")
            .calls(&calls)
            .run_outside(&[])
            .ends(0, refused.clone())
            .file_is("ran", ""),
        case("inside a step nothing runs")
            .calls(&calls)
            .run_inside_step()
            .ends(0, refused)
            .file_is("ran", "")
            .steps(&[("outer", "completed")]),
        case("commands run plainly on request")
            .calls(&calls)
            .run_outside(&[("SESSIONCTL_STEPS", "off")])
            .ends(0, plain)
            .takes_at_least(Duration::from_millis(300))
            .file_is("ran", "none\n"),
    ]
}
