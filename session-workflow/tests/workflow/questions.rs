//! Questions: who may answer, when, and which answer holds.

use std::time::Duration;

use std::future::IntoFuture as _;

use session_core::{
    CancelRequest, ErrorCode, Evidence, InMemorySessionManager, PauseReason, Session, SessionConfig,
    SessionManager as _, StepIdentity,
};
use session_workflow::{AnswerError, AnswerTo, SessionSteps as _, answer};

use super::{TestClock, events, manager_with, next_attempt, retry, session, until};

fn named(name: &str) -> AnswerTo {
    AnswerTo::Named(name.to_owned())
}

async fn asked(session: &Session, questions: u64) {
    until(session, |head| head.waits.questions == questions).await;
}

#[tokio::test]
async fn an_answer_is_recorded_once_and_replayed() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let ask = async || session.ask("deploy", "Deploy?").choices(["yes", "no"]).await.unwrap();
    let (got, ()) = tokio::join!(ask(), async {
        asked(&session, 1).await;
        assert!(session.head().is_waiting());
        let refused = answer(&manager, session.id(), AnswerTo::TheOnlyOne, "later").await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidArgument, "{refused}");
        answer(&manager, session.id(), AnswerTo::TheOnlyOne, "yes").await.unwrap();
    });
    assert_eq!(got, "yes");
    let again = answer(&manager, session.id(), AnswerTo::Use(StepIdentity::nth("deploy", 1)), "no")
        .await
        .unwrap_err();
    assert!(matches!(&again, AnswerError::Answered { answer, .. } if answer == "yes"), "{again}");
    assert_eq!(again.code(), ErrorCode::Conflict);
    let session = next_attempt(&manager, session, Evidence::LockReleased).await;
    assert_eq!(session.ask("deploy", "Deploy?").choices(["yes", "no"]).await.unwrap(), "yes");
    assert_eq!(events(&manager, session.id(), "asked").await.len(), 1);
    assert!(!session.head().is_waiting());
}

#[tokio::test]
async fn an_answer_before_the_question_holds() {
    let manager = InMemorySessionManager::new();
    let id = manager.create_session(SessionConfig::new("test")).await.unwrap();
    assert_eq!(answer(&manager, id, named("deploy"), "yes").await.unwrap(), StepIdentity::nth("deploy", 1));
    assert_eq!(answer(&manager, id, named("deploy"), "no").await.unwrap(), StepIdentity::nth("deploy", 2));
    let session = manager.start_session(id).await.unwrap();
    assert_eq!(session.ask("deploy", "Deploy?").await.unwrap(), "yes");
    assert_eq!(session.ask("deploy", "Deploy again?").await.unwrap(), "no");
    assert!(events(&manager, id, "asked").await.is_empty(), "nothing was left to ask");
}

#[tokio::test]
async fn an_early_answer_that_is_no_choice_does_not_hold() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    answer(&manager, session.id(), named("deploy"), "perhaps").await.unwrap();
    let (got, ()) =
        tokio::join!(session.ask("deploy", "Deploy?").choices(["yes", "no"]).into_future(), async {
            asked(&session, 1).await;
            answer(&manager, session.id(), named("deploy"), "no").await.unwrap();
        });
    assert_eq!(got.unwrap(), "no");
}

#[tokio::test]
async fn a_question_stays_open_while_the_owner_is_dead() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let id = session.id();
    let (work, ask) = (session.clone(), session.clone());
    let waiting = tokio::spawn(async move { ask.ask("deploy", "Deploy?").await });
    asked(&work, 1).await;
    waiting.abort();
    let _ = waiting.await;
    drop(work);
    session.interrupt(Evidence::LockReleased).await.unwrap();
    drop(session);
    answer(&manager, id, named("deploy"), "yes").await.unwrap();
    let session = manager.resume_session(id).await.unwrap();
    assert_eq!(session.ask("deploy", "Deploy?").await.unwrap(), "yes");
}

