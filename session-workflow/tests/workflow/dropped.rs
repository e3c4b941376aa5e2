//! Work that is dropped at any moment leaves nothing open, and the next use of its name continues it.

use std::pin::Pin;
use std::time::Duration;

use session_core::{
    ManagerOptions, Session, SessionConfig, SessionEvent, SessionManager as _, SessionManagerExt as _,
    StepIdentity,
};
use session_workflow::{AnswerTo, SessionSteps as _, StepError, answer};

use super::shared_memory::{self, SharedManager};

/// Turns of the runtime in which each of these works begins, with some to spare.
const TURNS: usize = 40;

type Work = Pin<Box<dyn Future<Output = Result<(), StepError>> + Send>>;

/// Returns work of each kind, which does not end before it is let.
fn works(session: &Session) -> [(&'static str, Work); 4] {
    let of = || session.clone();
    let (step, each, question, sleep) = (of(), of(), of(), of());
    [
        ("step", Box::pin(async move { step.step("it", async || unended().await).await })),
        ("each", Box::pin(async move { each.each("it", ["a"], async |_| unended().await).await.map(drop) })),
        ("question", Box::pin(async move { question.ask("it", "It?").await.map(drop) })),
        ("sleep", Box::pin(async move { sleep.sleep("it", Duration::from_secs(3_600)).await })),
    ]
}

async fn unended() -> Result<(), session_core::WorkError> {
    std::future::pending::<()>().await;
    Ok(())
}

async fn turns(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

/// Returns the identities of all starts in the log.
async fn starts(manager: &SharedManager, session: &Session) -> Vec<StepIdentity> {
    let records = manager.read_records(session.id(), 0, 1_000).await.unwrap();
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other event begins something")]
    let identity = |event| match event {
        SessionEvent::StepStarted { step, .. }
        | SessionEvent::EachStarted { step, .. }
        | SessionEvent::SleepStarted { step, .. } => Some(step),
        SessionEvent::Asked { question } => Some(question.identity),
        _ => None,
    };
    records.into_iter().filter_map(|record| identity(record.event)).collect()
}

/// Returns the number of what is open.
fn open(session: &Session) -> u64 {
    let head = session.head();
    head.steps.open + head.items.open + head.waits.open + head.waits.questions
}

#[tokio::test(start_paused = true)]
async fn work_that_is_dropped_at_any_moment_leaves_nothing_open() {
    let mut begun = [false; 4];
    for turn in 0..TURNS {
        for (kind, begun) in begun.iter_mut().enumerate() {
            let manager = shared_memory::open(ManagerOptions::new()).await;
            let id = manager.create_session(SessionConfig::new("test")).await.unwrap();
            let session = manager.start_session(id).await.unwrap();
            let (name, work) = works(&session).into_iter().nth(kind).unwrap();
            let work = tokio::spawn(work);
            turns(turn).await;
            work.abort();
            assert!(work.await.unwrap_err().is_cancelled());
            turns(TURNS).await;
            let case = format!("{name}, dropped after {turn} turns");
            assert_eq!(open(&session), 0, "{case}");
            *begun |= !starts(&manager, &session).await.is_empty();

            // The next use of the name is the same one.
            let again = tokio::spawn(works(&session).into_iter().nth(kind).unwrap().1);
            turns(TURNS).await;
            let is_first = |identity: &StepIdentity| *identity == StepIdentity::nth("it", 1);
            let starts = starts(&manager, &session).await;
            assert!(!starts.is_empty() && starts.iter().all(is_first), "{case}: {starts:?}");
            if name == "question" {
                answer(&manager, id, AnswerTo::TheOnlyOne, "yes").await.unwrap();
                again.await.unwrap().unwrap();
            }
        }
    }
    assert_eq!(begun, [true; 4], "too few turns");
}
