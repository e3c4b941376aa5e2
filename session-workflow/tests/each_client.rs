//! An `each` of a client, with the owner's side and a manager in memory: what it orders, and when it ends.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test, a missing value is a failure")]

use std::time::Duration;

use serde_json::{Value, json};
use session_core::{InMemorySessionManager, Session, SessionConfig, SessionManager as _};
use session_workflow::server::{NoProgram, serve};
use tokio::io::{
    AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, ReadHalf, WriteHalf, split,
};

/// The client's side of a connection.
struct Client {
    read: BufReader<ReadHalf<DuplexStream>>,
    write: WriteHalf<DuplexStream>,
}

impl Client {
    /// Begins an each with these options.
    async fn begin(session: &Session, options: Value) -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let session = session.clone();
        tokio::spawn(async move {
            let (read, mut write) = split(theirs);
            Box::pin(serve(&session, &NoProgram, Vec::new(), &mut BufReader::new(read), &mut write)).await
        });
        let (read, write) = split(ours);
        let mut client = Self { read: BufReader::new(read), write };
        let mut each = json!({ "version": 1, "name": "check", "argv": ["true"] });
        each.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        client.send(&json!({ "each": each })).await;
        assert!(client.next().await["each"].is_object());
        client
    }

    async fn send(&mut self, message: &Value) {
        self.write.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    async fn send_items(&mut self, items: &[&str]) {
        self.send(&json!({ "items": items })).await;
        self.send(&json!({ "items_end": {} })).await;
    }

    async fn next(&mut self) -> Value {
        let mut line = String::new();
        let read = tokio::time::timeout(Duration::from_secs(60), self.read.read_line(&mut line)).await;
        assert!(read.expect("the owner answers").unwrap() > 0, "the owner has closed the connection");
        serde_json::from_str(&line).unwrap()
    }

    /// Returns the next item to run, and its number.
    async fn item(&mut self) -> (String, u64) {
        let message = self.next().await;
        let item = &message["item"];
        (
            item["arg"].as_str().unwrap_or_else(|| panic!("{message}")).to_owned(),
            item["item"].as_u64().unwrap(),
        )
    }

    async fn end_item(&mut self, item: u64, exit_code: i32) {
        self.send(&json!({ "item_end": { "item": item, "exit_code": exit_code } })).await;
    }

    async fn end(&mut self) -> Value {
        let message = self.next().await;
        assert!(message["each_end"].is_object(), "{message}");
        message["each_end"].clone()
    }
}

async fn session() -> (InMemorySessionManager, Session) {
    let manager = InMemorySessionManager::new();
    let id = manager.create_session(SessionConfig::new("test")).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    (manager, session)
}

#[tokio::test]
async fn no_item_begins_with_the_last_allowed_failure() {
    let (_manager, session) = session().await;
    let mut client = Client::begin(&session, json!({ "max_failures": 2 })).await;
    client.send_items(&["a", "b", "c", "d"]).await;
    for (name, exit_code) in [("a", 1), ("b", 0), ("c", 1)] {
        let (item, number) = client.item().await;
        assert_eq!(item, name);
        client.end_item(number, exit_code).await;
    }
    let end = client.end().await;
    assert_eq!((&end["done"], &end["failed"], &end["not_run"]), (&json!(1), &json!(2), &json!(1)));
    assert_eq!(session.head().items.open, 0);
}

#[tokio::test(start_paused = true)]
async fn an_item_is_retried_once_its_delay_has_passed() {
    // Regression: an owner that waited for nothing else did not notice that, and looped.
    let (_manager, session) = session().await;
    let mut client = Client::begin(&session, json!({ "retries": 1, "backoff_ms": 5 })).await;
    client.send_items(&["a"]).await;
    for exit_code in [1, 0] {
        let (_, number) = client.item().await;
        client.end_item(number, exit_code).await;
    }
    let end = client.end().await;
    assert_eq!((&end["done"], &end["failed"]), (&json!(1), &json!(0)));
}

#[tokio::test]
async fn a_stopped_each_ends_after_what_runs() {
    let (_manager, session) = session().await;
    let mut client = Client::begin(&session, json!({})).await;
    // Its input has no end.
    client.send(&json!({ "items": ["a", "b"] })).await;
    let (_, number) = client.item().await;
    client.send(&json!({ "each_stop": {} })).await;
    client.end_item(number, 0).await;
    let end = client.end().await;
    assert_eq!((&end["done"], &end["not_run"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn an_item_is_new_only_after_all_earlier_ones_were_started() {
    let (_manager, session) = session().await;
    let runs = [(["a", "b"], &[1][..], 0), (["a", "b"], &[0, 0], 0), (["b", "c"], &[0], 1)];
    for (items, exit_codes, new) in runs {
        // A key, so that each run is the same each.
        let mut client = Client::begin(&session, json!({ "key": "k", "max_failures": 1 })).await;
        client.send_items(&items).await;
        for exit_code in exit_codes {
            let (_, number) = client.item().await;
            client.end_item(number, *exit_code).await;
        }
        let end = client.end().await;
        assert_eq!(end["new"].as_u64().unwrap_or(0), new, "{end}");
    }
}
