//! Round trips of exports, and refusal of damaged or conflicting ones.

use std::path::Path;
use std::sync::Arc;

use session_core::backend::{Chain, SessionStorageExt as _, UnsealedRecord};
use session_core::{
    SessionConfig, SessionEvent, SessionId, SessionManagerExt as _, SessionSummary, StoredRecord,
};
use session_runner::{Chunk, FileOutput, OutputCut, OutputLength, OutputLimits, OutputStorage, OutputStream};

use super::export::{Xxh3Sum, text};
use super::restore::Restore;
use super::*;
use crate::store::Store;

async fn open(folder: &Path) -> Store {
    crate::builder(&format!("file:{}", folder.display())).open_store().await.unwrap()
}

async fn bytes(mut export: Export) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = export.next().await {
        all.extend(piece);
    }
    assert!(export.failed().is_empty(), "{:?}", export.failed());
    all
}

async fn import(store: &Store, stream: &[u8]) -> Result<ImportReport, ExchangeError> {
    let mut check = ImportCheck::new();
    for line in stream.split_inclusive(|byte| *byte == b'\n') {
        check.line(line)?;
    }
    let mut import = store.import(check.finish()?).await?;
    for line in stream.split_inclusive(|byte| *byte == b'\n') {
        import.line(line).await?;
    }
    Ok(import.finish())
}

/// A store with five sessions: without output, with output, with lost output, with more than is kept, and with the cut of
/// an older version.
async fn filled(folder: &Path) -> (Store, Vec<SessionId>) {
    let store = open(folder).await;
    let mut ids = Vec::new();
    for n in 0..5_u8 {
        let work = async |session: session_core::Session| {
            session.checkpoint(&n).await?;
            Ok(n)
        };
        let report = store.manager().run(SessionConfig::new("work"), work).await.unwrap();
        let output = FileOutput::in_session_folders(folder.join("sessions"));
        if n > 0 {
            let mut writer = output.writer(report.id, OutputLimits::default().with_last(0)).unwrap();
            let at = |seconds: i64| Timestamp::from_millis(1_795_253_400_000 + seconds * 1000).unwrap();
            for round in 0..2 {
                writer.append(OutputStream::Stdout, 1, at(round), b"\x00\xffwords\n").unwrap();
                for stream in [OutputStream::Stdout, OutputStream::Terminal] {
                    if n == 2 {
                        let next = writer.length().bytes + 5;
                        let bytes = b"after lost output".to_vec();
                        let mut chunk = Chunk::new(next, stream, next, 1, at(round), bytes);
                        chunk.after_gap = true;
                        writer.restore(&chunk).unwrap();
                    }
                }
                if n == 3 {
                    writer.append(OutputStream::Stdout, 1, at(round), &vec![7; 9 << 20]).unwrap();
                }
                writer.append(OutputStream::Stderr, 1, at(round), b"more\r\n").unwrap();
                writer.append(OutputStream::Terminal, 1, at(round), b"on a terminal\r\n").unwrap();
            }
            if n == 4 {
                writer.restore_cut(OutputCut { attempt: 1, at: at(3) }).unwrap();
            }
        }
        ids.push(report.id);
    }
    (store, ids)
}

/// Returns the log and the stored output of a session.
fn stored(store: &Store, folder: &Path, id: SessionId) -> (Vec<u8>, Vec<Chunk>, OutputLength) {
    let log = std::fs::read(folder.join("sessions").join(id.to_string()).join("events.jsonl")).unwrap();
    let output = store.output().unwrap();
    (log, output.read(id, 0, usize::MAX).unwrap().chunks, output.length(id).unwrap())
}

#[tokio::test]
async fn exported_logs_and_output_import_byte_identical() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, ids) = filled(here.path()).await;
    let stream = bytes(store.export(ids.clone(), Output::Included)).await;
    let other = open(there.path()).await;
    assert_eq!(import(&other, &stream).await.unwrap().imported, ids);
    for id in &ids {
        assert!(stored(&store, here.path(), *id) == stored(&other, there.path(), *id), "{id} differs");
    }
    let (_, chunks, length) = stored(&other, there.path(), ids[3]);
    let kept: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
    assert!(length.bytes > 18 << 20 && kept < 9 << 20, "{kept} of {length:?}");
    assert!(stored(&other, there.path(), ids[4]).2.cut.is_some());
    // Importing again changes nothing but adds missing output.
    assert_eq!(import(&other, &stream).await.unwrap().skipped, ids);
    let lost = there.path().join(format!("sessions/{}/output", ids[2]));
    std::fs::remove_dir_all(lost).unwrap();
    import(&other, &stream).await.unwrap();
    assert_eq!(stored(&store, here.path(), ids[2]), stored(&other, there.path(), ids[2]));
    // Exporting from the second store gives the same stream.
    assert!(bytes(other.export(ids.clone(), Output::Included)).await == stream);
    let bare = bytes(other.export(ids, Output::LeftOut)).await;
    assert!(!String::from_utf8(bare).unwrap().contains("base64"));
}

