//! Values given to a manager come back from it: the configuration, reasons, results, and failures as codes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::common::World;
use session_core::*;

#[tokio::test(start_paused = true)]
async fn a_configuration_comes_back_as_it_was_given() {
    let manager = World::default().process().await;
    let mut options = SessionOptions::default();
    options.fail_fast = true;
    let config = SessionConfig::new("work")
        .name("a name")
        .project_path("project")
        .workflow("flow")
        .mode(ExecutionMode::Worktree { name: "tree".to_owned() })
        .max_iterations(7)
        .focus("the first thing")
        .options(options)
        .label("team", "data")
        .metadata(serde_json::json!({ "any": ["thing"] }))
        .deadline(Duration::from_secs(90))
        .parent(SessionId::from_key("parent"))
        .retry_of(SessionId::from_key("ended"))
        .recovery(RecoveryPolicy::Fail);
    let id = manager.create_session(config.clone()).await.unwrap();
    assert_eq!(manager.restore_session(id).await.unwrap().config, config);
    assert_eq!((config.deadline_ms, config.max_iterations), (Some(90_000), Some(7)));
    assert_eq!(config.project_path.unwrap().to_str(), Some("project"));
    assert_eq!(
        (config.workflow.as_deref(), config.focus.as_deref()),
        (Some("flow"), Some("the first thing"))
    );
    assert_eq!(config.parent, Some(SessionId::from_key("parent")));
    assert_eq!(config.retry_of, Some(SessionId::from_key("ended")));
}

type Reason = fn(String) -> PauseReason;

/// A head holds the beginning of a text; the log has all of it.
#[tokio::test(start_paused = true)]
async fn reasons_are_cut_in_lists_and_whole_in_the_log() {
    let manager = World::default().process().await;
    let long = "x".repeat(1_000);
    let reasons: [(Reason, &str); 4] = [
        (PauseReason::Requested, "requested"),
        (PauseReason::AwaitingInput, "waiting for input"),
        (|text| PauseReason::Interrupted(Interruption::new(OwnerLoss::Stopped, text)), "stopped"),
        (PauseReason::Limit, "limit reached"),
    ];
    for (reason, says) in reasons {
        assert_eq!(reason(String::new()).to_string(), says);
        assert_eq!(reason("why".to_owned()).to_string(), format!("{says}: why"));
        let id = manager.create_session(SessionConfig::new("work")).await.unwrap();
        let session = manager.start_session(id).await.unwrap();
        session.pause(reason(long.clone())).await.unwrap();
        let SessionState::Paused { reason: short } = manager.get_state(id).await.unwrap() else { panic!() };
        assert!(short.text().len() <= 128 && short.to_string().starts_with(says), "{short}");
        let whole = manager.restore_session(id).await.unwrap().state;
        assert_eq!(whole, SessionState::Paused { reason: reason(long.clone()) });
    }
}

