//! Steps that may have happened: the death of the owner, of the client, and stops of the session.

use rustix::process::Signal;
use serde_json::json;

use super::super::case::{Case, case};

pub(super) fn cases() -> Vec<Case> {
    let publish = |if_unknown: &str| {
        let command = "echo $$ >>publish; [ -e go ] || sleep 60";
        json!([{ "call": "step", "name": "publish", "argv": ["sh", "-c", command], "if_unknown": if_unknown }])
    };
    let done = json!([{ "code": 0, "output": "" }]);
    let endless = "while :; do sleep 0.01; done";
    vec![
        case("a step is unknown after the death of its owner")
            .calls(&publish("fail"))
            .run()
            .waits_for("publish")
            .kill_owner()
            .write("go", "")
            .resume()
            // The session fails, whatever its program does.
            .fails(json!([{ "error": "STEP_UNKNOWN" }]))
            .retry(&["--unknown", "publish=skip"])
            .ends(0, done.clone())
            .steps(&[("publish", "skipped")])
            .lines("publish", 1)
            .retry(&["--fresh"])
            .ends(0, done.clone())
            .lines("publish", 2),
        case("a person is asked about an unknown step")
            .calls(&publish("ask"))
            .run()
            .waits_for("publish")
            .kill_owner()
            .write("go", "")
            .resume()
            .waits_for_question()
            .lines("publish", 1)
            .answer("publish", "rerun")
            .ends(0, done)
            .says("sessionctl answer")
            .lines("publish", 2),
        case("the command of a killed client is ended")
            .calls(&json!([{
                "call": "step", "name": "publish",
                "argv": ["sh", "-c", format!("trap '' TERM; echo $PPID >client; echo $$ >command; {endless}")],
            }]))
            .run()
            .waits_for("command")
            .signal("client", Signal::KILL)
            .fails(json!([]))
            .gone("command")
            .steps(&[("publish", "unknown")]),
        case("an interrupted program leaves its step unknown")
            .calls(&json!([{
                "call": "step", "name": "save", "argv": ["sh", "-c", format!("echo $$ >pid; {endless}")],
            }]))
            .run()
            .waits_for("pid")
            .signal_owner(Signal::INT)
            .fails(json!([]))
            .gone("pid")
            .status("stopped")
            .steps(&[("save", "unknown")]),
    ]
}
