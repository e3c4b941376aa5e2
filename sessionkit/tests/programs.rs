//! Programs as sessions of a store, and the stream of all their output.

#![cfg(all(feature = "file", feature = "runner", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

use std::collections::BTreeMap;
use std::time::Duration;

use sessionkit::runner::{Command, OutputStream};
use sessionkit::storage::{OutputEvent, Outputs};
use sessionkit::{CancelRequest, ErrorCode, SessionConfig, SessionId, SessionManagerExt as _, Store};
use tempfile::TempDir;

fn url(folder: &TempDir) -> String {
    format!("file:{}", folder.path().join("store").display())
}

async fn open() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = sessionkit::open_store(&url(&folder)).await.unwrap();
    (folder, store)
}

fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

/// Runs a script to its end.
async fn run(store: &Store, script: &str) -> SessionId {
    let mut running = store.runner().unwrap().spawn(SessionConfig::new("run"), sh(script)).await.unwrap();
    running.wait().await.unwrap();
    running.id()
}

async fn next(outputs: &mut Outputs) -> OutputEvent {
    tokio::time::timeout(Duration::from_secs(30), outputs.next()).await.expect("output arrives").unwrap()
}

/// Reads until each of these sessions has printed a text of this length.
async fn read(outputs: &mut Outputs, lengths: &[(SessionId, usize)]) -> BTreeMap<SessionId, String> {
    let mut texts: BTreeMap<SessionId, String> = BTreeMap::new();
    while lengths.iter().any(|(id, length)| texts.get(id).map_or(0, String::len) < *length) {
        let OutputEvent { session, chunk, .. } = next(outputs).await;
        let text = texts.entry(session).or_default();
        assert_eq!(chunk.offset, text.len() as u64, "in order, without gaps");
        text.push_str(std::str::from_utf8(&chunk.bytes).unwrap());
    }
    texts
}

#[sessionkit::test]
async fn manager_and_runner_come_from_one_open() {
    let (_folder, store) = open().await;
    let command = sh("echo made; exit 3");
    let mut running = store.runner().unwrap().spawn(SessionConfig::new("build"), command).await.unwrap();
    assert_eq!(running.wait().await.unwrap().exit_code(), 3);
    assert!(store.manager().get_state(running.id()).await.unwrap().is_final());
}

#[sessionkit::test(flavor = "multi_thread")]
async fn a_test_on_a_pool_of_threads_runs_programs() {
    let (_folder, store) = open().await;
    run(&store, "true").await;
    let handle = tokio::runtime::Handle::current();
    assert_eq!(handle.runtime_flavor(), tokio::runtime::RuntimeFlavor::MultiThread);
}

#[sessionkit::test]
#[should_panic(expected = "as any test")]
async fn a_test_with_other_attributes_keeps_them() {
    panic!("as any test");
}

#[sessionkit::test]
fn a_test_without_a_runtime_is_a_test() -> Result<(), std::num::ParseIntError> {
    assert!(tokio::runtime::Handle::try_current().is_err());
    "1".parse::<u8>().map(drop)
}

#[sessionkit::test]
async fn one_stream_has_the_output_of_all_sessions() {
    let (folder, store) = open().await;
    let before = run(&store, "echo before").await;
    let runner = store.runner().unwrap();
    let script = "echo early; while ! test -e go; do sleep 0.01; done; echo late";
    let command = sh(script).cwd(folder.path());
    let mut running = runner.spawn(SessionConfig::new("two"), command).await.unwrap();
    let mut early = running.output().unwrap();
    assert_eq!(early.next().await.unwrap().unwrap().bytes, b"early\n");
    let mut outputs = store.outputs().await.unwrap();
    std::fs::write(folder.path().join("go"), "").unwrap();
    let event = next(&mut outputs).await;
    assert_eq!((event.session, event.chunk.offset), (running.id(), 6), "from now on");
    assert_eq!(event.chunk.bytes, b"late\n");
    running.wait().await.unwrap();
    // Each is over before the stream is read again.
    let quick = run(&store, "echo quick; sleep 0.05; echo oops >&2").await;
    let silent = run(&store, "true").await;
    let texts = read(&mut outputs, &[(quick, 11)]).await;
    assert_eq!(texts.into_iter().collect::<Vec<_>>(), [(quick, "quick\noops\n".to_owned())]);
    let nothing = tokio::time::timeout(Duration::from_millis(2500), outputs.next()).await;
    assert!(nothing.is_err(), "nothing of {before}, nothing of {silent}, nothing twice: {nothing:?}");
}

/// The sessions of another process are found by polling, also if they are over by then.
#[sessionkit::test]
async fn output_of_other_processes_is_in_the_stream() {
    let (folder, store) = open().await;
    let mut outputs = store.outputs().await.unwrap();
    // Another store at the same place: its manager and its runner know nothing of the first one's.
    let other = sessionkit::open_store(&url(&folder)).await.unwrap();
    let quick = run(&other, "echo quick").await;
    assert_eq!(read(&mut outputs, &[(quick, 6)]).await[&quick], "quick\n");
    let mut running = other
        .runner()
        .unwrap()
        .spawn(SessionConfig::new("slow"), sh("echo slow >&2; while :; do sleep 1; done"))
        .await
        .unwrap();
    let event = next(&mut outputs).await;
    assert_eq!((event.session, event.chunk.stream), (running.id(), OutputStream::Stderr));
    other.manager().cancel_session(running.id(), CancelRequest::new("enough", "a test")).await.unwrap();
    running.wait().await.unwrap();
}

/// A session that always has output must not keep the others waiting.
#[sessionkit::test(flavor = "multi_thread")]
async fn sessions_take_turns_and_a_slow_reader_loses_nothing() {
    let (_folder, store) = open().await;
    let mut outputs = store.outputs().await.unwrap();
    let loud = run(&store, "yes | head -c 3000000").await;
    let quiet = run(&store, "echo quiet").await;
    // Nothing was read until here, and both have ended.
    let (mut bytes, mut quiet_after) = (0, None);
    while bytes < 3_000_000 || quiet_after.is_none() {
        let event = next(&mut outputs).await;
        if event.session == loud {
            assert_eq!(event.chunk.offset, bytes);
            bytes = event.chunk.end();
        } else {
            assert_eq!((event.session, event.chunk.bytes.as_slice()), (quiet, &b"quiet\n"[..]));
            quiet_after = Some(bytes);
        }
    }
    assert!(quiet_after.unwrap() < 1_000_000, "{quiet_after:?}");
}

#[tokio::test]
async fn a_store_without_output_has_no_stream_of_it() {
    let store = sessionkit::open_store("memory:").await.unwrap();
    assert_eq!(store.outputs().await.unwrap_err().code(), ErrorCode::InvalidArgument);
    let report = store.manager().run(SessionConfig::new("work"), async |_| Ok(())).await.unwrap();
    assert!(report.is_completed());
}
