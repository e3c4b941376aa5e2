//! `docs/step-protocol.md`, compared with the code: its conversations are held with an owner, and its tables name every member.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

#[path = "support/shared_memory.rs"]
mod shared_memory;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use session_core::limits::{CHOICES, INPUT_BYTES, STEP_TEXT_BYTES, VALUE_BYTES, VALUE_PART_BYTES};
use session_core::{
    Clock, Evidence, InputFile, ManagerOptions, Session, SessionConfig, SessionManager as _, StepReason,
    Timestamp,
};
use session_workflow::protocol::{
    Answered, AskMessage, Asked, ClientMessage, EachEnd, EachMessage, EachRun, End, FileIdentity, ItemEnded,
    ItemPart, ItemRun, LINE_BYTES, PART_BYTES, Part, Recorded, Refusal, Replay, Run, ServerMessage,
    SleepMessage, Sleeping, Slept, StepMessage, VERSION,
};
use session_workflow::server::{NoProgram, serve};
use session_workflow::{AnswerTo, answer};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, split};
use tokio::time::Instant;

use self::shared_memory::SharedManager;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/step-protocol.md");
    std::fs::read_to_string(path).unwrap()
}

/// A line of a conversation.
enum Line {
    /// Sent by the client.
    Sent(Value),
    /// Sent by the owner.
    Received(Value),
    /// An answer of another process to a question.
    AnsweredElsewhere {
        /// The name of the question.
        name: String,
        /// The answer.
        value: String,
    },
}

impl Line {
    fn parse(line: &str) -> Self {
        let json = || serde_json::from_str(&line[2..]).unwrap_or_else(|error| panic!("{error}: {line}"));
        match line.chars().next() {
            Some('>') => Self::Sent(json()),
            Some('<') => Self::Received(json()),
            Some('#') => match line.split(' ').collect::<Vec<_>>()[..] {
                ["#", "Another", "process:", "sessionctl", "answer", _, name, value] => {
                    Self::AnsweredElsewhere { name: name.to_owned(), value: value.to_owned() }
                }
                _ => panic!("{line}"),
            },
            _ => panic!("{line}"),
        }
    }
}

/// Returns the conversations of the page, one for each attempt.
fn conversations(page: &str) -> Vec<Vec<Line>> {
    let blocks = page.split("```text\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(|block| block.lines().map(Line::parse).collect()).collect()
}

/// Replaces what differs between two sessions.
fn settled(mut message: Value) -> Value {
    let lengths = [
        ("/run/key", 36),
        ("/run/run", 38),
        ("/each/run", 38),
        ("/item/key", 36),
        ("/asked/session", 36),
        ("/answer/by", 1),
        ("/sleeping/until", 24),
    ];
    for (place, length) in lengths {
        if let Some(text) = message.pointer_mut(place) {
            assert!(text.as_str().unwrap().len() >= length, "{place}: {text}");
            *text = json!(place);
        }
    }
    if let Some(text) = message.pointer_mut("/error/message") {
        let shown = text.as_str().unwrap().to_owned();
        let words = shown.split(' ').map(|word| if word.starts_with("20") { "TIME" } else { word });
        *text = json!(words.collect::<Vec<_>>().join(" "));
    }
    message
}

/// A clock that runs with the time of the runtime: two hours of sleep pass immediately.
#[derive(Debug)]
struct RuntimeClock(Instant);

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        Timestamp::parse("2026-11-21T10:00:00.000Z").unwrap().after(self.0.elapsed())
    }
}

