//! `head.json`: two slots at fixed offsets, written in turn, each with its own sum. A slot has a cached head
//! and, independent of it, the mark of what is known to be flushed. The loss of both slots loses no record.

use std::borrow::Cow;
use std::io;

use serde::{Deserialize, Serialize};
use session_core::backend::{FORMAT, Tip};
use session_core::limits::HEAD_BYTES;
use session_core::{Head, SessionId};
use xxhash_rust::xxh3::Xxh3;

use crate::disk::DiskFile;
use crate::scan::read_exactly;

/// The size of one slot in bytes: the largest head and the other fields.
const SLOT: usize = HEAD_BYTES + 512;
/// The size in bytes of `,"sum":"0123456789abcdef"}`, with which a slot's JSON ends, like each record.
const ENDING: usize = 26;
/// The size in bytes of a slot's start, enough to detect a later write: it includes the turn.
const STAMP: usize = 40;

/// The flush mark: the part of a log that is known to be on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The last flushed record.
    pub(crate) tip: Tip,
    /// The end of that record in the log, in bytes.
    pub(crate) length: u64,
}

/// The content of one slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slot<'a> {
    /// The write counter; of two slots, the one with the higher turn is newer.
    pub(crate) turn: u64,
    /// `true` if a flush of the log has started and is not known to have succeeded.
    pub(crate) flushing: bool,
    /// The format of the writer; a slot of a newer format is ignored.
    pub(crate) format: u32,
    /// The boot id at the time of the write.
    pub(crate) boot: Cow<'a, str>,
    /// The flush mark.
    pub(crate) mark: Option<Mark>,
    /// The end of the record up to which `head` is the fold, in bytes.
    pub(crate) length: u64,
    /// The fold of the log up to that record.
    pub(crate) head: Option<Cow<'a, Head>>,
}

/// Both slots, as far as they can be read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slots {
    /// The slot that was written last.
    pub(crate) newest: Option<Slot<'static>>,
    /// The slot that was written before it.
    pub(crate) older: Option<Slot<'static>>,
}

/// The first bytes of both slots, which change with every write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp([Option<Vec<u8>>; 2]);

impl Stamp {
    /// Reads the first bytes of both slots.
    pub(crate) fn read(file: &dyn DiskFile) -> io::Result<Self> {
        Ok(Self([read_exactly(file, offset(0), STAMP)?, read_exactly(file, offset(1), STAMP)?]))
    }

    /// Returns `true` if no process has written a slot since that of `turn`: the next write replaces the older
    /// slot.
    pub(crate) fn is_current(&self, file: &dyn DiskFile, turn: u64) -> io::Result<bool> {
        let Self([even, odd]) = self;
        let older = if turn.is_multiple_of(2) { odd } else { even };
        Ok(read_exactly(file, offset(turn + 1), STAMP)? == *older)
    }

    /// Records the bytes that were written as the slot of this turn.
    pub(crate) fn replace(&mut self, turn: u64, mut written: Vec<u8>) {
        let Self([even, odd]) = self;
        written.truncate(STAMP);
        written.shrink_to_fit();
        *(if turn.is_multiple_of(2) { even } else { odd }) = Some(written);
    }
}

impl Slots {
    /// Reads both slots. A slot that is damaged or belongs to another session is treated as missing.
    pub(crate) fn read(id: SessionId, file: &dyn DiskFile) -> io::Result<Self> {
        Ok(Self::of(id, &read_both(file)?))
    }

    /// Like [`read`](Self::read), without the older slot if the newer one is readable and has a head.
    pub(crate) fn read_newest(id: SessionId, file: &dyn DiskFile) -> io::Result<Self> {
        let both = read_both(file)?;
        let [even, odd] = &both;
        let newer = if claimed_turn(even) > claimed_turn(odd) { even } else { odd };
        Ok(match decode(id, newer).filter(|slot| slot.head.is_some()) {
            Some(slot) => Self { newest: Some(slot), older: None },
            None => Self::of(id, &both),
        })
    }

    fn of(id: SessionId, both: &[Vec<u8>; 2]) -> Self {
        let [first, second] = both.each_ref().map(|bytes| decode(id, bytes));
        let turn = |slot: Option<&Slot<'_>>| slot.map_or(0, |slot| slot.turn);
        // Each slot is used only at its own offset: otherwise both would be written at the same one.
        let first = first.filter(|slot| slot.turn.is_multiple_of(2));
        let second = second.filter(|slot| !slot.turn.is_multiple_of(2));
        if turn(first.as_ref()) >= turn(second.as_ref()) {
            Self { newest: first, older: second }
        } else {
            Self { newest: second, older: first }
        }
    }

