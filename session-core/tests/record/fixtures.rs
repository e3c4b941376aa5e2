//! Fixtures: logs of every released format, kept for ever, which read as they did when they were written.
//!
//! A fixture is never changed. A new one is written by adding it to [`stories`] and running this test once with
//! `SESSION_FIXTURES=write`; that adds what is missing and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use session_core::backend::{Chain, UnsealedRecord};
use session_core::{
    Changes, Commit, EventKind, Evidence, ExecutionMode, Failure, FailureCause, FileChange, Head, Hook,
    InheritedStep, Input, InstanceId, Interruption, Origin, Owner, OwnerLoss, PauseReason, ProgressReport,
    Record, SessionConfig, SessionEvent, SessionId, SessionOptions, SessionSummary, StepEnd, StepFailure,
    StepIdentity, StepOutcome, StepReason, Stop, StopSource, Terminal, WorktreeConfig, WorktreePlan,
};

use crate::support::{instant, read};
use crate::waits;

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1")
}

/// Returns the kept logs of a format by name: id, text, and records as they are read today.
pub(crate) fn kept() -> BTreeMap<String, (SessionId, String, Vec<Record>)> {
    let mut logs = BTreeMap::new();
    for entry in fs::read_dir(folder()).expect("the fixtures are part of the source") {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (_, id) = name.split_once('.').expect("a fixture is named NAME.ID.jsonl");
        let id: SessionId = id.parse().expect("a fixture's name ends with its id");
        let text = fs::read_to_string(&path).unwrap();
        let (stored, broken) = read(id, text.as_bytes());
        assert_eq!(broken, None, "{name}");
        let records = stored
            .iter()
            .map(|record| {
                record.decode().unwrap_or_else(|error| panic!("{name}, {}: {error}", record.revision()))
            })
            .collect();
        logs.insert(name, (id, text, records));
    }
    logs
}

fn fold(id: SessionId, records: &[Record]) -> Head {
    let mut head = None;
    for record in records {
        Head::fold(&mut head, id, record).unwrap_or_else(|error| panic!("{}: {error}", record.envelope.seq));
    }
    head.expect("a fixture has records")
}

fn pretty(head: &Head) -> String {
    serde_json::to_string_pretty(head).unwrap() + "\n"
}

#[test]
fn every_fixture_reads_folds_and_seals_as_before() {
    if std::env::var("SESSION_FIXTURES").is_ok_and(|what| what == "write") {
        write_missing();
    }
    let logs = kept();
    let mut kinds = BTreeSet::new();
    for (name, (id, text, records)) in &logs {
        let head_path = folder().join(format!("{name}.head.json"));
        let head = fs::read_to_string(&head_path).expect("each fixture has the head that it leads to");
        let stored: Head = serde_json::from_str(&head).unwrap();
        assert_eq!(fold(*id, records), stored, "{name} folds to another head");
        assert_eq!(pretty(&stored), head, "{name}: the head is written in another way");

        let mut chain = Chain::start(*id);
        for (record, line) in records.iter().zip(text.lines()) {
            let Record { envelope, event, .. } = record.clone();
            let (at, attempt, flushed) = (envelope.at, envelope.attempt, envelope.flushed);
            let (sealed, _) = chain.seal(UnsealedRecord { at, attempt, flushed, event }).unwrap();
            assert_eq!(sealed.line(), line, "{name} is sealed in another way");
            kinds.insert(record.event.kind());
        }
    }
    assert_eq!(kinds, EventKind::ALL.iter().copied().collect(), "a kind is in no fixture");
    println!("{} logs, {} records", logs.len(), logs.values().map(|log| log.2.len()).sum::<usize>());
}

