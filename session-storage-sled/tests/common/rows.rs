//! Direct access to the rows of a store through sled, to damage them. Their encoding is part of the format.

use std::path::Path;
use std::time::{Duration, Instant};

use session_core::SessionId;

/// Opens sled, waiting until another handle has released it.
pub(crate) fn open(store: &Path) -> sled::Db {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match sled::Config::new().path(store.join("db")).flush_every_ms(None).open() {
            Ok(db) => return db,
            Err(error) if Instant::now() > deadline => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn key(id: SessionId, revision: u64, part: u16) -> Vec<u8> {
    [b"r", id.as_bytes().as_slice(), &revision.to_be_bytes(), &part.to_be_bytes()].concat()
}

/// Reads the lines of a session, without line ends.
pub(crate) fn lines(db: &sled::Db, id: SessionId) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for row in db.range(key(id, 0, 0)..=key(id, u64::MAX, u16::MAX)) {
        let (key, value) = row.unwrap();
        if key.ends_with(&[0, 0]) {
            lines.push(Vec::new());
        }
        lines.last_mut().unwrap().extend_from_slice(&value);
    }
    lines
}

/// Replaces the lines of a session.
pub(crate) fn put_lines(db: &sled::Db, id: SessionId, lines: &[Vec<u8>]) {
    let mut batch = sled::Batch::default();
    for row in db.range(key(id, 0, 0)..=key(id, u64::MAX, u16::MAX)) {
        batch.remove(row.unwrap().0);
    }
    for (revision, line) in (1..).zip(lines) {
        for (part, bytes) in (0..).zip(line.chunks(6 * 1024)) {
            batch.insert(key(id, revision, part), bytes);
        }
    }
    db.apply_batch(batch).unwrap();
    db.flush().unwrap();
}

/// Returns the key of a session's head.
pub(crate) fn head_key(id: SessionId) -> Vec<u8> {
    [b"h", id.as_bytes().as_slice()].concat()
}