/// The same bytes in another stream are other output.
#[tokio::test]
async fn a_migration_compares_each_stream() {
    let pairs = OutputStream::ALL.into_iter().flat_map(|from| OutputStream::ALL.map(|to| (from, to)));
    for (from, to) in pairs {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (store, elsewhere) = (open(here.path()).await, open(there.path()).await);
        let id = store.manager().run(SessionConfig::new("work"), async |_| Ok(())).await.unwrap().id;
        import(&elsewhere, &bytes(store.export(vec![id], Output::LeftOut)).await).await.unwrap();
        for (store, stream) in [(&store, from), (&elsewhere, to)] {
            let mut writer = store.output().unwrap().writer(id, OutputLimits::default()).unwrap();
            let at = Timestamp::from_millis(1_795_253_400_000).unwrap();
            writer.append(stream, 1, at, b"ready\r\n").unwrap();
        }
        let outcome =
            store.migrate(&elsewhere, Output::Included).await.unwrap().next().await.unwrap().outcome;
        assert_eq!(outcome.is_ok(), from == to, "{from:?} {to:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_session_with_a_living_owner_is_not_migrated() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, elsewhere) = (open(here.path()).await, open(there.path()).await);
    let id = store.manager().create_session(SessionConfig::new("work").queued()).await.unwrap();
    let _session = store.manager().start_session(id).await.unwrap();
    let mut migration = store.migrate(&elsewhere, Output::Included).await.unwrap();
    let outcome = migration.next().await.unwrap().outcome.unwrap();
    assert_eq!(outcome, MigrationOutcome::OwnerMayBeAlive);
    assert!(elsewhere.manager().get_head(id).await.is_err());
}

/// Both restores read the length before either writes: the second must continue after what the first has written.
#[test]
fn concurrent_restores_write_output_once() {
    let folder = tempfile::tempdir().unwrap();
    let output: Arc<dyn OutputStorage> = Arc::new(FileOutput::new(folder.path()));
    let (id, at) = (SessionId::random(), Timestamp::from_millis(1_795_253_400_000).unwrap());
    let chunk =
        move |offset: u64| Chunk::new(offset, OutputStream::Stdout, offset, 1, at, b"0123456789".to_vec());
    let restore = || Restore::open(id, Arc::clone(&output)).unwrap();
    let (mut one, mut other) = (restore(), restore());
    one.append(chunk(0)).unwrap();
    let waiting = std::thread::spawn(move || {
        other.append(chunk(0)).unwrap();
        other.append(chunk(10)).unwrap();
        other.append(chunk(20)).unwrap();
    });
    one.append(chunk(10)).unwrap();
    drop(one);
    waiting.join().unwrap();
    let there = output.length(id).unwrap();
    let page = output.read(id, 0, 1024).unwrap();
    let bytes: Vec<u8> = page.chunks.iter().flat_map(|chunk| chunk.bytes.clone()).collect();
    assert_eq!(bytes, b"012345678901234567890123456789");
    restore().append(chunk(0)).unwrap();
    assert_eq!(output.length(id).unwrap(), there);
}

#[tokio::test]
async fn an_import_does_not_overwrite_a_longer_log() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(here.path()).await;
    let id = store.manager().create_session(SessionConfig::new("work").queued()).await.unwrap();
    let other = store.manager().create_session(SessionConfig::new("other").queued()).await.unwrap();
    let stream = bytes(store.export(vec![other, id], Output::Included)).await;
    let elsewhere = open(there.path()).await;
    import(&elsewhere, &bytes(store.export(vec![id], Output::Included)).await).await.unwrap();
    let _session = elsewhere.manager().start_session(id).await.unwrap();
    let error = import(&elsewhere, &stream).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    assert!(
        elsewhere.manager().get_head(other).await.is_err(),
        "nothing was stored, not even the other session"
    );
}

/// The existing log is shorter, or as long but different: in both cases nothing of the stream is stored.
#[tokio::test]
async fn one_conflicting_session_refuses_the_whole_stream() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, elsewhere) = (open(here.path()).await, open(there.path()).await);
    let id = store.manager().create_session(SessionConfig::new("work").queued()).await.unwrap();
    let other = store.manager().create_session(SessionConfig::new("other").queued()).await.unwrap();
    import(&elsewhere, &bytes(store.export(vec![id], Output::Included)).await).await.unwrap();
    let _session = store.manager().start_session(id).await.unwrap();
    let stream = bytes(store.export(vec![other, id], Output::Included)).await;
    for as_long in [false, true] {
        let _session =
            if as_long { Some(elsewhere.manager().start_session(id).await.unwrap()) } else { None };
        let error = import(&elsewhere, &stream).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Conflict);
        assert!(elsewhere.manager().get_head(other).await.is_err(), "as long: {as_long}");
    }
}

