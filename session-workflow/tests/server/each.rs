//! Items of a client.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use session_core::{ItemMoves, PauseReason, Session, SessionEvent, StepIdentity};
use session_workflow::{ItemState, WorkflowState};

use super::client::{Client, TestProgram};
use super::{SharedManager, events, manager, next_attempt, session, until};

fn each(options: Value) -> Value {
    let mut each = json!({ "version": 1, "name": "check", "argv": ["./check", "{}"] });
    if let Value::Object(options) = options {
        each.as_object_mut().unwrap().extend(options);
    }
    json!({ "each": each })
}

/// Begins an each with these items, which are all of its input.
async fn begin(client: &mut Client, options: Value, items: &[&str]) -> Value {
    client.send(each(options)).await;
    let started = client.expect("each").await;
    client.send(json!({ "items": items })).await;
    client.send(json!({ "items_end": {} })).await;
    started
}

/// Expects the order to run an item.
async fn item(client: &mut Client, number: u64, arg: &str) {
    let order = client.expect("item").await;
    assert_eq!((&order["item"], &order["arg"]), (&json!(number), &json!(arg)));
}

fn ended(item: u64, exit_code: i32) -> Value {
    json!({ "item_end": { "item": item, "exit_code": exit_code } })
}

async fn moves(manager: &SharedManager, session: &Session) -> Vec<ItemMoves> {
    let events = events(manager, session.id(), "items_moved").await;
    let moves = |event| if let SessionEvent::ItemsMoved { moves } = event { Some(moves) } else { None };
    events.into_iter().filter_map(moves).collect()
}

/// Returns the number of items in each state: done, failed, unknown, open.
async fn states(manager: &SharedManager, session: &Session) -> [usize; 4] {
    let state = WorkflowState::read(manager, session.id()).await.unwrap();
    let each = state.eaches().get(&StepIdentity::nth("check", 1)).unwrap();
    [ItemState::Done, ItemState::Failed, ItemState::Unknown, ItemState::Open].map(|state| each.count(state))
}

#[tokio::test]
async fn items_begin_while_others_run() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut client = Client::new(&session);
    client.send(each(json!({ "jobs": 2 }))).await;
    client.expect("each").await;
    client.send(json!({ "items": ["a"] })).await;
    item(&mut client, 1, "a").await;
    client.send(json!({ "items": ["b", "c"] })).await;
    item(&mut client, 2, "b").await;
    client.send(ended(1, 0)).await;
    item(&mut client, 3, "c").await;
    client.send(json!({ "items_end": {} })).await;
    client.send(ended(3, 0)).await;
    client.send(ended(2, 0)).await;
    let end = client.expect("each_end").await;
    assert_eq!((&end["total"], &end["done"]), (&json!(3), &json!(3)));
    client.close().await;
}

#[tokio::test]
async fn an_end_and_the_next_start_are_one_record() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut client = Client::new(&session);
    begin(&mut client, json!({}), &["a", "b"]).await;
    item(&mut client, 1, "a").await;
    client.send(ended(1, 0)).await;
    item(&mut client, 2, "b").await;
    client.send(ended(2, 0)).await;
    client.expect("each_end").await;
    let moves = moves(&manager, &session).await;
    let begun = |moves: &ItemMoves| moves.begun.iter().map(|start| start.item).collect::<Vec<_>>();
    let ends: Vec<_> = moves
        .iter()
        .filter(|moves| !moves.done.is_empty())
        .map(|moves| (moves.done.clone(), begun(moves)))
        .collect();
    assert_eq!(ends, [(vec![1], vec![2]), (vec![2], vec![])]);
}

#[tokio::test]
async fn ends_that_arrived_before_the_client_went_are_recorded() {
    let manager = manager().await;
    let session = session(&manager).await;
    let program = TestProgram::new();
    let mut client = Client::of_program(&session, Arc::clone(&program));
    let started = begin(&mut client, json!({ "jobs": 3 }), &["a", "b", "c", "d"]).await;
    for (number, arg) in [(1, "a"), (2, "b"), (3, "c")] {
        item(&mut client, number, arg).await;
    }
    client.send(ended(1, 0)).await;
    client.send(ended(2, 1)).await;
    client.close().await;
    let run = started["run"].as_str().unwrap();
    assert_eq!(program.ended(), [format!("SESSIONCTL_STEP_RUN={run}")]);
    // It may have begun a fourth before it met the end of the connection.
    let [done, failed, unknown, open] = states(&manager, &session).await;
    assert_eq!((done, failed, open), (1, 1, 0));
    assert!((1..=2).contains(&unknown), "{unknown}");
}