#[test]
fn fixtures_cover_every_reason_evidence_cause_and_change() {
    let text: String = kept().into_values().map(|(_, text, _)| text).collect();
    for needle in [
        r#"{"requested":"#,
        r#"{"awaiting_input":"#,
        r#"{"interrupted":""#,
        r#"{"interrupted":{"kind":"interrupted","text":"#,
        r#"{"stopped":{"signal":2,"by":"key"}}"#,
        r#""main":true"#,
        r#""lock_folder":""#,
        r#""pid_namespace":"#,
        r#""stop":{"signal":2,"by":"key"}"#,
        r#"{"limit":"#,
        r#""lock_released""#,
        r#""process_gone""#,
        r#"{"rebooted":{"boot":"#,
        r#""shutdown""#,
        r#""dropped""#,
        r#"{"forced":{"by":"#,
        r#""repaired""#,
        r#""cause":"work""#,
        r#""cause":"timeout""#,
        r#""cause":"crash""#,
        r#""cause":"spawn""#,
        r#""cause":"panic""#,
        r#""n":1"#,
        r#""key":""#,
        r#""because":"first""#,
        r#""because":"failed""#,
        r#""because":"unknown""#,
        r#""because":"changed""#,
        r#""because":"input""#,
        r#""because":"age""#,
        r#""part":""#,
        r#""part":{"base64":""#,
        r#""too_long":true"#,
        r#""skipped":true"#,
        r#""timed_out":true"#,
        r#""unknown":true"#,
        r#""outcome":{"completed":{"exit_code":0"#,
        r#""outcome":{"unknown":{}}"#,
        r#""outcome":{"unknown":{"deaths":2}}"#,
        r#""outcome":{"items":{"items":[{"item":1,"arg":"a.png"},"#,
        r#""arg":{"base64":"Y2Fm6S5wbmc="},"unknown":true}"#,
        r#""arg":"a.png","n":2,"unknown":true,"deaths":2}"#,
        r#""outcome":{"answered":{"answer":"yes\n","by":"ada"}}"#,
        r#""outcome":"slept""#,
        r#""inputs":[{"path":"src"#,
        r#"{"path":{"base64":"#,
        r#""fingerprint":"b7a1f0c95e2d4386a1f42c5b8e907d13","reruns":1}"#,
        r#""done":2,"command":"./convert {}"}"#,
        r#""begun":[{"item":1,"arg":"a.png"},{"item":2,"arg":{"base64":"Y2Fm6S5wbmc="}}]"#,
        r#"{"item":3,"arg":"a.png","n":2}"#,
        r#"{"item":4,"arg":""},{"item":2}]"#,
        r#""total":6,"failed":[{"item":2,"exit_code":2,"error":"exit code 2"},{"item":3,"signal":15,"unknown":true}]"#,
        r#""skipped":[3]"#,
        r#""done":[4]"#,
        r#""choices":["test","prod \"1\""],"default":"test","default_at":""#,
        r#""again":true"#,
        r#""answer":"later","by":"ada"}"#,
        r#""asked":6,"by":"ada"}"#,
        r#""asked":15,"by":"ada","default":true}"#,
        r#""passed":true"#,
        r#""passed":false"#,
        r#"{"input_provided":{"value":"#,
        r#""mode":{"worktree":{"name":"#,
        r#""programs":"filter."#,
        r#""kind":"added""#,
        r#""kind":"modified""#,
        r#""kind":"deleted""#,
        r#""kind":{"renamed":{"from":"#,
        r"\u009b",
        r"\u202e",
        r"\u007f",
        r"\u001b",
    ] {
        assert!(text.contains(needle), "{needle} is in no fixture");
    }
}

fn write_missing() {
    for (name, id, events) in stories() {
        let path = folder().join(format!("{name}.{id}.jsonl"));
        if path.exists() {
            continue;
        }
        let (mut chain, mut head, mut text) = (Chain::start(id), None::<Head>, String::new());
        for event in events {
            let seq = chain.revision() + 1;
            let attempt = head.as_ref().map_or(0, |head| head.lifecycle.attempt_for(event.kind()));
            let flushed = if seq % 4 == 0 { seq - 2 } else { seq - 1 };
            let (stored, record) =
                chain.seal(UnsealedRecord { at: instant(seq), attempt, flushed, event }).unwrap();
            Head::fold(&mut head, id, &record).unwrap();
            text += stored.line();
            text.push('\n');
        }
        fs::create_dir_all(folder()).unwrap();
        fs::write(&path, text).unwrap();
        fs::write(folder().join(format!("{name}.{id}.head.json")), pretty(&head.unwrap())).unwrap();
    }
}

pub(crate) fn owner(n: u32) -> Owner {
    let mut owner = Owner::new(
        "build-7".to_owned(),
        "2f1d6c0a8f4e4b7db1a90c5d3e6f7a81".to_owned(),
        "6b0a3f52-7c1d-4e8b-9a2f-1c3d5e7f9a0b".to_owned(),
        4711 + n,
        918_273 + u64::from(n),
    );
    owner.instance = format!("0b9c1d2e-3f40-4a5b-8c6d-7e8f9a0b1c2{n}").parse::<InstanceId>().unwrap();
    owner
}

