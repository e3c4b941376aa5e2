//! Fuzz target for export streams.

use session_core::backend::SessionStorageExt as _;
use session_core::{SessionFilter, SessionId, StoredRecord};
use sessionkit::storage::{ImportCheck, Output};
use sessionkit::{ManagerOptions, Store};

use super::head;
use crate::{InputOutcome, REPAIR, repair, wait};

/// The flag for a store that keeps output, even if the stream contains none.
const KEEP: u8 = 1;

/// Imports the rest of the input as a stream.
///
/// The stream is refused before anything is stored, or it is stored completely and exported again. A stream without
/// output is exported to the same bytes. A stream with output is exported to one with the same logs and output, whose
/// import is exported to the same bytes.
pub fn export_stream(input: &[u8]) -> InputOutcome {
    let ([flags], stream) = head(input);
    let repaired = (flags & REPAIR != 0).then(|| repair::export(stream));
    let stream = repaired.as_deref().unwrap_or(stream);
    let mut check = ImportCheck::new();
    let checked = lines(stream).try_for_each(|line| check.line(line));
    let Ok(plan) = checked.and_then(|()| check.finish()) else { return InputOutcome::Refused };

    let outputs = lines(stream).filter(|line| line.starts_with(b"{\"output")).count();
    let sessions = sessions(stream);
    let distinct = {
        let mut ids = sessions.clone();
        ids.sort_unstable();
        ids.dedup();
        ids.len() == sessions.len()
    };
    wait(async {
        let first = TempStore::new(outputs > 0 || flags & KEEP != 0).await;
        let mut import = match first.store.import(plan).await {
            Ok(import) => import,
            Err(error) => {
                assert!(!distinct, "an empty store refuses the stream: {error}");
                assert!(first.ids().await.is_empty(), "sessions of a refused stream were stored");
                return InputOutcome::Refused;
            }
        };
        for line in lines(stream) {
            import.line(line).await.unwrap_or_else(|error| panic!("the stream passed the check: {error}"));
        }
        let report = import.finish();
        assert_eq!(report.imported.len() + report.skipped.len(), sessions.len());
        assert!(!distinct || report.imported == sessions, "{report:?}");
        for id in &sessions {
            let records =
                first.store.storage().records_after(*id, 0).await.expect("the session was imported");
            assert!(contains(stream, &records), "{id}: its log differs from the stream");
        }
        let again = first.export(&sessions).await;
        if outputs == 0 {
            assert!(again == stream, "the export differs:\n{}", String::from_utf8_lossy(&again));
        } else if distinct {
            let second = TempStore::new(true).await;
            second.import(&again).await;
            assert!(second.export(&sessions).await == again, "the second export differs");
            assert_eq!(output_by_stream(&again), output_by_stream(stream), "the output differs");
        }
        InputOutcome::Accepted
    })
}

fn lines(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    stream.split_inclusive(|byte| *byte == b'\n')
}

/// Returns the lines of a checked stream as JSON.
fn parsed_lines(stream: &[u8]) -> impl Iterator<Item = serde_json::Value> {
    lines(stream).map(|line| serde_json::from_slice(line).expect("the stream passed the check"))
}

fn sessions(stream: &[u8]) -> Vec<SessionId> {
    parsed_lines(stream).filter_map(|line| line.get("session")?.get("id")?.as_str()?.parse().ok()).collect()
}

/// The highest attempt that stored output tells apart; higher ones are stored as this one (docs/output.md).
const LAST_ATTEMPT: u64 = 9_999_999;

/// Returns the output of each session, by stream and attempt.
fn output_by_stream(stream: &[u8]) -> Vec<(String, Vec<u8>)> {
    use base64::Engine as _;
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    let mut session = String::new();
    for line in parsed_lines(stream) {
        if let Some(begun) = line.get("session") {
            session = begun["id"].to_string();
        }
        if let Some(output) = line.get("output") {
            let attempt = output["attempt"].as_u64().expect("the stream passed the check").min(LAST_ATTEMPT);
            let name = format!("{session} {} {attempt}", output["stream"]);
            let base64 = output["base64"].as_str().expect("the stream passed the check");
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(base64)
                .expect("the stream passed the check");
            match all.last_mut() {
                Some((last, all)) if *last == name => all.extend(bytes),
                _ => all.push((name, bytes)),
            }
        }
    }
    all
}

/// Returns `true` if the stream contains the lines of these records, one after the other.
fn contains(stream: &[u8], records: &[StoredRecord]) -> bool {
    let log: Vec<u8> =
        records.iter().flat_map(|record| [record.line().as_bytes(), b"\n"]).flatten().copied().collect();
    !log.is_empty() && stream.windows(log.len()).any(|window| window == log)
}

/// An empty store that is removed on drop.
struct TempStore {
    store: Store,
    _folder: Option<tempfile::TempDir>,
}

impl TempStore {
    async fn new(keeps_output: bool) -> Self {
        let folder = keeps_output.then(|| tempfile::tempdir().expect("a folder can be created"));
        let url = match &folder {
            Some(folder) => format!("file:{}", folder.path().join("store").display()),
            None => "memory:".to_owned(),
        };
        let options = ManagerOptions::new().recovery(None);
        let store =
            sessionkit::builder(&url).options(options).open_store().await.expect("an empty store opens");
        Self { store, _folder: folder }
    }

    async fn ids(&self) -> Vec<SessionId> {
        let list = self.store.storage().list_all(&SessionFilter::all()).await.expect("the store is intact");
        list.heads.iter().map(|head| head.id).collect()
    }

    async fn import(&self, stream: &[u8]) {
        let mut check = ImportCheck::new();
        lines(stream).try_for_each(|line| check.line(line)).expect("the stream is an export");
        let plan = check.finish().expect("the stream is complete");
        let mut import = self.store.import(plan).await.expect("the store is empty");
        for line in lines(stream) {
            import.line(line).await.expect("the stream passed the check");
        }
    }

    async fn export(&self, ids: &[SessionId]) -> Vec<u8> {
        let mut export = self.store.export(ids.to_vec(), Output::Included);
        let mut stream = Vec::new();
        while let Some(piece) = export.next().await {
            stream.extend(piece);
        }
        assert!(export.failed().is_empty(), "{:?}", export.failed());
        stream
    }
}
