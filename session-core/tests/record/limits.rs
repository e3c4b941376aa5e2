//! The limits of the format: values at a limit are written, values beyond it are refused by name and change nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use session_core::backend::Chain;
use session_core::limits::LimitError;
use session_core::{
    Answer, ChangeKind, Changes, Commit, ExecutionMode, FileChange, InheritedItem, InheritedStep, InputFile,
    ItemFailure, ItemIdentity, ItemMoves, ItemStart, Owner, ProgressReport, Question, SessionConfig,
    SessionEvent, SessionSummary, StepFailure, StepIdentity, StepOutcome, StepReason, limits,
};

use crate::support::{draft, escaped, forge, id, instant, log, note, owner};

fn chain() -> Chain {
    Chain::at(id(1), log(id(1), 5)[4].tip())
}

#[track_caller]
fn seals(event: SessionEvent) -> String {
    let (stored, record) = chain().seal(draft(6, event)).expect("within the limits");
    let mut reader = chain();
    let read = reader.check(stored.line().as_bytes()).expect("readable").decode().expect("decodable");
    assert_eq!(read, record);
    stored.line().to_owned()
}

/// `Some(limit)` for too much, `None` for what has the wrong form.
#[track_caller]
fn refuses(event: SessionEvent, limit: Option<usize>) {
    let mut chain = chain();
    let before = chain;
    let json = serde_json::to_string(&event).unwrap();
    let error = chain.seal(draft(6, event)).expect_err("beyond the limits");
    assert_eq!(chain, before, "a refusal moved the place in the log");
    match (&error, limit) {
        (LimitError::Exceeded { limit: found, actual, .. }, Some(limit)) => {
            assert_eq!((*found, actual > found), (limit, true), "{error}");
        }
        (LimitError::Invalid { .. }, None) => {}
        _ => panic!("refused as {error:?}"),
    }
    // A reader refuses what a writer refuses, except for the size of the line, which the chain checks, and numbers that
    // JSON cannot express.
    let json = escaped(&json);
    if json.len() < limits::RECORD_BYTES / 2 && !json.contains("null") {
        let tip = before.tip().unwrap();
        let body =
            format!(r#"{{"seq":6,"at":"2026-11-21T09:30:00.000Z","attempt":1,"flushed":0,"event":{json}"#);
        let line = forge(&tip.sum.as_u64().to_be_bytes(), &body);
        assert!(chain.check(line.as_bytes()).is_ok_and(|record| record.decode().is_err()), "{line}");
    }
}

fn created(config: SessionConfig) -> SessionEvent {
    SessionEvent::Created { format: 1, config: Box::new(config), creator: owner(), origin: None, inherits: 0 }
}

fn named(name: impl Into<String>) -> SessionEvent {
    created(SessionConfig::new("work").name(name))
}

fn labelled(labels: impl IntoIterator<Item = (String, String)>) -> SessionEvent {
    let mut config = SessionConfig::new("work");
    config.labels = labels.into_iter().collect::<BTreeMap<_, _>>();
    created(config)
}

fn nested(levels: usize) -> Value {
    (0..levels)
        .fold(json!(1), |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({"a": inner}) })
}

fn progress(report: ProgressReport) -> SessionEvent {
    SessionEvent::ProgressReported { report }
}

#[test]
fn a_record_is_a_mebibyte_with_its_line_end() {
    let bare = seals(note(json!(""))).len() + 1;
    let room = limits::RECORD_BYTES - bare;
    assert_eq!(seals(note(json!("x".repeat(room)))).len() + 1, 1024 * 1024);
    refuses(note(json!("x".repeat(room + 1))), Some(limits::RECORD_BYTES));
    // The size of a character is that of its written form: six bytes for an escaped one.
    seals(note(json!("\u{85}".repeat(room / 6))));
    refuses(note(json!("\u{85}".repeat(room / 6 + 1))), Some(limits::RECORD_BYTES));
    // A reader refuses what no writer can have written.
    let tip = chain().tip().unwrap();
    let body = format!("{{\"seq\":6,\"x\":\"{}\"", "x".repeat(limits::RECORD_BYTES));
    assert!(chain().check(forge(&tip.sum.as_u64().to_be_bytes(), &body).as_bytes()).is_err());
}

