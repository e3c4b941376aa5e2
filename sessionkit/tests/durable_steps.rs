//! Steps of Rust code on every backend, next to those of programs in the same session.

#![cfg(all(feature = "file", feature = "sled", feature = "sqlite"))]
#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

use std::sync::atomic::{AtomicU32, Ordering};

use sessionkit::log::{Evidence, StepIdentity};
use sessionkit::workflow::server::{NoProgram, serve};
use sessionkit::workflow::{OnUnknown, WorkflowState};
use sessionkit::{ManagerOptions, Session, SessionConfig, SessionSteps as _};
use tokio::io::{AsyncReadExt as _, BufReader};

/// Runs a step of a program over the protocol, and returns the answers of the owner.
async fn program_step(session: &Session, lines: &str) -> String {
    let mut rest = BufReader::new(lines.as_bytes());
    let mut first = Vec::new();
    tokio::io::AsyncBufReadExt::read_until(&mut rest, b'\n', &mut first).await.unwrap();
    let mut answers = Vec::new();
    // The client is gone after its last line.
    let _ = serve(session, &NoProgram, first, &mut rest, &mut answers).await;
    let mut text = String::new();
    answers.as_slice().read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn steps_of_rust_and_of_programs_share_a_session() {
    for scheme in ["file", "sqlite", "sled"] {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("{scheme}:{}", folder.path().join("store").display());
        let options = ManagerOptions::new().recovery(None);
        let store = sessionkit::builder(&url).options(options).open_store().await.unwrap();
        let manager = store.manager();
        let id = manager.create_session(SessionConfig::new("release")).await.unwrap();
        let mut session = manager.start_session(id).await.unwrap();
        let runs = AtomicU32::new(0);
        for attempt in 1..=3 {
            let count = async || Ok(runs.fetch_add(1, Ordering::Relaxed));
            assert_eq!(session.step("count", count).await.unwrap(), 0, "{scheme}, attempt {attempt}");
            let step = r#"{"step":{"version":1,"name":"count","argv":["./count"]}}"#;
            let answer = program_step(
                &session,
                &format!("{step}\n{{\"part\":\"7\\n\"}}\n{{\"end\":{{\"exit_code\":0}}}}\n"),
            )
            .await;
            let expected = if attempt == 1 { r#"{"recorded":"completed"}"# } else { r#"{"part":"7\n"}"# };
            assert!(answer.contains(expected), "{scheme}, attempt {attempt}: {answer}");
            let fails = async || Err::<(), _>("not yet".into());
            let failed = session.step("publish", fails).if_unknown(OnUnknown::Fail).await.unwrap_err();
            assert!(failed.to_string().contains("not yet"), "{failed}");
            session.interrupt(Evidence::Shutdown).await.unwrap();
            drop(session);
            session = manager.resume_session(id).await.unwrap();
        }
        assert_eq!(runs.load(Ordering::Relaxed), 1, "{scheme}");
        let table = WorkflowState::read(&**manager, id).await.unwrap();
        let names: Vec<String> = table.steps().in_order().iter().map(|(step, _)| step.to_string()).collect();
        assert_eq!(names, ["count", "count#2", "publish"], "{scheme}");
        assert_eq!(table.steps().get(&StepIdentity::nth("publish", 1)).unwrap().starts, 3);
        session.complete(sessionkit::SessionSummary::new()).await.unwrap();
        drop(session);
        manager.shutdown().await.unwrap();
    }
}
