//! The file `FORMAT`, damaged in every way: it is rebuilt from the marks if the database agrees, and not otherwise.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test, a missing value is a failure")]

#[path = "common/logs.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod logs;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use logs::{Log, note, read};
use session_core::backend::{Chain, SessionStorage as _, UnsealedRecord};
use session_core::maintenance::StorageMaintenance as _;
use session_core::{Durability, ErrorCode, SessionConfig, SessionEvent, SessionId, StorageError, Timestamp};
use session_storage_sled::{SledStorage, SledStorageOptions};

const OTHER: &str = "5d4d2f7e-52f7-4dcd-9e0b-3b1f5f1a4b5e";

fn options(path: &Path) -> SledStorageOptions {
    SledStorageOptions::new(path).lock_timeout(Duration::from_secs(30))
}

/// A store with one session, closed, and the good content of its `FORMAT`.
struct Fixture {
    _folder: tempfile::TempDir,
    path: PathBuf,
    good: String,
    log: Log,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let log = Log::stored(&SledStorage::open(options(&path)).unwrap(), 2).await;
        let good = fs::read_to_string(path.join("FORMAT")).unwrap();
        Self { _folder: folder, path, good, log }
    }

    fn set(&self, content: impl AsRef<[u8]>) {
        fs::write(self.path.join("FORMAT"), content).unwrap();
    }

    fn format(&self) -> String {
        fs::read_to_string(self.path.join("FORMAT")).unwrap()
    }

    async fn repair(&self) -> Result<Vec<String>, StorageError> {
        let storage = SledStorage::open_for_repair(options(&self.path))?;
        Ok(storage.reconcile().await?.store)
    }

    #[track_caller]
    fn damaged(&self) -> String {
        let error = SledStorage::open(options(&self.path)).unwrap_err();
        assert!(matches!(error, StorageError::StoreDamaged { .. }), "{error:?}");
        error.to_string()
    }

    /// Asserts that the store is as it was before the damage.
    async fn assert_intact(&self, what: &str) {
        assert_eq!(self.format(), self.good, "{what}");
        let (records, end) = read(&SledStorage::open(options(&self.path)).unwrap(), self.log.id).await;
        end.unwrap();
        assert_eq!(records, self.log.records, "{what}");
    }
}

