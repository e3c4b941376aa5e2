//! Programs at a terminal within a shell: input, keys, job control, and the screens that a user sees.
//!
//! `c''ode` appears as `code` only in the output of the shell, not in the echo of what was typed.

use serde_json::json;
use sessionkit::CancelRequest;

use crate::requests::kinds;
use crate::support::{self, Fixture, eventually};
use crate::tmux::{Screen, has};

/// The process that owns a session.
fn owner(fixture: &Fixture, name: &str) -> i32 {
    i32::try_from(fixture.show(name)["owner"]["pid"].as_i64().unwrap()).unwrap()
}

fn kill(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// The kinds of a session's events, notes aside.
fn event_kinds(fixture: &Fixture, name: &str) -> Vec<String> {
    kinds(fixture, name).into_iter().filter(|kind| kind != "noted").collect()
}

#[test]
fn a_python_prompt_works_in_the_foreground() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture).filter(|_| has(&["python3"])) else { return };
    // One pipe for both outputs, since the order between two is undefined.
    screen.line("sessionctl run --name py -- sh -c 'exec python3 -qu 2>&1'");
    screen.until_line(">>>");
    screen.line("6 * 7");
    screen.until("the answer", |shown| shown.contains("\n42\n>>>"));
    screen.line("input('name? ')");
    screen.until("the question", |shown| shown.ends_with("name?"));
    screen.line("guido");
    screen.until("the answer", |shown| shown.contains("'guido'\n>>>"));
    screen.key("C-d");
    screen.until_prompt();
    screen.looks_like("python");
    screen.clear();
    screen.line("sessionctl run -- python3; echo c''ode $?");
    screen.until("the prompt", |shown| shown.contains("\n>>>"));
    screen.line("print(6 * 7)");
    screen.until("the answer", |shown| shown.contains("42"));
    screen.line("raise SystemExit(3)");
    screen.until_line("code 3");
    assert_eq!(fixture.show("py")["state"], "completed");
}

#[test]
fn lines_typed_early_reach_the_program() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("sessionctl run -- sh -c 'echo name; read x; echo hello $x'");
    screen.until_line("name");
    screen.line("world");
    screen.until_prompt();
    screen.looks_like("read");
    // These lines are typed before the programs start, which may read before they have the terminal.
    screen.line("clear; for i in $(seq 20); do sessionctl run -- head -n 1 2>>errs; done >lines");
    for i in 1..=20 {
        screen.line(&format!("line {i}"));
    }
    let lines = fixture.dir.path().join("lines");
    eventually("all lines", || std::fs::read_to_string(&lines).unwrap_or_default().lines().count() == 20);
    let expected: Vec<String> = (1..=20).map(|i| format!("line {i}")).collect();
    assert_eq!(std::fs::read_to_string(&lines).unwrap().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_program_with_piped_stdin_can_read_dev_tty() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("echo piped | sessionctl run --name asks -- sh -c 'cat; read x </dev/tty; echo got $x'");
    screen.until_line("piped");
    screen.line("secret");
    screen.until_prompt();
    screen.looks_like("dev-tty");
    // The reader of its output may be a pager, and keeps the terminal.
    screen.line(
        "clear; sessionctl run -- sh -c 'echo page; exec sleep 600' 2>errs | \
         sh -c 'head -n 1; read x </dev/tty; echo pager got $x'",
    );
    screen.until_line("page");
    screen.line("q");
    screen.until_line("pager got q");
    screen.key("C-c");
    screen.until_prompt();
    screen.looks_like("pager");
}

