//! Damage of a marks file: found, reported and repaired, in a time that does not depend on its size.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, symlink};

use session_core::ErrorCode;
use session_core::backend::Sum;

use super::line::LINE;
use super::*;

fn id(number: u8) -> SessionId {
    SessionId::from_bytes([number + 1; 16])
}

fn tip(revision: u64) -> Tip {
    Tip { revision, sum: Sum::from_u64(revision * 1_000_003) }
}

struct Place {
    folder: tempfile::TempDir,
    path: PathBuf,
    store: StoreId,
}

impl Place {
    /// A file with one mark.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marks");
        let place = Self { folder, path, store: StoreId::random() };
        place.open().record_flush(1, &[(id(1), tip(1))]).unwrap();
        place
    }

    fn open(&self) -> Marks {
        Marks::open(&self.path, self.store).unwrap()
    }

    fn add(&self, bytes: &[u8]) {
        OpenOptions::new().append(true).open(&self.path).unwrap().write_all(bytes).unwrap();
    }

    fn length(&self) -> u64 {
        fs::metadata(&self.path).unwrap().len()
    }

    /// Records another mark after the damage; then both are read, and the damage is counted once. A few bytes of it may
    /// look like a torn line.
    fn assert_damaged(&self, bytes: u64) {
        const TOLERANCE: u64 = 20 * LINE as u64;
        let assert_count = |marks: &Marks| {
            let damaged = marks.lock().table.damaged;
            assert!(damaged.abs_diff(bytes) < TOLERANCE, "{damaged} for {bytes}");
            marks.damage().is_some_and(|text| text.contains(&format!("{damaged} bytes")))
        };
        let marks = self.open();
        assert!(assert_count(&marks));
        marks.record_flush(2, &[(id(2), tip(2))]).unwrap();
        for marks in [&marks, &self.open()] {
            marks.refresh().unwrap();
            assert_eq!(marks.tips(), [(id(1), tip(1)), (id(2), tip(2))]);
            assert!(assert_count(marks));
        }
    }
}

/// A megabyte of zeros at the end cost 11 s per command: each read added 105 bytes, and searched all of them again.
#[test]
fn zeros_at_the_end_are_reported_and_hide_no_mark() {
    for length in [17 * 1024, 64 * 1024 - 1, 1_000_000] {
        let place = Place::new();
        place.add(&vec![0; length]);
        let marks = place.open();
        // What was read once is not read again, but for what may be a torn line.
        assert_eq!(marks.lock().open.as_ref().unwrap().unread(), LINE as u64 - 1);
        place.assert_damaged(length as u64);
    }
}

/// Reading all of it would take minutes.
#[test]
fn a_terabyte_of_zeros_is_skipped() {
    let place = Place::new();
    OpenOptions::new().write(true).open(&place.path).unwrap().set_len(1 << 40).unwrap();
    place.assert_damaged(1 << 40);
}

#[test]
fn a_huge_line_is_reported_and_hides_no_mark() {
    let place = Place::new();
    place.add(&vec![b'x'; 300_000]);
    place.add(b"\n");
    place.assert_damaged(300_001);
}

#[test]
fn random_bytes_are_reported_and_hide_no_mark() {
    let place = Place::new();
    let mut state = 7u64;
    let random = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    place.add(&random.take(300_000).collect::<Vec<_>>());
    place.add(b"\n");
    place.assert_damaged(300_001);
}

#[test]
fn a_flipped_bit_is_reported() {
    let place = Place::new();
    let file = OpenOptions::new().write(true).open(&place.path).unwrap();
    file.write_all_at(b"#", LINE as u64 + 20).unwrap();
    let marks = place.open();
    assert_eq!((marks.tips().len(), marks.lock().table.damaged), (0, LINE as u64));
    assert!(marks.repair().unwrap().is_some() && marks.damage().is_none());
}

