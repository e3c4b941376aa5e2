//! The lower bound of a durable append: a write at the end of a file, and a flush. Either for each session on its own,
//! or for all waiting appends together.

use std::sync::mpsc;

use session_storage_file::{DiskFile, Open};

use super::race::{self, Round};
use super::{Contender, Location};
use crate::events;

/// One file per session and one flush per event.
pub(super) struct RawFlush {
    files: Vec<(Box<dyn DiskFile>, u64)>,
    line: Vec<u8>,
    each: usize,
}

impl RawFlush {
    pub(super) fn new(place: &Location, sessions: usize) -> Self {
        let open = |number| {
            let path = place.folder.join(format!("{number}.jsonl"));
            (place.disk.open(&path, Open::Create).expect("a file can be created"), 0)
        };
        Self { files: (0..sessions).map(open).collect(), line: events::line(), each: 0 }
    }
}

impl Contender for RawFlush {
    fn name(&self) -> String {
        "raw: pwrite + fdatasync".to_owned()
    }

    fn prepare(&mut self, each: usize) {
        self.each = each;
    }

    fn run(&mut self) -> Round {
        let line = &self.line;
        race::threads(&mut self.files, self.each, |(file, end)| {
            *end += file.write_at(line, *end).expect("the disk has room") as u64;
            file.sync().expect("the disk can be flushed");
        })
    }
}

type Waiting = (Vec<u8>, mpsc::Sender<()>);

/// One file for all sessions: a thread writes all waiting events and flushes once.
pub(super) struct GroupFlush {
    sessions: Vec<mpsc::Sender<Waiting>>,
    line: Vec<u8>,
    each: usize,
}

impl GroupFlush {
    pub(super) fn new(place: &Location, sessions: usize) -> Self {
        let path = place.folder.join("journal");
        let file = place.disk.open(&path, Open::Create).expect("a file can be created");
        let (journal, waiting) = mpsc::channel();
        std::thread::spawn(move || write_journal(&*file, &waiting));
        Self { sessions: vec![journal; sessions], line: events::line(), each: 0 }
    }
}

/// Writes the journal until all senders are dropped.
fn write_journal(file: &dyn DiskFile, waiting: &mpsc::Receiver<Waiting>) {
    let mut end = 0;
    while let Ok(first) = waiting.recv() {
        let (mut bytes, mut answers) = (Vec::new(), Vec::new());
        for (line, answer) in std::iter::once(first).chain(waiting.try_iter()) {
            bytes.extend(line);
            answers.push(answer);
        }
        end += file.write_at(&bytes, end).expect("the disk has room") as u64;
        file.sync().expect("the disk can be flushed");
        for answer in answers {
            // The receiver exists, because its session waits for the answer.
            let _ = answer.send(());
        }
    }
}

impl Contender for GroupFlush {
    fn name(&self) -> String {
        "raw: one group flush".to_owned()
    }

    fn prepare(&mut self, each: usize) {
        self.each = each;
    }

    fn run(&mut self) -> Round {
        let line = &self.line;
        race::threads(&mut self.sessions, self.each, |journal| {
            let (answer, answered) = mpsc::channel();
            journal.send((line.clone(), answer)).expect("the writer thread runs");
            answered.recv().expect("the writer thread answers");
        })
    }
}