#[tokio::test(start_paused = true)]
async fn an_ending_without_a_result_is_an_error_with_the_reason() {
    let manager = World::default().process().await;
    let code = |report: &SessionReport| report.completed().unwrap_err().code();
    let good = manager.run(SessionConfig::new("work"), async |_| Ok("a text")).await.unwrap();
    assert_eq!(good.result::<String>().unwrap(), "a text");
    assert_eq!(good.result::<u64>().unwrap_err().code(), ErrorCode::InvalidArgument);
    let bad =
        manager.run(SessionConfig::new("work"), async |_| Err::<(), _>(WorkError::new("no"))).await.unwrap();
    assert_eq!(code(&bad), ErrorCode::WorkFailed);
    let boxed: Box<dyn std::error::Error + Send + Sync> = "from elsewhere".into();
    let bad = manager.run(SessionConfig::new("work"), async |_| Err::<(), _>(boxed.into())).await.unwrap();
    let SessionState::Failed { error } = &bad.state else { panic!("{:?}", bad.state) };
    assert_eq!((&*error.message, error.to_string().as_str()), ("from elsewhere", "from elsewhere"));
    assert_eq!(WorkError::new("no").get_ref().to_string(), "no");
    let short = SessionConfig::new("work").deadline(Duration::from_secs(1));
    let late = manager.run(short, async |_| Ok(std::future::pending::<u8>().await)).await.unwrap();
    assert_eq!(code(&late), ErrorCode::Timeout);
    let stopped = manager
        .run(SessionConfig::new("work"), async |session| {
            manager.cancel_session(session.id(), CancelRequest::new("enough", "")).await?;
            session.cancellation().check()?;
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(code(&stopped), ErrorCode::Cancelled);
    let id = manager.create_session(SessionConfig::new("work")).await.unwrap();
    let waits = SessionReport::from(manager.restore_session(id).await.unwrap());
    assert_eq!(code(&waits), ErrorCode::Conflict);
}

#[tokio::test(start_paused = true)]
async fn the_program_behind_a_session_and_how_it_ended_come_back() {
    let manager = World::default().process().await;
    let origin = Origin::new(vec!["make".to_owned(), "-j8".to_owned()], "project".into());
    let id = manager.create_session_from(SessionConfig::new("build"), Some(origin.clone())).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    assert_eq!(session.origin(), Some(&origin));
    let failure = Failure::new(FailureCause::Work, "it ended with 2").exit_code(2);
    session.fail(failure.clone()).await.unwrap();
    let whole = manager.restore_session(id).await.unwrap();
    assert_eq!((whole.state, whole.origin), (SessionState::Failed { error: failure }, Some(origin)));
}

/// The work succeeded and its result does not fit a record: the session fails with that reason instead of staying open.
#[tokio::test(start_paused = true)]
async fn a_result_too_large_for_a_record_fails_the_session() {
    let manager = World::default().process().await;
    let report =
        manager.run(SessionConfig::new("work"), async |_| Ok("x".repeat(2 * 1024 * 1024))).await.unwrap();
    let SessionState::Failed { error } = &report.state else { panic!("{:?}", report.state) };
    assert!(
        error.message.starts_with("the work completed, but its result cannot be stored: "),
        "{}",
        error.message
    );
}

#[test]
fn each_code_and_each_kind_says_what_it_means() {
    let texts: HashSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(texts.len(), ErrorCode::ALL.len());
    for code in ErrorCode::ALL {
        assert!(code.as_str().bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{code}");
        assert!((2..=9).contains(&code.exit_code()), "{code}: {}", code.exit_code());
        assert!(code.about().ends_with('.') && !code.advice().is_empty(), "{code}");
        assert_eq!(code.to_string(), code.as_str());
    }
    assert!(EventKind::ALL.iter().all(|kind| kind.about().ends_with('.')));
}

#[derive(Debug)]
struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_795_262_400_000).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn the_times_of_a_log_are_those_of_the_clock_that_was_given() {
    let world = World::default();
    let manager = world.process_with(ManagerOptions::new().clock(Arc::new(Noon))).await;
    let id = manager.create_session(SessionConfig::new("work")).await.unwrap();
    let head = manager.get_head(id).await.unwrap();
    assert_eq!((head.created_at, head.updated_at), (Noon.now(), Noon.now()));
}

/// Debug output shows the state. It never waits for a lock that its caller holds.
#[tokio::test(start_paused = true)]
async fn debug_output_shows_the_state() {
    let manager = World::default().process().await;
    let id = manager.create_session(SessionConfig::new("work")).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    let token = session.cancellation();
    let source = CancellationSource::new();
    source.cancel("enough");
    let guard = token.on_cancelled(|_| {});
    session.progress().complete_step("half way");
    for (shown, parts) in [
        (format!("{:?}", session.progress()), ["ProgressTracker", "half way"]),
        (format!("{token:?}"), ["CancellationToken", "None"]),
        (format!("{source:?}"), ["CancellationSource", "enough"]),
        (format!("{guard:?}"), ["CallbackGuard", "false"]),
        (format!("{:?}", WorkError::new("broken")), ["", "broken"]),
        (
            format!("{:?}", ObservableSessionManager::new(manager.to_shared())),
            ["ObservableSessionManager", "queue"],
        ),
    ] {
        assert!(parts.iter().all(|part| shown.contains(part)), "{shown}");
    }
}
