//! Opening stores and managers by URL.

#![cfg(all(feature = "file", feature = "runner", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

use std::sync::Arc;

use sessionkit::{
    ErrorCode, ManagerOptions, RecoveryPolicy, SessionConfig, SessionId, SessionManagerExt as _, StateName,
    global, set_global,
};

fn url(folder: &tempfile::TempDir) -> String {
    format!("file:{}", folder.path().join("a b").join(".sessions").display())
}

/// Creates a session whose owner is gone without having released it: its runtime ended first.
fn crashed(url: &str) -> SessionId {
    let url = url.to_owned();
    let owner = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let session = runtime.block_on(async {
            let options = ManagerOptions::new().recovery(None);
            let manager = sessionkit::builder(&url).options(options).open().await.unwrap();
            let id = manager.create_session(SessionConfig::new("x")).await.unwrap();
            manager.start_session(id).await.unwrap()
        });
        drop(runtime);
        session.id()
    });
    owner.join().unwrap()
}

#[tokio::test]
async fn one_manager_reads_what_another_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let first = sessionkit::open(&url(&folder)).await.unwrap();
    let report = first.run(SessionConfig::new("sum"), async |_| Ok(41 + 1)).await.unwrap();
    let second = sessionkit::open(&url(&folder)).await.unwrap();
    assert_eq!(second.get_state(report.id).await.unwrap().name(), StateName::Completed);
    assert_eq!(report.result::<u32>().unwrap(), 42);
}

#[tokio::test]
async fn reading_does_not_create_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let manager = sessionkit::open(&url(&folder)).await.unwrap();
    assert!(manager.list_active_sessions().await.unwrap().heads.is_empty());
    assert!(manager.find_crashed_sessions().await.unwrap().sessions.is_empty());
    manager.shutdown().await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn manager_options_are_applied() {
    let folder = tempfile::tempdir().unwrap();
    let url = url(&folder);
    let first = crashed(&url);
    let reading =
        sessionkit::builder(&url).options(ManagerOptions::new().recovery(None)).open().await.unwrap();
    assert_eq!(reading.get_state(first).await.unwrap().name(), StateName::Running);
    assert_eq!(reading.find_crashed_sessions().await.unwrap().sessions.len(), 1);
    let default = sessionkit::open(&url).await.unwrap();
    assert_eq!(default.get_state(first).await.unwrap().name(), StateName::Paused);
    let second = crashed(&url);
    let options = ManagerOptions::new().recovery(Some(RecoveryPolicy::Fail));
    let failing = sessionkit::builder(&url).options(options).open().await.unwrap();
    assert_eq!(failing.get_state(second).await.unwrap().name(), StateName::Failed);
}

#[tokio::test]
async fn an_invalid_url_is_refused_when_opened() {
    for url in ["nonsense", "bolt:x", "file:"] {
        let error = sessionkit::open(url).await.err().unwrap();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{url}");
    }
}

#[tokio::test]
async fn an_open_store_exposes_its_parts() {
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

/// Generated names continue after the highest number of the day, even if a caller chose that name.
#[tokio::test]
async fn generated_names_continue_after_chosen_ones() {
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

/// The error for a backend that is not in the build names the feature.
#[cfg(not(all(feature = "sled", feature = "sqlite")))]
#[tokio::test]
async fn an_error_names_the_missing_feature() {
    for scheme in ["sled", "sqlite"] {
        if (scheme == "sled" && cfg!(feature = "sled")) || (scheme == "sqlite" && cfg!(feature = "sqlite")) {
            continue;
        }
        let error = sessionkit::open(&format!("{scheme}:x")).await.err().unwrap();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert!(error.to_string().contains(&format!("the feature `{scheme}` of `sessionkit`")), "{error}");
    }
}