#[tokio::test]
async fn two_questions_are_open_while_steps_run() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let id = session.id();
    let work = async {
        asked(&session, 2).await;
        assert!(session.head().is_waiting());
        session
            .step("build", async || {
                assert!(!session.head().is_waiting(), "a step runs");
                Ok(())
            })
            .await
            .unwrap();
        let unnamed = answer(&manager, id, AnswerTo::TheOnlyOne, "x").await.unwrap_err();
        assert_eq!(unnamed.code(), ErrorCode::Ambiguous, "{unnamed}");
        answer(&manager, id, named("second"), "2").await.unwrap();
        answer(&manager, id, named("first"), "1").await.unwrap();
    };
    let (first, second, ()) = tokio::join!(
        session.ask("first", "One?").into_future(),
        session.ask("second", "Two?").into_future(),
        work
    );
    assert_eq!((first.unwrap().as_str(), second.unwrap().as_str()), ("1", "2"));
    let waits = session.head().waits;
    assert_eq!((waits.questions, waits.open, waits.oldest.len()), (0, 0, 0));
}

#[tokio::test]
async fn of_two_answers_at_a_time_exactly_one_holds() {
    for _ in 0..20 {
        let manager = InMemorySessionManager::new();
        let session = session(&manager).await;
        let id = session.id();
        let answers = async {
            asked(&session, 1).await;
            tokio::join!(
                answer(&manager, id, named("deploy"), "yes"),
                answer(&manager, id, AnswerTo::Use(StepIdentity::nth("deploy", 1)), "no"),
            )
        };
        let (got, (yes, no)) = tokio::join!(session.ask("deploy", "Deploy?").into_future(), answers);
        let holds = got.unwrap();
        let first = StepIdentity::nth("deploy", 1);
        let [yes, no] = [yes, no].map(|answered| answered.is_ok_and(|question| question == first));
        assert!(yes ^ no, "exactly one is for this use");
        assert_eq!(holds, if yes { "yes" } else { "no" });
    }
}

#[tokio::test]
async fn a_changed_question_is_asked_again() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let ask_and_answer = async |session: &Session, text: &str, value: &str| {
        let (got, ()) = tokio::join!(session.ask("deploy", text).into_future(), async {
            asked(session, 1).await;
            answer(&manager, session.id(), named("deploy"), value).await.unwrap();
        });
        got.unwrap()
    };
    assert_eq!(ask_and_answer(&session, "Deploy 1.4?", "yes").await, "yes");
    let session = next_attempt(&manager, session, Evidence::Shutdown).await;
    assert_eq!(ask_and_answer(&session, "Deploy 1.5?", "no").await, "no");
    let session = next_attempt(&manager, session, Evidence::Shutdown).await;
    assert_eq!(session.ask("deploy", "Deploy 1.5?").await.unwrap(), "no", "the last one is recorded");
}

#[tokio::test(start_paused = true)]
async fn a_default_holds_after_its_time() {
    let clock = TestClock::new();
    let manager = manager_with(&clock);
    let session = session(&manager).await;
    let minute = Duration::from_secs(60);
    let (work, ask) = (session.clone(), session.clone());
    let asking = tokio::spawn(async move { ask.ask("deploy", "Deploy?").default_after("no", minute).await });
    asked(&work, 1).await;
    clock.add(Duration::from_millis(59_999));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!asking.is_finished(), "a millisecond is left");
    clock.add(Duration::from_millis(1));
    assert_eq!(asking.await.unwrap().unwrap(), "no");
    let answered =
        answer(&manager, work.id(), AnswerTo::Use(StepIdentity::nth("deploy", 1)), "yes").await.unwrap_err();
    assert_eq!(answered.code(), ErrorCode::Conflict);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_default_is_recorded_once() {
    let clock = TestClock::new();
    let manager = manager_with(&clock);
    let session = session(&manager).await;
    let minute = Duration::from_secs(60);
    let (work, ask) = (session.clone(), session.clone());
    let asking = tokio::spawn(async move { ask.ask("deploy", "Deploy?").default_after("no", minute).await });
    asked(&work, 1).await;
    // The owner dies: nothing is withdrawn.
    std::mem::forget(asking);
    drop(work);
    clock.add(minute);
    let session = next_attempt(&manager, session, Evidence::LockReleased).await;
    assert_eq!(session.ask("deploy", "Deploy?").default_after("no", minute).await.unwrap(), "no");
}