    /// Iterates over both slots, the newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot<'static>> {
        self.newest.iter().chain(&self.older)
    }

    /// Returns the turn of the newest slot.
    pub(crate) fn turn(&self) -> u64 {
        self.newest.as_ref().map_or(0, |slot| slot.turn)
    }

    /// Returns `true` if a flush has started and is not known to have succeeded.
    pub(crate) fn flushing(&self) -> bool {
        self.newest.as_ref().is_some_and(|slot| slot.flushing)
    }

    /// Returns the highest mark.
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.iter().filter_map(|slot| slot.mark).max_by_key(|mark| mark.tip.revision)
    }
}

impl<'a> Slot<'a> {
    pub(crate) fn new(
        turn: u64,
        boot: &'a str,
        mark: Option<Mark>,
        length: u64,
        head: Option<&'a Head>,
    ) -> Self {
        let (boot, head) = (Cow::Borrowed(boot), head.map(Cow::Borrowed));
        Self { turn, flushing: false, format: FORMAT, boot, mark, length, head }
    }

    /// Returns this slot as the announcement of a flush, without a head: the slot before it has one.
    pub(crate) fn flushing(mut self) -> Self {
        self.flushing = true;
        self.head = None;
        self
    }

    /// Writes it over the older slot. Returns the written bytes.
    pub(crate) fn write(&self, id: SessionId, file: &dyn DiskFile) -> io::Result<Vec<u8>> {
        let bytes = self.encode(id);
        write_all(file, &bytes, offset(self.turn))?;
        Ok(bytes)
    }

    fn encode(&self, id: SessionId) -> Vec<u8> {
        let json = |slot: &Self, mut bytes: Vec<u8>| {
            serde_json::to_writer(&mut bytes, slot).expect("all keys of a slot are strings");
            bytes
        };
        let mut bytes = json(self, Vec::with_capacity(SLOT));
        if bytes.len() + ENDING > SLOT {
            // The head is a cache: it is left out if it does not fit.
            bytes = json(&Self { head: None, ..self.clone() }, Vec::with_capacity(SLOT));
        }
        bytes.truncate(bytes.len().saturating_sub(1));
        let sum = sum(id, &bytes);
        bytes.extend_from_slice(format!(",\"sum\":\"{sum:016x}\"}}\n").as_bytes());
        bytes
    }
}

/// Reads the bytes of both slots, the one with even turns first.
fn read_both(file: &dyn DiskFile) -> io::Result<[Vec<u8>; 2]> {
    let mut even = vec![0; 2 * SLOT];
    let mut filled = 0;
    let is_complete = |odd: Option<&[u8]>| odd.is_some_and(|odd| memchr::memchr(b'\n', odd).is_some());
    // Bytes after the second line are remains of an earlier write and are ignored.
    while !is_complete(even.get(SLOT..filled))
        && let Some(rest) = even.get_mut(filled..).filter(|rest| !rest.is_empty())
    {
        match file.read_at(rest, filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    even.truncate(filled);
    let odd = even.split_off(filled.min(SLOT));
    Ok([even, odd])
}

/// Writes all bytes, in as few calls as the disk allows.
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

/// Returns the turn at the start of a slot, even if the slot is damaged.
fn claimed_turn(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.strip_prefix(b"{\"turn\":")?.split(|byte| *byte == b',').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

const fn offset(turn: u64) -> u64 {
    (turn % 2) * SLOT as u64
}

fn decode(id: SessionId, bytes: &[u8]) -> Option<Slot<'static>> {
    // Bytes after the line are remains of a longer one.
    let json = bytes.get(..memchr::memchr(b'\n', bytes)?)?.trim_ascii_end();
    let (body, ending) = json.split_at_checked(json.len().checked_sub(ENDING)?)?;
    if ending != format!(",\"sum\":\"{:016x}\"}}", sum(id, body)).as_bytes() {
        return None;
    }
    let slot: Slot<'static> = serde_json::from_slice(json).ok()?;
    // No record can claim that it was flushed itself, so no fold of records can.
    let head_is_possible =
        slot.head.as_ref().is_none_or(|head| head.id == id && head.flushed < head.tip.revision);
    let tips = slot.head.iter().map(|head| head.tip).chain(slot.mark.map(|mark| mark.tip));
    // No counter legitimately gets this far, and a counter that continues from here must not overflow.
    let counters_are_possible =
        tips.map(|tip| tip.revision).chain([slot.turn]).all(|number| number < u64::MAX / 2);
    (head_is_possible && counters_are_possible && slot.format <= FORMAT).then_some(slot)
}

/// Hashes the session id and the body, so that the slots of another session are rejected.
fn sum(id: SessionId, body: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(id.as_bytes());
    hasher.update(body);
    hasher.digest()
}

#[cfg(test)]
mod tests;