/// Every truncation, every missing, duplicated or swapped line, and a flipped bit in every byte.
#[tokio::test]
async fn damaged_streams_are_refused() {
    let here = tempfile::tempdir().unwrap();
    let (store, ids) = filled(here.path()).await;
    let stream = bytes(store.export(ids[1..3].to_vec(), Output::Included)).await;
    let check = |stream: &[u8]| {
        let mut check = ImportCheck::new();
        stream.split_inclusive(|byte| *byte == b'\n').try_for_each(|line| check.line(line))?;
        check.finish().map(drop)
    };
    check(&stream).unwrap();
    for at in 0..stream.len() {
        assert!(check(&stream[..at]).is_err(), "cut at {at}");
        let mut flipped = stream.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(check(&flipped).is_err(), "flipped at {at}");
    }
    let lines: Vec<&[u8]> = stream.split_inclusive(|byte| *byte == b'\n').collect();
    for one in 0..lines.len() {
        let mut without = lines.clone();
        without.remove(one);
        assert!(check(&without.concat()).is_err(), "without line {one}");
        let mut doubled = lines.clone();
        doubled.insert(one, lines[one]);
        assert!(check(&doubled.concat()).is_err(), "line {one} duplicated");
        for other in one + 1..lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(one, other);
            assert!(
                lines[one] == lines[other] || check(&swapped.concat()).is_err(),
                "{one} and {other} swapped"
            );
        }
    }
    assert!(matches!(
        check(b"{\"export\":{\"format\":2}}\n").unwrap_err(),
        ExchangeError::Newer { line: 1, .. }
    ));
}

/// Regression: a stream with an added space and correct checksums was accepted, and then exported to other bytes.
#[tokio::test]
async fn non_canonical_lines_are_refused() {
    let store = crate::builder("memory:").open_store().await.unwrap();
    let stream = bytes(store.export(Vec::new(), Output::Included)).await;
    let text = String::from_utf8(stream).unwrap();
    let (first, last) = text.split_once('\n').unwrap();
    let check = |first: &str| {
        let sum = xxhash_rust::xxh3::xxh3_64(format!("{first}\n").as_bytes());
        let last = format!("{}{sum:016x}\"}}}}\n", last.split_at(last.len() - 20).0);
        let mut check = ImportCheck::new();
        check.line(format!("{first}\n").as_bytes())?;
        check.line(last.as_bytes())?;
        check.finish().map(drop)
    };
    check(first).unwrap();
    for other in
        [r#"{"export": {"format":1}}"#, r#" {"export":{"format":1}}"#, "{\"export\":{\"format\":1}}\r"]
    {
        let error = check(other).unwrap_err();
        assert!(matches!(&error, ExchangeError::Damaged { line: 1, .. }), "{error}");
    }
}

/// Writes right checksums into a stream that was changed.
fn with_sums(lines: &[Vec<u8>]) -> Vec<u8> {
    let (mut whole, mut session, mut stream) = (Xxh3Sum::default(), Xxh3Sum::default(), Vec::new());
    for line in lines {
        let line = match serde_json::from_slice(line) {
            Ok(Line::Session { .. }) => {
                session = Xxh3Sum::default();
                line.clone()
            }
            Ok(Line::End { id, records, sum }) if sum.is_empty() => {
                text(&Line::End { id, records, sum: session.text() })
            }
            Ok(Line::ExportEnd { sessions, .. }) => text(&Line::ExportEnd { sessions, sum: whole.text() }),
            Ok(_) | Err(_) => line.clone(),
        };
        session.add(&line);
        whole.add(&line);
        stream.extend(line);
    }
    stream
}

/// The session's own checksum shows its damage before the next session is stored.
#[tokio::test]
async fn made_up_streams_are_refused_despite_their_sums() {
    let here = tempfile::tempdir().unwrap();
    let (store, ids) = filled(here.path()).await;
    let id = ids[1];
    let stream = bytes(store.export(vec![id], Output::Included)).await;
    let mut lines: Vec<Vec<u8>> = stream.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let (first, end) = (lines[2].clone(), lines.len() - 2);
    let refusal = |lines: &[Vec<u8>]| {
        let (mut check, stream) = (ImportCheck::new(), with_sums(lines));
        let checked = stream.split_inclusive(|byte| *byte == b'\n').try_for_each(|line| check.line(line));
        match checked.and_then(|()| check.finish().map(drop)) {
            Err(ExchangeError::Damaged { line, what }) => Some((line, what)),
            Err(error) => panic!("{error}"),
            Ok(()) => None,
        }
    };
    assert_eq!(refusal(&lines), None);

    let mut wrong_sum = lines.clone();
    wrong_sum[end] = text(&Line::End { id, records: 4, sum: "0000000000000000".to_owned() });
    let (at, what) = refusal(&wrong_sum).unwrap();
    assert_eq!(at, end as u64 + 1, "{what}");

    lines[end] = text(&Line::End { id, records: 4, sum: String::new() });
    let mut record_last = lines.clone();
    let last = record_last.iter().rposition(|line| line.starts_with(b"{\"seq\":")).unwrap();
    record_last[last..end].rotate_left(1);
    assert_eq!(refusal(&record_last), Some((end as u64, "record after output".to_owned())));

    let created = StoredRecord::from_storage(1, std::str::from_utf8(&lines[2]).unwrap().trim_end()).unwrap();
    let completed = UnsealedRecord {
        at: Timestamp::from_millis(4_000_000_000_000).unwrap(),
        attempt: 0,
        flushed: 0,
        event: SessionEvent::Completed { summary: SessionSummary::new() },
    };
    let (completed, _) = Chain::at(id, created.tip()).seal(completed).unwrap();
    let never_started = [
        lines[0].clone(),
        lines[1].clone(),
        first,
        format!("{}\n", completed.line()).into_bytes(),
        text(&Line::End { id, records: 2, sum: String::new() }),
        lines[end + 1].clone(),
    ];
    let (at, what) = refusal(&never_started).unwrap();
    assert!(at == 4 && what.contains("transition"), "{at}: {what}");
}

#[tokio::test]
async fn unreadable_output_is_reported_by_an_export() {
    let here = tempfile::tempdir().unwrap();
    let (store, ids) = filled(here.path()).await;
    let folder = here.path().join(format!("sessions/{}/output", ids[1]));
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "bytes") {
            // Of the first chunk: a damaged last one is what a crash leaves.
            let mut bytes = std::fs::read(&path).unwrap();
            *bytes.first_mut().unwrap() ^= 1;
            std::fs::write(path, bytes).unwrap();
        }
    }
    let mut export = store.export(ids[..2].to_vec(), Output::Included);
    while export.next().await.is_some() {}
    let failed: Vec<_> = export.failed().iter().map(|(id, _)| *id).collect();
    assert_eq!(failed, [ids[1]]);
}

