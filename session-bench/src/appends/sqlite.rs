//! `SQLite` in a common setup: WAL, `synchronous=FULL`, one transaction per event. The sessions share one connection:
//! with one each, they would wait for the only writer by sleeping, which is slower.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, params};

use super::race::{self, Round};
use super::{Contender, Location};
use crate::device::Device;
use crate::events;

pub(super) struct Sqlite {
    connection: Arc<Mutex<Connection>>,
    device: Option<Arc<Device>>,
    sessions: Vec<(i64, i64)>,
    line: String,
    each: usize,
}

impl Sqlite {
    pub(super) fn new(place: &Location, sessions: usize) -> Self {
        let connection =
            Connection::open(place.folder.join("sessions.db")).expect("a database can be created");
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 CREATE TABLE events (session INTEGER, seq INTEGER, line TEXT, PRIMARY KEY (session, seq))
                 WITHOUT ROWID;",
            )
            .expect("a table can be created");
        let line = String::from_utf8(events::line()).expect("a line is UTF-8");
        Self {
            connection: Arc::new(Mutex::new(connection)),
            device: place.device.clone(),
            sessions: (0..).map(|session| (session, 0)).take(sessions).collect(),
            line,
            each: 0,
        }
    }
}

impl Contender for Sqlite {
    fn name(&self) -> String {
        "SQLite, WAL, FULL".to_owned()
    }

    fn prepare(&mut self, each: usize) {
        self.each = each;
    }

    fn run(&mut self) -> Round {
        let (connection, device, line) = (&self.connection, &self.device, &self.line);
        race::threads(&mut self.sessions, self.each, |(session, seq)| {
            *seq += 1;
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let mut insert = connection
                .prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3)")
                .expect("the statement is valid");
            insert.execute(params![*session, *seq, line]).expect("the database can be written");
            // A commit flushes the write-ahead log once. SQLite does not use the simulated device, so its flush is
            // added.
            if let Some(device) = device {
                device.flush();
            }
        })
    }
}