fn stories() -> Vec<(&'static str, SessionId, Vec<SessionEvent>)> {
    vec![
        ("completed", "3c2b1a09-8f7e-4d6c-9b5a-4f3e2d1c0b0a".parse().unwrap(), completed()),
        ("example", "7f3a1c52-9e0b-4d86-a1f4-2c5b8e907d13".parse().unwrap(), example()),
        ("failed", "f0e1d2c3-b4a5-4968-8776-655443322110".parse().unwrap(), failed()),
        ("cancelled", SessionId::from_key("import-2026-11-21"), cancelled()),
        ("hostile", "00000000-0000-4000-8000-000000000000".parse().unwrap(), hostile()),
        ("crash", "11111111-2222-4333-8444-555555555555".parse().unwrap(), short(FailureCause::Crash)),
        ("panic", "11111111-2222-4333-8444-555555555556".parse().unwrap(), short(FailureCause::Panic)),
        ("spawn", "11111111-2222-4333-8444-555555555557".parse().unwrap(), short(FailureCause::Spawn)),
        ("timeout", "11111111-2222-4333-8444-555555555558".parse().unwrap(), short(FailureCause::Timeout)),
        ("changes", "22222222-2222-4333-8444-555555555555".parse().unwrap(), changes()),
        ("background", "33333333-2222-4333-8444-555555555555".parse().unwrap(), background()),
        ("stopped", "44444444-2222-4333-8444-555555555555".parse().unwrap(), stopped()),
        ("succeeded", "55555555-2222-4333-8444-555555555555".parse().unwrap(), succeeded()),
        ("on-term", "88888888-2222-4333-8444-555555555555".parse().unwrap(), on_term()),
        ("on-ask", "12121212-2222-4333-8444-555555555555".parse().unwrap(), on_ask()),
        (
            "input",
            "77777777-2222-4333-8444-555555555555".parse().unwrap(),
            input(Input::File("/srv/list".into())),
        ),
        ("input-pipe", "77777777-2222-4333-8444-555555555556".parse().unwrap(), input(Input::Pipe)),
        ("bytes", "66666666-2222-4333-8444-555555555555".parse().unwrap(), bytes()),
        ("output", "aaaaaaaa-2222-4333-8444-555555555555".parse().unwrap(), output()),
        ("terminal", "bbbbbbbb-2222-4333-8444-555555555555".parse().unwrap(), terminal()),
        ("lock-folder", "99999999-2222-4333-8444-555555555555".parse().unwrap(), lock_folder()),
        ("steps", "cccccccc-2222-4333-8444-555555555555".parse().unwrap(), steps()),
        ("inherited", "cccccccc-2222-4333-8444-555555555556".parse().unwrap(), inherited()),
        ("items", "eeeeeeee-2222-4333-8444-555555555555".parse().unwrap(), waits::items()),
        ("waits", "eeeeeeee-2222-4333-8444-555555555556".parse().unwrap(), waits::waits()),
        ("worktree", "13131313-2222-4333-8444-555555555555".parse().unwrap(), worktree(None)),
        ("programs", "13131313-2222-4333-8444-555555555556".parse().unwrap(), worktree(Some(PROGRAMS))),
        ("inherited-items", "eeeeeeee-2222-4333-8444-555555555557".parse().unwrap(), waits::inherited()),
    ]
}

/// Logs written before files and commits had names are sealed byte for byte as they were.
#[test]
fn changes_that_are_only_counted_keep_their_form() {
    let json = r#"{"files_changed":7,"lines_added":10,"lines_removed":4,"commits":1}"#;
    let changes: Changes = serde_json::from_str(json).unwrap();
    assert_eq!(changes, Changes::totals(7, 10, 4, 1));
    assert_eq!((changes.unnamed_files(), changes.unnamed_commits()), (7, 1));
    assert_eq!(serde_json::to_string(&changes).unwrap(), json);
}

