//! Questions and sleeps of a client, and versions.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use session_core::{InMemorySessionManager, SessionConfig, SessionManager as _, SessionManagerExt as _};
use session_workflow::{AnswerTo, answer};

use super::client::{Client, TestProgram};
use super::{events, manager, next_attempt, session, until};

fn ask(options: Value) -> Value {
    let mut ask = json!({ "version": 1, "name": "deploy", "question": "Deploy?" });
    if let Value::Object(options) = options {
        ask.as_object_mut().unwrap().extend(options);
    }
    json!({ "ask": ask })
}

fn sleep(options: Value) -> Value {
    let mut sleep = json!({ "version": 1, "name": "nap" });
    if let Value::Object(options) = options {
        sleep.as_object_mut().unwrap().extend(options);
    }
    json!({ "sleep": sleep })
}

fn deploy() -> AnswerTo {
    AnswerTo::Named("deploy".to_owned())
}

#[tokio::test]
async fn an_answer_that_came_before_is_sent_immediately() {
    let manager = manager().await;
    let session = session(&manager).await;
    answer(&manager, session.id(), deploy(), "yes").await.unwrap();
    let mut client = Client::new(&session);
    client.send(ask(json!({}))).await;
    let answered = client.expect("answer").await;
    assert_eq!((&answered["answer"], &answered["recorded"]), (&json!("yes"), &json!(true)));
    assert!(events(&manager, session.id(), "asked").await.is_empty());
}

#[tokio::test]
async fn an_answer_ends_the_wait() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut client = Client::new(&session);
    client.send(ask(json!({ "choices": ["yes", "no"] }))).await;
    let asked = client.expect("asked").await;
    assert_eq!(asked, json!({ "session": session.id().to_string(), "name": "deploy" }));
    answer(&manager, session.id(), AnswerTo::TheOnlyOne, "perhaps").await.unwrap_err();
    answer(&manager, session.id(), AnswerTo::TheOnlyOne, "no").await.unwrap();
    let answered = client.expect("answer").await;
    assert_eq!((&answered["answer"], &answered["recorded"]), (&json!("no"), &Value::Null));
    // The connection serves the next request.
    client.send(ask(json!({ "key": "second" }))).await;
    client.expect("asked").await;
    client.close().await;
}

#[tokio::test]
async fn the_second_answer_is_a_conflict() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut client = Client::new(&session);
    client.send(ask(json!({ "key": "k" }))).await;
    client.expect("asked").await;
    let keyed = || AnswerTo::Use(session_core::StepIdentity::keyed("deploy", "k"));
    let (first, second) = tokio::join!(
        answer(&manager, session.id(), keyed(), "one"),
        answer(&manager, session.id(), keyed(), "two")
    );
    let codes = [first.is_ok(), second.is_ok()];
    assert!(codes[0] != codes[1], "{codes:?}");
    let refused = first.err().or(second.err()).unwrap();
    assert_eq!(refused.code(), session_core::ErrorCode::Conflict);
    let holds = if codes[0] { "one" } else { "two" };
    assert_eq!(client.expect("answer").await["answer"], holds);
}

#[tokio::test]
async fn the_question_of_a_client_that_is_gone_is_withdrawn() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut client = Client::new(&session);
    client.send(ask(json!({}))).await;
    client.expect("asked").await;
    client.close().await;
    until(&session, |head| head.waits.questions == 0).await;
    assert_eq!(events(&manager, session.id(), "question_withdrawn").await.len(), 1);
    answer(&manager, session.id(), AnswerTo::TheOnlyOne, "yes").await.unwrap_err();
    // The next use of the name is that use again.
    let mut client = Client::new(&session);
    client.send(ask(json!({}))).await;
    client.expect("asked").await;
    answer(&manager, session.id(), deploy(), "yes").await.unwrap();
    assert_eq!(client.expect("answer").await["answer"], "yes");
    client.close().await;
    let session = next_attempt(&manager, session).await;
    let mut client = Client::new(&session);
    client.send(ask(json!({}))).await;
    assert_eq!(client.expect("answer").await["recorded"], true);
}

#[tokio::test]
async fn a_question_stays_open_where_a_stop_ended_its_client() {
    let manager = manager().await;
    let session = session(&manager).await;
    let program = TestProgram::new();
    program.is_stopped.store(true, Ordering::SeqCst);
    let mut client = Client::of_program(&session, Arc::clone(&program));
    client.send(ask(json!({}))).await;
    client.expect("asked").await;
    client.close().await;
    assert_eq!(session.head().waits.questions, 1);
    answer(&manager, session.id(), AnswerTo::TheOnlyOne, "yes").await.unwrap();
    let session = next_attempt(&manager, session).await;
    let mut client = Client::new(&session);
    client.send(ask(json!({}))).await;
    assert_eq!(client.expect("answer").await["answer"], "yes");
}

#[tokio::test]
async fn a_message_while_a_question_waits_ends_the_connection() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut client = Client::new(&session);
    client.send(ask(json!({}))).await;
    client.expect("asked").await;
    client.send(ask(json!({ "key": "k" }))).await;
    client.closed().await;
    until(&session, |head| head.waits.questions == 0).await;
}

