//! Tests with real stores and programs.

use std::path::PathBuf;
use std::sync::Arc;

use own_backend::RedbStorage;
use sessionkit::runner::Command;
use sessionkit::backend::Backend;
use sessionkit::manager::ObservableSessionManager;
use sessionkit::{SessionManager as _, SessionState, StateName};
use tempfile::TempDir;
use user::{Counter, build, import};

fn numbers(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("numbers");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

#[tokio::test]
async fn an_import_completes_with_its_sum() {
    let (_folder, path) = numbers("1\n2\n39\n");
    let counter = Arc::new(Counter::default());
    let observer = Arc::clone(&counter);
    let manager = sessionkit::open("memory:").await.unwrap();
    let manager = ObservableSessionManager::new(manager).observe("counter", observer);
    let report = import(&manager, &path).await.unwrap();
    assert_eq!(report.result::<u64>().unwrap(), 42);
    manager.shutdown().await.unwrap();
    assert_eq!((counter.count("checkpoint_saved"), counter.count("completed")), (3, 1));
}

#[tokio::test]
async fn an_error_of_anyhow_fails_the_session_with_its_causes() {
    let manager = sessionkit::open("memory:").await.unwrap();
    for (text, message) in
        [("1\nx\n", "line 2: invalid digit found in string"), ("1\n\n3\n", "line 2 is empty")]
    {
        let (_folder, path) = numbers(text);
        let report = import(&*manager, &path).await.unwrap();
        let SessionState::Failed { error } = &report.state else { panic!("{:?}", report.state) };
        assert_eq!(error.message, message);
    }
}

#[sessionkit::test]
async fn a_program_runs_as_a_session_under_cargo_test() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:{}", folder.path().join("store").display());
    let store = sessionkit::open_store(&url).await.unwrap();
    let command = Command::new("sh").args(["-c", "echo made; exit 3"]);
    let (report, text) = build(&store, command).await.unwrap();
    assert_eq!((report.exit_code(), text.as_str()), (3, "made\n"));
    assert_eq!(report.head.state().name(), StateName::Failed);
}

#[sessionkit::test]
async fn a_backend_of_another_crate_is_opened_by_its_url() {
    sessionkit::register("redb", async |url| {
        let path = url.path().expect("the stores of this test are files");
        let storage = Arc::new(RedbStorage::open(path)?);
        Ok(Backend::new(storage).folder(path.with_extension("files")))
    })
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("redb:{}", folder.path().join("sessions.redb").display());
    let (_numbers, path) = numbers("40\n2\n");
    let store = sessionkit::open_store(&url).await.unwrap();
    assert_eq!(store.url().to_string(), url);
    assert_eq!(import(&**store.manager(), &path).await.unwrap().result::<u64>().unwrap(), 42);
    let (report, text) = build(&store, Command::new("echo").arg("made")).await.unwrap();
    assert_eq!((report.exit_code(), text.as_str()), (0, "made\n"));
}

#[test]
fn the_program_itself_runs_a_program() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:{}", folder.path().join("store").display());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_user"))
        .args([&*url, "build", "sh", "-c", "printf made"])
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(stdout, "0: made\n1 sessions started\n", "{output:?}");
}
