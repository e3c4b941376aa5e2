//! Hostile text in names, labels, arguments, directories, steps, output, errors and reasons: it never controls a
//! terminal, and JSON output stays valid. Each text of one table is tried with each command of another.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::process::Command;

use serde_json::Value;
use sessionkit::log::{FailureCause, PauseReason, ProgressReport, Question, StepIdentity};
use sessionkit::manager::Durability;
use sessionkit::{CancelRequest, Failure, SessionConfig, SessionEvent};

use crate::support::{self, BINARY, Fixture};
use crate::terminal::{is_harmless, on_terminal};

/// Texts that would control a terminal. Each ends with a word that shows where it was printed.
fn texts() -> Vec<(&'static str, String)> {
    let mut texts = vec![
        ("title", "\u{1b}]0;pwned\u{7} WORD".to_owned()),
        ("clear", "\u{1b}[2J\u{1b}[H WORD".to_owned()),
        ("report", "\u{1b}[6n\u{1b}[c WORD".to_owned()),
        (
            "seven bits",
            "\u{1}\u{2}\u{5}\u{8}\t\u{b}\u{c}\r\u{e}\u{f}\u{11}\u{13}\u{1a}\u{1c}\u{7f} WORD".to_owned(),
        ),
        ("lines", "a\r\nb\nc WORD".to_owned()),
    ];
    texts.push(("eight bits", ('\u{80}'..='\u{9f}').chain(" WORD".chars()).collect()));
    let bidi = ['\u{61c}', '\u{200e}', '\u{200f}'].into_iter();
    let bidi = bidi.chain('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
    texts.push(("bidirectional", bidi.chain(" WORD".chars()).collect()));
    texts
}

/// Bytes that are not UTF-8 and control terminals with 8-bit control characters.
const BYTES: &[u8] = b"\x9b2J\x9d0;pwned\x9c\x84\x85\x90\xff\xfe\xc2\xe2\x80\xf0\x9f ";

/// Creates a store with a session for each way in which a text gets into one, and returns the ids.
fn hostile_store(text: &str) -> (Fixture, Vec<String>) {
    let fixture = Fixture::new();
    let mut ids = Vec::new();
    // Text that the configuration rejects is left out.
    let config = || {
        let hostile = SessionConfig::new(text).label("key", text);
        let config = hostile.check().map_or_else(|_| SessionConfig::new("import"), |()| hostile);
        config.metadata(serde_json::json!({ "text": text }))
    };
    let failed = fixture.owner(config());
    failed.runtime.block_on(async {
        failed
            .session
            .note("test.hostile", serde_json::json!({ text: text }), Durability::Flushed)
            .await
            .unwrap();
        failed.session.checkpoint(text).await.unwrap();
        failed.session.progress().report(ProgressReport::new().step(text).phase(text)).unwrap();
        failed.session.fail(Failure::new(FailureCause::Work, text)).await.unwrap();
    });
    let cancelled = fixture.owner(config());
    let waiting = fixture.owner(config());
    let paused = fixture.owner(config());
    paused.runtime.block_on(async {
        let question = Box::new(Question::new(StepIdentity::nth("q", 1), text));
        paused.session.change_questions(0, SessionEvent::Asked { question }).await.unwrap();
    });
    for (live, action) in [(&cancelled, 0), (&waiting, 1), (&paused, 2)] {
        live.runtime.block_on(async {
            match action {
                0 => {
                    let request = CancelRequest::new(text, text);
                    live.store.manager().cancel_session(live.id, request).await.unwrap();
                }
                1 => drop(live.session.pause(PauseReason::AwaitingInput(text.to_owned())).await.unwrap()),
                _ => drop(live.session.pause(PauseReason::Requested(text.to_owned())).await.unwrap()),
            }
        });
    }
    ids.extend([failed.id, cancelled.id, waiting.id, paused.id].map(|id| id.to_string()));
    // Without owners, the sessions are reported as crashed.
    drop((failed, cancelled, waiting, paused));

    // A program with hostile directory, arguments, labels, output, reports and steps. The last step is refused.
    let folder = fixture.dir.path().join(text.replace('/', "_"));
    std::fs::create_dir(&folder).unwrap();
    let script = format!(
        "{BINARY} report --progress 40 --step \"$1\" --phase \"$1\"; printf '%s' \"$1\"; printf '%s\\n' \"$1\" >&2; \
         {BINARY} step value --value -- printf '%s' \"$1\"; {BINARY} step fails -- sh -c 'exit 3' sh \"$1\"; \
         printf '%s\\0' \"$1\" | {BINARY} each all --null --keep-going -- false; {BINARY} sleep 1ms; \
         {BINARY} ask q \"$1\" --choices \"$1\" --default \"$1\" --after 1ms; {BINARY} ask r \"$1\" --default \"$1\" --after 1ms; \
         {BINARY} step k --key k -- echo \"$1\"; {BINARY} step k --key k -- echo \"$1\" changed; exit 3"
    );
    let label = format!("key={text}");
    for label in [&["--label", &label][..], &[]] {
        let args = [&["run", "--json"], label, &["--", "sh", "-c", &script, "sh", text]].concat();
        let mut command = fixture.command(args);
        let ran = support::run({
            command.current_dir(&folder);
            command
        });
        if ran.code == Some(3) {
            let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
            ids.push(shown["id"].as_str().unwrap().to_owned());
            break;
        }
    }
    assert_eq!(ids.len(), 5, "the program ran");
    (fixture, ids)
}

/// Commands that change nothing. `ID` is replaced by each session in turn.
const READ_COMMANDS: &[&[&str]] = &[
    &["ls", "--all"],
    &["ls"],
    &["show", "ID"],
    &["events", "ID"],
    &["events", "ID", "-vv"],
    &["logs", "ID"],
    &["logs", "ID", "--stderr", "--tail", "1"],
    &["verify"],
    &["verify", "ID"],
    &["recover", "--dry-run", "-v"],
    &["show", "TEXT"],
    &["why", "ID"],
    &["steps", "ID"],
    &["worktree", "path", "ID"],
    &["worktree", "restore", "TEXT"],
    &["worktree", "rm", "TEXT"],
    &["answers"],
    &["answers", "ID"],
    &["step", "TEXT", "--key", "TEXT", "--", "TEXT"],
    &["each", "TEXT", "--key", "TEXT", "--", "TEXT"],
    &["ask", "TEXT", "TEXT", "--key", "TEXT"],
    &["sleep", "1ms", "TEXT", "--key", "TEXT"],
    &["wait", "ID", "--timeout", "0s"],
    &["wait", "TEXT", "--for", "TEXT"],
    &["import", "TEXT"],
    &["gc", "--older-than", "0s", "--dry-run"],
    &["ls", "--state", "TEXT"],
    &["man", "/dev/null/TEXT"],
    &["ls", "-vv", "--store", "STORE"],
    &["attach", "ID"],
    &["attach", "TEXT"],
    &["input", "ID", "TEXT"],
    &["TEXT"],
];
/// Commands that change sessions, in a possible order.
const WRITE_COMMANDS: &[&[&str]] = &[
    &["answer", "ID", "TEXT"],
    &["answer", "ID", "TEXT", "TEXT"],
    &["signal", "ID", "TEXT"],
    &["signal", "ID", "USR1"],
    &["pause", "ID", "--reason", "TEXT"],
    &["cancel", "ID", "--reason", "TEXT"],
    &["resume", "ID"],
    &["recover", "--policy", "fail"],
    &["ls", "--all"],
    &["why", "ID"],
    &["rm", "ID"],
];

fn commands(table: &[&[&str]], ids: &[String], text: &str) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    for args in table {
        let all = if args.contains(&"ID") { ids } else { &ids[..1] };
        commands.extend(all.iter().map(|id| {
            let word = |word: &&str| match *word {
                "ID" => id.clone(),
                "TEXT" => text.to_owned(),
                "STORE" => format!("file:/nowhere/{text}"),
                "/dev/null/TEXT" => format!("/dev/null/{text}"),
                word => word.to_owned(),
            };
            args.iter().map(word).collect()
        }));
    }
    commands
}