#[tokio::test]
async fn the_same_question_twice_at_a_time_is_refused() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut first = Client::new(&session);
    first.send(ask(json!({}))).await;
    first.expect("asked").await;
    let mut second = Client::new(&session);
    second.send(ask(json!({}))).await;
    assert_eq!(second.error().await, "STEP_OPEN");
    answer(&manager, session.id(), deploy(), "yes").await.unwrap();
    assert_eq!(first.expect("answer").await["answer"], "yes");
}

#[tokio::test(start_paused = true)]
async fn a_question_that_nobody_can_answer_needs_a_default() {
    let manager = InMemorySessionManager::new();
    let id = manager.create_session(SessionConfig::new("test")).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    let mut client = Client::new(&session);
    client.send(ask(json!({}))).await;
    let (kind, body) = client.receive().await;
    assert_eq!((kind.as_str(), &body["code"]), ("error", &json!("INVALID_ARGUMENT")));
    assert!(body["message"].as_str().unwrap().contains("a memory store"), "{body}");
    let records = manager.read_records(id, 0, 100).await.unwrap();
    assert!(records.iter().all(|record| record.event.kind().name() != "asked"));
    // The clock of this manager does not run with the time of the runtime.
    client.send(ask(json!({ "default": "no", "after_ms": 0 }))).await;
    client.expect("asked").await;
    let answered = client.expect("answer").await;
    assert_eq!((&answered["answer"], &answered["default"]), (&json!("no"), &json!(true)));
    // It is no refusal: steps start as before.
    client.send(json!({ "step": { "version": 1, "name": "build", "argv": ["make"] } })).await;
    client.expect("run").await;
}

#[tokio::test]
async fn a_request_that_contradicts_itself_is_refused() {
    for message in [
        ask(json!({ "default": "yes" })),
        ask(json!({ "after_ms": 1 })),
        sleep(json!({})),
        sleep(json!({ "after_ms": 1, "until": "2030-01-01T00:00:00.000Z" })),
        json!({ "sleep": { "version": 1, "name": "nap", "until": "tomorrow" } }),
        json!({ "item_end": { "item": 1, "exit_code": 0 } }),
        json!({ "items_end": {} }),
        json!({ "no_such_message": {} }),
    ] {
        let manager = manager().await;
        let session = session(&manager).await;
        let mut client = Client::new(&session);
        client.send(message.clone()).await;
        assert_eq!(client.error().await, "INVALID_ARGUMENT", "{message}");
        client.closed().await;
    }
}

#[tokio::test]
async fn a_sleep_of_a_client_that_is_gone_is_continued() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut client = Client::new(&session);
    client.send(sleep(json!({ "after_ms": 3_600_000 }))).await;
    let until_first = client.expect("sleeping").await["until"].clone();
    assert!(session.head().is_waiting());
    client.close().await;
    until(&session, |head| !head.is_waiting()).await;
    let mut client = Client::new(&session);
    client.send(sleep(json!({ "after_ms": 5 }))).await;
    assert_eq!(client.expect("sleeping").await["until"], until_first);
    client.close().await;
}

#[tokio::test]
async fn a_sleep_that_has_passed_returns_immediately() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut client = Client::new(&session);
    client.send(sleep(json!({ "until": "2020-02-29T12:00:00.000Z" }))).await;
    assert_eq!(client.expect("sleeping").await["until"], "2020-02-29T12:00:00.000Z");
    assert_eq!(client.expect("slept").await, json!({}));
    client.close().await;
    let session = next_attempt(&manager, session).await;
    let mut client = Client::new(&session);
    client.send(sleep(json!({ "after_ms": 3_600_000 }))).await;
    assert_eq!(client.expect("slept").await, json!({ "recorded": true }));
}

#[tokio::test]
async fn a_message_while_a_sleep_waits_ends_the_connection() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut client = Client::new(&session);
    client.send(sleep(json!({ "after_ms": 3_600_000 }))).await;
    client.expect("sleeping").await;
    client.send(json!({ "part": "x" })).await;
    client.closed().await;
    until(&session, |head| !head.is_waiting()).await;
}

#[tokio::test]
async fn another_version_is_refused_by_every_request() {
    for kind in ["step", "each", "ask", "sleep"] {
        for version in [0, 2, 99] {
            let manager = manager().await;
            let session = session(&manager).await;
            let mut client = Client::new(&session);
            let request =
                json!({ "version": version, "name": "x", "argv": ["x"], "question": "?", "after_ms": 1 });
            client.send(json!({ kind: request })).await;
            assert_eq!(client.error().await, "UNSUPPORTED_FORMAT", "{kind} {version}");
            client.closed().await;
            assert!(!session.head().is_waiting());
        }
    }
}

#[tokio::test]
async fn a_person_is_asked_about_an_unknown_step() {
    let manager = manager().await;
    let session = session(&manager).await;
    let step = |if_unknown: &str| json!({ "step": { "version": 1, "name": "deploy", "argv": ["x"], "if_unknown": if_unknown } });
    let mut client = Client::new(&session);
    client.send(step("ask")).await;
    client.expect("run").await;
    client.close().await;
    let session = next_attempt(&manager, session).await;
    let mut client = Client::new(&session);
    client.send(step("ask")).await;
    assert_eq!(client.expect("asked").await["name"], "deploy");
    answer(&manager, session.id(), deploy(), "skip").await.unwrap();
    assert_eq!(client.expect("replay").await["skipped"], true);
}