/// Holds each kind except two endings, and each member at least once.
fn completed() -> Vec<SessionEvent> {
    let mut options = SessionOptions::default();
    (options.fail_fast, options.auto_merge, options.collect_metrics, options.verbose) =
        (true, true, true, true);
    let mut config = SessionConfig::new("import")
        .name("nightly-import")
        .project_path("/srv/data")
        .workflow("default")
        .mode(ExecutionMode::Worktree { name: "import-tree".to_owned() })
        .max_iterations(3)
        .focus("the slow tables")
        .options(options)
        .label("team", "data")
        .label("stage", "test")
        .metadata(json!({"cursor": [1, 2.5, null, true, "x"]}))
        .deadline(std::time::Duration::from_secs(3600))
        .parent("f0e1d2c3-b4a5-4968-8776-655443322110".parse().unwrap())
        .retry_of("00000000-0000-4000-8000-000000000000".parse().unwrap())
        .idempotency_key("nightly")
        .queued();
    config.retries = 2;
    let origin = Origin::new(vec!["make".to_owned(), "-j8".to_owned()], "/srv/data".into())
        .env(BTreeMap::from([("CC".to_owned(), "clang".to_owned())]))
        .inherited(vec!["HOME".to_owned(), "PATH".to_owned()]);
    let interrupted = |evidence| SessionEvent::Interrupted { evidence };
    let resumed = |n| SessionEvent::Resumed { owner: owner(n) };
    let mut report = ProgressReport::new().percent(62.5).step("vacuum").phase("tables");
    report = report.completed_steps(5).total_steps(8).eta(90);
    let mut summary = SessionSummary::new().message("all done").result(json!({"rows": 12}));
    (summary.iterations, summary.commands, summary.files_changed) = (2, 1, 7);
    (summary.lines_added, summary.lines_removed, summary.commits, summary.duration_ms) = (10, 4, 1, 21_000);
    vec![
        SessionEvent::Created {
            format: 1,
            config: Box::new(config),
            creator: owner(0),
            origin: Some(origin),
            inherits: 0,
        },
        SessionEvent::Started { owner: owner(1) },
        SessionEvent::IterationStarted { number: 1 },
        SessionEvent::CommandExecuted {
            command: "make -j8".to_owned(),
            exit_code: Some(2),
            signal: None,
            duration_ms: 1500,
            output_bytes: 4096,
            main: false,
            stop: None,
        },
        SessionEvent::AnalysisCompleted { results: json!({"slow": ["a", "b"]}) },
        SessionEvent::ProgressReported { report },
        SessionEvent::ProgressReported { report: ProgressReport::new() },
        SessionEvent::CheckpointSaved { state: json!({"row": 100}), resumable: true },
        SessionEvent::IterationCompleted { number: 1, changes: Changes::totals(7, 10, 4, 1) },
        SessionEvent::Noted {
            kind: "session.output_truncated".to_owned(),
            data: json!({"bytes": 67_108_864}),
        },
        SessionEvent::PauseRequested { reason: "lunch".to_owned(), by: "ada".to_owned() },
        SessionEvent::Paused { reason: PauseReason::Requested("lunch".to_owned()) },
        SessionEvent::ResumeRequested { by: "ada".to_owned() },
        resumed(1),
        SessionEvent::Paused { reason: PauseReason::AwaitingInput("drop table?".to_owned()) },
        SessionEvent::InputProvided { value: json!("yes"), by: "ada".to_owned() },
        interrupted(Evidence::LockReleased),
        resumed(2),
        interrupted(Evidence::ProcessGone),
        resumed(1),
        interrupted(Evidence::Rebooted { boot: "0f0e0d0c-7c1d-4e8b-9a2f-1c3d5e7f9a0b".to_owned() }),
        resumed(2),
        interrupted(Evidence::Shutdown),
        resumed(1),
        interrupted(Evidence::Dropped),
        resumed(2),
        interrupted(Evidence::Forced { by: "ada".to_owned() }),
        resumed(1),
        interrupted(Evidence::Repaired),
        resumed(2),
        SessionEvent::Paused { reason: PauseReason::Limit("budget".to_owned()) },
        resumed(2),
        SessionEvent::Paused {
            reason: PauseReason::Interrupted(Interruption { kind: None, text: "stopped by hand".to_owned() }),
        },
        resumed(2),
        SessionEvent::IterationStarted { number: 2 },
        SessionEvent::IterationCompleted { number: 2, changes: Changes::default() },
        SessionEvent::Completed { summary },
    ]
}

pub(crate) fn begun() -> Vec<SessionEvent> {
    vec![
        SessionEvent::Created {
            format: 1,
            config: Box::new(SessionConfig::new("run").name("feature-2026-11-21-001")),
            creator: owner(0),
            origin: None,
            inherits: 0,
        },
        SessionEvent::Started { owner: owner(0) },
    ]
}

