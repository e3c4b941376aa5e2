//! Values, failures, names and changes.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::case::{Case, case};

/// A call that ends the attempt with exit code 1, so that it can be retried.
fn fails() -> Value {
    json!({ "call": "exit", "code": 1 })
}

/// The result of a command with this output.
fn output(text: &str) -> Value {
    json!({ "code": 0, "output": text })
}

/// The result of a command with this exit code.
fn ended(code: i32) -> Value {
    json!({ "code": code, "output": "" })
}

pub(super) fn cases() -> Vec<Case> {
    [values(), failures(), names(), changes()].into_iter().flatten().collect()
}

fn values() -> Vec<Case> {
    // 300 kB in parts that are cut within characters, and bytes that are no text.
    let text = format!("x{}", "äöü€\u{2028}\u{feff}".repeat(20_000));
    let words = ["a b", "\"'\\", "two\nlines", "", "\u{feff}\u{2028}ä", "$HOME", "-n"];
    let printf = [["printf", "<%s>"].as_slice(), &words].concat();
    let bytes = json!({ "code": 0, "output": { "base64": "YQBi/xtbMW3DpA0K" } });
    vec![
        case("values come back byte for byte")
            .write("make", "printf 'a\\000b\\377\\033[1mä\\r\\n'; echo ran >>runs")
            .write("text", text.clone())
            .calls(&json!([
                { "call": "step", "name": "bytes", "argv": ["sh", "./make"] },
                { "call": "step", "name": "parts", "argv": ["cat", "text"] },
                fails(),
            ]))
            .run()
            .ends(1, json!([bytes, output(&text)]))
            .write("text", "other")
            .retry(&[])
            .ends(1, json!([bytes, output(&text)]))
            .file_is("runs", "ran\n"),
        case("uses of a name have values of their own")
            .calls(&json!([
                { "call": "step", "name": "use", "argv": ["sh", "-c", "echo ran >>one; echo one"] },
                { "call": "step", "name": "use", "argv": ["true"] },
                { "call": "step", "name": "use", "argv": ["echo", "shown"], "value": false },
                fails(),
            ]))
            .run()
            .ends(1, json!([output("one\n"), output(""), "shown", { "code": 0, "output": null }]))
            .retry(&[])
            // What was no value is not shown again.
            .ends(1, json!([output("one\n"), output(""), { "code": 0, "output": null }]))
            .file_is("one", "ran\n"),
        case("a value that is too long is none")
            .calls(&json!([
                { "call": "step", "name": "long", "argv": ["sh", "-c", "echo ran >>ran; yes | head -c 16777217"] },
                { "call": "step", "name": "fits", "argv": ["sh", "-c", "yes | head -c 16777216"] },
                fails(),
            ]))
            .run()
            .ends(1, json!([{ "error": "LIMIT_EXCEEDED" }, { "code": 0, "output": { "length": 16_777_216 } }]))
            .retry(&[])
            .ends(1, json!([{ "error": "LIMIT_EXCEEDED" }, { "code": 0, "output": { "length": 16_777_216 } }]))
            .file_is("ran", "ran\n"),
        case("arguments reach the command as they are")
            .calls(&json!([
                { "call": "step", "name": "words", "argv": printf },
                fails(),
            ]))
            .run()
            .ends(1, json!([output(&words.map(|word| format!("<{word}>")).concat())]))
            .retry(&[])
            .ends(1, json!([output(&words.map(|word| format!("<{word}>")).concat())])),
    ]
}