#[test]
fn values_are_nested_up_to_32_levels_of_the_whole_record() {
    /// Counts the levels independently of the code under test.
    fn depth(line: &str) -> usize {
        fn levels(value: &Value) -> usize {
            match value {
                Value::Array(values) => 1 + values.iter().map(levels).max().unwrap_or(0),
                Value::Object(members) => 1 + members.values().map(levels).max().unwrap_or(0),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
            }
        }
        levels(&serde_json::from_str(line).unwrap())
    }
    let by = || "me".to_owned();
    let completed = |value| SessionEvent::Completed { summary: SessionSummary::new().result(value) };
    for make in [
        &note as &dyn Fn(Value) -> SessionEvent,
        &|state| SessionEvent::CheckpointSaved { state, resumable: true },
        &|results| SessionEvent::AnalysisCompleted { results },
        &|value| SessionEvent::InputProvided { value, by: by() },
        &completed,
        &|metadata| created(SessionConfig::new("work").metadata(metadata)),
    ] {
        let deepest = (0..40).rev().find(|levels| make(nested(*levels)).check().is_ok()).unwrap();
        assert_eq!(depth(&seals(make(nested(deepest)))), limits::NESTING);
        refuses(make(nested(deepest + 1)), Some(limits::NESTING));
    }
    // An empty array is a level too.
    refuses(
        note(nested(28).as_array().map_or_else(|| json!([[nested(28)]]), |_| json!([[[nested(28)]]]))),
        Some(32),
    );
    let full = (0..28).fold(json!([]), |inner, _| json!([inner]));
    assert_eq!(depth(&seals(note(full.clone()))), 32);
    refuses(note(json!([full])), Some(32));
}