/// Returns `true` if the content names a newer format, and so may be one.
fn names_newer(content: &[u8]) -> bool {
    let json: serde_json::Value = serde_json::from_slice(content).unwrap_or_default();
    let text = String::from_utf8_lossy(content);
    let named = text.split("\"sled\":").nth(1).map(|rest| {
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().unwrap_or(0)
    });
    json["sled"].as_u64().or(named).is_some_and(|format| format > 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_never_opens_another_store() {
    let fixture = Fixture::new().await;
    let mut newer = 0;
    for at in 0..fixture.good.len() - 1 {
        for value in 0..=u8::MAX {
            let mut content = fixture.good.clone().into_bytes();
            if std::mem::replace(content.get_mut(at).unwrap(), value) == value {
                continue;
            }
            let json: serde_json::Value = serde_json::from_slice(&content).unwrap_or_default();
            let good: serde_json::Value = serde_json::from_str(&fixture.good).unwrap();
            let same_id = json["id"].as_str().map(str::to_ascii_lowercase).as_deref() == good["id"].as_str();
            if json["sled"] == 1 && same_id {
                continue;
            }
            fixture.set(&content);
            let shown = String::from_utf8_lossy(&content).into_owned();
            let error = SledStorage::open(options(&fixture.path)).unwrap_err();
            if names_newer(&content) {
                newer += 1;
                assert_eq!(error.code(), ErrorCode::UnsupportedFormat, "{shown}: {error}");
            } else {
                assert!(matches!(error, StorageError::StoreDamaged { .. }), "{shown}: {error:?}");
            }
        }
    }
    assert!((8..40).contains(&newer), "{newer}");
    assert_eq!(fixture.repair().await.unwrap().len(), 1);
    fixture.assert_intact("the last change").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_each_part_is_repaired() {
    let fixture = Fixture::new().await;
    // Another test opens the store with damage at each byte, which takes no repair.
    for at in (0..fixture.good.len() - 1).step_by(4) {
        let mut content = fixture.good.clone().into_bytes();
        *content.get_mut(at).unwrap() ^= 0x40;
        fixture.set(&content);
        let shown = String::from_utf8_lossy(&content).into_owned();
        let repairs = fixture.repair().await.unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert_eq!(repairs.len(), 1, "{shown}");
        fixture.assert_intact(&shown).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cut_is_detected_and_repaired() {
    let fixture = Fixture::new().await;
    for length in 0..fixture.good.len() - 2 {
        fixture.set(fixture.good.get(..length).unwrap());
        assert!(fixture.damaged().contains("`sessionctl verify --repair`"));
        if length % 6 == 0 {
            assert_eq!(fixture.repair().await.unwrap().len(), 1, "{length}");
            fixture.assert_intact("a cut").await;
        }
    }
    assert!(fixture.path.join("quarantine/FORMAT.1").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_file_or_another_kind_of_file_is_replaced() {
    let fixture = Fixture::new().await;
    let format = fixture.path.join("FORMAT");
    fs::remove_file(&format).unwrap();
    fixture.damaged();
    assert_eq!(fixture.repair().await.unwrap().len(), 1);
    fixture.assert_intact("a lost file").await;
    fs::remove_file(&format).unwrap();
    fs::create_dir(&format).unwrap();
    fixture.damaged();
    // A killed repair left its file.
    fs::write(fixture.path.join("FORMAT.new"), "{\"sled\"").unwrap();
    assert_eq!(fixture.repair().await.unwrap().len(), 1);
    fixture.assert_intact("a folder").await;
    assert!(!fixture.path.join("FORMAT.new").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_comes_from_marks_and_database_together() {
    let fixture = Fixture::new().await;
    let marks = fs::read(fixture.path.join("marks")).unwrap();
    fixture.set(format!("{{\"sled\":1,\"id\":\"{OTHER}\"}}\n"));
    assert!(fixture.damaged().contains(OTHER));
    assert_eq!(fixture.repair().await.unwrap().len(), 1);
    fixture.assert_intact("another id").await;
    // The marks of another store, with a good and with a damaged FORMAT.
    let other = Fixture::new().await;
    fs::copy(other.path.join("marks"), fixture.path.join("marks")).unwrap();
    for content in [fixture.good.as_str(), "damaged"] {
        fixture.set(content);
        fixture.damaged();
        let error = fixture.repair().await.unwrap_err();
        assert!(error.to_string().contains("belongs to store"), "{error}");
        assert_eq!(fixture.format(), content);
    }
    // No marks at all.
    fs::remove_file(fixture.path.join("marks")).unwrap();
    let error = fixture.repair().await.unwrap_err();
    assert!(error.to_string().contains("the file `marks`"), "{error}");
    fs::write(fixture.path.join("marks"), marks).unwrap();
    assert_eq!(fixture.repair().await.unwrap().len(), 1);
    fixture.assert_intact("its own marks again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_store_is_never_repaired() {
    let fixture = Fixture::new().await;
    let newer = fixture.good.replace("\"sled\":1", "\"sled\":2");
    for content in [newer.as_str(), newer.get(..newer.find(',').unwrap()).unwrap()] {
        fixture.set(content);
        for error in
            [SledStorage::open(options(&fixture.path)).unwrap_err(), fixture.repair().await.unwrap_err()]
        {
            assert_eq!(error.code(), ErrorCode::UnsupportedFormat, "{error}");
        }
        assert_eq!(fixture.format(), content);
    }
    fixture.set("damaged");
    fs::write(fixture.path.join("index"), "newer").unwrap();
    let error = fixture.repair().await.unwrap_err();
    assert!(error.to_string().contains("index"), "{error}");
    fs::remove_file(fixture.path.join("index")).unwrap();
    assert_eq!(fixture.repair().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_newer_format_blocks_the_repair() {
    let fixture = Fixture::new().await;
    {
        let storage = SledStorage::open(options(&fixture.path)).unwrap();
        let id = SessionId::random();
        let config = Box::new(SessionConfig::new("newer"));
        let event =
            SessionEvent::Created { format: 2, config, creator: logs::owner(), origin: None, inherits: 0 };
        let at = Timestamp::from_millis(1_700_000_000_000).unwrap();
        let unsealed = UnsealedRecord { at, attempt: 0, flushed: 0, event };
        let (stored, record) = Chain::start(id).seal(unsealed).unwrap();
        let mut head = None;
        session_core::Head::fold(&mut head, id, &record).unwrap();
        let batch = session_core::backend::Batch::new(vec![stored], head.unwrap());
        let expected = session_core::backend::Expected::Absent;
        storage.append(id, expected, batch, Durability::Flushed).await.unwrap();
    }
    fixture.set("damaged");
    let error = fixture.repair().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::UnsupportedFormat, "{error}");
    assert_eq!(fixture.format(), "damaged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_can_be_read_but_not_written() {
    let mut fixture = Fixture::new().await;
    fixture.set("damaged");
    let storage = SledStorage::open_for_repair(options(&fixture.path)).unwrap();
    let health = storage.verify_all().await.unwrap();
    assert_eq!(health.problems.len(), 1, "{:?}", health.problems);
    assert!(health.problems.concat().ends_with("FORMAT is damaged"), "{:?}", health.problems);
    assert_eq!(health.sessions.len(), 1);
    let refused = fixture.log.append(&storage, Durability::Flushed, vec![note(1)]).await;
    assert!(matches!(refused, Err(StorageError::StoreDamaged { .. })), "{refused:?}");
    assert_eq!(fixture.format(), "damaged");
    assert_eq!(storage.reconcile().await.unwrap().store.len(), 1);
    fixture.log.append(&storage, Durability::Flushed, vec![note(1)]).await.unwrap();
    assert!(storage.verify_all().await.unwrap().problems.is_empty());
    drop(storage);
    fixture.assert_intact("a repair").await;
}