/// The worked example of `docs/format.md`.
fn example() -> Vec<SessionEvent> {
    let report = ProgressReport::new().percent(50.0).step("café \u{9b}1m");
    let mut summary = SessionSummary::new();
    summary.duration_ms = 2_000;
    let mut events = begun();
    events.push(SessionEvent::ProgressReported { report });
    events.push(SessionEvent::Completed { summary });
    events
}

fn program_end(exit_code: i32, stop: Option<Stop>) -> SessionEvent {
    SessionEvent::CommandExecuted {
        command: "make".to_owned(),
        exit_code: Some(exit_code),
        signal: None,
        duration_ms: 1_500,
        output_bytes: 10,
        main: true,
        stop,
    }
}

/// Interrupted by SIGTERM, resumed, stopped by a key.
fn stopped() -> Vec<SessionEvent> {
    let key = Stop { signal: 2, by: StopSource::Key };
    let mut events = begun();
    events.extend([
        SessionEvent::StopRequested { signal: 15 },
        SessionEvent::Interrupted { evidence: Evidence::ProcessGone },
        SessionEvent::Resumed { owner: owner(1) },
        SessionEvent::Paused {
            reason: PauseReason::Interrupted(Interruption::new(OwnerLoss::Interrupted, "by the work")),
        },
        SessionEvent::Resumed { owner: owner(1) },
        program_end(130, Some(key)),
        SessionEvent::Interrupted { evidence: Evidence::Stopped(key) },
    ]);
    events
}

/// A program whose questions notify a person.
fn on_ask() -> Vec<SessionEvent> {
    let mut events = begun();
    let SessionEvent::Created { origin, .. } = &mut events[0] else { unreachable!() };
    let mut program = Origin::new(["make".to_owned()], "/srv".into());
    program.on_ask = Some(Box::new(Hook { command: "notify-send \"$0\"".to_owned() }));
    *origin = Some(program);
    events.push(SessionEvent::Completed { summary: SessionSummary::new() });
    events
}

/// A program that takes 0 after SIGTERM for success.
fn on_term() -> Vec<SessionEvent> {
    let mut events = begun();
    let SessionEvent::Created { origin, .. } = &mut events[0] else { unreachable!() };
    let mut program = Origin::new(["make".to_owned()], "/srv".into());
    program.complete_on_term = true;
    *origin = Some(program);
    events.extend([
        SessionEvent::StopRequested { signal: 15 },
        program_end(0, None),
        SessionEvent::Completed { summary: SessionSummary::new() },
    ]);
    events
}

/// A program that read what was given to it.
fn input(input: Input) -> Vec<SessionEvent> {
    let mut events = begun();
    let SessionEvent::Created { origin, .. } = &mut events[0] else { unreachable!() };
    let mut program = Origin::new(["sort".to_owned()], "/srv".into());
    program.input = Some(input);
    *origin = Some(program);
    events.extend([program_end(0, None), SessionEvent::Completed { summary: SessionSummary::new() }]);
    events
}

/// The owner died after its program had succeeded while the session was paused: the next process completes it.
fn succeeded() -> Vec<SessionEvent> {
    let mut events = begun();
    events.extend([
        SessionEvent::Paused { reason: PauseReason::Requested("lunch".to_owned()) },
        program_end(0, None),
        SessionEvent::Interrupted { evidence: Evidence::LockReleased },
        SessionEvent::Completed { summary: SessionSummary::new() },
    ]);
    events
}

fn failed() -> Vec<SessionEvent> {
    let mut events = begun();
    events.push(SessionEvent::CommandExecuted {
        command: "cc main.c".to_owned(),
        exit_code: None,
        signal: Some(11),
        duration_ms: 12,
        output_bytes: 0,
        main: false,
        stop: None,
    });
    let mut error = Failure::new(FailureCause::Work, "the compiler crashed");
    (error.exit_code, error.signal) = (Some(139), Some(11));
    events.push(SessionEvent::Failed { error });
    events
}

fn short(cause: FailureCause) -> Vec<SessionEvent> {
    let mut events = begun();
    events.truncate(1);
    events.push(SessionEvent::Failed { error: Failure::new(cause, "it ended before it began") });
    events
}

fn cancelled() -> Vec<SessionEvent> {
    let mut events = begun();
    events.push(SessionEvent::CancelRequested {
        reason: "wrong day".to_owned(),
        by: "ada".to_owned(),
        force: false,
    });
    events.push(SessionEvent::CancelRequested {
        reason: "now".to_owned(),
        by: "bob".to_owned(),
        force: true,
    });
    events.push(SessionEvent::Cancelled { reason: "wrong day".to_owned() });
    events
}

