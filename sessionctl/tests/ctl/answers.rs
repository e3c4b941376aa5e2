//! Questions of sessions, listed and answered from other processes.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use sessionkit::SessionConfig;
use sessionkit::log::{Evidence, PauseReason};
use sessionkit::workflow::{SessionSteps as _, StepError};
use tokio::task::JoinHandle;

use crate::support::{Fixture, LiveOwner, block_on, eventually};

pub(crate) type Asked = JoinHandle<Result<String, StepError>>;

/// Asks a question in a session, and returns once it is open.
pub(crate) fn ask(live: &LiveOwner, name: &str, text: &str, choices: &[&str]) -> Asked {
    let (name, text) = (name.to_owned(), text.to_owned());
    let choices: Vec<String> = choices.iter().copied().map(str::to_owned).collect();
    let (session, before) = (live.session.clone(), live.session.head().waits.questions);
    let asked = live.runtime.spawn(async move { session.ask(name, text).choices(choices).await });
    eventually("the question", || live.session.head().waits.questions > before);
    asked
}

fn named(name: &str) -> SessionConfig {
    SessionConfig::new("import").name(name)
}

fn answer_to(live: &LiveOwner, asked: Asked) -> String {
    live.runtime.block_on(asked).unwrap().unwrap()
}

/// Returns the names of the questions that `answers` lists.
fn listed(fixture: &Fixture) -> Vec<String> {
    let rows = fixture.json(["answers"]);
    rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_answer_reaches_the_owner_from_another_process() {
    let fixture = Fixture::new();
    let live = fixture.owner(named("release"));
    let asked = ask(&live, "deploy", "Deploy 1.4.0?", &["yes", "no"]);
    let ran = fixture.ctl(["answer", "release", "yes"]).exits(0);
    assert_eq!(ran.stdout, format!("answered `deploy` of release ({}): yes\n", &live.id.to_string()[..8]));
    assert_eq!(ran.stderr, "");
    assert_eq!(answer_to(&live, asked), "yes");
    assert!(listed(&fixture).is_empty());
}

#[test]
fn a_second_answer_is_a_conflict_that_names_the_first() {
    let fixture = Fixture::new();
    let live = fixture.owner(named("release"));
    let asked = ask(&live, "deploy", "Deploy?", &[]);
    fixture.ctl(["answer", "release", "deploy", "yes"]).exits(0);
    assert_eq!(answer_to(&live, asked), "yes");
    let ran = fixture.ctl(["answer", "release", "deploy", "--number", "1", "no"]).fails(4, "CONFLICT");
    assert!(ran.stderr.contains("question `deploy` was answered already: yes (by "), "{ran:#?}");
}

#[test]
fn concurrent_answers_have_one_winner() {
    let fixture = Fixture::new();
    let live = fixture.owner(named("release"));
    for round in 1..=5 {
        let asked = ask(&live, "deploy", "Deploy?", &[]);
        let number = round.to_string();
        let spawned: Vec<_> = ["a", "b", "c", "d"]
            .map(|value| {
                let mut command =
                    fixture.command(["answer", "release", "deploy", "--number", &number, value]);
                (value, command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
            })
            .into();
        let mut winners = Vec::new();
        for (value, child) in spawned {
            let output = child.wait_with_output().unwrap();
            match output.status.code() {
                Some(0) => winners.push(value),
                code => {
                    let stderr = String::from_utf8(output.stderr).unwrap();
                    assert!(code == Some(4) && stderr.contains("[CONFLICT]"), "{code:?}: {stderr}");
                }
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(answer_to(&live, asked), winners[0]);
    }
}

#[test]
fn an_answer_is_one_of_the_choices() {
    let fixture = Fixture::new();
    let live = fixture.owner(named("release"));
    let asked = ask(&live, "deploy", "Deploy?", &["yes", "no"]);
    let ran = fixture.ctl(["answer", "release", "maybe"]).fails(2, "INVALID_ARGUMENT");
    assert!(ran.stderr.contains("question `deploy` allows only `yes`, `no`"), "{ran:#?}");
    let next = format!(" answer {} deploy yes\n", &live.id.to_string()[..8]);
    assert!(ran.stderr.ends_with(&next), "{ran:#?}");
    fixture.ctl(["answer", "release", "no"]).exits(0);
    assert_eq!(answer_to(&live, asked), "no");
}

#[test]
fn one_of_several_open_questions_needs_its_name() {
    let fixture = Fixture::new();
    let live = fixture.owner(named("release"));
    let [deploy, notes] = ["deploy", "notes"].map(|name| ask(&live, name, "Which?", &[]));
    let ran = fixture.ctl(["answer", "release", "yes"]).fails(3, "AMBIGUOUS");
    assert!(ran.stderr.contains("`deploy`, `notes`"), "{ran:#?}");
    fixture.ctl(["answer", "release", "notes", "none"]).exits(0);
    assert_eq!(answer_to(&live, notes), "none");
    assert_eq!(listed(&fixture), ["deploy"]);
    fixture.ctl(["answer", "release", "yes"]).exits(0);
    assert_eq!(answer_to(&live, deploy), "yes");
    fixture.ctl(["answer", "release", "yes"]).fails(3, "NOT_FOUND");
}

#[test]
fn words_that_are_no_answer_are_refused() {
    let fixture = Fixture::new();
    let _live = fixture.owner(named("release"));
    for words in [&["answer", "release"][..], &["answer", "release", "deploy", "yes", "please"]] {
        fixture.ctl(words).exits(2);
    }
    let ran = fixture.ctl(["answer", "release", "--key", "k", "yes"]).fails(2, "INVALID_ARGUMENT");
    assert!(ran.stderr.contains("need the name of the question"), "{ran:#?}");
}

#[test]
fn an_answer_before_its_question_is_kept_for_it() {
    let fixture = Fixture::new();
    let live = fixture.owner(named("release"));
    let ran = fixture.ctl(["answer", "release", "deploy", "yes"]).exits(0);
    assert!(ran.stderr.contains("`deploy` is not asked yet"), "{ran:#?}");
    let answer = live.runtime.block_on(async { live.session.ask("deploy", "Deploy?").await });
    assert_eq!(answer.unwrap(), "yes");
}

#[test]
fn sessions_without_a_running_owner_are_answered() {
    let fixture = Fixture::new();
    let creator = block_on(fixture.open());
    block_on(creator.manager().create_session(named("created"))).unwrap();
    block_on(creator.manager().create_session(named("queued").queued())).unwrap();
    let paused = fixture.owner(named("paused"));
    paused.runtime.block_on(paused.session.pause(PauseReason::Requested("later".into()))).unwrap();
    fixture.crashed(named("crashed"));
    let interrupted = fixture.owner(named("interrupted"));
    interrupted.runtime.block_on(interrupted.session.interrupt(Evidence::Shutdown)).unwrap();
    for name in ["created", "queued", "paused", "crashed", "interrupted"] {
        assert_eq!(fixture.show(name)["status"], name);
        fixture.ctl(["answer", name, "deploy", "yes"]).exits(0);
        fixture.ctl(["answer", name, "--number=1", "deploy", "no"]).fails(4, "CONFLICT");
        assert_eq!(fixture.show(name)["status"], name);
    }
    fixture.completed(named("completed"));
    fixture.ctl(["answer", "completed", "deploy", "yes"]).fails(4, "ILLEGAL_TRANSITION");
}

#[test]
fn an_answer_after_the_owners_death_is_for_the_next_one() {
    let fixture = Fixture::new();
    let live = fixture.owner(named("release"));
    drop(ask(&live, "deploy", "Deploy?", &[]));
    let id = live.id;
    drop(live);
    fixture.wait_for(id, "the death of the owner", |shown| shown["status"] == "crashed");
    let rows = fixture.json(["answers", "release"]);
    assert_eq!((&rows[0]["owned"], &rows[0]["status"]), (&json!(false), &json!("crashed")));
    let page = fixture.ctl(["answers"]).exits(0).stdout;
    assert!(page.contains("no process owns the session: resume it"), "{page}");
    fixture.ctl(["answer", "release", "yes"]).exits(0);
    let answer = block_on(async {
        let store = fixture.open().await;
        store.manager().resume_session(id).await.unwrap().ask("deploy", "Deploy?").await
    });
    assert_eq!(answer.unwrap(), "yes");
}

#[test]
fn an_answer_is_read_from_standard_input() {
    let fixture = Fixture::new();
    let live = fixture.owner(named("release"));
    let answer = |bytes: &[u8]| {
        let mut command = fixture.command(["answer", "release", "notes", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // A longer answer than it reads may meet a closed pipe.
        let _ = child.stdin.take().unwrap().write_all(bytes);
        child.wait().unwrap().code().unwrap()
    };
    assert_eq!(answer(b"\xff\n"), 2);
    assert_eq!(answer(&vec![b'x'; 128 * 1024 + 1]), 4);
    assert!(fixture.show("release")["waits"].is_null());
    let longest = [vec![b'x'; 128 * 1024], b"\r\n".to_vec()].concat();
    for (given, expected) in [
        (&b"two\nlines\n\n"[..], "two\nlines\n".to_owned()),
        (&longest, "x".repeat(128 * 1024)),
        (b"", String::new()),
    ] {
        let asked = ask(&live, "notes", "Which notes?", &[]);
        assert_eq!(answer(given), 0);
        assert_eq!(answer_to(&live, asked), expected);
    }
}

#[test]
fn answers_lists_all_sessions_with_the_oldest_first() {
    let fixture = Fixture::new();
    let hint = fixture.ctl(["answers"]).exits(0);
    assert!(hint.stdout.is_empty() && hint.stderr.contains("no question waits"), "{hint:#?}");
    let [first, second] = ["first", "second"].map(|name| fixture.owner(named(name)));
    let mut kept = vec![ask(&first, "a", "A?\nReally?", &["yes", "no"])];
    std::thread::sleep(Duration::from_millis(3));
    kept.push(ask(&second, "b", "B?", &[]));
    for number in 0..5 {
        std::thread::sleep(Duration::from_millis(3));
        // More than a head names.
        kept.push(ask(&first, &format!("more-{number}"), "More?", &[]));
    }
    assert_eq!(listed(&fixture), ["a", "b", "more-0", "more-1", "more-2", "more-3", "more-4"]);
    assert_eq!(fixture.json(["answers", "second"]).as_array().unwrap().len(), 1);
    let rows = fixture.json(["answers"]);
    let row = &rows[0];
    let known = ["session", "status", "owned", "name", "n", "key", "question", "choices", "default"];
    let known: Vec<&Value> = known.iter().map(|name| &row[name]).collect();
    let (yes_no, none) = (json!(["yes", "no"]), Value::Null);
    assert_eq!(
        known,
        [
            &json!("first"),
            &json!("waiting"),
            &json!(true),
            &json!("a"),
            &json!(1),
            &none,
            &json!("A?\nReally?"),
            &yes_no,
            &none
        ]
    );
    let page = fixture.ctl(["answers", "first"]).exits(0).stdout;
    let id = &first.id.to_string()[..8];
    for line in ["  A?\n  Really?\n", "  choices: yes, no\n", &format!(" answer {id} a VALUE\n")] {
        assert!(page.contains(line), "{line}: {page}");
    }
}

#[test]
fn a_keyed_or_later_question_is_answered_by_its_own_line() {
    let fixture = Fixture::new();
    let live = fixture.owner(named("release"));
    let session = live.session.clone();
    let keyed = live.runtime.spawn(async move { session.ask("deploy", "Keyed?").key("a b").await });
    eventually("the keyed one", || live.session.head().waits.questions == 1);
    let typed = fixture.json(["answers"])[0]["answer"].as_str().unwrap().replace("VALUE", "yes");
    let mut shell = crate::support::clean_command("sh");
    shell.env("SESSIONCTL_STORE", fixture.url()).args(["-c", &typed]);
    crate::support::run(shell).exits(0);
    assert_eq!(answer_to(&live, keyed), "yes");
    let first = ask(&live, "deploy", "First?", &[]);
    fixture.ctl(["answer", "release", "yes"]).exits(0);
    answer_to(&live, first);
    let _second = ask(&live, "deploy", "Second?", &[]);
    let row = &fixture.json(["answers"])[0];
    assert!(row["answer"].as_str().unwrap().ends_with(" --number 2 deploy VALUE"), "{row}");
}

#[test]
fn hostile_texts_do_not_reach_the_terminal() {
    let fixture = Fixture::new();
    let live = fixture.owner(named("release"));
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}\u{9b}31m";
    let asked = ask(&live, "deploy", &format!("Deploy?{evil}\nnext{evil}"), &[]);
    for words in
        [&["answers"][..], &["ls"], &["show", "release"], &["why", "release"], &["answer", "release", evil]]
    {
        let ran = fixture.ctl(words).exits(0);
        let json = fixture.ctl(words.iter().chain(&["--json"]));
        for text in [&ran.stdout, &ran.stderr, &json.stdout, &json.stderr] {
            let dangerous = text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
            assert_eq!(dangerous, None, "{words:?}: {text:?}");
        }
    }
    assert_eq!(answer_to(&live, asked), evil);
    let conflict = fixture.ctl(["answer", "release", "deploy", "--number", "1", "x"]).fails(4, "CONFLICT");
    assert!(!conflict.stderr.contains('\u{1b}'), "{conflict:#?}");
    fixture.ctl(["answer", "release", "\u{1b}[31m", "x"]).fails(2, "INVALID_ARGUMENT");
}

#[test]
fn a_running_session_on_sled_refuses_answers_clearly() {
    let fixture = Fixture::new();
    let url = format!("sled:{}", fixture.dir.path().join("sled").display());
    let mut command =
        fixture.command(["--store", &url, "run", "--detach", "--name", "it", "--", "sleep", "60"]);
    assert!(command.output().unwrap().status.success());
    let ran = fixture.ctl(["--store", &url, "answer", "it", "deploy", "yes"]);
    assert!(
        ran.stderr.contains("no other process can answer while a session of a sled store runs"),
        "{ran:#?}"
    );
    assert!(ran.stderr.contains("[STORAGE_UNAVAILABLE]") && ran.code == Some(5), "{ran:#?}");
}