/// Asserts that every line of stdout and stderr is JSON, or that all of stdout is one value.
#[track_caller]
fn is_json<W: std::fmt::Debug>(ran: &support::Ran, args: &[W]) {
    if serde_json::from_str::<Value>(&ran.stdout).is_err() {
        for line in ran.stdout.lines() {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error} {args:?}: {ran:#?}"));
        }
    }
    for line in ran.stderr.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error} {args:?}: {ran:#?}"));
    }
    for side in [&ran.stdout, &ran.stderr] {
        assert!(!side.contains(|c| c != '\n' && sessionkit::text::is_unsafe_char(c)), "{args:?}: {side:?}");
    }
}

fn without_colours(mut command: Command) -> Command {
    command.env("NO_COLOR", "1").env("TERM", "dumb");
    command
}

#[test]
fn hostile_text_is_escaped_on_terminals_and_in_json() {
    for (what, text) in texts() {
        let (fixture, ids) = hostile_store(&text);
        let mut found = 0;
        for args in commands(READ_COMMANDS, &ids, &text) {
            let shown = on_terminal(without_colours(fixture.command(&args)));
            is_harmless(&shown);
            found += usize::from(shown.contains("WORD"));
            // Before the arguments of a command, if there is one.
            let (options, command) =
                args.split_at(args.iter().position(|arg| arg == "--").unwrap_or(args.len()));
            let json = options.iter().map(String::as_str).chain(["--json"]);
            let json = json.chain(command.iter().map(String::as_str));
            is_json(&fixture.ctl(json), &args);
        }
        assert!(found >= 15, "{what}: only {found} commands showed the text at all");
        for args in commands(WRITE_COMMANDS, &ids, &text) {
            is_harmless(&on_terminal(without_colours(fixture.command(&args))));
        }
        let (fixture, ids) = hostile_store(&text);
        for args in commands(WRITE_COMMANDS, &ids, &text) {
            let json = args.iter().map(String::as_str).chain(["--json", "-vv"]);
            is_json(&fixture.ctl(json), &args);
        }
    }
}