#[tokio::test(start_paused = true)]
async fn a_name_is_free_once_the_unknown_ends_are_recorded() {
    let manager = manager().await;
    let session = session(&manager).await;
    let program = TestProgram::slow();
    let mut gone = Client::of_program(&session, Arc::clone(&program));
    begin(&mut gone, json!({}), &["a"]).await;
    item(&mut gone, 1, "a").await;
    let gone = tokio::spawn(gone.close());
    let mut next = Client::new(&session);
    next.send(each(json!({}))).await;
    next.send(json!({ "items": ["a"] })).await;
    // As long as processes of the first run, the second waits. The time is that of the runtime.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((program.ended().len(), session.head().items.open), (0, 1));
    assert_eq!(events(&manager, session.id(), "each_started").await.len(), 1);
    program.endings.add_permits(1);
    gone.await.unwrap();
    next.expect("each").await;
    item(&mut next, 1, "a").await;
    next.send(ended(1, 0)).await;
    next.send(json!({ "items_end": {} })).await;
    next.expect("each_end").await;
    assert_eq!(states(&manager, &session).await, [1, 0, 0, 0]);
    let records = events(&manager, session.id(), "each_started").await;
    assert_eq!(records.len(), 2);
    let moves = moves(&manager, &session).await;
    let order: Vec<_> =
        moves.iter().map(|moves| (moves.begun.len(), moves.failed.len(), moves.done.len())).collect();
    let changes: Vec<_> = order.into_iter().filter(|change| *change != (0, 0, 0)).collect();
    assert_eq!(changes, [(1, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1)]);
}

#[tokio::test]
async fn values_come_in_the_order_of_the_input() {
    let manager = manager().await;
    let mut session = session(&manager).await;
    for attempt in 1..=2 {
        let mut client = Client::new(&session);
        let items: &[&str] = if attempt == 1 { &["a", "b"] } else { &["b", "c", "a"] };
        begin(&mut client, json!({ "jobs": 2, "values": true }), items).await;
        let new: &[(u64, &str)] = if attempt == 1 { &[(1, "a"), (2, "b")] } else { &[(3, "c")] };
        for (number, arg) in new {
            item(&mut client, *number, arg).await;
        }
        // The last one ends first, in parts that are cut within a character.
        for (number, arg) in new.iter().rev() {
            let parts = [
                json!(format!("<{arg}")),
                json!({ "base64": "4oI=" }),
                json!({ "base64": "rA==" }),
                json!(">"),
            ];
            for part in parts {
                client.send(json!({ "item_part": { "item": number, "part": part } })).await;
            }
            client.send(ended(*number, 0)).await;
        }
        let end = client.expect("each_end").await;
        let expected = if attempt == 1 { "<a€><b€>" } else { "<b€><c€><a€>" };
        assert_eq!(end["value_bytes"], expected.len());
        assert_eq!(client.expect("part").await, expected);
        client.close().await;
        session = next_attempt(&manager, session).await;
    }
}

#[tokio::test]
async fn values_that_are_too_long_together_are_none() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut client = Client::new(&session);
    begin(&mut client, json!({ "values": true }), &["a", "b"]).await;
    let part = "x".repeat(128 * 1024);
    for (number, arg) in [(1, "a"), (2, "b")] {
        item(&mut client, number, arg).await;
        for _ in 0..65 {
            client.send(json!({ "item_part": { "item": number, "part": part } })).await;
        }
        client.send(ended(number, 0)).await;
    }
    let end = client.expect("each_end").await;
    assert_eq!(
        (&end["done"], &end["too_long"], &end["value_bytes"]),
        (&json!(2), &json!(true), &Value::Null)
    );
    client.close().await;
    // In the next attempt, too.
    let session = next_attempt(&manager, session).await;
    let mut client = Client::new(&session);
    begin(&mut client, json!({ "values": true }), &["a", "b"]).await;
    let end = client.expect("each_end").await;
    assert_eq!(
        (&end["before"], &end["too_long"], &end["value_bytes"]),
        (&json!(2), &json!(true), &Value::Null)
    );
}

#[tokio::test]
async fn parts_are_no_values_where_none_are_wanted() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut client = Client::new(&session);
    begin(&mut client, json!({}), &["a"]).await;
    item(&mut client, 1, "a").await;
    client.send(json!({ "item_part": { "item": 1, "part": "x" } })).await;
    client.send(ended(1, 0)).await;
    assert_eq!(client.expect("each_end").await["value_bytes"], Value::Null);
    assert!(events(&manager, session.id(), "item_value").await.is_empty());
}