/// Approved settings of a repository.
const PROGRAMS: &str = "filter.git-crypt.smudge=git-crypt smudge\n";

/// A session in a worktree that was created for it.
fn worktree(programs: Option<&str>) -> Vec<SessionEvent> {
    let repository = OsString::from_vec(b"/srv/caf\xe9".to_vec());
    let mut wanted = WorktreeConfig::new(repository);
    wanted.base = Some("default".to_owned());
    (wanted.mark, wanted.dir) = (Some("7d793037a0760186574b0282f2f435e7".to_owned()), Some("web".into()));
    wanted.setup = Some("npm ci".to_owned());
    wanted.programs = programs.map(str::to_owned);
    let config = SessionConfig::new("command").name("fix").worktree("fix", wanted);
    let path = OsString::from_vec(b"/srv/caf\xe9.worktrees/fix-2".to_vec());
    let base = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c";
    let plan = WorktreePlan::new(path, "feature/fix-2", base, instant(1))
        .base_branch(Some("origin/main".to_owned()));
    let mark = "5d41402abc4b2a76b9719d911017c592";
    let made = plan.clone().made("/srv/.git/worktrees/fix-2", mark);
    let mut events = begun();
    let SessionEvent::Created { config: stored, .. } = &mut events[0] else { unreachable!() };
    **stored = config;
    events.extend([
        SessionEvent::WorktreeIntended { plan: Box::new(plan) },
        SessionEvent::WorktreeMade { worktree: Box::new(made) },
        SessionEvent::Completed { summary: SessionSummary::new() },
    ]);
    events
}

/// A program with one pipe for its outputs, of whose end more is kept than by default.
fn output() -> Vec<SessionEvent> {
    let mut origin = Origin::new(vec!["./crawl".to_owned()], "/srv/data".into());
    (origin.merge, origin.keep_bytes) = (true, Some(256 << 20));
    let mut events = begun();
    if let Some(SessionEvent::Created { origin: created, .. }) = events.first_mut() {
        *created = Some(origin);
    }
    events.push(SessionEvent::Completed { summary: SessionSummary::new() });
    events
}

/// A program with a terminal for all but its standard error.
fn terminal() -> Vec<SessionEvent> {
    let mut origin = Origin::new(vec!["vi".to_owned(), "notes".to_owned()], "/srv/data".into());
    let terminal = Terminal { stderr: false, ..Terminal::new("xterm-256color", 50, 132) };
    origin.terminal = Some(Box::new(terminal));
    let mut events = begun();
    if let Some(SessionEvent::Created { origin: created, .. }) = events.first_mut() {
        *created = Some(origin);
    }
    events.push(SessionEvent::Completed { summary: SessionSummary::new() });
    events
}

/// A program that leaves processes running.
fn background() -> Vec<SessionEvent> {
    let mut origin = Origin::new(vec!["./start-servers".to_owned()], "/srv/data".into());
    (origin.linger_ms, origin.keep_background, origin.keep_running) = (Some(2_500), true, true);
    let mut events = begun();
    if let Some(SessionEvent::Created { origin: created, .. }) = events.first_mut() {
        *created = Some(origin);
    }
    let data = json!({"processes": [{"pid": 4720, "start_time": 918_300, "name": "tmux: server"}]});
    events.push(SessionEvent::Noted { kind: "session.left_running".to_owned(), data });
    events.push(SessionEvent::Completed { summary: SessionSummary::new() });
    events
}

/// Files and commits by name, with each kind of change, and totals that cover more than they name.
fn changes() -> Vec<SessionEvent> {
    let first = Changes::totals(3, 40, 5, 2)
        .file(FileChange::added("src/new.rs").lines(120, 0))
        .file(FileChange::modified("src/lib.rs").lines(7, 3))
        .file(FileChange::deleted("src/old \u{1b}[1m日本.rs").lines(0, 88))
        .file(FileChange::renamed("doc/a.md", "docs/a.md"))
        .commit(Commit::new("9a7f3c1e5b2d4860a1c3e5f7092b4d6f8a1c3e50", "Split the module \"lib\""))
        .commit(Commit::new("r1042", ""));
    let mut events = begun();
    for (number, changes) in [(1, first), (2, Changes::new().file(FileChange::modified("src/lib.rs")))] {
        events.push(SessionEvent::IterationStarted { number });
        events.push(SessionEvent::IterationCompleted { number, changes });
    }
    let mut summary = SessionSummary::new().message("split");
    (summary.iterations, summary.files_changed, summary.commits) = (2, 8, 4);
    (summary.lines_added, summary.lines_removed, summary.duration_ms) = (167, 96, 5_000);
    events.push(SessionEvent::Completed { summary });
    events
}

