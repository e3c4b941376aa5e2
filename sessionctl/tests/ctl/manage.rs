//! Managing sessions: `why`, `wait`, `pause`, `retry`, `gc`, `rm`, limits and filters.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use sessionkit::log::{Evidence, PauseReason, Stop, StopSource};
use sessionkit::{CancelRequest, SessionConfig};

use crate::run::start;
use crate::support::{self, Fixture, block_on, eventually};

#[test]
fn a_paused_program_does_nothing_until_resumed() {
    let fixture = Fixture::new();
    let counting =
        "echo ready; i=0; while [ ! -e stop ]; do i=$((i+1)); echo $i >count; sleep 0.02; done; exit 4";
    let script = format!("cd {} && {counting}", fixture.dir.path().display());
    let running = start(&fixture, ["--name", "counter"], &script);
    let count = || std::fs::read_to_string(fixture.dir.path().join("count")).unwrap_or_default();
    eventually("it counts", || !count().trim().is_empty());
    let ran = fixture.ctl(["pause", "counter", "--reason", "lunch"]).exits(0);
    assert!(ran.stdout.contains("requested: lunch"), "{ran:#?}");
    assert_eq!(fixture.show("counter")["state"], "paused", "`pause` returns once it is in the log");
    let paused_count = count();
    // Long enough for a running program to count further; a stopped one does not, however long the wait.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(count(), paused_count);
    let why = fixture.ctl(["why", "counter"]).exits(0).stdout;
    assert!(why.contains("requested a pause: lunch") && why.contains("sent signal 19 (STOP)"), "{why}");
    fixture.ctl(["resume", "counter"]).exits(0);
    eventually("the resume", || count() != paused_count);
    std::fs::write(fixture.dir.path().join("stop"), "").unwrap();
    let waited = fixture.ctl(["wait", "counter"]).exits(4);
    assert!(waited.stdout.ends_with("  failed\n"), "{waited:#?}");
    running.end().exits(4);
}

#[test]
fn a_rejected_pause_or_retry_changes_nothing() {
    let fixture = Fixture::new();
    let crashed = fixture.crashed(SessionConfig::new("import")).to_string();
    let ended = fixture.completed(SessionConfig::new("import")).to_string();
    let before = fixture.snapshot();
    let ran = fixture.ctl(["pause", &crashed]).fails(4, "CONFLICT");
    assert!(ran.stderr.contains("its owner's lock is free"), "{ran:#?}");
    fixture.ctl(["pause", &ended]).fails(4, "ILLEGAL_TRANSITION");
    fixture.ctl(["retry", &crashed]).fails(125, "ILLEGAL_TRANSITION");
    fixture.ctl(["retry", &ended]).exits(2);
    assert_eq!(fixture.snapshot(), before);
}

#[test]
fn wait_exits_with_the_code_of_the_program() {
    let fixture = Fixture::new();
    for (name, script, code) in [("well", "exit 0", 0), ("badly", "exit 3", 3), ("killed", "kill -9 $$", 137)]
    {
        fixture.ctl(["run", "--name", name, "--", "sh", "-c", script]).exits(code);
        fixture.ctl(["wait", name]).exits(code);
    }
    fixture.ctl(["wait", "well", "badly", "killed"]).exits(3);
    fixture.ctl(["wait", "killed", "badly"]).exits(137);
    fixture.ctl(["wait", "well", "--for", "completed"]).exits(0);
    fixture.ctl(["wait", "badly", "--for", "failed"]).exits(0);
    fixture.ctl(["wait", "badly", "--for", "paused"]).exits(3);
    let ran = fixture.ctl(["wait", "well", "--for", "paused"]).exits(125);
    assert!(ran.stderr.contains("[CONFLICT]"), "{ran:#?}");
    fixture.ctl(["wait", "no-such-session"]).fails(125, "NOT_FOUND");
    fixture.ctl(["wait", "well", "--for", "asleep"]).exits(2);
    fixture.ctl(["wait", "well", "--timeout", "soon"]).exits(2);
    let list = fixture.json(["wait", "well", "badly"]);
    assert_eq!((&list[0]["name"], &list[1]["exit_code"]), (&json!("well"), &json!(3)));
}