#[test]
fn ctrl_c_ends_the_program_and_the_waiting_script() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("sessionctl run --name c -- sh -c 'echo ready; exec sleep 600'; echo c''ode $?");
    screen.until_line("ready");
    screen.key("C-c");
    screen.until_prompt();
    screen.do_line("echo c''ode $?");
    screen.line("for i in 1 2 3; do sessionctl run -- sh -c 'echo ready; exec sleep 600'; done");
    screen.until("the first one", |shown| shown.lines().filter(|line| *line == "ready").count() == 2);
    screen.key("C-c");
    screen.until_prompt();
    screen.looks_like("ctrl-c");
    let shown = fixture.show("c");
    assert_eq!((&shown["status"], &shown["signal"]), (&json!("stopped"), &json!(2)));
    // A script ends with the program that it waits for, too.
    std::fs::write(
        fixture.dir.path().join("script"),
        "sessionctl run -- sh -c 'echo r''eady; exec sleep 600'\necho went on\n",
    )
    .unwrap();
    for shell in ["bash", "sh"] {
        screen.clear();
        screen.line(&format!("{shell} script"));
        screen.until_line("ready");
        screen.key("C-c");
        screen.until_prompt();
        screen.do_line("echo c''ode $?");
        screen.until_line("code 130");
        assert!(!screen.shown().contains("went on"), "{}", screen.shown());
    }
}

#[test]
fn ctrl_z_pauses_the_session_until_fg() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("sessionctl run --name z -- sh -c 'echo ready; read x; echo got $x'");
    screen.until_line("ready");
    screen.key("C-z");
    screen.until_prompt();
    screen.do_line("sessionctl ls");
    let shown = fixture.show("z");
    assert_eq!(
        (&shown["status"], &shown["reason"]),
        (&json!("paused"), &json!("requested: stopped from the terminal"))
    );
    screen.line("fg");
    screen.until("the resume", |_| fixture.show("z")["status"] == "running");
    screen.line("again");
    screen.until_prompt();
    screen.looks_like("ctrl-z");
    // A script stops with the program that it waits for.
    screen.clear();
    std::fs::write(
        fixture.dir.path().join("script"),
        "sessionctl run -- sh -c 'echo ready; exec sleep 600'\n",
    )
    .unwrap();
    screen.line("sh script");
    screen.until_line("ready");
    screen.key("C-z");
    screen.until_prompt();
    screen.line("fg");
    fixture.wait_for("@last", "the resume", |shown| shown["status"] == "running");
    screen.key("C-c");
    screen.until_prompt();
    assert_eq!(
        event_kinds(&fixture, "z"),
        ["created", "started", "paused", "resumed", "command_executed", "completed"]
    );
}

#[test]
fn bg_resumes_the_session_without_the_terminal() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    // Not a loop of sleeps: a shell that waits for a child to begin cannot be stopped at that moment.
    let script =
        "sessionctl run --no-tty --name b -- sh -c 'echo ready; read x <fifo; echo $x; read y; echo got $y'";
    rustix::fs::mknodat(
        rustix::fs::CWD,
        fixture.dir.path().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    screen.line(script);
    screen.until_line("ready");
    screen.key("C-z");
    screen.until_prompt();
    screen.do_line("bg");
    fixture.wait_for("b", "the resume", |shown| shown["status"] == "running");
    screen.do_line("echo behind > fifo; sleep 0.1");
    screen.until_line("behind");
    // Then it reads, and has to wait for the terminal.
    let paused = fixture.wait_for("b", "the pause", |shown| shown["status"] == "paused");
    assert_eq!(paused["reason"], "requested: waits for the terminal");
    screen.do_line("true");
    screen.line("fg");
    fixture.wait_for("b", "the resume", |shown| shown["status"] == "running");
    screen.line("front");
    screen.until_prompt();
    screen.until_line("got front");
    assert_eq!(fixture.show("b")["state"], "completed");
}

