//! From the text that names a store to a manager that works.

#![cfg(all(feature = "file", feature = "runner"))]
#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

use std::sync::Arc;

use sessionkit::{
    ErrorCode, ManagerOptions, RecoveryPolicy, SessionConfig, SessionId, SessionManagerExt as _, StateName,
    global, set_global,
};

fn url(folder: &tempfile::TempDir) -> String {
    format!("file:{}", folder.path().join("a b").join(".sessions").display())
}

/// A session whose owner is gone.
async fn crashed(url: &str) -> SessionId {
    let manager =
        sessionkit::builder(url).options(ManagerOptions::new().recovery(None)).open().await.unwrap();
    let id = manager.create_session(SessionConfig::new("x")).await.unwrap();
    drop(manager.start_session(id).await.unwrap());
    id
}

#[tokio::test]
async fn what_one_manager_writes_another_reads() {
    let folder = tempfile::tempdir().unwrap();
    let first = sessionkit::open(&url(&folder)).await.unwrap();
    let report = first.run(SessionConfig::new("sum"), async |_| Ok(41 + 1)).await.unwrap();
    let second = sessionkit::open(&url(&folder)).await.unwrap();
    assert_eq!(second.get_state(report.id).await.unwrap().name(), StateName::Completed);
    assert_eq!(report.result::<u32>().unwrap(), 42);
}

#[tokio::test]
async fn looking_makes_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let manager = sessionkit::open(&url(&folder)).await.unwrap();
    assert!(manager.list_active_sessions().await.unwrap().heads.is_empty());
    assert!(manager.find_crashed_sessions().await.unwrap().is_empty());
    manager.shutdown().await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_manager_behaves_as_it_was_told() {
    let folder = tempfile::tempdir().unwrap();
    let url = url(&folder);
    let first = crashed(&url).await;
    let looking =
        sessionkit::builder(&url).options(ManagerOptions::new().recovery(None)).open().await.unwrap();
    assert_eq!(looking.get_state(first).await.unwrap().name(), StateName::Running);
    assert_eq!(looking.find_crashed_sessions().await.unwrap().len(), 1);
    let usual = sessionkit::open(&url).await.unwrap();
    assert_eq!(usual.get_state(first).await.unwrap().name(), StateName::Paused);
    let second = crashed(&url).await;
    let options = ManagerOptions::new().recovery(Some(RecoveryPolicy::Fail));
    let failing = sessionkit::builder(&url).options(options).open().await.unwrap();
    assert_eq!(failing.get_state(second).await.unwrap().name(), StateName::Failed);
}

#[tokio::test]
async fn a_text_that_names_no_store_is_refused_when_it_is_opened() {
    for url in ["nonsense", "bolt:x", "file:"] {
        let error = sessionkit::open(url).await.err().unwrap();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{url}");
    }
}

#[tokio::test]
async fn what_is_below_a_manager_is_within_reach() {
    let folder = tempfile::tempdir().unwrap();
    let store = sessionkit::builder(&url(&folder)).open_store().await.unwrap();
    let id = store.manager().create_session(SessionConfig::new("x")).await.unwrap();
    assert_eq!(store.maintenance().unwrap().verify(id).await.unwrap().readable(), 1);
    assert!(store.output().is_some() && store.runner().is_ok());
    let memory = sessionkit::builder("memory:").open_store().await.unwrap();
    assert!(memory.maintenance().is_none() && memory.output().is_none());
}

#[tokio::test]
async fn a_global_manager_can_be_set_once() {
    let manager = sessionkit::open("memory:").await.unwrap();
    set_global(Arc::clone(&manager)).unwrap();
    assert!(Arc::ptr_eq(&global().await.unwrap(), &manager));
    assert!(set_global(manager).is_err());
}

/// Names that are made up go on behind the highest of the day, whoever gave it.
#[tokio::test]
async fn made_up_names_go_on_behind_chosen_ones() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:{}", folder.path().join("store").display());
    let create = async |name: Option<String>| {
        let manager = sessionkit::open(&url).await.unwrap();
        let config = SessionConfig::new("test");
        let id = manager.create_session(name.map_or(config.clone(), |name| config.name(name))).await.unwrap();
        manager.get_head(id).await.unwrap().name
    };
    let first = create(None).await;
    let day = first.strip_suffix("001").unwrap().to_owned();
    assert_eq!(create(None).await, format!("{day}002"));
    assert_eq!(create(None).await, format!("{day}003"));
    create(Some(format!("{day}040"))).await;
    create(Some("another".to_owned())).await;
    assert_eq!(create(None).await, format!("{day}041"));
    assert_eq!(create(None).await, format!("{day}042"));
}

/// What a build leaves out is named, with the feature that has it.
#[cfg(not(all(feature = "sled", feature = "sqlite")))]
#[tokio::test]
async fn a_backend_that_was_left_out_is_named() {
    for scheme in ["sled", "sqlite"] {
        if (scheme == "sled" && cfg!(feature = "sled")) || (scheme == "sqlite" && cfg!(feature = "sqlite")) {
            continue;
        }
        let error = sessionkit::open(&format!("{scheme}:x")).await.err().unwrap();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert!(error.to_string().contains(&format!("the feature `{scheme}` of `sessionkit`")), "{error}");
    }
}
