//! A session as one JSON file that is rewritten for each event: temporary file, flush, rename.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use session_core::SessionEvent;
use session_storage_file::{Disk, Open};

use super::race::{self, Round};
use super::{Contender, Location};
use crate::events;

pub(super) struct Rewrite {
    disk: Arc<dyn Disk>,
    files: Vec<(PathBuf, PathBuf)>,
    session: File,
    each: usize,
}

#[derive(Serialize)]
struct File {
    id: String,
    operation: &'static str,
    state: &'static str,
    events: Vec<Entry>,
}

#[derive(Clone, Serialize)]
struct Entry {
    at: String,
    event: SessionEvent,
}

impl Rewrite {
    pub(super) fn new(place: &Location, sessions: usize, history: usize) -> Self {
        let paths = |number| {
            let path = place.folder.join(format!("{number}.json"));
            (path.with_extension("tmp"), path)
        };
        let entry = Entry { at: events::now().to_string(), event: events::command() };
        let session = File {
            id: session_core::SessionId::random().to_string(),
            operation: "bench",
            state: "running",
            events: vec![entry; history],
        };
        Self { disk: Arc::clone(&place.disk), files: (0..sessions).map(paths).collect(), session, each: 0 }
    }
}

impl Contender for Rewrite {
    fn name(&self) -> String {
        format!("one JSON file, {} events", self.session.events.len())
    }

    fn prepare(&mut self, each: usize) {
        self.each = each;
    }

    fn run(&mut self) -> Round {
        let (disk, session) = (&self.disk, &self.session);
        race::threads(&mut self.files, self.each, |(temporary, path)| {
            let json = serde_json::to_vec(session).expect("a session can be serialized");
            let file = disk.open(temporary, Open::Create).expect("a file can be created");
            let mut written = 0;
            while let Some(rest) = json.get(written..).filter(|rest| !rest.is_empty()) {
                written += file.write_at(rest, written as u64).expect("the disk has room");
            }
            file.sync().expect("the disk can be flushed");
            disk.rename(temporary, path).expect("a file can be renamed");
        })
    }
}