/// Owners that recorded the folder of their locks and the namespace of their process ids.
fn lock_folder() -> Vec<SessionEvent> {
    let owner = |n| {
        let mut owner = owner(n);
        owner.lock_folder = Some("5e7d0c1b-2a39-4f48-9576-8695a4b3c2d1".parse().unwrap());
        owner.pid_namespace = Some(4_026_531_836 + u64::from(n));
        owner
    };
    let config = Box::new(SessionConfig::new("run").name("lock-folder"));
    vec![
        SessionEvent::Created { format: 1, config, creator: owner(0), origin: None, inherits: 0 },
        SessionEvent::Started { owner: owner(1) },
        SessionEvent::Interrupted { evidence: Evidence::LockReleased },
        SessionEvent::Resumed { owner: owner(2) },
    ]
}

/// Steps with each reason to run and each end, refusals, and an attempt that a pause and a death divide.
fn steps() -> Vec<SessionEvent> {
    let start = |step, because, reruns, command: Option<&str>| SessionEvent::StepStarted {
        step,
        fingerprint: "b7a1f0c95e2d4386a1f42c5b8e907d13".to_owned(),
        because,
        reruns,
        command: command.map(str::to_owned),
        inputs: Vec::new(),
    };
    let complete = |start, end| SessionEvent::StepCompleted { start, end };
    let fail = |start, failure| SessionEvent::StepFailed { start, failure };
    let refused = |name: &str, code: &str, message: &str| SessionEvent::StepRefused {
        name: name.to_owned(),
        code: code.to_owned(),
        message: message.to_owned(),
    };
    let version = || StepIdentity::nth("version", 1);
    let build = || StepIdentity::nth("build", 2);
    let send = || StepIdentity::keyed("send \"all\"", "invoice 17/ä");
    let mut events = begun();
    events.extend([
        start(version(), StepReason::First, 0, Some("./next-version")),
        SessionEvent::StepValue { start: 3, part: b"1.2\n".to_vec() },
        SessionEvent::StepValue { start: 3, part: b"caf\xe9\0".to_vec() },
        complete(3, StepEnd { duration_ms: 12, value_bytes: Some(9), ..StepEnd::default() }),
        start(build(), StepReason::First, 0, None),
        fail(7, StepFailure { exit_code: Some(2), duration_ms: 1_500, ..StepFailure::default() }),
        start(build(), StepReason::Failed, 0, None),
        start(send(), StepReason::First, 0, Some("./send 17")),
        SessionEvent::Paused { reason: PauseReason::Requested("lunch".to_owned()) },
        fail(9, StepFailure { duration_ms: 60_000, timed_out: true, ..StepFailure::default() }),
        refused("send", "STEP_OPEN", "a step with this name is open"),
        SessionEvent::Interrupted { evidence: Evidence::LockReleased },
        SessionEvent::Resumed { owner: owner(1) },
        start(send(), StepReason::Unknown, 0, Some("./send 17")),
        fail(
            16,
            StepFailure {
                signal: Some(15),
                duration_ms: 3,
                unknown: true,
                error: Some("ended by signal TERM".to_owned()),
                ..StepFailure::default()
            },
        ),
        complete(16, StepEnd { skipped: true, ..StepEnd::default() }),
        start(version(), StepReason::Changed, 1, Some("./next-version --minor")),
        complete(19, StepEnd { exit_code: 3, duration_ms: 5, ..StepEnd::default() }),
        start(version(), StepReason::Input, 2, None),
        complete(21, StepEnd { duration_ms: 7, too_long: true, ..StepEnd::default() }),
        start(version(), StepReason::Age, 3, None),
        refused("version", "STEP_CHANGED", "another command: ./next-version --major"),
        SessionEvent::Failed { error: Failure::new(FailureCause::Work, "a step was refused") },
    ]);
    events
}