/// After a power cut a part of the last lines may be zeros, and the file shorter: it was called damaged, and each check of
/// the store failed.
#[test]
fn what_a_power_cut_leaves_is_no_damage() {
    let lines = 12;
    let whole = Place::new();
    for number in 1..lines {
        whole.open().record_flush(number, &[(id(1), tip(number))]).unwrap();
    }
    let content = fs::read(&whole.path).unwrap();
    // The first line names the store; it is flushed when the file is created.
    for begin in (LINE..content.len()).step_by(13) {
        for end in (begin + 1..=content.len()).step_by(29).chain([content.len()]) {
            for length in [end, (end + 40).min(content.len()), content.len()] {
                let mut left = content.clone();
                left[begin..end].fill(0);
                left.truncate(length);
                fs::write(&whole.path, &left).unwrap();
                let case = format!("zeros {begin}..{end}, length {length}");
                let marks = whole.open();
                assert_eq!(marks.damage(), None, "{case}");
                for number in [lines + 1, lines + 2] {
                    marks.record_flush(number, &[(id(2), tip(number))]).unwrap();
                    for marks in [&marks, &whole.open()] {
                        marks.refresh().unwrap();
                        assert_eq!((marks.damage(), marks.tip(id(2))), (None, Some(tip(number))), "{case}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_torn_end_is_no_damage() {
    for cut in 1..LINE as u64 {
        let place = Place::new();
        OpenOptions::new().write(true).open(&place.path).unwrap().set_len(place.length() - cut).unwrap();
        let marks = place.open();
        assert_eq!(marks.damage(), None, "{cut}");
        marks.record_flush(2, &[(id(2), tip(2))]).unwrap();
        for marks in [&marks, &place.open()] {
            marks.refresh().unwrap();
            assert_eq!((marks.damage(), marks.tip(id(2))), (None, Some(tip(2))), "{cut}");
        }
    }
}

#[test]
fn a_repair_keeps_the_marks_and_the_damaged_file() {
    let place = Place::new();
    assert_eq!(place.open().repair().unwrap(), None, "nothing to repair");
    place.add(&vec![0; 50_000]);
    let (marks, other) = (place.open(), place.open());
    marks.record_flush(2, &[(id(2), tip(2))]).unwrap();
    let damaged = fs::read(&place.path).unwrap();
    let report = marks.repair().unwrap().unwrap();
    let kept = fs::read_dir(place.folder.path().join("quarantine")).unwrap().next().unwrap().unwrap().path();
    assert!(report.contains(&kept.display().to_string()), "{report}");
    assert_eq!(fs::read(kept).unwrap(), damaged);
    assert_eq!(place.length(), 4 * LINE as u64);
    for marks in [&marks, &other, &place.open()] {
        marks.refresh().unwrap();
        assert_eq!((marks.damage(), marks.change()), (None, 2));
        assert_eq!(marks.tips(), [(id(1), tip(1)), (id(2), tip(2))]);
    }
    other.record_flush(3, &[(id(1), tip(3))]).unwrap();
    assert_eq!(place.open().tip(id(1)), Some(tip(3)));
}

#[test]
fn compaction_keeps_a_damaged_file() {
    let place = Place::new();
    place.add(&vec![0; 50_000]);
    let marks = place.open();
    let many: Vec<_> = (1..=SLACK as u64 + 8).map(|revision| (id(1), tip(revision))).collect();
    marks.record_flush(2, &many).unwrap();
    assert!(place.length() < 10 * LINE as u64);
    assert_eq!(fs::read_dir(place.folder.path().join("quarantine")).unwrap().count(), 1);
}

#[test]
fn repeated_marks_cost_no_memory() {
    let place = Place::new();
    let lines: Vec<Line> = (1..=200_000).map(|number| Line::Tip(number, id(1), tip(number))).collect();
    place.add(&Line::encode_all(&lines));
    let marks = place.open();
    assert_eq!(marks.tips(), [(id(1), tip(200_000))]);
    assert_eq!(marks.lock().table.peak, table::FIRST_DEDUP);
}

#[test]
fn anything_but_a_file_is_refused_immediately() {
    type Place = fn(&Path);
    let kinds: [Place; 4] = [
        |path| fs::create_dir(path).unwrap(),
        |path| symlink("/dev/zero", path).unwrap(),
        |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
        |path| {
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        },
    ];
    for place in kinds {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marks");
        place(&path);
        let errors =
            [Marks::open(&path, StoreId::random()).unwrap_err(), Marks::read_summary(&path).unwrap_err()];
        for error in errors {
            assert_eq!(error.code(), ErrorCode::StorageUnavailable);
            assert!(error.to_string().contains("is not a regular file: move it elsewhere"), "{error}");
        }
    }
}