/// Holds a conversation with the owner of the session.
async fn hold(manager: &SharedManager, session: &Session, conversation: Vec<Line>) {
    let (client, owner) = tokio::io::duplex(64 * 1024);
    let handle = session.clone();
    let server = tokio::spawn(async move {
        let (read, mut write) = split(owner);
        let mut read = BufReader::new(read);
        let mut first = Vec::new();
        read.read_until(b'\n', &mut first).await.unwrap();
        serve(&handle, &NoProgram, first, &mut read, &mut write).await
    });
    let (read, mut write) = split(client);
    let mut lines = BufReader::new(read).lines();
    for line in conversation {
        match line {
            Line::Sent(message) => write.write_all(format!("{message}\n").as_bytes()).await.unwrap(),
            Line::Received(expected) => {
                let line = lines.next_line().await.unwrap().unwrap();
                let received = serde_json::from_str(&line).unwrap();
                assert_eq!(settled(received), settled(expected), "{line}");
            }
            Line::AnsweredElsewhere { name, value } => {
                answer(manager, session.id(), AnswerTo::Named(name), &value).await.unwrap();
            }
        }
    }
    drop((lines, write));
    server.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_conversations_of_the_page_can_be_held() {
    let clock = Arc::new(RuntimeClock(Instant::now()));
    let manager = shared_memory::open(ManagerOptions::new().clock(clock)).await;
    let id = manager.create_session(SessionConfig::new("test")).await.unwrap();
    let mut session = manager.start_session(id).await.unwrap();
    let conversations = conversations(&page());
    assert_eq!(conversations.len(), 9);
    for (number, conversation) in conversations.into_iter().enumerate() {
        if number > 0 {
            session.interrupt(Evidence::LockReleased).await.unwrap();
            drop(session);
            session = manager.resume_session(id).await.unwrap();
        }
        hold(&manager, &session, conversation).await;
    }
}

/// Returns the members that a table after a heading such as `` `step`: `` names, sorted. There is one for the client's message
/// and one for the owner's, if both have it.
fn members(page: &str, message: &str, number: usize) -> Vec<String> {
    let tables: Vec<&str> = page.split(&format!("\n`{message}`:\n")).skip(1).collect();
    let table = tables.get(number).unwrap_or_else(|| panic!("no table of {message}"));
    let rows =
        table.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let first_cells = rows.skip(2).map(|row| row.split('|').nth(1).unwrap());
    let mut members: Vec<String> =
        first_cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
    members.sort();
    members
}

/// Compares the table of a message with all of its members. Messages that are no objects have no table.
fn check_table(page: &str, message: &Value, tables_before: usize) {
    let (name, body) = message.as_object().unwrap().iter().next().unwrap();
    match body.as_object().filter(|members| !members.is_empty()) {
        Some(body) => {
            let mut all: Vec<_> = body.keys().cloned().collect();
            all.sort();
            assert_eq!(members(page, name, tables_before), all, "{name}");
        }
        None => {
            assert!(
                page.contains(&format!("\n`{name}`")) || page.contains(&format!(", `{name}`:")),
                "{name}"
            );
        }
    }
}

/// Messages of a client with all of their members.
fn client_messages() -> Vec<ClientMessage> {
    let (name, key) = ("n".to_owned(), Some("k".to_owned()));
    let (word, until) = (Some("w".to_owned()), Some(Timestamp::from_millis(0).unwrap()));
    let step = StepMessage {
        key: key.clone(),
        input: true,
        keep_failure: true,
        ok: vec![1],
        timeout_ms: Some(1),
        value: Some(true),
        stdout: Some(FileIdentity { device: 1, inode: 2 }),
        inputs: vec![InputFile { path: b"p".to_vec(), digest: "d".to_owned() }],
        max_age_ms: Some(1),
        ..StepMessage::default()
    };
    let each =
        EachMessage { key: key.clone(), max_failures: Some(1), values: true, ..EachMessage::default() };
    let (question, choices) = ("q".to_owned(), vec!["c".to_owned()]);
    let ask = AskMessage {
        version: 1,
        name: name.clone(),
        key: key.clone(),
        question,
        choices,
        default: word,
        after_ms: Some(1),
    };
    let sleep = SleepMessage { version: 1, name, key, after_ms: Some(1), until };
    let part = || Part(b"p".to_vec());
    vec![
        ClientMessage::Input(part()),
        ClientMessage::Step(Box::new(step)),
        ClientMessage::Part(part()),
        ClientMessage::End(End { exit_code: Some(0), signal: Some(1), too_long: true }),
        ClientMessage::Each(Box::new(each)),
        ClientMessage::Items(vec!["i".into()]),
        ClientMessage::ItemsEnd {},
        ClientMessage::EachStop {},
        ClientMessage::ItemPart(ItemPart { item: 1, part: part() }),
        ClientMessage::ItemEnd(ItemEnded { item: 1, exit_code: Some(0), signal: Some(1) }),
        ClientMessage::Ask(Box::new(ask)),
        ClientMessage::Sleep(Box::new(sleep)),
    ]
}

/// Messages of an owner with all of their members.
fn owner_messages() -> Vec<ServerMessage> {
    let (text, at) = ("t".to_owned(), Timestamp::from_millis(0).unwrap());
    vec![
        ServerMessage::Run(Run {
            key: text.clone(),
            run: text.clone(),
            because: StepReason::First,
            value: true,
            why: Some(text.clone()),
        }),
        ServerMessage::Replay(Replay {
            exit_code: 0,
            attempt: 1,
            value_bytes: Some(1),
            too_long: true,
            skipped: true,
        }),
        ServerMessage::Part(Part(Vec::new())),
        ServerMessage::Recorded(Recorded::Completed),
        ServerMessage::Each(EachRun { run: text.clone(), done: 1, changed: true }),
        ServerMessage::Item(ItemRun { item: 1, arg: b"a".to_vec(), key: text.clone() }),
        ServerMessage::EachEnd(EachEnd {
            vanished_names: vec![text.clone()],
            value_bytes: Some(1),
            too_long: true,
            ..EachEnd::default()
        }),
        ServerMessage::Asked(Asked { session: text.clone(), name: text.clone(), default_at: Some(at) }),
        ServerMessage::Answer(Answered {
            answer: text.clone(),
            by: text.clone(),
            default: true,
            recorded: true,
        }),
        ServerMessage::Sleeping(Sleeping { until: at }),
        ServerMessage::Slept(Slept { recorded: true }),
        ServerMessage::Error(Refusal { code: text.clone(), message: text }),
    ]
}

/// Breaks the build until a new message has an example above, and so a table.
fn number_of_message(client: &ClientMessage) -> usize {
    match client {
        ClientMessage::Input(_) => 0,
        ClientMessage::Step(_) => 1,
        ClientMessage::Part(_) => 2,
        ClientMessage::End(_) => 3,
        ClientMessage::Each(_) => 4,
        ClientMessage::Items(_) => 5,
        ClientMessage::ItemsEnd {} => 6,
        ClientMessage::EachStop {} => 7,
        ClientMessage::ItemPart(_) => 8,
        ClientMessage::ItemEnd(_) => 9,
        ClientMessage::Ask(_) => 10,
        ClientMessage::Sleep(_) => 11,
    }
}

/// Like [`number_of_message`], for the owner's.
fn number_of_answer(owner: &ServerMessage) -> usize {
    match owner {
        ServerMessage::Run(_) => 0,
        ServerMessage::Replay(_) => 1,
        ServerMessage::Part(_) => 2,
        ServerMessage::Recorded(_) => 3,
        ServerMessage::Each(_) => 4,
        ServerMessage::Item(_) => 5,
        ServerMessage::EachEnd(_) => 6,
        ServerMessage::Asked(_) => 7,
        ServerMessage::Answer(_) => 8,
        ServerMessage::Sleeping(_) => 9,
        ServerMessage::Slept(_) => 10,
        ServerMessage::Error(_) => 11,
    }
}

#[test]
fn the_tables_name_every_member() {
    let page = page();
    for (number, message) in client_messages().iter().enumerate() {
        assert_eq!(number_of_message(message), number);
        check_table(&page, &serde_json::to_value(message).unwrap(), 0);
    }
    for (number, message) in owner_messages().iter().enumerate() {
        assert_eq!(number_of_answer(message), number);
        let message = serde_json::to_value(message).unwrap();
        // `each` is a message of both.
        let tables_before = usize::from(message.get("each").is_some());
        check_table(&page, &message, tables_before);
    }
}

#[test]
fn the_page_names_every_reason() {
    let page = page();
    let row = page.lines().find(|line| line.starts_with("| `because` |")).unwrap();
    for reason in StepReason::ALL {
        assert!(row.contains(&format!("`{}`", reason.name())), "{}", reason.name());
    }
}

#[test]
fn the_page_has_the_limits_and_the_version_of_the_code() {
    let page = page();
    for (name, value) in [
        ("bytes of a line", LINE_BYTES),
        ("bytes of an `input` or a `part`", PART_BYTES as u64),
        ("bytes of a value, and of all values of an `each`", VALUE_BYTES as u64),
        ("bytes of an item", VALUE_PART_BYTES as u64),
        ("bytes of an answer", VALUE_PART_BYTES as u64),
        ("bytes of a question", STEP_TEXT_BYTES as u64),
        ("choices of a question", CHOICES as u64),
        ("bytes of all `inputs` of a step, paths and digests", INPUT_BYTES as u64),
    ] {
        let row = page.lines().find(|line| line.starts_with(&format!("| {name} |"))).unwrap();
        let value_cell = row.split('|').nth(2).unwrap();
        let number = value_cell.trim().split(' ').next().unwrap();
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        assert_eq!(digits, value.to_string(), "{name}");
    }
    assert!(page.contains(&format!("This page describes version {VERSION}.")));
}