/// A value nested a hundred thousand deep was measured after it had been written, which overflowed the stack.
/// Unknown members were ignored at any depth: a record with 100 levels in one was read and imported, though no record
/// has more than 32, and other readers refused it.
#[test]
fn unknown_members_are_nested_no_deeper_either() {
    let tip = chain().tip().unwrap().sum.as_u64().to_be_bytes();
    let opens = |before: &str, levels: usize, behind: &str| {
        let deep = format!("{}\"]\"{}", "[".repeat(levels), "]".repeat(levels));
        let body = r#"{"seq":6,"at":"2026-11-21T09:30:00.000Z","attempt":1,"flushed":0,"event":{"paused":{"#;
        let line = forge(&tip, &format!("{body}{before}{deep}{behind}"));
        chain().check(line.as_bytes()).expect("the sum is right").decode().is_ok()
    };
    let (inside, outside) = (r#""reason":{"limit":"[[{\\\"["},"x":"#, r#""reason":{"limit":""}}},"x":"#);
    assert!(opens(inside, 29, "}}") && !opens(inside, 30, "}}"));
    assert!(opens(outside, 31, "") && !opens(outside, 32, ""));
}

#[test]
fn a_bottomless_value_is_refused_before_it_is_written() {
    let mut value = json!(1);
    for _ in 0..100_000 {
        value = Value::Array(vec![value]);
    }
    let event = note(value);
    assert!(matches!(event.check(), Err(LimitError::Exceeded { limit: limits::NESTING, .. })));
    // Dropping it level by level would overflow the stack as well; that is its creator's concern, not the log's.
    std::mem::forget(event);
}

#[test]
fn names_have_128_characters_and_no_controls() {
    seals(named("n".repeat(128)));
    seals(named("😀".repeat(128)));
    refuses(named("n".repeat(129)), Some(limits::NAME_CHARS));
    refuses(named("😀".repeat(129)), Some(limits::NAME_CHARS));
    seals(named("a name/with ../dots and-@signs"));
    for wrong in
        ["", "-n", "@last", "a\nb", "a\u{7f}", "a\u{85}", "a\u{9b}31m", "a\u{202e}b", "\u{2066}a", "\u{0}"]
    {
        refuses(named(wrong), None);
    }
    let in_worktree = |name: &str| {
        created(SessionConfig::new("work").mode(ExecutionMode::Worktree { name: name.to_owned() }))
    };
    seals(in_worktree("w"));
    for wrong in ["", "-w", "w\u{1b}"] {
        refuses(in_worktree(wrong), None);
    }
    seals(created(SessionConfig::new("o".repeat(128))));
    refuses(created(SessionConfig::new("o".repeat(129))), Some(limits::NAME_CHARS));
    for wrong in ["", "a\u{9b}"] {
        refuses(created(SessionConfig::new(wrong)), None);
        refuses(created(SessionConfig::new("work").idempotency_key(wrong)), None);
    }
}

#[test]
fn labels_are_16_and_a_kibibyte() {
    let many = |n: usize| labelled((0..n).map(|n| (format!("k{n}"), "v".to_owned())));
    seals(many(16));
    refuses(many(17), Some(limits::LABELS));
    let long = |n: usize| labelled([("k".to_owned(), "v".repeat(n))]);
    let around = r#"{"k":""}"#.len();
    seals(long(1024 - around));
    refuses(long(1025 - around), Some(limits::LABEL_BYTES));
    refuses(labelled([("k".to_owned(), "\"".repeat(512))]), Some(limits::LABEL_BYTES));
    for (key, value) in [("", "v"), ("a=b", "v"), ("k\n", "v"), ("k", "v\u{202e}"), ("k", "\u{7f}")] {
        refuses(labelled([(key.to_owned(), value.to_owned())]), None);
    }
}

#[test]
fn steps_and_phases_have_256_bytes() {
    for make in [
        |text: String| progress(ProgressReport::new().step(text)),
        |text: String| progress(ProgressReport::new().phase(text)),
    ] {
        seals(make("s".repeat(256)));
        seals(make("é".repeat(128)));
        seals(make("\u{9b}".repeat(128)));
        refuses(make("s".repeat(257)), Some(limits::STEP_BYTES));
        refuses(make("é".repeat(129)), Some(limits::STEP_BYTES));
    }
}

fn step(step: StepIdentity, fingerprint: &str, command: Option<String>) -> SessionEvent {
    let (fingerprint, because) = (fingerprint.to_owned(), StepReason::First);
    SessionEvent::StepStarted { step, fingerprint, because, reruns: 0, command, inputs: Vec::new() }
}

fn inherited(step: StepIdentity, fingerprint: &str, command: Option<String>) -> SessionEvent {
    let (fingerprint, outcome) = (fingerprint.to_owned(), StepOutcome::Unknown { deaths: 0 });
    let (from, at, inputs) = (id(2), instant(1), Vec::new());
    let step = InheritedStep { step, fingerprint, reruns: 0, command, from, at, inputs, outcome };
    SessionEvent::Inherited { step: Box::new(step) }
}

#[test]
fn steps_have_names_and_keys_within_limits() {
    let nth = |name: &str| StepIdentity::nth(name, 1);
    let keyed = |key: String| StepIdentity::keyed("build", key);
    for make in [step, inherited] {
        seals(make(nth(&"😀".repeat(128)), "f", None));
        refuses(make(nth(&"n".repeat(129)), "f", None), Some(limits::NAME_CHARS));
        for wrong in ["", "-n", "@n", "a\nb", "a\u{9b}b"] {
            refuses(make(nth(wrong), "f", None), None);
        }
        refuses(make(StepIdentity::nth("build", 0), "f", None), None);
        seals(make(keyed(String::new()), "f", None));
        seals(make(keyed("k".repeat(256)), "f", None));
        refuses(make(keyed("k".repeat(257)), "f", None), Some(limits::STEP_KEY_BYTES));
        refuses(make(keyed("a\u{202e}".to_owned()), "f", None), None);
        seals(make(nth("build"), &"f".repeat(256), Some("\u{9b}".repeat(2048))));
        refuses(make(nth("build"), &"f".repeat(257), None), Some(limits::STEP_KEY_BYTES));
        refuses(make(nth("build"), "f", Some("c".repeat(4097))), Some(limits::STEP_TEXT_BYTES));
    }
}

/// A part takes at most six bytes of a line for each of its own, as text that is always escaped.
#[test]
fn parts_of_values_have_128_kibibytes() {
    let value = |part: Vec<u8>| SessionEvent::StepValue { start: 3, part };
    for byte in [b'v', b'"', 0, 0x7f, 0xff] {
        seals(value(vec![byte; limits::VALUE_PART_BYTES]));
        refuses(value(vec![byte; limits::VALUE_PART_BYTES + 1]), Some(limits::VALUE_PART_BYTES));
    }
    seals(value("\u{85}".repeat(limits::VALUE_PART_BYTES / 2).into_bytes()));
    seals(value(Vec::new()));
}

#[test]
fn texts_about_steps_have_4_kibibytes() {
    let failed = |bytes: usize| {
        let failure = StepFailure { error: Some("e".repeat(bytes)), ..StepFailure::default() };
        SessionEvent::StepFailed { start: 3, failure }
    };
    let refused = |name: &str, code: usize, message: usize| SessionEvent::StepRefused {
        name: name.to_owned(),
        code: "C".repeat(code),
        message: "m".repeat(message),
    };
    seals(failed(4096));
    refuses(failed(4097), Some(limits::STEP_TEXT_BYTES));
    seals(refused("build", 256, 4096));
    refuses(refused("build", 257, 1), Some(limits::STEP_BYTES));
    refuses(refused("build", 1, 4097), Some(limits::STEP_TEXT_BYTES));
    refuses(refused("", 1, 1), None);
}

fn inputs(count: usize, path: usize) -> SessionEvent {
    let input = InputFile { path: vec![b'p'; path], digest: "0f".repeat(16) };
    let SessionEvent::StepStarted { step, fingerprint, because, reruns, command, inputs: _ } =
        step(StepIdentity::nth("build", 1), "f", None)
    else {
        unreachable!()
    };
    let inputs = vec![input; count];
    SessionEvent::StepStarted { step, fingerprint, because, reruns, command, inputs }
}

#[test]
fn inputs_of_a_step_are_1000_and_128_kibibytes() {
    seals(inputs(limits::NAMED_FILES, 99));
    refuses(inputs(limits::NAMED_FILES + 1, 1), Some(limits::NAMED_FILES));
    seals(inputs(1, limits::INPUT_BYTES - 32));
    refuses(inputs(1, limits::INPUT_BYTES - 31), Some(limits::INPUT_BYTES));
    refuses(inputs(limits::NAMED_FILES, 100), Some(limits::INPUT_BYTES));
}

/// Inputs and a command at their limits, of the characters that take most bytes in a record, fit into one.
#[test]
fn full_inputs_of_a_step_fit_into_a_record() {
    let path = vec![1; limits::INPUT_BYTES / limits::NAMED_FILES - 32];
    let input = InputFile { path, digest: "0f".repeat(16) };
    let step = InheritedStep {
        step: StepIdentity::keyed("\u{e9}".repeat(128), "k".repeat(256)),
        fingerprint: "\u{1}".repeat(256),
        reruns: u64::MAX,
        command: Some("\u{1}".repeat(4096)),
        from: id(2),
        at: instant(1),
        inputs: vec![input; limits::NAMED_FILES],
        outcome: StepOutcome::Slept,
    };
    let line = seals(SessionEvent::Inherited { step: Box::new(step) });
    println!("{} bytes of {}", line.len(), limits::RECORD_BYTES);
}

fn moved(moves: ItemMoves) -> SessionEvent {
    SessionEvent::ItemsMoved { moves }
}

#[test]
fn items_have_128_kibibytes_and_occurrences_from_1() {
    let begins = |arg: Vec<u8>, n| {
        let begun = vec![ItemStart { item: 1, identity: Some(ItemIdentity { arg, n }) }];
        moved(ItemMoves { begun, ..ItemMoves::default() })
    };
    let takes_over = |arg: Vec<u8>, n| {
        let identity = ItemIdentity { arg, n };
        let items = vec![InheritedItem { item: 1, identity, unknown: false, deaths: 0 }];
        let step = InheritedStep {
            step: StepIdentity::nth("all", 1),
            fingerprint: "f".to_owned(),
            reruns: 0,
            command: None,
            from: id(2),
            at: instant(1),
            inputs: Vec::new(),
            outcome: StepOutcome::Items { items, too_long: false },
        };
        SessionEvent::Inherited { step: Box::new(step) }
    };
    for make in [begins, takes_over] {
        for byte in [b'a', 0, 0xff] {
            seals(make(vec![byte; limits::VALUE_PART_BYTES], 1));
            refuses(make(vec![byte; limits::VALUE_PART_BYTES + 1], 1), Some(limits::VALUE_PART_BYTES));
        }
        seals(make(Vec::new(), u64::MAX));
        refuses(make(vec![b'a'], 0), None);
    }
    let value = |bytes| SessionEvent::ItemValue { each: 2, item: 1, part: vec![0xff; bytes] };
    seals(value(limits::VALUE_PART_BYTES));
    refuses(value(limits::VALUE_PART_BYTES + 1), Some(limits::VALUE_PART_BYTES));
    let failed = |bytes| {
        let failure = ItemFailure { item: 1, error: Some("e".repeat(bytes)), ..ItemFailure::default() };
        moved(ItemMoves { failed: vec![failure], ..ItemMoves::default() })
    };
    seals(failed(4096));
    refuses(failed(4097), Some(limits::STEP_TEXT_BYTES));
}

#[test]
fn an_each_and_a_sleep_are_named_as_steps_are() {
    let each = |name: &str, fingerprint: usize, command: usize| SessionEvent::EachStarted {
        step: StepIdentity::nth(name, 1),
        fingerprint: "f".repeat(fingerprint),
        reruns: 0,
        done: 0,
        command: Some("c".repeat(command)),
    };
    seals(each("all", 256, 4096));
    refuses(each("-all", 1, 1), None);
    refuses(each("all", 257, 1), Some(limits::STEP_KEY_BYTES));
    refuses(each("all", 1, 4097), Some(limits::STEP_TEXT_BYTES));
    let sleep =
        |name: &str| SessionEvent::SleepStarted { step: StepIdentity::nth(name, 1), until: instant(9) };
    seals(sleep("night"));
    refuses(sleep(""), None);
}

fn asked(change: impl FnOnce(&mut Question)) -> SessionEvent {
    let mut question = Question::new(StepIdentity::nth("deploy", 1), "Deploy?");
    change(&mut question);
    SessionEvent::Asked { question: Box::new(question) }
}

#[test]
fn questions_have_4_kibibytes_and_64_choices() {
    let text = |bytes| asked(|question| question.text = "\u{1}".repeat(bytes));
    seals(text(4096));
    refuses(text(4097), Some(limits::STEP_TEXT_BYTES));
    let choices = |count: usize, bytes| asked(|question| question.choices = vec!["c".repeat(bytes); count]);
    seals(choices(64, 256));
    refuses(choices(65, 1), Some(limits::CHOICES));
    refuses(choices(1, 257), Some(limits::STEP_BYTES));
    for wrong in ["", "a\nb", "a\u{202e}"] {
        refuses(asked(|question| question.choices = vec![wrong.to_owned()]), None);
    }
    refuses(asked(|question| question.identity.name.clear()), None);
}

#[test]
fn a_default_is_one_of_the_choices() {
    let with = |choices: &[&str], default: String| {
        asked(|question| {
            question.choices = choices.iter().map(|choice| (*choice).to_owned()).collect();
            question.default = Some(default);
        })
    };
    seals(with(&["yes", "no"], "no".to_owned()));
    refuses(with(&["yes", "no"], "later".to_owned()), None);
    seals(with(&[], "\u{1}".repeat(limits::VALUE_PART_BYTES)));
    refuses(with(&[], "d".repeat(limits::VALUE_PART_BYTES + 1)), Some(limits::VALUE_PART_BYTES));
}

#[test]
fn answers_have_128_kibibytes() {
    let answered = |name: &str, bytes| {
        let (identity, value) = (StepIdentity::nth(name, 1), "\u{1}".repeat(bytes));
        let answer = Box::new(Answer { identity, value, asked: None });
        SessionEvent::Answered { answer, by: "ada".to_owned(), default: false }
    };
    let taken_over = |name: &str, bytes| {
        let step = InheritedStep {
            step: StepIdentity::nth(name, 1),
            fingerprint: "f".to_owned(),
            reruns: 0,
            command: None,
            from: id(2),
            at: instant(1),
            inputs: Vec::new(),
            outcome: StepOutcome::Answered { answer: "\u{1}".repeat(bytes), by: "ada".to_owned() },
        };
        SessionEvent::Inherited { step: Box::new(step) }
    };
    for make in [answered, taken_over] {
        seals(make("deploy", limits::VALUE_PART_BYTES));
        refuses(make("deploy", limits::VALUE_PART_BYTES + 1), Some(limits::VALUE_PART_BYTES));
        refuses(make("", 1), None);
    }
}

fn completed(changes: Changes) -> SessionEvent {
    SessionEvent::IterationCompleted { number: 1, changes }
}

#[test]
fn lists_of_changes_have_limits() {
    let files = |count: usize, path: usize| {
        let mut changes = Changes::totals(u64::MAX, 0, 0, 0);
        changes.files = vec![FileChange::modified("p".repeat(path)); count];
        completed(changes)
    };
    seals(files(limits::NAMED_FILES, 65));
    refuses(files(limits::NAMED_FILES + 1, 5), Some(limits::NAMED_FILES));
    seals(files(1, limits::NAMED_FILES_BYTES));
    refuses(files(1, limits::NAMED_FILES_BYTES + 1), Some(limits::NAMED_FILES_BYTES));
    refuses(files(1000, 66), Some(limits::NAMED_FILES_BYTES));
    let mut renamed = Changes::totals(1, 0, 0, 0);
    renamed.files = vec![FileChange::renamed("f".repeat(limits::NAMED_FILES_BYTES), "p")];
    refuses(completed(renamed), Some(limits::NAMED_FILES_BYTES));

    let commits = |count: usize, id: usize, subject: usize| {
        let mut changes = Changes::totals(0, 0, 0, u64::MAX);
        changes.commit_list = vec![Commit::new("f".repeat(id), "s".repeat(subject)); count];
        completed(changes)
    };
    seals(commits(limits::NAMED_COMMITS, 64, 256));
    refuses(commits(limits::NAMED_COMMITS + 1, 1, 0), Some(limits::NAMED_COMMITS));
    refuses(commits(1, 65, 0), Some(limits::COMMIT_ID_BYTES));
    refuses(commits(1, 1, 257), Some(limits::SUBJECT_BYTES));
    refuses(commits(1, 0, 1), None);
}

#[test]
fn totals_cover_what_the_lists_name() {
    let named =
        || Changes::new().file(FileChange::renamed("b", "a").lines(3, 2)).commit(Commit::new("1", "s"));
    seals(completed(named()));
    let smaller: [fn(&mut Changes); 6] = [
        |changes| changes.files_changed = 0,
        |changes| changes.lines_added = 2,
        |changes| changes.lines_removed = 1,
        |changes| changes.commits = 0,
        |changes| changes.files[0].path.clear(),
        |changes| changes.files[0].kind = ChangeKind::Renamed { from: String::new() },
    ];
    for change in smaller {
        let mut changes = named();
        change(&mut changes);
        refuses(completed(changes), None);
    }
}

/// Each list at its limit, of the characters that take most bytes in a record, fits into one.
#[test]
fn full_lists_of_changes_fit_into_a_record() {
    let mut changes = Changes::totals(u64::MAX, u64::MAX, u64::MAX, u64::MAX);
    let path = "\u{1}".repeat(limits::NAMED_FILES_BYTES / limits::NAMED_FILES);
    let file = FileChange::new(path, ChangeKind::Modified).lines(u64::MAX, u64::MAX);
    changes.files = vec![file; limits::NAMED_FILES];
    let commit = Commit::new("\u{1}".repeat(limits::COMMIT_ID_BYTES), "\u{1}".repeat(limits::SUBJECT_BYTES));
    changes.commit_list = vec![commit; limits::NAMED_COMMITS];
    let line = seals(completed(changes));
    println!("{} bytes of {}", line.len(), limits::RECORD_BYTES);
}

#[test]
fn a_percentage_is_between_0_and_100() {
    for percent in
        [0.0, -0.0, 100.0, 33.333_333_333_333_336, f64::MIN_POSITIVE, 5e-324, 100.0_f64.next_down()]
    {
        seals(progress(ProgressReport::new().percent(percent)));
    }
    for percent in
        [-f64::MIN_POSITIVE, 100.0_f64.next_up(), f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300]
    {
        refuses(progress(ProgressReport::new().percent(percent)), None);
    }
}

#[test]
fn kinds_of_notes_are_vendor_dot_name() {
    let noted = |kind: &str| SessionEvent::Noted { kind: kind.to_owned(), data: json!(1) };
    for right in ["a.b", "session.signal", "my-tool.some_thing.2", &format!("v.{}", "n".repeat(126))] {
        seals(noted(right));
    }
    for wrong in ["", "a", ".", "a.", ".b", "A.b", "a b.c", "a.b\n", "ä.b", &format!("v.{}", "n".repeat(127))]
    {
        refuses(noted(wrong), None);
    }
}

/// Liveness is proven with the machine and the boot that the head names: cut ones would name another machine.
#[test]
fn an_owner_too_long_for_a_head_is_refused() {
    let with = |machine: &str, boot: &str| {
        let mut owner: Owner = owner();
        (owner.machine, owner.boot) = (machine.to_owned(), boot.to_owned());
        SessionEvent::Started { owner }
    };
    seals(with(&"m".repeat(64), &"b".repeat(64)));
    refuses(with(&"m".repeat(65), "b"), None);
    refuses(with("m", &"b".repeat(65)), None);
    refuses(with("m\u{1b}", "b"), None);
}
