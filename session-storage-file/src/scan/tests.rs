//! Lines of a log for all sizes of reads.

use session_core::limits::RECORD_BYTES;

use super::*;

/// A source that returns at most this many bytes per read.
struct Trickle<'a>(&'a [u8], usize);

impl ReadAt for Trickle<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let most = buffer.len().min(self.1);
        self.0.read_at(&mut buffer[..most], offset)
    }
}

type Seen = Vec<(Vec<u8>, u64, bool, bool)>;

fn lines<S: ReadAt>(source: &S, from: u64) -> Seen {
    let mut lines = LineReader::from(source, from);
    let mut seen = Vec::new();
    while let Some(line) = lines.next().unwrap() {
        seen.push((line.bytes.to_vec(), line.end, line.complete, line.has_zeroes()));
    }
    seen
}

#[test]
fn lines_do_not_depend_on_read_sizes() {
    for text in ["", "\n", "a", "a\n", "\n\n", "ab\ncd\n\nef", "\0\0\n\0", "abc\n\0\n"] {
        let mut end = 0;
        let expected: Seen = text
            .as_bytes()
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| {
                end += line.len() as u64;
                let content = line.strip_suffix(b"\n").unwrap_or(line);
                (content.to_vec(), end, line.ends_with(b"\n"), content.contains(&0))
            })
            .collect();
        for at_a_time in 1..=text.len() + 1 {
            assert_eq!(lines(&Trickle(text.as_bytes(), at_a_time), 0), expected, "{text:?}, {at_a_time}");
        }
    }
}

#[test]
fn an_overlong_line_takes_bounded_memory() {
    for (length, zero_at, complete) in [
        (RECORD_BYTES + 1, None, true),
        (3 * RECORD_BYTES, Some(2 * RECORD_BYTES + 7), true),
        (5 << 20, None, false),
    ] {
        let mut bytes = vec![b'x'; length];
        if let Some(at) = zero_at {
            bytes[at] = 0;
        }
        if complete {
            bytes.extend_from_slice(b"\nnext\n");
        }
        let seen = lines(&Trickle(&bytes, usize::MAX), 0);
        let (kept, end, ended, zeroes) = &seen[0];
        assert_eq!((*ended, *zeroes), (complete, zero_at.is_some()));
        assert_eq!(*end, length as u64 + u64::from(complete));
        assert!(kept.len() >= RECORD_BYTES && kept.len() <= RECORD_BYTES + LARGEST_READ, "{}", kept.len());
        assert_eq!(seen.len(), 1 + usize::from(complete));
        if complete {
            assert_eq!(seen[1].0, b"next");
        }
    }
}
