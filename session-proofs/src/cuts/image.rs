//! The content of the disk after a power cut: all that was flushed, and any part of the rest.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::recorder::Entry;
use super::workload::Mark;
use session_testkit::random::Random;

/// A recording that is replayed up to a cut.
#[derive(Debug)]
pub(super) struct Replay<'a> {
    entries: &'a [Entry<Mark>],
    at: usize,
    flushed: Vec<u8>,
    /// Writes since the last flush.
    pending: Vec<(usize, &'a [u8])>,
    pub(super) marks: Vec<&'a Mark>,
}

/// The part of the unflushed writes that reached the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    All,
    None,
    Prefix,
    /// Each write by chance: another order.
    Some,
    /// Each sector by chance.
    Torn,
}

const SECTOR: usize = 512;
/// The unit in which zeros stay holes of the image's file.
const CHUNK: usize = 64 * 1024;

impl<'a> Replay<'a> {
    pub(super) fn new(entries: &'a [Entry<Mark>], size: usize) -> Self {
        Self { entries, at: 0, flushed: vec![0; size], pending: Vec::new(), marks: Vec::new() }
    }

    /// Goes on to a cut behind this many entries.
    pub(super) fn advance(&mut self, cut: usize) {
        while self.at < cut {
            match self.entries.get(self.at) {
                Some(Entry::Write { offset, bytes }) => self.pending.push((*offset, bytes)),
                Some(Entry::Flush) => {
                    for (offset, bytes) in self.pending.drain(..) {
                        put(&mut self.flushed, offset, bytes);
                    }
                }
                Some(Entry::Mark(mark)) => self.marks.push(mark),
                None => {}
            }
            self.at += 1;
        }
    }

    /// Writes the image to a file. Returns the number of unflushed writes that it has, and that there were.
    pub(super) fn write(&self, path: &Path, kept: Kept, random: &mut Random) -> io::Result<(usize, usize)> {
        let mut disk = self.flushed.clone();
        let prefix = random.below(self.pending.len() + 1);
        let share = random.pick(&[20, 50, 80]).copied().unwrap_or(50);
        let mut count = 0;
        for (number, (offset, bytes)) in self.pending.iter().enumerate() {
            let keep = match kept {
                Kept::All | Kept::Torn => true,
                Kept::None => false,
                Kept::Prefix => number < prefix,
                Kept::Some => random.percent(share),
            };
            if !keep {
                continue;
            }
            count += 1;
            if kept == Kept::Torn {
                for (sector, bytes) in bytes.chunks(SECTOR).enumerate() {
                    if random.percent(share) {
                        put(&mut disk, offset + sector * SECTOR, bytes);
                    }
                }
            } else {
                put(&mut disk, *offset, bytes);
            }
        }
        let file = File::create(path)?;
        file.set_len(disk.len() as u64)?;
        // Zeros stay holes: most of the disk.
        for (number, chunk) in disk.chunks(CHUNK).enumerate() {
            if chunk.iter().any(|byte| *byte != 0) {
                file.write_all_at(chunk, (number * CHUNK) as u64)?;
            }
        }
        Ok((count, self.pending.len()))
    }
}

fn put(disk: &mut [u8], offset: usize, bytes: &[u8]) {
    if let Some(place) = disk.get_mut(offset..offset + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: usize, byte: u8) -> Entry<Mark> {
        Entry::Write { offset, bytes: vec![byte; 1024] }
    }

    fn image(entries: &[Entry<Mark>], cut: usize, kept: Kept, seed: u64) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut replay = Replay::new(entries, 4096);
        replay.advance(cut);
        replay.write(file.path(), kept, &mut Random::new(seed)).unwrap();
        std::fs::read(file.path()).unwrap()
    }

    #[test]
    fn flushed_writes_are_in_every_image() {
        let entries = [write(0, 1), Entry::Flush, write(1024, 2), write(2048, 3)];
        for seed in 0..50 {
            for kept in [Kept::All, Kept::None, Kept::Prefix, Kept::Some, Kept::Torn] {
                assert!(image(&entries, 4, kept, seed)[..1024].iter().all(|byte| *byte == 1));
            }
        }
        assert_eq!(image(&entries, 4, Kept::None, 1)[1024..], [0; 3072]);
        assert_eq!(image(&entries, 4, Kept::All, 1)[2048..3072], [3; 1024]);
    }

    #[test]
    fn unflushed_writes_are_reordered_and_torn() {
        let entries = [write(0, 1), write(1024, 2)];
        let reordered = (0..50).map(|seed| image(&entries, 2, Kept::Some, seed));
        assert!(reordered.into_iter().any(|disk| disk[0] == 0 && disk[1024] == 2));
        let torn = (0..50).map(|seed| image(&entries, 2, Kept::Torn, seed));
        assert!(torn.into_iter().any(|disk| disk[0] != disk[512]));
        assert!((0..50).all(|seed| {
            let disk = image(&entries, 2, Kept::Prefix, seed);
            disk[0] == 1 || disk[1024] == 0
        }));
    }
}