#[test]
fn a_background_job_does_not_take_the_terminal() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line(
        "stty tostop; sessionctl run --no-tty --name b -- sh -c 'echo behind; sleep 0.2; echo done' 2>errs &",
    );
    screen.until_line("done");
    fixture.wait_for("b", "its end", |shown| shown["state"] == "completed");
    screen.do_line("");
    screen.do_line("echo still mine");
    screen.until_line("still mine");
    screen.do_line("stty -tostop");
    screen.clear();
    screen.line("sessionctl run --no-tty --name r -- sh -c 'read x; echo got $x' 2>errs &");
    fixture.wait_for("r", "the pause", |shown| shown["status"] == "paused");
    screen.do_line("");
    screen.line("fg");
    fixture.wait_for("r", "the resume", |shown| shown["status"] == "running");
    screen.line("typed");
    screen.until_prompt();
    screen.looks_like("background");
}

#[test]
fn a_resize_reaches_the_program() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line(
        "sessionctl run -- sh -c 'trap \"stty size; kill \\$!; exit\" WINCH; echo ready; sleep 600 & wait'",
    );
    screen.until_line("ready");
    screen.resize(100, 20);
    screen.until_prompt();
    screen.looks_like("resize");
}

#[test]
fn terminal_modes_are_restored_after_any_end() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    let same = |when: &str| {
        let read = |name: &str| std::fs::read_to_string(fixture.dir.path().join(name)).unwrap();
        assert!(read("before").contains(" echo "), "{}", read("before"));
        assert_eq!(read("before"), read("after"), "{when}");
    };
    screen.do_line("stty -a >before");
    // Killed while the terminal is in raw mode.
    screen.line("sessionctl run -- sh -c 'stty raw -echo; kill -9 $$'; stty -a >after; echo c''ode $?");
    screen.until_line("code 0");
    screen.until_prompt();
    same("killed");
    screen.looks_like("raw");
    screen.clear();
    // Stopped: the shell gets its modes back, and later the program its own.
    screen.line(
        "sessionctl run --name s -- sh -c 'stty -echo; echo ready; read x; stty -a >theirs; kill -9 $$'",
    );
    screen.until_line("ready");
    screen.key("C-z");
    screen.until_prompt();
    screen.do_line("stty -a >after");
    same("stopped");
    screen.line("fg");
    fixture.wait_for("s", "the resume", |shown| shown["status"] == "running");
    screen.line("unseen");
    screen.until_prompt();
    assert!(!screen.shown().contains("unseen"), "{}", screen.shown());
    let theirs = std::fs::read_to_string(fixture.dir.path().join("theirs")).unwrap();
    assert!(theirs.contains(" -echo "), "{theirs}");
    screen.do_line("stty -a >after");
    same("killed after it was stopped");
    // A failure of the command itself: the log is deleted.
    screen.line("sessionctl run --name l -- sh -c 'stty raw -echo; echo ready; read x; exit 0'");
    screen.until("ready", |shown| shown.ends_with("ready"));
    let id = fixture.show("l")["id"].as_str().unwrap().to_owned();
    std::fs::remove_dir_all(fixture.store().join("sessions").join(id)).unwrap();
    screen.until_prompt();
    screen.do_line("stty -a >after");
    same("an error");
}

#[test]
fn a_killed_owner_leaves_a_usable_shell() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("sessionctl run --name k -- sh -c 'stty raw -echo; echo ready; exec sleep 600'");
    screen.until_line("ready");
    kill(owner(&fixture, "k"), rustix::process::Signal::KILL);
    screen.until_prompt();
    screen.do_line("echo usable");
    screen.until_line("usable");
    assert_eq!(fixture.show("k")["status"], "crashed");
    // The resumed program is usable, too.
    screen.clear();
    screen.line("sessionctl resume k");
    screen.until_line("ready");
    screen.key("C-c");
    // In raw mode, Ctrl-C is a byte like any other.
    support::block_on(async {
        let store = fixture.open().await;
        let id = fixture.show("k")["id"].as_str().unwrap().parse().unwrap();
        store.manager().cancel_session(id, CancelRequest::new("enough", "a test")).await.unwrap();
    });
    screen.until_prompt();
    screen.do_line("echo usable again");
    screen.until_line("usable again");
}

