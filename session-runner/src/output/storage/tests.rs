//! The laws of the output port, checked on the file implementation.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_795_253_400_000 + millis).unwrap()
}

struct Fixture {
    _folder: tempfile::TempDir,
    output: FileOutput,
    id: SessionId,
}

impl Fixture {
    fn new(limit: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = FileOutput::new(folder.path().join("sessions")).limit(limit);
        Self { output, id: SessionId::random(), _folder: folder }
    }

    fn writer(&self) -> Box<dyn OutputWriter> {
        self.output.writer(self.id).unwrap()
    }

    fn chunks(&self) -> Vec<Chunk> {
        self.output.read(self.id, 0, usize::MAX).unwrap().chunks
    }

    fn bytes(&self) -> Vec<u8> {
        self.chunks().into_iter().flat_map(|chunk| chunk.bytes).collect()
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.output.folder(self.id).join(name)
    }
}

use OutputStream::{Stderr, Stdout};

#[test]
fn output_is_read_back_in_order_with_its_streams() {
    let fixture = Fixture::new(1 << 20);
    assert_eq!(fixture.output.length(fixture.id).unwrap(), OutputLength::default());
    assert_eq!(fixture.chunks(), []);
    let mut writer = fixture.writer();
    for (stream, text) in
        [(Stdout, &b"one "[..]), (Stdout, b"two\n"), (Stderr, b"three"), (Stdout, b"\xe2\x98")]
    {
        assert_eq!(writer.append(stream, 1, at(0), text).unwrap(), Stored::Whole);
    }
    let chunks = fixture.chunks();
    let found: Vec<_> = chunks.iter().map(|chunk| (chunk.offset, chunk.stream, chunk.bytes.len())).collect();
    assert_eq!(found, [(0, Stdout, 8), (8, Stderr, 5), (13, Stdout, 2)]);
    assert_eq!(writer.length(), fixture.output.length(fixture.id).unwrap());
    assert_eq!(fs::read(fixture.file("bytes")).unwrap(), fixture.bytes(), "`cat` shows what was printed");
    for (name, mode) in [("bytes", 0o600), ("index", 0o600), ("", 0o700)] {
        let found = fs::metadata(fixture.file(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
}

#[test]
fn every_offset_and_page_size_reads_the_same_bytes() {
    let fixture = Fixture::new(1 << 20);
    let mut writer = fixture.writer();
    for (turn, size) in [1usize, 7, 2, 30, 1, 1, 64, 3].into_iter().enumerate() {
        let stream = if turn % 3 == 0 { Stderr } else { Stdout };
        let bytes: Vec<u8> = (0..size).map(|byte| u8::try_from(turn * 31 + byte).unwrap_or(0)).collect();
        writer.append(stream, 1, at(0), &bytes).unwrap();
    }
    let all = fixture.bytes();
    for from in 0..=all.len() {
        for limit in [0, 1, 5, 1000] {
            let (mut seen, mut next) = (Vec::new(), from as u64);
            loop {
                let page = fixture.output.read(fixture.id, next, limit).unwrap();
                let Some(last) = page.chunks.last() else { break };
                assert_eq!(page.chunks[0].offset, next);
                next = last.end();
                seen.extend(page.chunks.into_iter().flat_map(|chunk| chunk.bytes));
            }
            assert_eq!(seen, all[from..], "from {from}, {limit} at a time");
        }
    }
}

#[test]
fn appends_of_the_same_kind_join_a_chunk_for_a_second() {
    let fixture = Fixture::new(1 << 20);
    let mut writer = fixture.writer();
    for (stream, attempt, millis) in [
        (Stdout, 1, 0),
        (Stdout, 1, 999),
        (Stdout, 1, 1000),
        (Stderr, 1, 1000),
        (Stdout, 1, 1000),
        (Stdout, 2, 1000),
    ] {
        writer.append(stream, attempt, at(millis), b"x").unwrap();
    }
    let found: Vec<_> =
        fixture.chunks().iter().map(|chunk| (chunk.attempt, chunk.at, chunk.bytes.len())).collect();
    assert_eq!(
        found,
        [(1, at(0), 2), (1, at(1000), 1), (1, at(1000), 1), (1, at(1000), 1), (2, at(1000), 1)]
    );
}

#[test]
fn output_beyond_the_limit_is_cut_once() {
    for limit in [0u64, 1, 5, 6, 7, 100] {
        let fixture = Fixture::new(limit.max(1) * 64);
        let limit = limit.max(1) * 64;
        let mut writer = fixture.writer();
        let text: Vec<u8> = (0..u8::MAX).cycle().take(usize::try_from(limit).unwrap() * 2).collect();
        let mut cuts = 0;
        for piece in text.chunks(48) {
            match writer.append(Stdout, 1, at(0), piece).unwrap() {
                Stored::Cut { .. } => cuts += 1,
                Stored::Whole => assert_eq!(cuts, 0),
                Stored::Beyond => assert_eq!(cuts, 1),
            }
        }
        assert_eq!(cuts, 1);
        assert_eq!(fixture.bytes(), text[..usize::try_from(limit).unwrap()]);
        assert_eq!(
            fixture.output.length(fixture.id).unwrap(),
            OutputLength::new(limit, Some(OutputCut { attempt: 1, at: at(0) }))
        );
        drop(writer);
        // The next attempt finds it cut and adds nothing, not even another mark.
        let before = fs::read(fixture.file("index")).unwrap();
        let mut writer = fixture.writer();
        assert_eq!(writer.append(Stdout, 2, at(0), b"more").unwrap(), Stored::Beyond);
        assert_eq!(fs::read(fixture.file("index")).unwrap(), before);
    }
}

#[test]
fn output_of_exactly_the_limit_is_not_cut() {
    let fixture = Fixture::new(64);
    let mut writer = fixture.writer();
    assert_eq!(writer.append(Stdout, 1, at(0), &[7; 64]).unwrap(), Stored::Whole);
    assert!(!writer.length().truncated());
    assert_eq!(writer.append(Stdout, 1, at(0), &[7]).unwrap(), Stored::Cut { bytes: 0 });
    assert!(writer.length().truncated());
}

#[test]
fn alternating_streams_cannot_grow_the_index_without_bound() {
    let fixture = Fixture::new(64 * 1024);
    let mut writer = fixture.writer();
    for turn in 0..20_000 {
        writer.append(if turn % 2 == 0 { Stdout } else { Stderr }, 1, at(0), b"x").unwrap();
    }
    assert!(writer.length().truncated());
    assert!(fs::metadata(fixture.file("index")).unwrap().len() <= 64 * 1024 * 2 + 256);
}

#[test]
fn each_attempt_appends_after_the_last_one() {
    let fixture = Fixture::new(1 << 20);
    for attempt in 1..=3 {
        let mut writer = fixture.writer();
        writer.append(Stdout, attempt, at(0), format!("attempt {attempt}\n").as_bytes()).unwrap();
    }
    let found: Vec<_> = fixture.chunks().iter().map(|chunk| (chunk.offset, chunk.attempt)).collect();
    assert_eq!(found, [(0, 1), (10, 2), (20, 3)]);
}

#[test]
fn a_second_writer_is_refused() {
    let fixture = Fixture::new(1 << 20);
    let writer = fixture.writer();
    assert!(matches!(fixture.output.writer(fixture.id), Err(OutputError::Busy { .. })));
    drop(writer);
    fixture.writer();
}

/// Cuts both files at every length that a killed process can leave: a prefix is read back, and the next attempt appends
/// directly after it.
#[test]
fn output_torn_by_a_crash_reads_as_a_prefix() {
    let fixture = Fixture::new(1 << 20);
    let mut writer = fixture.writer();
    for (stream, text) in [(Stdout, "first"), (Stderr, "second"), (Stdout, "third")] {
        writer.append(stream, 1, at(0), text.as_bytes()).unwrap();
    }
    drop(writer);
    let (bytes, index) = (fs::read(fixture.file("bytes")).unwrap(), fs::read(fixture.file("index")).unwrap());
    let ends = [0usize, 5, 11, 16];
    for index_length in 0..=index.len() {
        // Bytes are written before their entry, and the system may keep either of them.
        for bytes_length in 0..=bytes.len() {
            let (index, bytes) = (&index[..index_length], &bytes[..bytes_length]);
            for (name, content) in [("index", index), ("bytes", bytes)] {
                // Some file systems flush a file that is truncated and rewritten, which is slow 3,000 times.
                fs::remove_file(fixture.file(name)).unwrap();
                fs::write(fixture.file(name), content).unwrap();
            }
            let valid = (0..=index_length / index::ENTRY).rev().find(|n| ends[*n] <= bytes_length).unwrap();
            assert_eq!(fixture.bytes(), bytes[..ends[valid]], "{index_length} {bytes_length}");
            fixture.writer().append(Stdout, 2, at(0), b"next").unwrap();
            let shown = fixture.bytes();
            assert_eq!(shown, [&bytes[..ends[valid]], b"next"].concat(), "{index_length} {bytes_length}");
        }
    }
}

#[test]
fn damage_is_an_error_at_its_own_offset() {
    let fixture = Fixture::new(1 << 20);
    let mut writer = fixture.writer();
    for stream in [Stdout, Stderr, Stdout, Stderr] {
        writer.append(stream, 1, at(0), b"0123456789").unwrap();
    }
    drop(writer);
    for name in ["bytes", "index"] {
        let good = fs::read(fixture.file(name)).unwrap();
        let unit = good.len() / 4;
        for byte in 0..3 * unit {
            let mut bad = good.clone();
            bad[byte] ^= 0x01;
            fs::write(fixture.file(name), &bad).unwrap();
            let mut from = 0;
            let error = loop {
                match fixture.output.read(fixture.id, from, 1) {
                    Ok(page) => from = page.chunks.last().expect("the damage is found before the end").end(),
                    Err(error) => break error,
                }
            };
            let start = (byte / unit * 10) as u64;
            assert!(
                matches!(error, OutputError::Damaged { offset, .. } if offset == start),
                "{name} {byte}: {error}"
            );
            assert_eq!(from, start, "{name} {byte} {error:?}");
            assert!(fixture.output.read(fixture.id, start, 1).is_err());
        }
        fs::write(fixture.file(name), &good).unwrap();
    }
}

#[test]
fn symbolic_links_are_not_followed() {
    let fixture = Fixture::new(1 << 20);
    let outside = tempfile::tempdir().unwrap();
    drop(fixture.writer());
    for name in ["bytes", "index"] {
        fs::remove_file(fixture.file(name)).unwrap();
        std::os::unix::fs::symlink(outside.path().join("target"), fixture.file(name)).unwrap();
        assert!(fixture.output.writer(fixture.id).is_err(), "{name}");
        fs::remove_file(fixture.file(name)).unwrap();
    }
    fs::remove_dir_all(fixture.file("")).unwrap();
    std::os::unix::fs::symlink(
        outside.path(),
        fixture.file("").as_os_str().to_str().unwrap().trim_end_matches('/'),
    )
    .unwrap();
    assert!(fixture.output.writer(fixture.id).is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn in_session_folders_creates_no_session_folder() {
    let folder = tempfile::tempdir().unwrap();
    let output = FileOutput::in_session_folders(folder.path());
    assert!(output.writer(SessionId::random()).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let id = SessionId::random();
    fs::create_dir(folder.path().join(id.to_string())).unwrap();
    output.writer(id).unwrap().append(Stdout, 1, at(0), b"x").unwrap();
    assert_eq!(output.length(id).unwrap().bytes, 1);
}

#[test]
fn tail_finds_the_last_lines_of_one_or_both_streams() {
    let fixture = Fixture::new(1 << 20);
    let mut writer = fixture.writer();
    let lines: Vec<(OutputStream, String)> = (0..4000)
        .map(|n| (if n % 3 == 0 { Stderr } else { Stdout }, format!("line {n} {}\n", "x".repeat(n % 90))))
        .collect();
    for (stream, line) in &lines {
        writer.append(*stream, 1, at(0), line.as_bytes()).unwrap();
    }
    for open_end in [false, true] {
        for of in [None, Some(Stdout), Some(Stderr)] {
            let mut own: Vec<String> = lines
                .iter()
                .filter(|(stream, _)| of.is_none_or(|of| of == *stream))
                .map(|(_, line)| line.clone())
                .collect();
            if open_end && of != Some(Stderr) {
                own.push("open end".to_owned());
            }
            for wanted in [0, 1, 2, 10, 1000, own.len() - 1, own.len(), own.len() + 5] {
                let from = fixture.output.tail(fixture.id, wanted as u64, of).unwrap();
                let chunks = fixture.output.read(fixture.id, from, usize::MAX).unwrap().chunks;
                let shown: Vec<u8> = chunks
                    .into_iter()
                    .filter(|chunk| of.is_none_or(|of| of == chunk.stream))
                    .flat_map(|chunk| chunk.bytes)
                    .collect();
                let expected = own[own.len().saturating_sub(wanted)..].concat();
                assert_eq!(String::from_utf8(shown).unwrap(), expected, "{of:?} {wanted} {open_end}");
            }
        }
        writer.append(Stdout, 1, at(0), b"open end").unwrap();
    }
}

/// A reader next to a writer that grows its chunks sees only prefixes, and everything at the end.
#[test]
fn a_concurrent_reader_sees_only_prefixes() {
    let fixture = Fixture::new(1 << 24);
    let text: Vec<u8> = (0..400_000u32).flat_map(u32::to_le_bytes).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = fixture.writer();
            for (turn, piece) in text.chunks(997).enumerate() {
                let stream = if turn % 5 == 0 { Stderr } else { Stdout };
                writer.append(stream, 1, at(0), piece).unwrap();
            }
        });
        let mut next = 0;
        while next < text.len() {
            for chunk in fixture.output.read(fixture.id, next as u64, 100_000).unwrap().chunks {
                assert_eq!(chunk.offset, next as u64);
                assert_eq!(chunk.bytes, text[next..next + chunk.bytes.len()]);
                next += chunk.bytes.len();
            }
        }
    });
}