#[tokio::test]
async fn no_item_begins_after_too_many_failures() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut client = Client::new(&session);
    client.send(each(json!({ "jobs": 2, "max_failures": 1 }))).await;
    client.expect("each").await;
    client.send(json!({ "items": ["a", "b", "c"] })).await;
    item(&mut client, 1, "a").await;
    item(&mut client, 2, "b").await;
    client.send(ended(1, 3)).await;
    client.send(ended(2, 0)).await;
    // Its input has not ended.
    let end = client.expect("each_end").await;
    let numbers = ["total", "done", "failed", "not_run"].map(|member| end[member].as_u64().unwrap());
    assert_eq!(numbers, [3, 1, 1, 1]);
    assert_eq!(states(&manager, &session).await, [1, 1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_item_is_ordered_again() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut client = Client::new(&session);
    begin(&mut client, json!({ "retries": 2, "values": true }), &["a"]).await;
    let mut keys = Vec::new();
    for code in [1, 1, 0] {
        let order = client.expect("item").await;
        keys.push(order["key"].clone());
        let part = if code == 0 { "right" } else { "wrong" };
        client.send(json!({ "item_part": { "item": 1, "part": part } })).await;
        client.send(ended(1, code)).await;
    }
    let end = client.expect("each_end").await;
    assert_eq!((&end["done"], &end["failed"]), (&json!(1), &json!(0)));
    assert_eq!(client.expect("part").await, "right");
    assert_eq!((&keys[1], &keys[2]), (&keys[0], &keys[0]));
}

#[tokio::test]
async fn an_item_that_a_signal_ended_is_unknown() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut client = Client::new(&session);
    begin(&mut client, json!({ "retries": 5 }), &["a"]).await;
    item(&mut client, 1, "a").await;
    client.send(json!({ "item_end": { "item": 1, "signal": 9 } })).await;
    assert_eq!(client.expect("each_end").await["failed"], 1);
    assert_eq!(states(&manager, &session).await, [0, 0, 1, 0]);
}

#[tokio::test]
async fn a_message_out_of_order_ends_the_commands() {
    for message in [
        json!({ "step": { "version": 1, "name": "x", "argv": ["x"] } }),
        json!({ "part": "x" }),
        json!({ "end": { "exit_code": 0 } }),
        json!({ "ask": { "version": 1, "name": "x", "question": "?" } }),
        ended(2, 0),
        json!({ "item_part": { "item": 7, "part": "x" } }),
    ] {
        let manager = manager().await;
        let session = session(&manager).await;
        let program = TestProgram::new();
        let mut client = Client::of_program(&session, Arc::clone(&program));
        begin(&mut client, json!({}), &["a", "b"]).await;
        item(&mut client, 1, "a").await;
        client.send(message.clone()).await;
        client.closed().await;
        assert_eq!(program.ended().len(), 1, "{message}");
        assert_eq!(states(&manager, &session).await, [0, 0, 1, 0], "{message}");
    }
}

#[tokio::test]
async fn an_item_that_ended_twice_ends_the_connection() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut client = Client::new(&session);
    begin(&mut client, json!({}), &["a", "b"]).await;
    item(&mut client, 1, "a").await;
    client.send(ended(1, 0)).await;
    item(&mut client, 2, "b").await;
    client.send(ended(1, 1)).await;
    client.closed().await;
    assert_eq!(states(&manager, &session).await, [1, 0, 1, 0]);
}

#[tokio::test]
async fn a_paused_session_records_ends_and_begins_nothing() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut client = Client::new(&session);
    begin(&mut client, json!({}), &["a", "b"]).await;
    item(&mut client, 1, "a").await;
    session.pause(PauseReason::Requested("test".to_owned())).await.unwrap();
    client.send(ended(1, 0)).await;
    until(&session, |head| head.items.done == 1).await;
    assert_eq!(states(&manager, &session).await, [1, 0, 0, 0]);
    session.resume().await.unwrap();
    item(&mut client, 2, "b").await;
    client.send(ended(2, 0)).await;
    client.expect("each_end").await;
}

#[tokio::test]
async fn the_same_each_twice_at_a_time_is_refused() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut first = Client::new(&session);
    begin(&mut first, json!({}), &["a", "b"]).await;
    item(&mut first, 1, "a").await;
    let mut second = Client::new(&session);
    second.send(each(json!({}))).await;
    assert_eq!(second.error().await, "STEP_OPEN");
    // No further step of the attempt starts.
    first.send(ended(1, 0)).await;
    assert_eq!(first.error().await, "STEP_OPEN");
    assert_eq!(states(&manager, &session).await, [1, 0, 0, 0]);
}

#[tokio::test]
async fn an_item_that_is_too_long_is_refused() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut client = Client::new(&session);
    client.send(each(json!({}))).await;
    client.expect("each").await;
    client.send(json!({ "items": ["x".repeat(128 * 1024 + 1)] })).await;
    assert_eq!(client.error().await, "LIMIT_EXCEEDED");
    client.closed().await;
}

#[tokio::test]
async fn a_person_decides_about_an_unknown_item() {
    let manager = manager().await;
    let session = session(&manager).await;
    let mut client = Client::new(&session);
    begin(&mut client, json!({}), &["a", "b"]).await;
    item(&mut client, 1, "a").await;
    client.close().await;
    let session = next_attempt(&manager, session).await;
    let mut client = Client::new(&session);
    begin(&mut client, json!({ "if_unknown": "ask" }), &["a", "b"]).await;
    // The others do not wait for the answer.
    item(&mut client, 2, "b").await;
    client.send(ended(2, 0)).await;
    let asked = client.expect("asked").await;
    assert_eq!((&asked["name"], &asked["session"]), (&json!("check"), &json!(session.id().to_string())));
    let to = session_workflow::AnswerTo::Named("check".to_owned());
    session_workflow::answer(&manager, session.id(), to, "skip").await.unwrap();
    let end = client.expect("each_end").await;
    assert_eq!((&end["done"], &end["failed"]), (&json!(2), &json!(0)));
}