/// A damaged session is left out and reported; the others are exported.
#[tokio::test]
async fn a_damaged_session_is_left_out_of_an_export() {
    let here = tempfile::tempdir().unwrap();
    let (store, ids) = filled(here.path()).await;
    let path = here.path().join(format!("sessions/{}/events.jsonl", ids[1]));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("checkpoint_saved", "checkpoint_saveD", 1)).unwrap();
    drop(store);
    let store = open(here.path()).await;
    let mut export = store.export(ids.clone(), Output::Included);
    let mut stream = Vec::new();
    while let Some(piece) = export.next().await {
        stream.extend(piece);
    }
    let failed: Vec<_> = export.failed().iter().map(|(id, error)| (*id, error.code())).collect();
    assert_eq!(failed, [(ids[1], ErrorCode::Corrupt)]);
    let there = tempfile::tempdir().unwrap();
    let other = open(there.path()).await;
    assert_eq!(import(&other, &stream).await.unwrap().imported, [ids[0], ids[2], ids[3], ids[4]]);
    assert_eq!(other.storage().records_after(ids[3], 0).await.unwrap().len(), 4);
}

#[test]
fn exchange_errors_are_complete_by_themselves() {
    use std::error::Error as _;

    let id = SessionId::from_bytes([1; 16]);
    let what = || "a byte too many".to_owned();
    let denied = std::io::Error::from_raw_os_error(13);
    let output = OutputError::Io { action: "read", path: "/o".into(), error: denied };
    for (error, parts) in [
        (ExchangeError::Damaged { line: 7, what: what() }, vec!["line 7", "damaged", "a byte too many"]),
        (ExchangeError::Newer { line: 7, what: what() }, vec!["line 7", "newer format", "a byte too many"]),
        (ExchangeError::Exists { id }, vec!["01010101-", "already exists", "different log"]),
        (SessionError::ShutDown.into(), vec!["the manager was shut down"]),
        (output.into(), vec!["cannot read /o", "Permission denied"]),
    ] {
        let text = error.to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        assert!(error.source().is_none(), "{error:?}");
    }
    assert!(crate::GlobalIsSet.to_string().contains("already set"));
}
