//! Direct use of the engines, without the storage traits: the line and the current head of the session in one
//! transaction, with one flush for all waiting appends.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, params};
use session_core::{Head, StoredRecord};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use super::Contender;
use super::library::runtime;
use super::race::{self, Round};
use crate::events::{self, Log};
use crate::stats::micros;

/// The data stored with one event.
struct Row {
    session: u64,
    seq: u64,
    line: StoredRecord,
    head: String,
}

/// The number of waiting appends in one commit.
#[derive(Clone, Copy)]
pub(super) enum CommitMode {
    /// All of them.
    Group,
    /// One.
    Single,
}

type Waiting = (Row, oneshot::Sender<()>);

/// A session with the events that it will append.
type Session = (Log, VecDeque<(StoredRecord, Head)>);

/// An engine on a thread of its own.
pub(super) struct DirectEngine {
    name: &'static str,
    runtime: Runtime,
    queue: mpsc::Sender<Waiting>,
    sessions: Vec<Session>,
}

impl DirectEngine {
    /// Creates an `SQLite` database with WAL and `synchronous=FULL`.
    pub(super) fn sqlite(folder: &Path, sessions: usize, mode: CommitMode) -> Self {
        let mut connection = Connection::open(folder.join("sessions.db")).expect("a database can be created");
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 CREATE TABLE sessions (id INTEGER PRIMARY KEY, head TEXT) WITHOUT ROWID;
                 CREATE TABLE events (session INTEGER, seq INTEGER, line TEXT, PRIMARY KEY (session, seq))
                 WITHOUT ROWID;",
            )
            .expect("tables can be created");
        let name = match mode {
            CommitMode::Group => "SQLite directly, group commit",
            CommitMode::Single => "SQLite directly, one transaction per event",
        };
        Self::new(name, sessions, mode, move |rows| {
            let transaction = connection.transaction().expect("there is no other writer");
            for row in rows {
                let mut event = transaction
                    .prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3)")
                    .expect("the statement is valid");
                event
                    .execute(params![number(row.session), number(row.seq), row.line.line()])
                    .expect("the database can be written");
                let mut head = transaction
                    .prepare_cached("INSERT OR REPLACE INTO sessions VALUES (?1, ?2)")
                    .expect("the statement is valid");
                head.execute(params![number(row.session), row.head]).expect("the database can be written");
            }
            transaction.commit().expect("the database can be written");
        })
    }

    /// Creates a sled database. Each event is a batch; all waiting ones share one flush of sled and one of its file.
    pub(super) fn sled(folder: &Path, sessions: usize) -> Self {
        let path = folder.join("sled");
        let sled =
            sled::Config::new().path(&path).flush_every_ms(None).open().expect("a database can be created");
        let data = File::open(path.join("db")).expect("sled keeps its log there");
        Self::new("sled directly, group flush", sessions, CommitMode::Group, move |rows| {
            for row in rows {
                let mut batch = sled::Batch::default();
                let key = [&b"r"[..], &row.session.to_be_bytes(), &row.seq.to_be_bytes()].concat();
                batch.insert(key, row.line.line().as_bytes());
                batch.insert([&b"h"[..], &row.session.to_be_bytes()].concat(), row.head.as_bytes());
                sled.apply_batch(batch).expect("the database can be written");
            }
            sled.flush().expect("the database can be written");
            data.sync_data().expect("the disk can be flushed");
        })
    }

    fn new(
        name: &'static str,
        sessions: usize,
        mode: CommitMode,
        mut commit: impl FnMut(&[Row]) + Send + 'static,
    ) -> Self {
        let largest = match mode {
            CommitMode::Group => 256,
            CommitMode::Single => 1,
        };
        let (queue, mut waiting) = mpsc::channel::<Waiting>(1024);
        std::thread::spawn(move || {
            while let Some(first) = waiting.blocking_recv() {
                let all = std::iter::once(first).chain(std::iter::from_fn(|| waiting.try_recv().ok()));
                let (rows, answers): (Vec<Row>, Vec<oneshot::Sender<()>>) = all.take(largest).unzip();
                commit(&rows);
                for answer in answers {
                    // The receiver exists, because its session waits for the answer.
                    let _ = answer.send(());
                }
            }
        });
        let owner = session_core::backend::this_process().expect("the identity of this process can be read");
        let begin = |number| (Log::begin(&format!("bench-{number}"), &owner).0, VecDeque::new());
        Self { name, runtime: runtime(), queue, sessions: (0..sessions).map(begin).collect() }
    }
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Contender for DirectEngine {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn prepare(&mut self, each: usize) {
        for (log, events) in &mut self.sessions {
            for _ in 0..each {
                let line = log.next(events::command());
                events.push_back((line, log.head.clone()));
            }
        }
    }

    fn run(&mut self) -> Round {
        let session = |(session, (_, events)): (u64, &mut Session)| {
            let (queue, events) = (self.queue.clone(), std::mem::take(events));
            async move {
                let mut latencies = Vec::with_capacity(events.len());
                for (line, head) in events {
                    let (answer, answered) = oneshot::channel();
                    let start = Instant::now();
                    let head = serde_json::to_string(&head).expect("a head can be serialized");
                    let row = Row { session, seq: line.revision(), line, head };
                    assert!(queue.send((row, answer)).await.is_ok(), "the engine runs");
                    answered.await.expect("the engine answers");
                    latencies.push(micros(start.elapsed()));
                }
                latencies
            }
        };
        let sessions = (0..).zip(&mut self.sessions).map(session).collect();
        race::tasks(&self.runtime, sessions)
    }
}
