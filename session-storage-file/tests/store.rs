//! What a store in a folder is, beyond the laws that all backends keep.

mod support;

use std::num::NonZeroUsize;

use session_core::{Durability, SessionFilter, SessionStorage, SessionStorageExt};
use session_storage_file::{FileStorage, FileStorageOptions};
use support::{Log, completed, progress};

fn open(path: &std::path::Path) -> FileStorage {
    FileStorage::open(FileStorageOptions::new(path)).unwrap()
}

#[tokio::test]
async fn what_was_appended_is_read_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/store");
    let storage = open(&path);
    assert!(storage.list_all(&SessionFilter::all()).await.unwrap().heads.is_empty());
    assert!(!path.exists(), "reading made something");

    let mut log = Log::started(&storage).await;
    for percent in 0..100 {
        log.append(&storage, Durability::Buffered, vec![progress(percent)]).await.unwrap();
    }
    let other = open(&path);
    assert_eq!(other.head(log.id).await.unwrap(), log.head);
    assert_eq!(other.records_after(log.id, 0).await.unwrap(), log.records);
    log.append(&other, Durability::Flushed, vec![progress(100)]).await.unwrap();
    log.append(&storage, Durability::Buffered, vec![progress(100), progress(100)]).await.unwrap();
    assert_eq!(storage.list_all(&SessionFilter::active()).await.unwrap().heads, [log.head.clone().unwrap()]);
    log.append(&storage, Durability::Flushed, vec![completed()]).await.unwrap();
    assert_eq!(storage.list_all(&SessionFilter::active()).await.unwrap().heads, []);
    let page = other.list(&SessionFilter::all(), None, NonZeroUsize::MIN).await.unwrap();
    assert_eq!((page.heads, page.next), (vec![log.head.clone().unwrap()], None));
    assert_eq!(other.records_after(log.id, 0).await.unwrap(), log.records);
    other.delete(log.id, log.tip()).await.unwrap();
    assert_eq!(storage.head(log.id).await.unwrap(), None);
}