fn failures() -> Vec<Case> {
    let kept = json!([ended(9), ended(4)]);
    vec![
        case("a failure is retried with the same key")
            .calls(&json!([
                {
                    "call": "step", "name": "flaky", "retries": 5, "backoff": 0.001,
                    "argv": ["sh", "-c", "echo $SESSIONCTL_STEP_KEY >>keys; [ $(wc -l <keys) = 3 ]"],
                },
                {
                    "call": "step", "name": "ends", "retries": 2, "backoff": 0.001,
                    "argv": ["sh", "-c", "echo ran >>ends; exit 6"],
                },
                fails(),
            ]))
            .run()
            .ends(1, json!([ended(0), ended(6)]))
            .equal_lines("keys", 3)
            .equal_lines("ends", 3)
            .retry(&[])
            .ends(1, json!([ended(0), ended(6)]))
            .equal_lines("keys", 3)
            .equal_lines("ends", 6),
        case("failures are kept on request")
            .calls(&json!([
                { "call": "step", "name": "kept", "argv": ["sh", "-c", "echo ran >>kept; exit 9"], "keep_failure": true },
                { "call": "step", "name": "fine", "argv": ["sh", "-c", "echo ran >>fine; exit 4"], "ok": [1, 4] },
                fails(),
            ]))
            .run()
            .ends(1, kept.clone())
            .retry(&[])
            .ends(1, kept)
            .file_is("kept", "ran\n")
            .file_is("fine", "ran\n"),
        case("a command without an exit code has one of the shell")
            .write("file", "")
            .calls(&json!([
                { "call": "step", "name": "missing", "argv": ["no-such-command"] },
                { "call": "step", "name": "path", "argv": ["./missing"] },
                { "call": "step", "name": "file", "argv": ["./file"] },
                {
                    // It may have happened, and so is not retried.
                    "call": "step", "name": "killed", "retries": 3, "backoff": 0.001,
                    "argv": ["sh", "-c", "echo ran >>ran; kill -KILL $$"],
                },
            ]))
            .run()
            .ends(0, json!([ended(127), ended(127), ended(126), ended(-9)]))
            .file_is("ran", "ran\n")
            .steps(&[("missing", "failed"), ("path", "failed"), ("file", "failed"), ("killed", "unknown")]),
        case("a time limit ends the command")
            .calls(&json!([{
                "call": "step", "name": "late", "timeout_ms": 200,
                "argv": ["sh", "-c", "trap '' TERM; echo $$ >pid; sleep 60"],
            }]))
            .run()
            .ends(0, json!([ended(124)]))
            // Not by its own end.
            .takes_at_most(Duration::from_secs(45))
            .gone("pid")
            .steps(&[("late", "timed-out")]),
    ]
}

fn names() -> Vec<Case> {
    let file = |key: &str| {
        let command = format!("echo {key} >>files");
        json!({ "call": "step", "name": "file", "key": key, "argv": ["sh", "-c", command] })
    };
    let (done, ran) = (ended(0), json!({ "code": 0 }));
    let wait = |key: &str| {
        let command = "echo >>open; while ! [ -e end ]; do sleep 0.01; done";
        json!([{ "call": "step", "name": "file", "key": key, "argv": ["sh", "-c", command] }])
    };
    vec![
        case("keys identify steps in another order")
            .calls(&json!([file("a"), file("b"), file("c"), fails()]))
            .run()
            .ends(1, json!([done, done, done]))
            .calls(&json!([file("c"), file("a"), file("d"), file("b"), fails()]))
            .retry(&[])
            .ends(1, json!([done, done, done, done]))
            .file_is("files", "a\nb\nc\nd\n"),
        case("concurrent steps need keys of their own")
            .calls(&json!([{ "call": "parallel", "calls": [
                wait("a"), wait("b"), wait("c"),
                [
                    { "call": "shell", "command": "while [ \"$(cat open 2>/dev/null | wc -l)\" -lt 3 ]; do sleep 0.01; done" },
                    { "call": "step", "name": "file", "argv": ["touch", "wrong"] },
                    { "call": "shell", "command": "[ ! -e wrong ] && touch end" },
                ],
            ] }]))
            .run()
            .fails(json!([{ "parallel": [[done], [done], [done], [ran, { "error": "STEP_OPEN" }, ran]] }]))
            .steps_are_completed(3),
        case("steps of the shell are in the same list")
            .calls(&json!([
                { "call": "step", "name": "build", "argv": ["echo", "built"] },
                { "call": "shell", "command": "sessionctl step build -- sh -c 'echo again; exit 1'; sessionctl step build --value -- sh -c 'echo once'" },
                { "call": "step", "name": "build", "argv": ["true"] },
                fails(),
            ]))
            .run()
            .ends(1, json!([output("built\n"), "again", "once", ran, done]))
            .steps(&[("build", "completed"), ("build#2", "failed"), ("build#3", "completed"), ("build#4", "completed")]),
    ]
}