#[test]
fn a_pipeline_of_sessions_behaves_as_one_job() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("sessionctl run --name a -- sh -c 'echo first; exec sleep 600' 2>errs | sessionctl run --name b -- cat 2>errs");
    screen.until_line("first");
    screen.key("C-z");
    screen.until_prompt();
    for name in ["a", "b"] {
        assert_eq!(fixture.show(name)["status"], "paused", "{name}");
    }
    screen.line("fg");
    for name in ["a", "b"] {
        fixture.wait_for(name, "the resume", |shown| shown["status"] == "running");
    }
    screen.key("C-c");
    screen.until_prompt();
    screen.looks_like("pipeline");
    for name in ["a", "b"] {
        assert_eq!(fixture.show(name)["signal"], 2, "{name}");
    }
}

#[test]
fn a_stop_signal_to_the_owner_stops_the_program() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    for (stdin, name) in [("", "terminal"), ("</dev/null", "none")] {
        screen.line(&format!(
            "sessionctl run --no-tty --name {name} -- sh -c 'echo {name}; exec sleep 600' {stdin}"
        ));
        screen.until_line(name);
        kill(owner(&fixture, name), rustix::process::Signal::TSTP);
        screen.until_prompt();
        assert_eq!(fixture.show(name)["status"], "paused");
        screen.line("fg");
        fixture.wait_for(name, "the resume", |shown| shown["status"] == "running");
        // Stops only the owner, not the program, which has to get the terminal back afterwards.
        kill(owner(&fixture, name), rustix::process::Signal::STOP);
        screen.until_prompt();
        assert_eq!(fixture.show(name)["status"], "stalled");
        screen.line("fg");
        screen.until("it runs", |_| fixture.show(name)["status"] == "running");
        screen.key("C-c");
        screen.until_prompt();
        assert_eq!(fixture.show(name)["signal"], 2);
        screen.clear();
    }
}

#[test]
fn events_during_a_stop_take_effect_on_continue() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    let stopped = |name: &str| {
        screen.line(&format!(
            "clear; sessionctl run --name {name} -- sh -c 'echo {name}; exec sleep 600'; echo c''ode $?"
        ));
        screen.until_line(name);
        screen.key("C-z");
        screen.until_prompt();
        fixture.show(name)["id"].as_str().unwrap().to_owned()
    };
    // A program that ends.
    let id = stopped("ends");
    kill(program(&id), rustix::process::Signal::KILL);
    screen.do_line("fg");
    screen.looks_like("ended-while-stopped");
    // A cancel.
    let id = stopped("cancelled");
    support::block_on(async {
        let store = fixture.open().await;
        let request = CancelRequest::new("enough", "a test");
        store.manager().cancel_session(id.parse().unwrap(), request).await.unwrap();
    });
    let shown = fixture.show("cancelled");
    assert_eq!((&shown["status"], &shown["requested"]), (&"paused".into(), &"cancel".into()));
    screen.do_line("fg");
    screen.looks_like("cancelled-while-stopped");
    // A resume.
    let id = stopped("resumed");
    support::block_on(async {
        let store = fixture.open().await;
        store.manager().request_resume(id.parse().unwrap()).await.unwrap();
    });
    screen.line("fg");
    fixture.wait_for("resumed", "the resume", |shown| shown["status"] == "running");
    screen.key("C-c");
    screen.until_prompt();
    let expected =
        ["created", "started", "paused", "resume_requested", "resumed", "command_executed", "interrupted"];
    assert_eq!(event_kinds(&fixture, "resumed"), expected);
}

/// The process that runs as this session, its supervisor aside.
fn program(id: &str) -> i32 {
    let mark = format!("SESSIONCTL_SESSION={id}\0").into_bytes();
    let found = std::fs::read_dir("/proc").unwrap().flatten().find(|entry| {
        let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        environ.windows(mark.len()).any(|window| window == mark)
    });
    found.unwrap().file_name().to_str().unwrap().parse().unwrap()
}