#[test]
fn wait_fails_on_a_timeout_or_a_crash() {
    let fixture = Fixture::new();
    let mut running = start(&fixture, ["--name", "slow"], "echo ready; sleep 1000");
    let ran = fixture.ctl(["wait", "slow", "--timeout", "20ms"]).fails(124, "TIMEOUT");
    assert!(ran.stderr.contains("is running"), "{ran:#?}");
    let waiting =
        fixture.command(["wait", "slow"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    running.kill();
    let output = waiting.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(
        stderr.contains("has crashed") && stderr.contains("next: ") && stderr.contains(" resume "),
        "{stderr}"
    );
    assert!(stderr.contains("[CRASHED]"), "{stderr}");
}

/// `wait` waited for ever for a session that its owner had released, or whose death was in the log already.
#[test]
fn wait_fails_for_a_session_that_has_lost_its_owner() {
    let fixture = Fixture::new();
    let crashed = fixture.crashed(SessionConfig::new("import").name("crashed")).to_string();
    fixture.ctl(["wait", &crashed]).fails(125, "CRASHED");
    fixture.ctl(["recover", "--policy", "pause"]).exits(0);
    assert_eq!(fixture.show(&crashed)["state"], "paused");
    fixture.ctl(["wait", &crashed]).fails(125, "CRASHED");
    fixture.ctl(["wait", &crashed, "--for", "paused"]).fails(125, "CRASHED");
    fixture.ctl(["wait", &crashed, "--for", "crashed"]).exits(0);

    let shut_down = fixture.owner(SessionConfig::new("import"));
    shut_down.runtime.block_on(shut_down.store.manager().shutdown()).unwrap();
    fixture.ctl(["wait", &shut_down.id.to_string()]).fails(125, "INTERRUPTED");

    let paused = fixture.owner(SessionConfig::new("import"));
    paused.runtime.block_on(paused.session.pause(PauseReason::Requested("by hand".to_owned()))).unwrap();
    paused.runtime.block_on(paused.store.manager().shutdown()).unwrap();
    let ran = fixture.ctl(["wait", &paused.id.to_string()]).fails(125, "INTERRUPTED");
    assert!(ran.stderr.contains("was interrupted"), "{ran:#?}");
}

#[test]
fn wait_names_the_way_in_which_an_owner_was_lost() {
    let fixture = Fixture::new();
    let stop = |signal, by| Evidence::Stopped(Stop { signal, by });
    for (evidence, code, text) in [
        (stop(2, StopSource::Key), "STOPPED", "was stopped by a person"),
        (stop(15, StopSource::Signal), "INTERRUPTED", "was interrupted"),
        (Evidence::Shutdown, "INTERRUPTED", "its owner shut down"),
        (Evidence::Dropped, "INTERRUPTED", "its work was dropped"),
    ] {
        let lost = fixture.owner(SessionConfig::new("import"));
        lost.runtime.block_on(lost.session.interrupt(evidence)).unwrap();
        let ran = fixture.ctl(["wait", &lost.id.to_string()]).fails(125, code);
        assert!(ran.stderr.contains(text), "{ran:#?}");
    }
}

/// The owner had recorded the signal before it died without releasing its session.
#[test]
fn wait_reads_a_recorded_stop_of_a_dead_owner() {
    let fixture = Fixture::new();
    let lost = fixture.owner(SessionConfig::new("import"));
    lost.runtime.block_on(lost.session.record_stop_request(15)).unwrap();
    let id = lost.id.to_string();
    drop(lost);
    fixture.ctl(["wait", &id]).fails(125, "INTERRUPTED");
}

/// The creator of a session may have ended long before the session is started.
#[test]
fn wait_waits_for_a_created_session_without_its_creator() {
    let fixture = Fixture::new();
    let created = block_on(async {
        let store = fixture.open().await;
        store.manager().create_session(SessionConfig::new("import")).await.unwrap().to_string()
    });
    fixture.ctl(["wait", &created, "--timeout", "700ms"]).exits(124);
}

#[test]
fn why_explains_each_state_with_evidence_and_next_command() {
    let fixture = Fixture::new();
    let crashed = fixture.crashed(SessionConfig::new("import").name("crashed")).to_string();
    let completed = fixture.completed(SessionConfig::new("import").name("done")).to_string();
    fixture.ctl(["run", "--name", "broken", "--", "sh", "-c", "exit 9"]).exits(9);
    let cancelled = block_on(async {
        let store = fixture.open().await;
        let id = store.manager().create_session(SessionConfig::new("import").name("unwanted")).await.unwrap();
        store.manager().cancel_session(id, CancelRequest::new("not today", "alice")).await.unwrap();
        store.manager().shutdown().await.unwrap();
        id.to_string()
    });
    let _living = fixture.owner(SessionConfig::new("import").name("living"));
    let waiting = fixture.owner(SessionConfig::new("import").name("waiting"));
    let paused = PauseReason::AwaitingInput("which one?".to_owned());
    waiting.runtime.block_on(waiting.session.pause(paused)).unwrap();
    for (id, texts, next) in [
        (crashed.as_str(), ["It has crashed", "its owner's lock is free: the process has ended"], "events"),
        (&completed, ["It completed.", "started by pid"], "events"),
        ("broken", ["It failed: exited with code 9", "program exited with code 9"], "retry"),
        (&cancelled, ["It was cancelled: not today.", "alice requested cancellation: not today"], "events"),
        ("living", ["It is running, attempt 1", "alive: it holds its lock"], "events"),
        ("waiting", ["It is paused (waiting for input: which one?)", "which one?"], "resume"),
    ] {
        let before = fixture.snapshot();
        let ran = fixture.ctl(["why", id]).exits(0);
        for text in texts {
            assert!(ran.stdout.contains(text), "{id}: {text}: {ran:#?}");
        }
        let last = ran.stdout.lines().last().unwrap();
        assert!(last.starts_with("next ") && last.contains(&format!(" {next} ")), "{id}: {last}");
        let report = fixture.json(["why", id]);
        assert!(report["verdict"].as_str().unwrap().contains(texts[0]), "{report}");
        assert!(!report["story"].as_array().unwrap().is_empty());
        assert_eq!(fixture.snapshot(), before, "`why` changed something");
    }
    let owner = &fixture.json(["why", "living"])["owner"];
    assert_eq!((&owner["liveness"], &owner["pid"]), (&json!("alive"), &json!(std::process::id())));
}

#[test]
fn retry_creates_a_new_session_with_the_same_command() {
    let fixture = Fixture::new();
    let here = fixture.dir.path().join("here");
    std::fs::create_dir(&here).unwrap();
    let script = "echo \"$COLOUR in $(pwd)\"; test -e again";
    let run =
        ["run", "--name", "flaky", "--label", "team=data", "--env", "COLOUR=blue", "--", "sh", "-c", script];
    let mut command = fixture.command(run);
    command.current_dir(&here);
    support::run(command).exits(1);
    let first = fixture.show("flaky");
    std::fs::write(here.join("again"), "").unwrap();
    let ran = fixture.ctl(["retry", "flaky"]).exits(0);
    assert_eq!(ran.stdout, format!("blue in {}\n", here.canonicalize().unwrap().display()));
    let second = fixture.show("@last");
    assert_eq!(second["retry_of"], first["id"]);
    assert_ne!(second["id"], first["id"]);
    for same in ["name", "command", "cwd", "labels"] {
        assert_eq!(second[same], first[same], "{same}");
    }
    assert_eq!(fixture.show(first["id"].as_str().unwrap()), first, "the first stays as it was");
}

#[test]
fn a_session_fails_when_its_timeout_expires() {
    let fixture = Fixture::new();
    fixture.ctl(["run", "--name", "slow", "--timeout", "50ms", "--", "sleep", "1000"]).exits(124);
    let shown = fixture.show("slow");
    assert_eq!((&shown["state"], &shown["error"]["cause"]), (&json!("failed"), &json!("timeout")));
}

#[test]
fn paused_time_does_not_use_up_the_timeout() {
    let fixture = Fixture::new();
    let script = "echo ready; while [ ! -e \"$FILE\" ]; do sleep 0.02; done";
    let file = fixture.dir.path().join("file");
    let variable = format!("FILE={}", file.display());
    let running = start(&fixture, ["--name", "paused", "--timeout", "20s", "--env", &variable], script);
    fixture.ctl(["pause", "paused"]).exits(0);
    fixture.ctl(["resume", "paused"]).exits(0);
    std::fs::write(file, "").unwrap();
    running.end().exits(0);
}

#[test]
fn run_fails_when_the_session_limit_is_reached() {
    let fixture = Fixture::new();
    let first = start(&fixture, ["--max-sessions", "1"], "echo ready; sleep 1000");
    let ran = fixture.ctl(["run", "--max-sessions", "1", "--", "true"]).fails(125, "MAX_SESSIONS");
    assert!(
        ran.stderr.contains("Maximum 1 sessions supported. Destroy a session to create a new one."),
        "{ran:#?}"
    );
    fixture.ctl(["run", "--max-sessions", "2", "--", "true"]).exits(0);
    fixture.ctl(["cancel", &first.id, "--force"]).exits(0);
    first.end().exits(137);
    fixture.ctl(["run", "--max-sessions", "1", "--", "true"]).exits(0);
    fixture.ctl(["run", "--max-sessions", "0", "--", "true"]).exits(2);
}

/// A session that had lost its owner kept a place until it was cancelled.
#[test]
fn a_session_without_an_owner_needs_a_place_to_resume() {
    let fixture = Fixture::new();
    let program = || Some(sessionkit::log::Origin::new(["true"], "/".into()));
    fixture.crashed_from(SessionConfig::new("command").name("lost"), program());
    let limited = |verb: &[&str]| {
        let (first, rest) = verb.split_first().unwrap();
        fixture.ctl([first, "--max-sessions", "1"].iter().chain(rest))
    };
    // No record says yet that the owner is gone.
    limited(&["run", "--", "true"]).fails(125, "MAX_SESSIONS");
    fixture.ctl(["recover"]).exits(0);
    limited(&["run", "--name", "ended", "--", "true"]).exits(0);
    let first = start(&fixture, ["--name", "running"], "echo ready; sleep 1000");
    limited(&["resume", "lost"]).fails(125, "MAX_SESSIONS");
    limited(&["retry", "ended"]).fails(125, "MAX_SESSIONS");
    limited(&["recover", "--policy", "resume"]).exits(4);
    assert_eq!(fixture.show("lost")["status"], "crashed");
    fixture.ctl(["cancel", "running", "--force"]).exits(0);
    first.end().exits(137);
    limited(&["resume", "lost"]).exits(0);
}

#[test]
fn the_policy_option_overrides_the_session_policy() {
    let fixture = Fixture::new();
    for (policy, option, state) in [
        (Some("fail"), None, "failed"),
        (Some("fail"), Some("pause"), "paused"),
        (None, None, "paused"),
        (None, Some("fail"), "failed"),
    ] {
        let args = policy.map_or_else(Vec::new, |policy| vec!["--recovery", policy]);
        let mut running = start(&fixture, args, "echo ready; sleep 1000");
        running.kill();
        let option = option.map_or_else(Vec::new, |option| vec!["--policy", option]);
        fixture.ctl(["recover"].into_iter().chain(option)).exits(0);
        assert_eq!(fixture.show(&running.id)["state"], state);
        fixture.ctl(["rm", &running.id]).exits(0);
    }
}

#[test]
fn ls_filters_by_status_label_and_limit() {
    let fixture = Fixture::new();
    for (name, team, code) in [("a", "data", 0), ("b", "data", 1), ("c", "web", 1)] {
        let label = format!("team={team}");
        let script = format!("exit {code}");
        fixture.ctl(["run", "--name", name, "--label", &label, "--", "sh", "-c", &script]).exits(code);
    }
    let names = |args: &[&str]| -> Vec<String> {
        let list = fixture.json(["ls"].iter().chain(args));
        list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&[]), [""; 0]);
    assert_eq!(names(&["--all"]), ["c", "b", "a"]);
    assert_eq!(names(&["--state", "failed"]), ["c", "b"]);
    assert_eq!(names(&["--state", "failed", "--state", "completed", "--label", "team=data"]), ["b", "a"]);
    assert_eq!(names(&["--all", "--limit", "2"]), ["c", "b"]);
    assert_eq!(names(&["--all", "--label", "team=none"]), [""; 0]);
    fixture.ctl(["ls", "--state", "asleep"]).exits(2);
    fixture.ctl(["ls", "--limit", "0"]).exits(2);
    fixture.ctl(["ls", "--label", "team"]).exits(2);
}

#[test]
fn gc_removes_only_old_ended_sessions() {
    let fixture = Fixture::new();
    let ended = fixture.completed(SessionConfig::new("import").name("ended")).to_string();
    fixture.ctl(["run", "--name", "printed", "--", "echo", "much"]).exits(0);
    let crashed = fixture.crashed(SessionConfig::new("import").name("crashed")).to_string();
    let live = fixture.owner(SessionConfig::new("import").name("living"));
    assert_eq!(fixture.json(["gc", "--older-than", "1h"])["removed"], json!([]));
    // The first `gc` has removed all that is not a session, so the dry run would show any change of its own.
    let before = fixture.snapshot();
    let would = fixture.json(["gc", "--older-than", "0s", "--dry-run"]);
    assert_eq!(would["removed"].as_array().unwrap().len(), 2, "{would}");
    assert_eq!(fixture.snapshot(), before);
    let ran = fixture.ctl(["gc", "--older-than", "0s"]).exits(0);
    assert!(ran.stdout.contains(&ended) && ran.stdout.contains("printed"), "{ran:#?}");
    let left: Vec<Value> =
        fixture.json(["ls", "--all"]).as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    assert_eq!(left.len(), 2);
    // Cancelled, and not removed before its end is old.
    assert!(left.contains(&json!(crashed)) && left.contains(&json!(live.id.to_string())));
    for folder in ["stage", "trash", "quarantine"] {
        assert_eq!(std::fs::read_dir(fixture.store().join(folder)).unwrap().count(), 0, "{folder}");
    }
    // No session names the dead owner any more; the other one is alive.
    assert_eq!(fixture.locks().len(), 1);
    fixture.ctl(["gc"]).exits(2);
}

#[test]
fn rm_removes_ended_sessions_but_no_running_one() {
    let fixture = Fixture::new();
    fixture.ctl(["run", "--name", "old", "--", "echo", "much"]).exits(0);
    let live = fixture.owner(SessionConfig::new("import").name("living"));
    let ran = fixture.ctl(["rm", "old", "living"]).exits(4);
    assert!(ran.stderr.contains("[CONFLICT]") && ran.stderr.contains(" cancel "), "{ran:#?}");
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:#?}");
    assert_eq!(fixture.json(["ls", "--all"]).as_array().unwrap().len(), 1);
    assert_eq!(fixture.show("living")["state"], "running");
    live.runtime
        .block_on(live.session.fail(sessionkit::Failure::new(sessionkit::log::FailureCause::Work, "x")))
        .unwrap();
    assert_eq!(fixture.json(["rm", "living"])["removed"], json!([live.id.to_string()]));
    fixture.ctl(["rm", "living"]).fails(3, "NOT_FOUND");
    assert_eq!(std::fs::read_dir(fixture.store().join("sessions")).unwrap().count(), 0);
}

#[test]
fn rm_continues_after_a_session_that_it_cannot_remove() {
    let fixture = Fixture::new();
    let _live = fixture.owner(SessionConfig::new("import").name("living"));
    let ended = fixture.completed(SessionConfig::new("import").name("ended"));
    let ran = fixture.ctl(["rm", "living", "ended"]).exits(4);
    assert_eq!(ran.stdout, format!("{ended}\n"), "{ran:#?}");
}

#[test]
fn a_mistyped_name_gets_suggestions() {
    let fixture = Fixture::new();
    fixture.completed(SessionConfig::new("import").name("nightly-import"));
    fixture.completed(SessionConfig::new("import").name("weekly"));
    let ran = fixture.ctl(["show", "nihgtly-import"]).fails(3, "NOT_FOUND");
    assert!(ran.stderr.contains("nightly-import\n") && !ran.stderr.contains("weekly"), "{ran:#?}");
    let ran = fixture.ctl(["show", "something-else"]).fails(3, "NOT_FOUND");
    assert!(!ran.stderr.contains("nightly") && !ran.stderr.contains("weekly"), "{ran:#?}");
    let ran = fixture.ctl(["shwo", "weekly"]).exits(2);
    assert!(ran.stderr.contains("'show'"), "{ran:#?}");
    let ran = fixture.ctl(["ls", "--lable", "a=b"]).exits(2);
    assert!(ran.stderr.contains("'--label'"), "{ran:#?}");
}

#[test]
fn every_command_has_an_example_and_a_manual_page() {
    let fixture = Fixture::new();
    let pages = fixture.dir.path().join("man");
    fixture.ctl(["man".as_ref(), pages.as_os_str()]).exits(0);
    let help = fixture.ctl(["--help"]).exits(0).stdout;
    let verbs: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split(' ').next())
        .collect();
    assert!(verbs.len() >= 20, "{verbs:?}");
    for verb in verbs {
        let help = fixture.ctl([verb, "--help"]).exits(0).stdout;
        let example =
            |line: &str| line.starts_with("  sessionctl ") && line.split(' ').any(|word| word == verb);
        assert!(help.contains("Example") && help.lines().any(example), "{help}");
        let page = std::fs::read_to_string(pages.join(format!("sessionctl-{verb}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
}

#[test]
fn completion_scripts_load_in_each_shell() {
    let fixture = Fixture::new();
    for (shell, check) in [
        ("bash", "source \"$1\" && complete -p sessionctl"),
        ("zsh", "autoload -U compinit && compinit -u -D && source \"$1\""),
        ("fish", "source $argv[1]"),
    ] {
        let script = fixture.ctl(["completions", shell]).exits(0).stdout;
        let path = fixture.dir.path().join(format!("completions.{shell}"));
        std::fs::write(&path, script).unwrap();
        let mut command = std::process::Command::new(shell);
        command.arg("-c").arg(check);
        if shell == "bash" || shell == "zsh" {
            command.arg(shell);
        }
        match command.arg(&path).stdin(Stdio::null()).output() {
            Ok(output) => {
                let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success() && stderr.is_empty(), "{shell}: {stderr}");
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("not run: no {shell} here");
            }
            Err(error) => panic!("{shell}: {error}"),
        }
    }
    fixture.ctl(["completions", "tcsh"]).exits(2);
}

/// Replaces text in a log and its checksums, as if an owner elsewhere had written it.
fn reseal(fixture: &Fixture, id: &str, from: &str, to: &str) {
    let path = fixture.store().join("sessions").join(id).join("events.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut previous = id.parse::<sessionkit::SessionId>().unwrap().as_bytes().to_vec();
    let mut sealed = String::new();
    for line in text.lines() {
        let body = line.split(",\"sum\":\"").next().unwrap().replace(from, to);
        previous.extend_from_slice(body.as_bytes());
        let sum = xxhash_rust::xxh3::xxh3_64(&previous);
        sealed = format!("{sealed}{body},\"sum\":\"{sum:016x}\"}}\n");
        previous = sum.to_be_bytes().to_vec();
    }
    assert_ne!(sealed, text);
    std::fs::write(&path, sealed).unwrap();
    std::fs::remove_file(path.with_file_name("head.json")).unwrap();
}

/// After a reboot of the machine, commands give it as the cause of the crash.
#[test]
fn a_reboot_is_reported_in_one_line() {
    let fixture = Fixture::new();
    let id = fixture.crashed(SessionConfig::new("import").name("nightly")).to_string();
    let boot = sessionkit::backend::this_process().unwrap().boot;
    reseal(&fixture, &id, &boot, "00000000-0000-0000-0000-000000000000");
    for args in [vec!["ls"], vec!["logs", "nightly"], vec!["events", "nightly"], vec!["show", "nightly"]] {
        let ran = fixture.ctl(&args).exits(0);
        let lines: Vec<&str> =
            ran.stderr.lines().filter(|line| line.contains("the machine was restarted")).collect();
        assert_eq!(lines.len(), 1, "{args:?}: {ran:#?}");
        assert!(lines[0].contains("(nightly)") && lines[0].contains("`resume_session`"), "{ran:#?}");
    }
    let why = fixture.ctl(["why", "nightly"]).exits(0).stdout;
    assert!(why.contains("It has crashed") && why.contains("the machine was restarted"), "{why}");
}

#[test]
fn a_program_that_ignores_term_is_killed_after_its_grace() {
    let fixture = Fixture::new();
    let args = ["--name", "deaf", "--grace", "100ms"];
    let running = start(&fixture, args, "trap '' TERM; echo ready; while :; do sleep 0.1; done");
    fixture.ctl(["cancel", "deaf"]).exits(0);
    running.end().exits(137);
    let events = fixture.ctl(["events", "deaf"]).stdout;
    let [asked, killed] = ["\"15 (TERM)\"", "\"9 (KILL)\""].map(|signal| events.find(signal));
    assert!(asked.is_some() && asked < killed, "{events}");
}

#[test]
fn wait_has_exit_codes_for_sessions_without_a_program() {
    let fixture = Fixture::new();
    let (failed, cancelled) = block_on(async {
        let store = fixture.open().await;
        let manager = store.manager();
        let config = || SessionConfig::new("import");
        let failed = manager.create_session(config()).await.unwrap();
        let work = sessionkit::Failure::new(sessionkit::log::FailureCause::Work, "no");
        manager.fail_session(failed, work).await.unwrap();
        let cancelled = manager.create_session(config()).await.unwrap();
        manager.cancel_session(cancelled, CancelRequest::new("no", "alice")).await.unwrap();
        manager.shutdown().await.unwrap();
        (failed.to_string(), cancelled.to_string())
    });
    fixture.ctl(["wait", &failed]).exits(1);
    fixture.ctl(["wait", &cancelled]).exits(130);
}

#[test]
fn a_program_that_cannot_start_exits_with_126_or_127() {
    let fixture = Fixture::new();
    let plain = fixture.dir.path().join("plain");
    std::fs::write(&plain, "no program").unwrap();
    fixture.ctl(["run", "--", plain.to_str().unwrap()]).fails(126, "SPAWN_FAILED");
    fixture.ctl(["run", "--", "no-such-program-anywhere"]).fails(127, "SPAWN_FAILED");
}

/// A program that exits with 0 because it was asked to end was cancelled all the same.
#[test]
fn a_program_that_exits_with_0_on_cancel_is_cancelled() {
    let fixture = Fixture::new();
    let polite =
        start(&fixture, ["--name", "polite"], "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done");
    fixture.ctl(["cancel", "polite"]).exits(0);
    polite.end().exits(143);
    fixture.ctl(["wait", "polite"]).exits(143);
}

#[test]
fn wait_warns_once_about_an_unowned_session() {
    let fixture = Fixture::new();
    let queued = block_on(async {
        let store = fixture.open().await;
        store.manager().create_session(SessionConfig::new("import").name("queued").queued()).await.unwrap()
    });
    // The timeout only ends a test that fails, where no warning would ever come.
    let mut command = fixture.command(["wait", "queued", "--timeout", "60s"]);
    let mut waiting = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(waiting.stderr.take().unwrap());
    let mut stderr = String::new();
    reader.read_line(&mut stderr).unwrap();
    block_on(async {
        let store = fixture.open().await;
        // Long enough for further checks of the owner, which lead to no further warning.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let session = store.manager().start_session(queued).await.unwrap();
        session.complete(sessionkit::SessionSummary::new()).await.unwrap();
    });
    reader.read_to_string(&mut stderr).unwrap();
    let status = waiting.wait().unwrap();
    assert!(status.success() && stderr.matches("it has no owner").count() == 1, "{stderr}");
}

/// `wait` used to warn about a missing owner when the session had just completed.
#[test]
fn wait_does_not_warn_about_an_ended_session() {
    let fixture = Fixture::new();
    let file = fixture.dir.path().join("go");
    let script = format!("echo ready; while [ ! -e {} ]; do sleep 0.02; done", file.display());
    let running = start(&fixture, ["--name", "short"], &script);
    let waiting =
        fixture.command(["wait", "short"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    std::fs::write(&file, "").unwrap();
    running.end().exits(0);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn a_remote_owner_is_declared_dead_only_with_force() {
    let fixture = Fixture::new();
    let id = fixture.crashed(SessionConfig::new("import").name("far")).to_string();
    in_another_folder(&fixture, &id);
    assert_eq!(fixture.show("far")["status"], "unknown");
    assert_eq!(fixture.json(["ls", "--state", "unknown"])[0]["name"], "far");
    let why = fixture.ctl(["why", "far"]).exits(0).stdout;
    assert!(why.contains("of unknown liveness: nothing here can prove it"), "{why}");
    assert!(why.contains("declare it dead with `recover --force`"), "{why}");
    fixture.ctl(["resume", "far", "--json"]).exits(125);
    assert_eq!(fixture.json(["recover", "--policy", "fail"])["recovered"], json!([]));
    assert_eq!(fixture.show("far")["state"], "running", "without proof, nothing changes");
    let done = fixture.json(["recover", "--policy", "fail", "--force"]);
    assert_eq!(done["recovered"][0]["outcome"], "failed");
    let events = fixture.ctl(["events", "far"]).exits(0).stdout;
    assert!(events.contains("declared dead by") && events.contains("without proof"), "{events}");
}

/// Makes the owner of a session one that holds its lock in another folder.
fn in_another_folder(fixture: &Fixture, id: &str) {
    let path = fixture.store().join("sessions").join(id).join("events.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let recorded = text.split("\"lock_folder\":\"").nth(1).unwrap().get(..36).unwrap();
    reseal(fixture, id, recorded, "00000000-0000-4000-8000-000000000000");
}

#[test]
fn an_unknown_owner_names_the_command_that_declares_it_dead() {
    let fixture = Fixture::new();
    let id = fixture.crashed(SessionConfig::new("import").name("far")).to_string();
    in_another_folder(&fixture, &id);
    for args in [&["ls"][..], &["show", "far"], &["why", "far"], &["recover"], &["gc", "--older-than", "1h"]]
    {
        let ran = fixture.ctl(args).exits(0);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains(" recover --force"), "{args:?}: {ran:#?}");
    }
    let refused =
        [fixture.ctl(["rm", "far"]).fails(4, "CONFLICT"), fixture.ctl(["resume", "far"]).exits(125)];
    for ran in refused {
        assert!(ran.stderr.contains("may be alive") && ran.stderr.contains(" recover --force"), "{ran:#?}");
    }
    let waited = fixture.ctl(["wait", "far", "--timeout", "100ms"]).exits(124);
    assert!(
        waited.stderr.contains("waiting for session") && waited.stderr.contains("recover --force"),
        "{waited:#?}"
    );
    let recovered = fixture.ctl(["recover", "--force"]).exits(0);
    assert!(recovered.stdout.contains("paused"), "{recovered:#?}");
    fixture.ctl(["rm", "far"]).exits(0);
}

#[test]
fn gc_announces_no_cancel_of_a_session_whose_owner_may_live() {
    let fixture = Fixture::new();
    let id = fixture.crashed(SessionConfig::new("import").name("far")).to_string();
    let would = || fixture.json(["gc", "--older-than", "0s", "--dry-run"])["cancelled"].clone();
    assert_eq!(would(), json!([id]));
    in_another_folder(&fixture, &id);
    assert_eq!(would(), json!([]));
}

#[test]
fn the_default_store_is_in_the_user_state_directory() {
    let fixture = Fixture::new();
    let state = fixture.dir.path().join("state");
    let mut command = support::clean_command(support::BINARY);
    command.env("XDG_STATE_HOME", &state).args(["run", "--name", "mine", "--", "true"]);
    support::run(command).exits(0);
    let mut command = support::clean_command(support::BINARY);
    command.env_remove("XDG_STATE_HOME").env("HOME", fixture.dir.path()).args(["ls", "--all"]);
    let ran = support::run(command).exits(0);
    assert!(ran.stdout.is_empty() && !fixture.dir.path().join(".local").exists(), "{ran:#?}");
    let mut command = support::clean_command(support::BINARY);
    command.args(["ls", "--all", "--store", &format!("file:{}", state.join("sessionctl").display())]);
    let ran = support::run(command).exits(0);
    assert!(ran.stdout.contains("mine"), "{ran:#?}");
}

/// On a disk that fails each flush, the outcome of the last change is unknown and reported as such. Later commands
/// determine it.
#[test]
fn a_failed_flush_is_reported_as_outcome_unknown() {
    let fixture = Fixture::new();
    let id = fixture.crashed(SessionConfig::new("import").name("doubtful")).to_string();
    let mut command = std::process::Command::new("strace");
    let trace = fixture.dir.path().join("trace");
    command
        .args(["-f", "-qq", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO", "-o"])
        .arg(&trace);
    command
        .args([support::BINARY, "cancel", &id])
        .env("SESSIONCTL_STORE", fixture.url())
        .stdin(Stdio::null());
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("not run: no strace here");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    if !std::fs::read_to_string(&trace).is_ok_and(|trace| trace.contains("INJECTED")) {
        eprintln!("not run: strace may not trace here: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(9), "{stderr}");
    assert!(stderr.contains("[OUTCOME_UNKNOWN]") && stderr.contains("\nnext: "), "{stderr}");
    // On a disk that works, `wait` flushes the log first.
    fixture.ctl(["wait", &id]).exits(130);
    fixture.ctl(["verify", &id]).exits(0);
}