fn changes() -> Vec<Case> {
    let build = |flags: &str| {
        let command = format!("echo {flags}");
        let step = |name: &str| json!({ "call": "step", "name": name, "argv": ["sh", "-c", command] });
        [step("build"), step("after")]
    };
    let [[build_1, after_1], [build_2, after_2]] = ["-O1", "-O2"].map(build);
    let with = |call: &Value, option: &str, value: Value| {
        let mut call = call.clone();
        call[option] = value;
        call
    };
    let sum = |input: &str| {
        let argv = ["sh", "-c", "head -c 9; cat >/dev/null"];
        json!([{ "call": "step", "name": "sum", "argv": argv, "input": input, "times": 100_000 }, fails()])
    };
    let tables = json!([
        { "call": "step", "name": "tables", "argv": ["sh", "-c", "cat schema; echo ran >>ran"], "inputs": ["schema", "other"] },
        fails(),
    ]);
    let dated = |age: u64| {
        let argv = ["sh", "-c", "echo ran >>ran"];
        json!([{ "call": "step", "name": "dated", "argv": argv, "max_age_ms": age }, fails()])
    };
    vec![
        case("a changed step is refused until a person decides")
            .calls(&json!([build_1, after_1, fails()]))
            .run()
            .ends(1, json!([output("-O1\n"), output("-O1\n")]))
            .calls(&json!([build_2, after_2]))
            .retry(&[])
            .fails(json!([{ "error": "STEP_CHANGED" }, { "error": "STEP_CHANGED" }]))
            .retry(&["--changed", "build=keep", "--changed", "after=rerun"])
            .ends(0, json!([output("-O1\n"), output("-O2\n")])),
        case("a program decides about changes in advance")
            .calls(&json!([build_1, after_1, fails()]))
            .run()
            .ends(1, json!([output("-O1\n"), output("-O1\n")]))
            .calls(&json!([
                with(&build_2, "on_change", json!("rerun")),
                with(&after_2, "on_change", json!("keep")),
            ]))
            .retry(&[])
            .ends(0, json!([output("-O2\n"), output("-O1\n")])),
        case("the input of a command is a part of its step")
            .calls(&sum("12345"))
            .run()
            .ends(1, json!([output("123451234")]))
            .retry(&[])
            .ends(1, json!([output("123451234")]))
            .calls(&sum("123456"))
            .retry(&[])
            .fails(json!([{ "error": "STEP_CHANGED" }]))
            .retry(&["--changed", "sum=rerun"])
            .ends(1, json!([output("123456123")])),
        case("a changed input file makes a step run again")
            .write("schema", "one")
            .write("other", "x")
            .calls(&tables)
            .run()
            .ends(1, json!([output("one")]))
            .retry(&[])
            .ends(1, json!([output("one")]))
            .equal_lines("ran", 1)
            .write("schema", "two")
            .retry(&[])
            .ends(1, json!([output("two")]))
            .says("its input `schema` has changed")
            .calls(&json!([
                { "call": "step", "name": "missing", "argv": ["touch", "wrong"], "inputs": ["no-such-file"] },
                { "call": "step", "name": "folder", "argv": ["touch", "wrong"], "inputs": ["."] },
                fails(),
            ]))
            .retry(&[])
            .ends(1, json!([{ "error": "INVALID_ARGUMENT" }, { "error": "INVALID_ARGUMENT" }]))
            .file_is("wrong", ""),
        case("an end that is too old does not hold")
            .calls(&dated(86_400_000))
            .run()
            .ends(1, json!([output("")]))
            .retry(&[])
            .ends(1, json!([output("")]))
            .equal_lines("ran", 1)
            .calls(&dated(1))
            .retry(&[])
            .ends(1, json!([output("")]))
            .equal_lines("ran", 2),
    ]
}