/// Arguments, stores, and the output of programs may be bytes that are not UTF-8.
#[test]
fn non_utf8_bytes_are_escaped_on_terminals_and_in_json() {
    let fixture = Fixture::new();
    let octal = BYTES.iter().fold(String::new(), |text, byte| format!("{text}\\{byte:03o}"));
    let script = format!("printf '{octal}\\n'; printf '{octal}' >&2");
    fixture.ctl(["run", "--name", "raw", "--json", "--", "sh", "-c", &script]).exits(0);
    for args in
        [&["logs", "raw"][..], &["logs", "raw", "--follow"], &["logs", "raw", "--stderr", "--tail", "1"]]
    {
        let shown = on_terminal(without_colours(fixture.command(args)));
        is_harmless(&shown);
        assert!(shown.contains(r"\x9b2J\x9d0;pwned"), "{shown}");
    }
    let bytes = || OsString::from_vec(BYTES.to_vec());
    let store = || OsString::from_vec([b"file:/", BYTES].concat());
    for args in [
        vec!["show".into(), bytes()],
        vec!["run".into(), "--".into(), bytes()],
        vec!["run".into(), "--name".into(), bytes(), "--".into(), "true".into()],
        vec!["cancel".into(), "raw".into(), "--reason".into(), bytes()],
        vec!["--store".into(), store(), "ls".into()],
        vec!["--store".into(), bytes(), "ls".into()],
        vec![bytes()],
    ] {
        is_harmless(&on_terminal(without_colours(fixture.command(&args))));
        let mut json = vec![OsString::from("--json")];
        json.extend(args.clone());
        is_json(&fixture.ctl(&json), &args);
    }
}

