//! `head.json`: two slots at fixed places, written in turn, each with its own sum. A slot holds a cache of the head and,
//! apart from it, what is known to be flushed. Losing both slots loses no record.

use std::borrow::Cow;
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
pub(crate) struct Slot<'a> {
    /// One more with each write; of two slots, the higher one is the newer.
    pub(crate) turn: u64,
    /// A flush of the log has begun and is not known to have ended well.
    pub(crate) flushing: bool,
    /// The format of whoever wrote it: a newer one's head is not read.
    pub(crate) format: u32,
    /// The boot in which it was written.
    pub(crate) boot: Cow<'a, str>,
    /// What is known to be flushed.
    pub(crate) mark: Option<Mark>,
    /// Where the record ends that `head` is the head after.
    pub(crate) length: u64,
    /// The fold of the log up to there.
    pub(crate) head: Option<Cow<'a, Head>>,
}

/// Both slots, as far as they can be read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slots {
    /// The one that was written last.
    pub(crate) newest: Option<Slot<'static>>,
    /// The one before it.
    pub(crate) older: Option<Slot<'static>>,
}

/// The first bytes of both slots: what changes with every write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp([Option<Vec<u8>>; 2]);

impl Stamp {
    /// Reads what changes with every write, without reading the rest.
    pub(crate) fn read(file: &dyn DiskFile) -> io::Result<Self> {
        Ok(Self([read_exactly(file, offset(0), STAMP)?, read_exactly(file, offset(1), STAMP)?]))
    }

    /// Whether nobody has written a slot since that of `turn`: the next one goes where the older one is.
    pub(crate) fn is_current(&self, file: &dyn DiskFile, turn: u64) -> io::Result<bool> {
        let Self([even, odd]) = self;
        let older = if turn.is_multiple_of(2) { odd } else { even };
        Ok(read_exactly(file, offset(turn + 1), STAMP)? == *older)
    }

    /// The slot of this turn was written so.
    pub(crate) fn replace(&mut self, turn: u64, mut written: Vec<u8>) {
        let Self([even, odd]) = self;
        written.truncate(STAMP);
        written.shrink_to_fit();
        *(if turn.is_multiple_of(2) { even } else { odd }) = Some(written);
    }
}

impl Slots {
    /// Reads both slots. What cannot be read as one of this session's is as good as not there.
    pub(crate) fn read(id: SessionId, file: &dyn DiskFile) -> io::Result<Self> {
        Ok(Self::of(id, &read_both(file)?))
    }

    /// As [`read`](Self::read), without the older slot if the newer one can be read and has the head.
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
        // A slot in the other one's place would make both take turns in the same place.
        let first = first.filter(|slot| slot.turn.is_multiple_of(2));
        let second = second.filter(|slot| !slot.turn.is_multiple_of(2));
        if turn(first.as_ref()) >= turn(second.as_ref()) {
            Self { newest: first, older: second }
        } else {
            Self { newest: second, older: first }
        }
    }

    /// Both, the newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot<'static>> {
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

    /// The same, saying that a flush begins, and nothing else: the slot before it has the head.
    pub(crate) fn flushing(mut self) -> Self {
        self.flushing = true;
        self.head = None;
        self
    }

    /// Writes it over the older one, and returns what was written.
    pub(crate) fn write(&self, id: SessionId, file: &dyn DiskFile) -> io::Result<Vec<u8>> {
        let bytes = self.encode(id);
        write_all(file, &bytes, offset(self.turn))?;
        Ok(bytes)
    }

    fn encode(&self, id: SessionId) -> Vec<u8> {
        let json = |slot: &Self, mut bytes: Vec<u8>| {
            serde_json::to_writer(&mut bytes, slot).expect("a slot has only texts as keys");
            bytes
        };
        let mut bytes = json(self, Vec::with_capacity(SLOT));
        if bytes.len() + ENDING > SLOT {
            // The head is a cache: one that has no room is not kept.
            bytes = json(&Self { head: None, ..self.clone() }, Vec::with_capacity(SLOT));
        }
        bytes.truncate(bytes.len().saturating_sub(1));
        let sum = sum(id, &bytes);
        bytes.extend_from_slice(format!(",\"sum\":\"{sum:016x}\"}}\n").as_bytes());
        bytes
    }
}

/// What is there of both slots, that of the even turns first.
fn read_both(file: &dyn DiskFile) -> io::Result<[Vec<u8>; 2]> {
    let mut even = vec![0; 2 * SLOT];
    let mut filled = 0;
    let whole = |odd: Option<&[u8]>| odd.is_some_and(|odd| memchr::memchr(b'\n', odd).is_some());
    // What is left over behind the second line, and whether there is anything, matters to nobody.
    while !whole(even.get(SLOT..filled))
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

/// The turn that stands at the beginning of a slot, whether the slot is whole or not.
fn claimed_turn(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.strip_prefix(b"{\"turn\":")?.split(|byte| *byte == b',').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

const fn offset(turn: u64) -> u64 {
    (turn % 2) * SLOT as u64
}

fn decode(id: SessionId, bytes: &[u8]) -> Option<Slot<'static>> {
    // What stands behind the line is left over from a longer one.
    let json = bytes.get(..memchr::memchr(b'\n', bytes)?)?.trim_ascii_end();
    let (body, ending) = json.split_at_checked(json.len().checked_sub(ENDING)?)?;
    if ending != format!(",\"sum\":\"{:016x}\"}}", sum(id, body)).as_bytes() {
        return None;
    }
    let slot: Slot<'static> = serde_json::from_slice(json).ok()?;
    // No record can say that it was flushed itself, so no fold of records does.
    let whole = slot.head.as_ref().is_none_or(|head| head.id == id && head.flushed < head.tip.revision);
    let tips = slot.head.iter().map(|head| head.tip).chain(slot.mark.map(|mark| mark.tip));
    // Nobody counts as far, and whoever counts on from there must find a next number.
    let counted = tips.map(|tip| tip.revision).chain([slot.turn]).all(|number| number < u64::MAX / 2);
    (whole && counted && slot.format <= FORMAT).then_some(slot)
}

/// Seeded with the session, so that another session's slots are none.
fn sum(id: SessionId, body: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(id.as_bytes());
    hasher.update(body);
    hasher.digest()
}

#[cfg(test)]
mod tests;