#[test]
fn a_pause_from_elsewhere_returns_the_terminal() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("sessionctl run --no-tty --name p -- sh -c 'stty -echo; echo ready; read x; echo got $x'");
    screen.until_line("ready");
    let ask = |what: &str| {
        support::block_on(async {
            let store = fixture.open().await;
            let id = fixture.show("p")["id"].as_str().unwrap().parse().unwrap();
            match what {
                "pause" => store.manager().pause_session(id, "lunch".to_owned()).await.map(drop).unwrap(),
                _ => store.manager().request_resume(id).await.map(drop).unwrap(),
            }
        });
    };
    ask("pause");
    screen.until_begun("session paused by request");
    // Keys now go to the owner, and Ctrl-Z stops the job.
    screen.key("C-z");
    screen.until_prompt();
    screen.do_line("sessionctl ls");
    screen.line("fg");
    screen.until_line(
        "sessionctl run --no-tty --name p -- sh -c 'stty -echo; echo ready; read x; echo got $x'",
    );
    assert_eq!(fixture.show("p")["status"], "paused", "only a resume request ends this pause");
    ask("resume");
    fixture.wait_for("p", "the resume", |shown| shown["status"] == "running");
    // What is typed before the program has its terminal again is echoed.
    support::eventually("the modes of the program", || screen.modes().contains(" -echo "));
    screen.line("lunch");
    screen.until_line("got lunch");
    screen.until_prompt();
    screen.looks_like("paused-from-elsewhere");
}

/// Without a shell that could continue a stopped job, a stop key used to stop it for ever.
#[test]
fn a_stop_key_has_no_effect_without_job_control() {
    let fixture = Fixture::new();
    for (name, script) in [
        ("child", "sessionctl run --name NAME -- CMD; sleep 600"),
        ("leader", "exec sessionctl run --name NAME -- CMD"),
    ] {
        let program = "sh -c 'while read x; do echo got $x; done'";
        let Some(screen) = Screen::of(&fixture, &script.replace("NAME", name).replace("CMD", program)) else {
            return;
        };
        screen.until("its first line", |shown| shown.contains("started"));
        screen.line("one");
        screen.until_line("got one");
        screen.key("C-z");
        fixture
            .wait_for(name, "it is over", |_| event_kinds(&fixture, name).ends_with(&["resumed".to_owned()]));
        screen.line("two");
        screen.until("the second line", |shown| shown.lines().any(|line| line == "got two"));
    }
}

#[test]
fn a_closed_terminal_ends_a_running_or_stopped_program() {
    let fixture = Fixture::new();
    for name in ["running", "stopped"] {
        let Some(screen) = Screen::shell(&fixture) else { return };
        screen.line(&format!("sessionctl run --no-tty --name {name} -- sh -c 'echo ready; exec sleep 600'"));
        screen.until_line("ready");
        if name == "stopped" {
            screen.key("C-z");
            screen.until_prompt();
        }
        screen.close();
        let ended = fixture.wait_for(name, "its end", |shown| shown["status"] == "interrupted");
        assert_eq!(ended["signal"], 1, "{ended}");
    }
}

#[test]
fn a_detached_session_outlives_the_terminal() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.do_line("id=$(sessionctl run --detach --name far -- sh -c 'echo ready; tty; read x || echo nothing; exec sleep 600')");
    screen.do_line("sessionctl show $id | head -n 1");
    screen.looks_like("detach");
    screen.line("exit");
    screen.close();
    let Some(other) = Screen::shell(&fixture) else { return };
    other.do_line("sessionctl ls");
    other.do_line("sessionctl logs far");
    other.do_line("sessionctl cancel far | head -n 1");
    other.looks_like("detach-from-another");
}

#[test]
fn ctrl_c_ends_the_wait_for_background_processes() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("sessionctl run --linger 10m -- sh -c 'sleep 600 & exit 3'; echo c''ode $?");
    screen.until("the wait", |shown| shown.contains("waiting for sleep"));
    screen.key("C-c");
    screen.until_line("code 3");
}