#[tokio::test]
async fn a_question_whose_asker_has_gone_is_withdrawn() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    for _ in 0..2 {
        let (work, ask) = (session.clone(), session.clone());
        let asking = tokio::spawn(async move { ask.ask("deploy", "Deploy?").await });
        asked(&work, 1).await;
        asking.abort();
        asked(&work, 0).await;
        assert_eq!(work.head().waits.open, 0);
    }
    // The next one is the same use.
    answer(&manager, session.id(), named("deploy"), "yes").await.unwrap();
    assert_eq!(session.ask("deploy", "Deploy?").await.unwrap(), "yes");
}

#[tokio::test]
async fn a_paused_session_can_be_answered() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let (got, ()) = tokio::join!(session.ask("deploy", "Deploy?").into_future(), async {
        asked(&session, 1).await;
        session.pause(PauseReason::Requested("lunch".to_owned())).await.unwrap();
        answer(&manager, session.id(), named("deploy"), "yes").await.unwrap();
        session.resume().await.unwrap();
    });
    assert_eq!(got.unwrap(), "yes");
}

#[tokio::test]
async fn the_end_of_the_session_ends_the_wait() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let (got, ()) = tokio::join!(session.ask("deploy", "Deploy?").into_future(), async {
        asked(&session, 1).await;
        manager.cancel_session(session.id(), CancelRequest::new("enough", "me")).await.unwrap();
    });
    assert_eq!(got.unwrap_err().code(), ErrorCode::Cancelled);
    let ended = answer(&manager, session.id(), named("deploy"), "yes").await.unwrap_err();
    assert_eq!(ended.code(), ErrorCode::IllegalTransition);
}

#[tokio::test]
async fn a_retry_takes_answers_over_but_asks_a_changed_question() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    for name in ["deploy", "notify"] {
        answer(&manager, session.id(), named(name), "yes").await.unwrap();
    }
    let (asked_first, ()) = tokio::join!(session.ask("region", "Which?").into_future(), async {
        asked(&session, 1).await;
        answer(&manager, session.id(), named("region"), "north").await.unwrap();
    });
    assert_eq!(asked_first.unwrap(), "north");
    let session = retry(&manager, session).await;
    assert_eq!(session.ask("deploy", "Any text?").await.unwrap(), "yes", "it came before the question");
    assert_eq!(session.ask("region", "Which?").await.unwrap(), "north");
    let session = retry(&manager, session).await;
    let (changed, ()) = tokio::join!(session.ask("region", "Which one?").into_future(), async {
        asked(&session, 1).await;
        answer(&manager, session.id(), named("region"), "south").await.unwrap();
    });
    assert_eq!(changed.unwrap(), "south");
}

#[tokio::test]
async fn questions_have_limits() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let long = "x".repeat(4097);
    assert_eq!(session.ask("deploy", long).await.unwrap_err().code(), ErrorCode::LimitExceeded);
    let no_choice = session.ask("deploy", "Deploy?").choices(["yes"]).default_after("no", Duration::ZERO);
    assert_eq!(no_choice.await.unwrap_err().code(), ErrorCode::InvalidArgument);
    let long = "x".repeat(128 * 1024 + 1);
    let refused = answer(&manager, session.id(), named("deploy"), &long).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::LimitExceeded, "{refused}");
}