/// A retry that takes over a value, a kept failure and unknown steps.
fn inherited() -> Vec<SessionEvent> {
    let from: SessionId = "cccccccc-2222-4333-8444-555555555555".parse().unwrap();
    let inherit = |step, at, outcome| {
        let (fingerprint, reruns) = ("b7a1f0c95e2d4386a1f42c5b8e907d13".to_owned(), 0);
        let (at, inputs) = (instant(at), Vec::new());
        let step = InheritedStep { step, fingerprint, reruns, command: None, from, at, inputs, outcome };
        SessionEvent::Inherited { step: Box::new(step) }
    };
    let mut config = SessionConfig::new("run").name("release").retry_of(from);
    config.line = Some("dddddddd-2222-4333-8444-555555555555".parse().unwrap());
    let completed = |end| StepOutcome::Completed(end);
    let kept = InheritedStep {
        step: StepIdentity::nth("check", 1),
        fingerprint: "f".to_owned(),
        reruns: 2,
        command: Some("./check".to_owned()),
        from,
        at: instant(20),
        inputs: Vec::new(),
        outcome: completed(StepEnd { exit_code: 3, duration_ms: 5, ..StepEnd::default() }),
    };
    vec![
        SessionEvent::Created {
            format: 1,
            config: Box::new(config),
            creator: owner(0),
            origin: None,
            inherits: 8,
        },
        inherit(
            StepIdentity::nth("version", 1),
            6,
            completed(StepEnd { duration_ms: 12, value_bytes: Some(9), ..StepEnd::default() }),
        ),
        SessionEvent::StepValue { start: 2, part: b"1.2\n".to_vec() },
        SessionEvent::StepValue { start: 2, part: b"caf\xe9\0".to_vec() },
        SessionEvent::Inherited { step: Box::new(kept) },
        inherit(
            StepIdentity::nth("dump", 1),
            12,
            completed(StepEnd { too_long: true, ..StepEnd::default() }),
        ),
        inherit(StepIdentity::nth("dump", 2), 13, completed(StepEnd { skipped: true, ..StepEnd::default() })),
        inherit(StepIdentity::keyed("send", "17"), 10, StepOutcome::Unknown { deaths: 0 }),
        inherit(StepIdentity::keyed("send", "18"), 10, StepOutcome::Unknown { deaths: 2 }),
        SessionEvent::Started { owner: owner(0) },
        SessionEvent::Completed { summary: SessionSummary::new() },
    ]
}

/// A program whose arguments, directory and variables are not UTF-8.
fn bytes() -> Vec<SessionEvent> {
    let odd = |text: &[u8]| OsString::from_vec(text.to_vec());
    let origin =
        Origin::new(["cat".into(), odd(b"caf\xe9.txt"), "caf\u{e9}".into()], odd(b"/srv/\xff").into())
            .env([("ODD".to_owned(), odd(b"\xfe\xff=")), ("PLAIN".to_owned(), "1".into())]);
    let config = SessionConfig::new("command").name("bytes").project_path(odd(b"/srv/\xff"));
    vec![
        SessionEvent::Created {
            format: 1,
            config: Box::new(config),
            creator: owner(0),
            origin: Some(origin),
            inherits: 0,
        },
        SessionEvent::Started { owner: owner(0) },
        SessionEvent::Completed { summary: SessionSummary::new() },
    ]
}

/// Texts, numbers and names at their limits.
fn hostile() -> Vec<SessionEvent> {
    let mut events = begun();
    let text = "\u{0}\u{1b}[31m\u{7f}\u{85}\u{9b}\u{61c}\u{200e}\u{202e}\u{2066}\u{2069}\"\\/\n\r\t\u{8}\u{c}ä日😀\u{2028}\u{10ffff}";
    events.push(SessionEvent::ProgressReported {
        report: ProgressReport::new().step(text).percent(33.333_333_333_333_336),
    });
    events.push(SessionEvent::ProgressReported {
        report: ProgressReport::new().percent(5e-324).completed_steps(u64::MAX),
    });
    events.push(SessionEvent::Noted {
        kind: "vendor.numbers-and_names.2".to_owned(),
        data: json!({
            text: text,
            "": [[], {}, null, 0, -0.0, i64::MIN, u64::MAX, 1e300, 1.5, 5e-324, 1e16, 123_456_789.125],
        }),
    });
    let nested = (0..29).fold(Value::Null, |inner, _| json!([inner]));
    events.push(SessionEvent::CheckpointSaved { state: nested, resumable: false });
    events.push(SessionEvent::Completed {
        summary: SessionSummary::new().message("long ".repeat(60)).result(Value::Null),
    });
    events
}
