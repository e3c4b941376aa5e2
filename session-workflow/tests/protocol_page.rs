//! `docs/step-protocol.md`, compared with the code: its conversations are held with an owner, and its tables name every member.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

use std::path::Path;

use serde_json::{Value, json};
use session_core::limits::VALUE_BYTES;
use session_core::{Evidence, InMemorySessionManager, Session, SessionConfig, SessionManager as _};
use session_workflow::protocol::{
    ClientMessage, End, FileIdentity, LINE_BYTES, PART_BYTES, Replay, ServerMessage, StepMessage, VERSION,
};
use session_workflow::server::{NoProgram, serve};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, split};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/step-protocol.md");
    std::fs::read_to_string(path).unwrap()
}

/// Returns the conversations of the page: lines that begin with `>` or `<`.
fn conversations(page: &str) -> Vec<Vec<(char, Value)>> {
    let blocks = page.split("```text\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let line = |line: &str| (line.chars().next().unwrap(), serde_json::from_str(&line[2..]).unwrap());
    blocks.map(|block| block.lines().map(line).collect()).collect()
}

/// Replaces what differs between two sessions.
fn settled(mut message: Value) -> Value {
    if let Some(run) = message.get_mut("run") {
        for member in ["key", "run"] {
            assert!(run[member].as_str().unwrap().len() >= 36, "{run}");
            run[member] = json!(member);
        }
        assert_eq!(run.as_object().unwrap().len(), 4);
    }
    if let Some(text) = message.pointer_mut("/error/message") {
        let shown = text.as_str().unwrap().to_owned();
        let words = shown.split(' ').map(|word| if word.starts_with("20") { "TIME" } else { word });
        *text = json!(words.collect::<Vec<_>>().join(" "));
    }
    message
}

/// Holds a conversation with the owner of the session.
async fn hold(session: &Session, conversation: &[(char, Value)]) {
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
    for (side, message) in conversation {
        match side {
            '>' => write.write_all(format!("{message}\n").as_bytes()).await.unwrap(),
            '<' => {
                let line = lines.next_line().await.unwrap().unwrap();
                let received = serde_json::from_str(&line).unwrap();
                assert_eq!(settled(received), settled(message.clone()));
            }
            other => panic!("a line begins with {other}"),
        }
    }
    drop((lines, write));
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_conversations_of_the_page_can_be_held() {
    let manager = InMemorySessionManager::new();
    let id = manager.create_session(SessionConfig::new("test")).await.unwrap();
    let mut session = manager.start_session(id).await.unwrap();
    let conversations = conversations(&page());
    assert_eq!(conversations.len(), 2);
    for (number, conversation) in conversations.iter().enumerate() {
        if number > 0 {
            session.interrupt(Evidence::LockReleased).await.unwrap();
            drop(session);
            session = manager.resume_session(id).await.unwrap();
        }
        hold(&session, conversation).await;
    }
}

/// Returns the members that the table after a heading such as `` `step`: `` names.
fn members(page: &str, message: &str) -> Vec<String> {
    let table =
        page.split(&format!("\n`{message}`:\n")).nth(1).unwrap_or_else(|| panic!("no table of {message}"));
    let rows =
        table.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.skip(2).map(|row| row.split('`').nth(1).unwrap().to_owned()).collect()
}

#[test]
fn the_tables_name_every_member() {
    let step = StepMessage {
        key: Some("k".to_owned()),
        input: true,
        keep_failure: true,
        ok: vec![1],
        timeout_ms: Some(1),
        value: Some(true),
        stdout: Some(FileIdentity { device: 1, inode: 2 }),
        ..StepMessage::default()
    };
    let replay = Replay { exit_code: 0, attempt: 1, value_bytes: Some(1), too_long: true, skipped: true };
    let run = json!({ "key": "k", "run": "r", "because": "first", "value": true });
    let messages = [
        ("step", serde_json::to_value(ClientMessage::Step(Box::new(step))).unwrap()),
        (
            "end",
            serde_json::to_value(ClientMessage::End(End {
                exit_code: Some(0),
                signal: Some(1),
                too_long: true,
            }))
            .unwrap(),
        ),
        (
            "run",
            serde_json::to_value(serde_json::from_value::<ServerMessage>(json!({ "run": run })).unwrap())
                .unwrap(),
        ),
        ("replay", serde_json::to_value(ServerMessage::Replay(replay)).unwrap()),
    ];
    let page = page();
    for (name, message) in messages {
        let mut documented = members(&page, name);
        documented.sort();
        let mut all: Vec<_> = message[name].as_object().unwrap().keys().cloned().collect();
        all.sort();
        assert_eq!(documented, all, "{name}");
    }
}

#[test]
fn the_page_has_the_limits_and_the_version_of_the_code() {
    let page = page();
    for (name, value) in [
        ("bytes of a line", LINE_BYTES),
        ("bytes of an `input` or a `part`", PART_BYTES as u64),
        ("bytes of a value", VALUE_BYTES as u64),
    ] {
        let row = page.lines().find(|line| line.starts_with(&format!("| {name} |"))).unwrap();
        let digits: String = row.chars().filter(char::is_ascii_digit).collect();
        assert_eq!(digits, value.to_string(), "{name}");
    }
    assert!(page.contains(&format!("This page describes version {VERSION}.")));
}
