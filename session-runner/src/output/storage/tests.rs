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
    limits: OutputLimits,
    id: SessionId,
}

impl Fixture {
    fn new() -> Self {
        Self::with_limits(OutputLimits::default())
    }

    fn with_limits(limits: OutputLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = FileOutput::new(folder.path().join("sessions"));
        Self { output, limits, id: SessionId::random(), _folder: folder }
    }

    fn writer(&self) -> Box<dyn OutputWriter> {
        self.output.writer_within(self.id, self.limits, std::time::Duration::from_secs(30)).unwrap()
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

    /// Returns the names of the files, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.file("")).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }
}

use OutputStream::{Stderr, Stdout, Terminal};

/// Returns a stream for each number; standard output has the most.
const fn stream_of(number: u64) -> OutputStream {
    match number % 6 {
        0 => Stderr,
        1 | 2 => Terminal,
        _ => Stdout,
    }
}

#[test]
fn output_is_read_back_in_order_with_its_streams() {
    let fixture = Fixture::new();
    assert_eq!(fixture.output.length(fixture.id).unwrap(), OutputLength::default());
    assert_eq!(fixture.chunks(), []);
    let mut writer = fixture.writer();
    for (stream, text) in [
        (Stdout, &b"one "[..]),
        (Stdout, b"two\n"),
        (Stderr, b"three"),
        (Stdout, b"\xe2\x98"),
        (Terminal, b"four\r\n"),
    ] {
        assert_eq!(writer.append(stream, 1, at(0), text).unwrap(), 0);
    }
    let chunks = fixture.chunks();
    let found: Vec<_> = chunks
        .iter()
        .map(|chunk| (chunk.offset, chunk.stream, chunk.stream_offset, chunk.bytes.len()))
        .collect();
    assert_eq!(found, [(0, Stdout, 0, 8), (8, Stderr, 0, 5), (13, Stdout, 8, 2), (15, Terminal, 0, 6)]);
    assert_eq!(writer.length(), fixture.output.length(fixture.id).unwrap());
    let files = [
        "000000000000-out-000000000000-first",
        "000000000008-err-000000000000-first",
        "00000000000f-tty-000000000000-first",
    ]
    .map(|name| ["bytes", "index"].map(|ext| format!("{name}.{ext}")))
    .concat();
    assert_eq!(fixture.names(), [&files[..], &["lock".to_owned()]].concat());
    assert_eq!(
        fs::read(fixture.file(&files[0])).unwrap(),
        b"one two\n\xe2\x98",
        "`cat` shows what was printed"
    );
    for (name, mode) in files.iter().map(|name| (name.as_str(), 0o600)).chain([("", 0o700)]) {
        let found = fs::metadata(fixture.file(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
}

#[test]
fn every_offset_and_page_size_reads_the_same_bytes() {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    for (turn, size) in [1usize, 7, 2, 30, 1, 1, 64, 3].into_iter().enumerate() {
        let stream = stream_of(turn as u64);
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
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    for (stream, attempt, millis) in [
        (Stdout, 1, 0),
        (Stdout, 1, 999),
        (Stdout, 1, 1000),
        (Stderr, 1, 1000),
        (Stdout, 1, 1000),
        (Stdout, 2, 1000),
        (Terminal, 2, 1000),
        (Terminal, 2, 1000),
    ] {
        writer.append(stream, attempt, at(millis), b"x").unwrap();
    }
    let found: Vec<_> =
        fixture.chunks().iter().map(|chunk| (chunk.attempt, chunk.at, chunk.bytes.len())).collect();
    assert_eq!(
        found,
        [
            (1, at(0), 2),
            (1, at(1000), 1),
            (1, at(1000), 1),
            (1, at(1000), 1),
            (2, at(1000), 1),
            (2, at(1000), 2)
        ]
    );
}

#[test]
fn each_attempt_appends_after_the_last_one() {
    let fixture = Fixture::new();
    for attempt in 1..=3 {
        let mut writer = fixture.writer();
        writer.append(Stdout, attempt, at(0), format!("attempt {attempt}\n").as_bytes()).unwrap();
    }
    let found: Vec<_> = fixture.chunks().iter().map(|chunk| (chunk.offset, chunk.attempt)).collect();
    assert_eq!(found, [(0, 1), (10, 2), (20, 3)]);
}

#[test]
fn a_second_writer_is_refused() {
    let fixture = Fixture::new();
    let writer = fixture.writer();
    assert!(matches!(fixture.output.writer(fixture.id, fixture.limits), Err(OutputError::Busy { .. })));
    drop(writer);
    fixture.writer();
}

/// Cuts the files at every length that a killed process can leave: a prefix is read back, and the next attempt appends
/// directly after it.
#[test]
fn output_torn_by_a_crash_reads_as_a_prefix() {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    for (millis, text) in [(0, "first"), (2_000, "second"), (4_000, "third")] {
        writer.append(Stdout, 1, at(millis), text.as_bytes()).unwrap();
    }
    drop(writer);
    let [bytes_name, index_name] = ["bytes", "index"].map(|ext| format!("{SEGMENT}.{ext}"));
    let (bytes, index) =
        (fs::read(fixture.file(&bytes_name)).unwrap(), fs::read(fixture.file(&index_name)).unwrap());
    let ends = [0usize, 5, 11, 16];
    for index_length in 0..=index.len() {
        // Bytes are written before their entry, and the system may keep either of them.
        for bytes_length in 0..=bytes.len() {
            let (index, bytes) = (&index[..index_length], &bytes[..bytes_length]);
            for (name, content) in [(&index_name, index), (&bytes_name, bytes)] {
                // Some file systems flush a file that is truncated and rewritten, which is slow 3,000 times.
                let _ = fs::remove_file(fixture.file(name));
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

/// The segment of a short output.
const SEGMENT: &str = "000000000000-out-000000000000-first";

#[test]
fn half_a_segment_is_ignored_and_removed() {
    let fixture = Fixture::new();
    fixture.writer().append(Stdout, 1, at(0), b"one").unwrap();
    for half in [
        "000000000003-err-000000000000-first.bytes",
        "000000000003-tty-000000000000-first.index",
        "000000000003-out-000000000003-last.index",
    ] {
        fs::write(fixture.file(half), b"torn").unwrap();
        assert_eq!(fixture.bytes(), b"one");
        assert_eq!(fixture.output.length(fixture.id).unwrap().bytes, 3);
        drop(fixture.writer());
        assert!(!fixture.file(half).exists(), "{half}");
    }
    // Both files were created, and nothing was stored.
    for ext in ["bytes", "index"] {
        fs::write(fixture.file(&format!("000000000003-out-000000000003-last.{ext}")), b"").unwrap();
    }
    assert_eq!((fixture.bytes(), fixture.output.length(fixture.id).unwrap().bytes), (b"one".to_vec(), 3));
    fixture.writer().append(Stdout, 1, at(0), b"two").unwrap();
    assert_eq!(fixture.bytes(), b"onetwo");
    assert_eq!(fixture.names().len(), 3, "{:?}", fixture.names());
}

#[test]
fn damage_is_an_error_at_its_own_offset() {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    for millis in [0, 2_000, 4_000, 6_000] {
        writer.append(Stdout, 1, at(millis), b"0123456789").unwrap();
    }
    drop(writer);
    for name in ["bytes", "index"].map(|ext| format!("{SEGMENT}.{ext}")) {
        let good = fs::read(fixture.file(&name)).unwrap();
        let unit = good.len() / 4;
        for byte in 0..3 * unit {
            let mut bad = good.clone();
            bad[byte] ^= 0x01;
            fs::write(fixture.file(&name), &bad).unwrap();
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
        fs::write(fixture.file(&name), &good).unwrap();
    }
}

#[test]
fn only_regular_files_are_opened_and_no_link_is_followed() {
    let fixture = Fixture::new();
    let outside = tempfile::tempdir().unwrap();
    fixture.writer().append(Stdout, 1, at(0), b"x").unwrap();
    for name in ["bytes", "index"].map(|ext| format!("{SEGMENT}.{ext}")) {
        let path = fixture.file(&name);
        let kept = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(outside.path().join("target"), &path).unwrap();
        assert!(fixture.output.writer(fixture.id, fixture.limits).is_err(), "{name}");
        assert!(fixture.output.read(fixture.id, 0, 1).is_err(), "{name}");
        fs::remove_file(&path).unwrap();
        // Regression: opening a pipe waited for its writer.
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        assert!(fixture.output.writer(fixture.id, fixture.limits).is_err(), "{name}");
        assert!(fixture.output.read(fixture.id, 0, 1).is_err(), "{name}");
        assert!(fixture.output.length(fixture.id).is_err(), "{name}");
        fs::remove_file(&path).unwrap();
        fs::write(&path, kept).unwrap();
    }
    fs::remove_dir_all(fixture.file("")).unwrap();
    std::os::unix::fs::symlink(
        outside.path(),
        fixture.file("").as_os_str().to_str().unwrap().trim_end_matches('/'),
    )
    .unwrap();
    assert!(fixture.output.writer(fixture.id, fixture.limits).is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn in_session_folders_creates_no_session_folder() {
    let folder = tempfile::tempdir().unwrap();
    let output = FileOutput::in_session_folders(folder.path());
    let limits = OutputLimits::default();
    assert!(output.writer(SessionId::random(), limits).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let id = SessionId::random();
    fs::create_dir(folder.path().join(id.to_string())).unwrap();
    output.writer(id, limits).unwrap().append(Stdout, 1, at(0), b"x").unwrap();
    assert_eq!(output.length(id).unwrap().bytes, 1);
}

#[test]
fn tail_finds_the_last_lines_of_one_or_all_streams() {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    let lines: Vec<(OutputStream, String)> =
        (0..4000).map(|n| (stream_of(n as u64), format!("line {n} {}\n", "x".repeat(n % 90)))).collect();
    for (stream, line) in &lines {
        writer.append(*stream, 1, at(0), line.as_bytes()).unwrap();
    }
    for open_end in [false, true] {
        for of in [None, Some(Stdout), Some(Stderr), Some(Terminal)] {
            let mut own: Vec<String> = lines
                .iter()
                .filter(|(stream, _)| of.is_none_or(|of| of == *stream))
                .map(|(_, line)| line.clone())
                .collect();
            if open_end && of.is_none_or(|of| of == Stdout) {
                own.push("open end".to_owned());
            }
            for wanted in [0, 1, 2, 10, 1000, own.len() - 1, own.len(), own.len() + 5] {
                let filter = of.map_or(OutputFilter::new(), |of| OutputFilter::new().stream(of));
                let from = fixture.output.tail(fixture.id, wanted as u64, filter).unwrap();
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
        let filter = OutputFilter::new().except(Stderr);
        let from = fixture.output.tail(fixture.id, 100, filter).unwrap();
        let chunks = fixture.output.read(fixture.id, from, usize::MAX).unwrap().chunks;
        let shown = chunks.into_iter().filter(|chunk| filter.matches(chunk)).flat_map(|chunk| chunk.bytes);
        let shown = String::from_utf8(shown.collect()).unwrap();
        assert_eq!((shown.lines().count(), shown.contains("line 3996 ")), (100, false), "{shown}");
        writer.append(Stdout, 1, at(0), b"open end").unwrap();
    }
}

/// A reader next to a writer that grows its chunks sees only prefixes, and everything at the end.
#[test]
fn a_concurrent_reader_sees_only_prefixes() {
    let fixture = Fixture::new();
    let text: Vec<u8> = (0..400_000u32).flat_map(u32::to_le_bytes).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = fixture.writer();
            for (turn, piece) in text.chunks(997).enumerate() {
                writer.append(stream_of(turn as u64), 1, at(0), piece).unwrap();
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

/// A stream whose first bytes are written while another one is read was skipped: a follower missed them.
#[test]
fn bytes_written_between_two_chunks_are_read() {
    let fixture = Fixture::new();
    let mut writer = fixture.writer();
    writer.append(Stdout, 1, at(0), b"one ").unwrap();
    let folder = fixture.output.open(fixture.id, folder::Access::Read).unwrap().unwrap();
    let mut merge = merge::Merge::open(&folder, 0).unwrap();
    // Its file does not exist yet.
    writer.append(Stderr, 1, at(1), b"two ").unwrap();
    writer.append(Stdout, 1, at(5_000), b"three").unwrap();
    let mut read = Vec::new();
    while let Some(chunk) = merge.next().unwrap() {
        assert_eq!(chunk.offset, read.len() as u64);
        read.extend(chunk.bytes);
    }
    assert_eq!(String::from_utf8(read).unwrap(), "one two three");
}

/// Limits that tests reach: the first 100 KiB, of each attempt 10 KiB, and the last 64 KiB.
const SMALL: OutputLimits = OutputLimits::small(100 * 1024, 10 * 1024, 64 * 1024);

/// Returns the byte of a stream at an offset in it: bytes in the wrong place show.
fn byte_at(stream: OutputStream, offset: u64) -> u8 {
    let [a, b, ..] = (offset / 251).to_le_bytes();
    (offset % 251) as u8 ^ a.wrapping_mul(31) ^ b.wrapping_mul(17) ^ [0, 1, 2][stream.place()]
}

/// A number of bytes of each stream.
type PerStream = [u64; OutputStream::ALL.len()];

/// Appends bytes of all streams in pieces of irregular sizes. Returns the end of each stream.
fn append_much(writer: &mut dyn OutputWriter, attempt: u32, ends: &mut PerStream, bytes: u64) -> u64 {
    let (mut appended, mut removed) = (0, 0);
    while appended < bytes {
        let stream = stream_of(appended);
        let end = &mut ends[stream.place()];
        let size = 1 + (*end * 7 + appended) % 9_973;
        let piece: Vec<u8> = (*end..*end + size).map(|offset| byte_at(stream, offset)).collect();
        removed += writer.append(stream, attempt, at(0), &piece).unwrap();
        *end += size;
        appended += size;
    }
    removed
}

#[test]
fn both_ends_and_the_start_of_each_attempt_are_kept() {
    let fixture = Fixture::with_limits(SMALL);
    let (mut ends, mut starts, mut removed) = (PerStream::default(), Vec::new(), 0);
    for attempt in 1..=4 {
        // A writer for each attempt, as after a crash.
        let mut writer = fixture.writer();
        starts.push(ends);
        removed += append_much(&mut *writer, attempt, &mut ends, 1_000_000);
        assert_eq!(writer.length().bytes, ends.iter().sum::<u64>());
    }
    assert_eq!(fixture.output.length(fixture.id).unwrap(), OutputLength::new(ends.iter().sum::<u64>(), None));
    let mut kept = OutputStream::ALL.map(|_| Vec::new());
    let mut next = 0;
    for chunk in fixture.chunks() {
        assert!(chunk.offset >= next, "ascending");
        next = chunk.end();
        for (offset, byte) in (chunk.stream_offset..).zip(&chunk.bytes) {
            assert_eq!(*byte, byte_at(chunk.stream, offset), "{:?} {offset}", chunk.stream);
        }
        kept[chunk.stream.place()].push((chunk.stream_offset, chunk.stream_end()));
    }
    let mut missing = 0;
    for (stream, kept) in kept.iter().enumerate() {
        let end = ends[stream];
        let is_kept = |offset: u64| kept.iter().any(|(from, to)| (*from..*to).contains(&offset));
        let mut wanted = vec![0..SMALL.first(), end - 64 * 1024..end];
        wanted.extend(starts.iter().map(|starts| starts[stream]..starts[stream] + SMALL.first_of_attempt()));
        for range in wanted {
            assert!(range.clone().all(is_kept), "{range:?}");
        }
        let sum: u64 = kept.iter().map(|(from, to)| to - from).sum();
        // The start, the start of each attempt, the end, and two segments.
        assert!(sum <= 100 * 1024 + 4 * 10 * 1024 + 3 * 64 * 1024, "{sum}");
        missing += end - sum;
    }
    assert_eq!(removed, missing, "what was removed is counted");
}

/// A reader that is overtaken sees from the offsets how much it missed, of each stream.
#[test]
fn an_overtaken_reader_continues_after_the_gap() {
    let fixture = Fixture::with_limits(SMALL);
    let (mut ends, mut writer) = (PerStream::default(), fixture.writer());
    append_much(&mut *writer, 1, &mut ends, 800_000);
    let before = fixture.chunks();
    let last = before.last().unwrap();
    let mut seen = PerStream::default();
    for chunk in &before {
        seen[chunk.stream.place()] = chunk.stream_end();
    }
    append_much(&mut *writer, 1, &mut ends, 3_000_000);
    let after = fixture.output.read(fixture.id, last.end(), usize::MAX).unwrap().chunks;
    assert!(after[0].offset > last.end());
    let (mut missed, mut shown) = (0, 0);
    for chunk in &after {
        let seen = &mut seen[chunk.stream.place()];
        missed += chunk.stream_offset - *seen;
        *seen = chunk.stream_end();
        shown += chunk.bytes.len() as u64;
    }
    assert_eq!(last.end() + missed + shown, ends.iter().sum::<u64>());
    // Backwards, over the gap.
    let from = fixture.output.tail(fixture.id, 1, OutputFilter::new().attempt(2)).unwrap();
    assert_eq!(from, 0, "no such attempt");
}

#[test]
fn a_missing_segment_of_the_end_is_damage() {
    let fixture = Fixture::with_limits(SMALL);
    let (mut ends, mut writer) = (PerStream::default(), fixture.writer());
    append_much(&mut *writer, 1, &mut ends, 1_000_000);
    drop(writer);
    let last: Vec<String> = fixture
        .names()
        .into_iter()
        .filter(|name| name.contains("-out-") && name.ends_with("-last.index"))
        .collect();
    assert!(last.len() >= 3 && fixture.output.read(fixture.id, 0, usize::MAX).is_ok());
    let offset = u64::from_str_radix(last[1].split('-').next().unwrap(), 16).unwrap();
    fs::remove_file(fixture.file(&last[1])).unwrap();
    let error = fixture.output.read(fixture.id, 0, usize::MAX).map(drop).unwrap_err();
    assert!(matches!(error, OutputError::Damaged { offset: found, .. } if found <= offset), "{error}");
}

#[test]
fn restored_output_has_its_offsets_and_gaps() {
    let (from, to) = (Fixture::with_limits(SMALL), Fixture::with_limits(OutputLimits::RESTORE));
    let (mut ends, mut writer) = (PerStream::default(), from.writer());
    append_much(&mut *writer, 1, &mut ends, 1_000_000);
    drop(writer);
    let mut writer = to.writer();
    for chunk in from.chunks() {
        writer.restore(&chunk).unwrap();
    }
    let places = |chunks: Vec<Chunk>| -> Vec<(OutputStream, u64, u64)> {
        let bytes = |chunk: Chunk| {
            (chunk.offset..)
                .zip(chunk.stream_offset..)
                .take(chunk.bytes.len())
                .map(move |(a, b)| (chunk.stream, a, b))
                .collect::<Vec<_>>()
        };
        chunks.into_iter().flat_map(bytes).collect()
    };
    assert!(places(from.chunks()) == places(to.chunks()));
    assert_eq!(from.bytes(), to.bytes());
    writer.restore_cut(OutputCut { attempt: 1, at: at(9) }).unwrap();
    let cut = Some(OutputCut { attempt: 1, at: at(9) });
    assert_eq!(to.output.length(to.id).unwrap(), OutputLength::new(ends.iter().sum::<u64>(), cut));
    drop(writer);
    let mut writer = to.writer();
    assert_eq!(writer.length().cut, cut);
    writer.append(Stderr, 2, at(10), b"more").unwrap();
    let last = to.chunks().pop().unwrap();
    assert_eq!((last.bytes.as_slice(), last.attempt), (&b"more"[..], 2));
    assert_eq!(to.output.length(to.id).unwrap().cut, None);
}

/// Two files, as before there were segments.
#[test]
fn output_of_an_older_version_is_read_and_continued() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.file("")).unwrap();
    fs::write(fixture.file("bytes"), b"compiling\nok\nstray\nagain, and this time with more than there is ")
        .unwrap();
    let index = "\
        0000000000000 000013 out 0000001 1795253400123 e73698e18d77a0d6\n\
        0000000000013 000006 err 0000001 1795253400456 6e23cb977f6fa804\n\
        0000000000019 000045 OUT 0000002 1795253402000 52d1cf1280969b6a\n\
        0000000000064 000000 cut 0000002 1795253402000 b33a7de64442d6e9\n";
    fs::write(fixture.file("index"), index).unwrap();
    let length = fixture.output.length(fixture.id).unwrap();
    assert_eq!(length, OutputLength::new(64, Some(OutputCut { attempt: 2, at: at(2000) })));
    let mut writer = fixture.writer();
    assert_eq!(writer.length(), length);
    writer.append(Stderr, 3, at(3000), b"new\n").unwrap();
    writer.append(Stdout, 3, at(3000), b"newer\n").unwrap();
    writer.append(Terminal, 4, at(4000), b"newest\n").unwrap();
    let found: Vec<_> = fixture
        .chunks()
        .iter()
        .map(|chunk| (chunk.offset, chunk.stream, chunk.stream_offset, chunk.after_gap, chunk.bytes.len()))
        .collect();
    let expected = [
        (0, Stdout, 0, false, 13),
        (13, Stderr, 0, false, 6),
        (19, Stdout, 13, true, 45),
        (64, Stderr, 6, true, 4),
        (68, Stdout, 58, true, 6),
        (74, Terminal, 0, true, 7),
    ];
    assert_eq!(found, expected);
    for from in 0..81 {
        let chunks = fixture.output.read(fixture.id, from, usize::MAX).unwrap().chunks;
        assert_eq!(chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum::<u64>(), 81 - from, "{from}");
        assert_eq!(chunks.last().map(Chunk::stream_end), Some(7), "{from}");
    }
    assert_eq!(fixture.output.length(fixture.id).unwrap(), OutputLength::new(81, None));
}