/// Text that another program wrote into a log is shown in errors about it.
#[test]
fn damaged_logs_do_not_control_the_terminal() {
    for text in texts().into_iter().map(|(_, text)| text.into_bytes()).chain([BYTES.to_vec()]) {
        let fixture = Fixture::new();
        let id = fixture.crashed(SessionConfig::new("import")).to_string();
        let log = fixture.store().join("sessions").join(&id).join("events.jsonl");
        let good = std::fs::read(&log).unwrap();
        for damaged in [[&good, &text[..], b"\n"].concat(), [&text[..], b"\n", &good].concat(), text.clone()]
        {
            std::fs::write(&log, damaged).unwrap();
            for args in [
                &["ls"][..],
                &["show", &id],
                &["events", &id],
                &["events", &id, "-f"],
                &["verify"],
                &["logs", &id],
            ] {
                if args.contains(&"-f") && fixture.ctl(["events", &id]).code == Some(0) {
                    // The readable part is valid and has not ended, so this would not return.
                    continue;
                }
                is_harmless(&on_terminal(without_colours(fixture.command(args))));
                is_json(&fixture.ctl(args.iter().chain(&["--json", "-vv"])), args);
            }
        }
    }
}

/// The file of the configuration, its keys and values, and the variables may come from anywhere.
#[test]
fn configurations_do_not_control_the_terminal() {
    for (what, text) in texts() {
        let fixture = Fixture::new();
        let file = fixture.dir.path().join(format!("{text}.toml"));
        let quoted = serde_json::to_string(&text).unwrap();
        let wrong =
            [format!("{quoted} = 1"), format!("tty = {quoted}"), format!("tty = '{text}'"), text.clone()];
        for content in [String::from("tty = \"never\"")].into_iter().chain(wrong) {
            std::fs::write(&file, &content).unwrap();
            for args in [&["config", "show", "--origin"][..], &["config", "path"], &["run", "--", "true"]] {
                let command = |options: &[&str], hostile_variable: bool| {
                    let mut command = fixture.command(args[..1].iter().chain(options).chain(&args[1..]));
                    command.env("SESSIONCTL_CONFIG", &file);
                    if hostile_variable {
                        command.env("SESSIONCTL_ON_HANGUP", &text);
                    }
                    without_colours(command)
                };
                let shown = on_terminal(command(&[], false));
                is_harmless(&shown);
                assert!(args[0] == "run" || shown.contains("WORD"), "{what}: {args:?} {shown}");
                is_harmless(&on_terminal(command(&[], true)));
                is_json(&support::run(command(&["--json"], false)), args);
                is_json(&support::run(command(&["--json"], true)), args);
            }
        }
    }
}

/// Reported progress is drawn next to the live output, which is forwarded unchanged.
#[test]
fn progress_does_not_control_the_terminal() {
    for (what, text) in texts() {
        let fixture = Fixture::new();
        let script = format!(
            "for n in 10 20 30; do {BINARY} report --progress $n --step \"$1\" --phase \"$1\"; echo ok; done"
        );
        for term in ["dumb", "xterm"] {
            let mut command = fixture.command(["run", "--no-tty", "--", "sh", "-c", &script, "sh", &text]);
            command.env("NO_COLOR", "1").env("TERM", term);
            let shown = on_terminal(command);
            // A bar clears its own line first.
            let shown = if term == "dumb" { shown } else { shown.replace("\r\u{1b}[2K", "") };
            is_harmless(&shown);
            assert!(shown.contains("] ") && shown.contains('%'), "{what} {term}: {shown}");
        }
    }
}
