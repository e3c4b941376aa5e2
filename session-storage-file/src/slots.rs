//! `head.json`: two slots of fixed size, written in turn, each with its own sum. A slot holds a cache of the head and,
//! apart from it, what is known to be flushed. Losing both slots loses no record.

use std::io;

use serde::{Deserialize, Serialize};
use session_core::limits::HEAD_BYTES;
use session_core::{FORMAT, Head, SessionId, Tip};
use xxhash_rust::xxh3::Xxh3;

use crate::disk::DiskFile;
use crate::scan::read_exactly;

/// Bytes of one slot: the largest head, and room for what stands beside it.
const SLOT: usize = HEAD_BYTES + 512;
/// Bytes of `,"sum":"0123456789abcdef"}`, with which a slot's JSON ends, as each record does.
const ENDING: usize = 26;
/// Bytes from which a slot that was written since can be told from one that was not: its turn is among them.
const STAMP: usize = 40;

/// How far a log is known to have reached the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The last flushed record.
    pub(crate) tip: Tip,
    /// Where it ends in the log.
    pub(crate) length: u64,
}

/// What one slot says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// One more with each write; of two slots, the higher one is the newer.
    pub(crate) turn: u64,
    /// A flush of the log has begun and is not known to have ended well.
    pub(crate) flushing: bool,
    /// The format of whoever wrote it: a newer one's head is not read.
    pub(crate) format: u32,
    /// The boot in which it was written.
    pub(crate) boot: String,
    /// What is known to be flushed.
    pub(crate) mark: Option<Mark>,
    /// Where the record ends that `head` is the head after.
    pub(crate) length: u64,
    /// The fold of the log up to there.
    pub(crate) head: Option<Head>,
}

/// Both slots, as far as they can be read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slots {
    /// The one that was written last.
    pub(crate) newest: Option<Slot>,
    /// The one before it.
    pub(crate) older: Option<Slot>,
}

/// The first bytes of both slots: what changes with every write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp([Option<Vec<u8>>; 2]);

impl Stamp {
    /// Reads what changes with every write, without reading the rest.
    pub(crate) fn read(file: &dyn DiskFile) -> io::Result<Self> {
        Ok(Self([read_exactly(file, offset(0), STAMP)?, read_exactly(file, offset(1), STAMP)?]))
    }

    /// The slot of this turn was written so.
    pub(crate) fn replace(&mut self, turn: u64, mut written: Vec<u8>) {
        let Self([even, odd]) = self;
        written.truncate(STAMP);
        *(if turn % 2 == 0 { even } else { odd }) = Some(written);
    }
}

impl Slots {
    /// Reads both slots. What cannot be read as one of this session's is as good as not there.
    pub(crate) fn read(id: SessionId, file: &dyn DiskFile) -> io::Result<Self> {
        let first = Self::read_one(id, file, 0)?;
        let second = Self::read_one(id, file, 1)?;
        let turn = |slot: &Option<Slot>| slot.as_ref().map_or(0, |slot| slot.turn);
        Ok(if turn(&first) >= turn(&second) {
            Self { newest: first, older: second }
        } else {
            Self { newest: second, older: first }
        })
    }

    fn read_one(id: SessionId, file: &dyn DiskFile, turn: u64) -> io::Result<Option<Slot>> {
        let bytes = read_exactly(file, offset(turn), SLOT)?;
        // A slot in the other one's place would make both take turns in the same place.
        Ok(bytes.and_then(|bytes| decode(id, &bytes)).filter(|slot| slot.turn % 2 == turn % 2))
    }

    /// Both, the newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.newest.iter().chain(&self.older)
    }

    /// The turn of the newest.
    pub(crate) fn turn(&self) -> u64 {
        self.newest.as_ref().map_or(0, |slot| slot.turn)
    }

    /// Whether a flush began and is not known to have ended well.
    pub(crate) fn flushing(&self) -> bool {
        self.newest.as_ref().is_some_and(|slot| slot.flushing)
    }

    /// The highest mark.
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.iter().filter_map(|slot| slot.mark).max_by_key(|mark| mark.tip.revision)
    }
}

impl Slot {
    pub(crate) fn new(turn: u64, boot: &str, mark: Option<Mark>, length: u64, head: Option<Head>) -> Self {
        Self { turn, flushing: false, format: FORMAT, boot: boot.to_owned(), mark, length, head }
    }

    /// The same, saying that a flush begins.
    pub(crate) fn flushing(mut self) -> Self {
        self.flushing = true;
        self
    }

    /// Writes it over the older one, and returns what was written.
    pub(crate) fn write(&self, id: SessionId, file: &dyn DiskFile) -> io::Result<Vec<u8>> {
        let bytes = self.encode(id);
        write_all(file, &bytes, offset(self.turn))?;
        Ok(bytes)
    }

    fn encode(&self, id: SessionId) -> Vec<u8> {
        let json = |slot: &Self| serde_json::to_vec(slot).expect("a slot has only texts as keys");
        let mut bytes = json(self);
        if bytes.len() + ENDING > SLOT {
            // The head is a cache: one that has no room is not kept.
            bytes = json(&Self { head: None, ..self.clone() });
        }
        bytes.truncate(bytes.len().saturating_sub(1));
        let sum = sum(id, &bytes);
        bytes.extend_from_slice(format!(",\"sum\":\"{sum:016x}\"}}").as_bytes());
        bytes.resize(SLOT - 1, b' ');
        bytes.push(b'\n');
        bytes
    }
}

/// Writes all of these bytes, in as few calls as the disk allows.
pub(crate) fn write_all(file: &dyn DiskFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = file.write_at(bytes, offset)?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        offset += n as u64;
        bytes = bytes.get(n..).unwrap_or_default();
    }
    Ok(())
}

const fn offset(turn: u64) -> u64 {
    (turn % 2) * SLOT as u64
}

fn decode(id: SessionId, bytes: &[u8]) -> Option<Slot> {
    let json = bytes.trim_ascii_end();
    let (body, ending) = json.split_at_checked(json.len().checked_sub(ENDING)?)?;
    if ending != format!(",\"sum\":\"{:016x}\"}}", sum(id, body)).as_bytes() {
        return None;
    }
    let slot: Slot = serde_json::from_slice(json).ok()?;
    let whole = slot.head.as_ref().is_none_or(|head| head.id == id);
    (whole && slot.format <= FORMAT).then_some(slot)
}

/// Seeded with the session, so that another session's slots are none.
fn sum(id: SessionId, body: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(id.as_bytes());
    hasher.update(body);
    hasher.digest()
}
