//! Items, questions and sleeps of a session: answers from any process, items that end and begin in one batch, and a
//! deadline that does not count time spent waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use session_core::backend::*;
use session_core::*;

use crate::common::{World, until};
use crate::wrapper::{Overrides, Wrapped};

fn config() -> SessionConfig {
    SessionConfig::new("test")
}

async fn started(manager: &InMemorySessionManager) -> Session {
    let id = manager.create_session(config()).await.unwrap();
    manager.start_session(id).await.unwrap()
}

fn ask(name: &str) -> SessionEvent {
    SessionEvent::Asked { question: Box::new(Question::new(StepIdentity::nth(name, 1), "Which one?")) }
}

/// Appends a question, an answer or a withdrawal after the last one, and returns its revision.
async fn change_questions(session: &Session, event: SessionEvent) -> Result<u64> {
    let tip = session.change_questions(session.head().waits.changed, event).await?;
    Ok(tip.expect("no other process appends").revision)
}

fn answer(asked: Option<u64>) -> Answer {
    Answer { identity: StepIdentity::nth("which", 1), value: "this one".to_owned(), asked }
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> ErrorCode {
    result.unwrap_err().code()
}

/// Appends an answer to a log whose last question or answer has this revision, and checks the record.
async fn answers(world: &World, manager: &InMemorySessionManager, id: SessionId, known: u64) {
    let tip = manager.append_answer(id, known, answer(Some(3))).await.unwrap();
    let head = world.storage.head(id).await.unwrap().unwrap();
    assert_eq!((head.tip, head.waits.changed), (tip, tip.revision));
    let record = manager.read_log(id, tip.revision - 1, 1).await.unwrap().remove(0);
    let SessionEvent::Answered { answer: found, by, default: false } = record.decode().unwrap().event else {
        panic!("{record:?}")
    };
    assert_eq!(*found, answer(Some(3)));
    assert!(!by.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_owner_answers_its_own_question() {
    let world = World::default();
    let manager = world.process().await;
    let session = started(&manager).await;
    let asked = change_questions(&session, ask("which")).await.unwrap();
    answers(&world, &manager, session.id(), asked).await;
    assert_eq!(session.head().waits.questions, 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_another_process_reaches_the_owner() {
    let world = World::default();
    let session = started(&world.process().await).await;
    let asked = change_questions(&session, ask("which")).await.unwrap();
    answers(&world, &world.process().await, session.id(), asked).await;
    let mut view = session.watch();
    view.wait_for(|head| head.waits.questions == 0).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_paused_session_is_answered() {
    let world = World::default();
    let session = started(&world.process().await).await;
    let asked = change_questions(&session, ask("which")).await.unwrap();
    session.pause(PauseReason::Requested("lunch".to_owned())).await.unwrap();
    answers(&world, &world.process().await, session.id(), asked).await;
}

#[tokio::test(start_paused = true)]
async fn an_unowned_session_is_answered() {
    let world = World::default();
    let session = started(&world.process().await).await;
    let (id, asked) = (session.id(), change_questions(&session, ask("which")).await.unwrap());
    drop(session);
    let lost = until(&world, id, |head| head.lifecycle.owner.is_none()).await;
    assert_eq!(lost.waits.questions, 1);
    let manager = world.process().await;
    answers(&world, &manager, id, asked).await;
    assert_eq!(manager.resume_session(id).await.unwrap().head().waits.questions, 0);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_answered_before_it_starts() {
    let world = World::default();
    let manager = world.process().await;
    let id = manager.create_session(config()).await.unwrap();
    answers(&world, &manager, id, 0).await;
    assert!(world.process().await.start_session(id).await.is_ok());
}

/// The answer that came first would not be the first one of the log that its caller had read.
#[tokio::test(start_paused = true)]
async fn an_answer_to_an_older_log_is_a_conflict() {
    let world = World::default();
    let (manager, other) = (world.process().await, world.process().await);
    let session = started(&manager).await;
    let id = session.id();
    let asked = change_questions(&session, ask("which")).await.unwrap();
    session.note("test.note", 1.into(), Durability::Flushed).await.unwrap();
    let before = world.log(id).await;
    for answering in [&manager, &other] {
        for known in [0, asked - 1, asked + 1] {
            let refused = code(answering.append_answer(id, known, answer(None)).await);
            assert_eq!(refused, ErrorCode::Conflict, "{known}");
        }
    }
    assert_eq!(world.log(id).await, before);
    let answered = other.append_answer(id, asked, answer(Some(asked))).await.unwrap();
    for answering in [&manager, &other] {
        let second = answering.append_answer(id, asked, answer(Some(asked))).await;
        assert_eq!(code(second), ErrorCode::Conflict, "the first one holds");
    }
    manager.append_answer(id, answered.revision, answer(None)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn of_two_answers_at_the_same_time_one_is_appended() {
    let world = World::default();
    let (first, second) = (world.process().await, world.process().await);
    let session = started(&world.process().await).await;
    let asked = change_questions(&session, ask("which")).await.unwrap();
    let (one, two) = tokio::join!(
        first.append_answer(session.id(), asked, answer(Some(asked))),
        second.append_answer(session.id(), asked, answer(Some(asked))),
    );
    assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1, "{one:?} {two:?}");
    assert_eq!(code(one.and(two)), ErrorCode::Conflict);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_lacks_inherited_records_is_not_answered() {
    let world = World::default();
    let manager = world.process().await;
    let first = manager.create_session(config()).await.unwrap();
    let id = manager.create_session_inheriting(config().retry_of(first), None, 1).await.unwrap();
    let refused = manager.append_answer(id, 0, answer(None)).await;
    assert_eq!(code(refused), ErrorCode::IllegalTransition);
}

#[tokio::test(start_paused = true)]
async fn an_ended_session_is_not_answered() {
    let world = World::default();
    let (manager, other) = (world.process().await, world.process().await);
    let session = started(&manager).await;
    let asked = change_questions(&session, ask("which")).await.unwrap();
    session.complete(SessionSummary::new()).await.unwrap();
    for answering in [&manager, &other] {
        for known in [0, asked] {
            let refused = answering.append_answer(session.id(), known, answer(None)).await;
            assert_eq!(code(refused), ErrorCode::IllegalTransition);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn values_of_items_are_inherited() {
    let world = World::default();
    let manager = world.process().await;
    let first = manager.create_session(config()).await.unwrap();
    let id = manager.create_session_inheriting(config().retry_of(first), None, 2).await.unwrap();
    let identity = ItemIdentity { arg: b"a".to_vec(), n: 1 };
    let items = vec![InheritedItem { item: 1, identity, unknown: false, deaths: 0 }];
    let step = InheritedStep {
        step: StepIdentity::nth("all", 1),
        fingerprint: "f".to_owned(),
        reruns: 0,
        command: None,
        from: first,
        at: Timestamp::from_millis(1_795_253_400_000).unwrap(),
        inputs: Vec::new(),
        outcome: StepOutcome::Items { items, too_long: false },
    };
    let events = vec![
        SessionEvent::Inherited { step: Box::new(step) },
        SessionEvent::ItemValue { each: 2, item: 1, part: b"1.2".to_vec() },
    ];
    let tip = manager.get_head(id).await.unwrap().tip;
    manager.inherit_steps(id, tip, events).await.unwrap();
    let _session = manager.start_session(id).await.unwrap();
    assert_eq!(world.kinds(id).await, ["created", "inherited", "item_value", "started"]);
}

const EACH: u64 = 3;

fn each() -> SessionEvent {
    let (step, fingerprint) = (StepIdentity::nth("all", 1), "f".to_owned());
    SessionEvent::EachStarted { step, fingerprint, reruns: 0, done: 0, command: None }
}

fn begin(items: &[u64]) -> ItemMoves {
    let begun = items.iter().map(|item| ItemStart { item: *item, identity: None }).collect();
    ItemMoves { each: EACH, begun, ..ItemMoves::default() }
}

/// Returns the value and the end of an item.
fn done(item: u64) -> Vec<SessionEvent> {
    let moves = ItemMoves { each: EACH, done: vec![item], ..ItemMoves::default() };
    vec![
        SessionEvent::ItemValue { each: EACH, item, part: b"v".to_vec() },
        SessionEvent::ItemsMoved { moves },
    ]
}

/// Returns a session in which item 1 of an `each` runs.
async fn with_an_item(manager: &InMemorySessionManager) -> Session {
    let session = started(manager).await;
    assert_eq!(session.start_step(each()).await.unwrap().unwrap().revision, EACH);
    let (tip, begins) = session.move_items(Vec::new(), begin(&[1])).await.unwrap();
    assert!(begins && tip.revision == 4);
    session
}

/// Returns the records of items after a revision.
async fn moves_after(session: &Session, revision: u64) -> Vec<ItemMoves> {
    let records = session.read_log(revision).await.unwrap();
    let moves = |record: Record| {
        let SessionEvent::ItemsMoved { moves } = record.event else { return None };
        Some(moves)
    };
    records.into_iter().filter_map(moves).collect()
}

/// A storage that counts the appends, and those that were flushed.
#[derive(Debug)]
struct Counting {
    inner: MemoryStorage,
    appends: AtomicUsize,
    flushed: AtomicUsize,
}

#[async_trait]
impl Overrides for Counting {
    fn memory(&self) -> &MemoryStorage {
        &self.inner
    }

    async fn append(
        &self,
        id: SessionId,
        expected: Expected,
        batch: Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        self.flushed.fetch_add(usize::from(durability == Durability::Flushed), Ordering::SeqCst);
        self.inner.append(id, expected, batch, durability).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_and_the_next_beginning_are_one_flushed_batch() {
    let world = World::default();
    let (appends, flushed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let counting = Arc::new(Wrapped(Counting { inner: world.storage.clone(), appends, flushed }));
    let options = ManagerOptions::new().recovery(None);
    let manager = PersistentSessionManager::open(Arc::clone(&counting), Arc::new(world.clone()), options)
        .await
        .unwrap();
    let id = manager.create_session(config()).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    session.start_step(each()).await.unwrap();
    session.move_items(Vec::new(), begin(&[1])).await.unwrap();
    let counts = || [&counting.appends, &counting.flushed].map(|count| count.load(Ordering::SeqCst));
    let before = counts();
    let begun = ItemMoves { total: Some(9), ..begin(&[2, 3]) };
    let (tip, begins) = session.move_items(done(1), begun.clone()).await.unwrap();
    assert_eq!((tip.revision, begins), (6, true), "a value, and one record of items");
    assert_eq!(counts(), before.map(|count| count + 1));
    assert_eq!(moves_after(&session, 4).await, [ItemMoves { done: vec![1], ..begun }]);
}

#[tokio::test(start_paused = true)]
async fn a_total_is_recorded_with_the_last_end() {
    let world = World::default();
    let session = with_an_item(&world.process().await).await;
    session.move_items(done(1), ItemMoves { total: Some(1), ..begin(&[]) }).await.unwrap();
    assert_eq!((session.head().items.done, session.head().items.total), (1, Some(1)));
    assert_eq!(session.head().tip.revision, 6);
}

#[tokio::test(start_paused = true)]
async fn items_of_two_eachs_are_two_records() {
    let world = World::default();
    let session = with_an_item(&world.process().await).await;
    let other = session.start_step(each()).await.unwrap().unwrap().revision;
    let begun = ItemMoves { each: other, ..begin(&[1]) };
    session.move_items(done(1), begun.clone()).await.unwrap();
    let ended = ItemMoves { each: EACH, done: vec![1], ..ItemMoves::default() };
    assert_eq!(moves_after(&session, other).await, [ended, begun]);
}

/// Ends an item and begins the next one where that is not possible: only the end is recorded.
async fn only_ends(session: &Session) {
    let before = session.head().tip.revision;
    let (tip, begins) = session.move_items(done(1), begin(&[2])).await.unwrap();
    assert_eq!((tip.revision, begins), (before + 2, false));
    let ended = ItemMoves { each: EACH, done: vec![1], ..ItemMoves::default() };
    assert_eq!(moves_after(session, before).await, [ended]);
    let (tip, begins) = session.move_items(Vec::new(), begin(&[2])).await.unwrap();
    assert_eq!((tip.revision, begins), (before + 2, false), "nothing ended: nothing is appended");
}

#[tokio::test(start_paused = true)]
async fn items_only_end_while_the_session_is_paused() {
    let world = World::default();
    let session = with_an_item(&world.process().await).await;
    session.pause(PauseReason::Requested("lunch".to_owned())).await.unwrap();
    only_ends(&session).await;
    session.resume().await.unwrap();
    let (_, begins) = session.move_items(Vec::new(), begin(&[2])).await.unwrap();
    assert!(begins);
}

#[tokio::test(start_paused = true)]
async fn items_only_end_once_a_pause_is_requested() {
    let world = World::default();
    let manager = world.process().await;
    let session = with_an_item(&manager).await;
    manager.pause_session(session.id(), "lunch".to_owned()).await.unwrap();
    only_ends(&session).await;
    assert!(matches!(session.head().state(), SessionState::Running { .. }));
}

/// The embedding program decides when it pauses: until then, its work runs on.
#[tokio::test(start_paused = true)]
async fn items_begin_until_an_external_pause() {
    let world = World::default();
    let manager = world.process().await;
    let session = with_an_item(&manager).await;
    session.set_request_handling(RequestHandling::External);
    manager.pause_session(session.id(), "lunch".to_owned()).await.unwrap();
    let (_, begins) = session.move_items(done(1), begin(&[2])).await.unwrap();
    assert!(begins);
}

/// A pause is not met while a cancel is pending, so waiting for its end would never begin the item.
#[tokio::test(start_paused = true)]
async fn items_begin_where_a_cancel_overrules_a_pause() {
    let world = World::default();
    let manager = world.process().await;
    let session = with_an_item(&manager).await;
    session.set_request_handling(RequestHandling::Cooperative);
    manager.pause_session(session.id(), "lunch".to_owned()).await.unwrap();
    manager.cancel_session(session.id(), CancelRequest::new("enough", "me")).await.unwrap();
    let (_, begins) = session.move_items(done(1), begin(&[2])).await.unwrap();
    assert!(begins);
    change_questions(&session, ask("which")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn items_only_end_after_a_refusal() {
    let world = World::default();
    let session = with_an_item(&world.process().await).await;
    session.refuse_step("all", ErrorCode::StepChanged, "it changed").await.unwrap();
    only_ends(&session).await;
}

#[tokio::test(start_paused = true)]
async fn each_call_takes_only_its_records() {
    let world = World::default();
    let session = with_an_item(&world.process().await).await;
    let before = world.log(session.id()).await;
    let ends = || SessionEvent::ItemsMoved { moves: ItemMoves { done: vec![1], ..begin(&[]) } };
    let begins = || SessionEvent::ItemsMoved { moves: begin(&[2]) };
    let answered =
        || SessionEvent::Answered { answer: Box::new(answer(None)), by: "me".to_owned(), default: true };
    for result in [
        session.start_step(begins()).await.map(drop),
        session.start_step(answered()).await.map(drop),
        session.end_step(vec![ends(), begins()], Durability::Flushed).await.map(drop),
        session.end_step(vec![ask("which")], Durability::Flushed).await.map(drop),
        session.move_items(vec![begins()], begin(&[3])).await.map(drop),
        session.move_items(vec![each()], begin(&[3])).await.map(drop),
        session.move_items(Vec::new(), ItemMoves { done: vec![1], ..begin(&[2]) }).await.map(drop),
        session.record(ends()).await.map(drop),
        session.record(ask("which")).await.map(drop),
        session.record(answered()).await.map(drop),
    ] {
        assert_eq!(code(result), ErrorCode::InvalidArgument);
    }
    assert_eq!(world.log(session.id()).await, before);
    session.end_step(vec![ends()], Durability::Flushed).await.unwrap();
    assert_eq!(code(session.change_questions(0, ends()).await), ErrorCode::InvalidArgument);
    change_questions(&session, answered()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_question_to_an_older_log_is_not_appended() {
    let world = World::default();
    let session = started(&world.process().await).await;
    let known = change_questions(&session, ask("which")).await.unwrap();
    let tip = session.head().tip;
    assert_eq!(session.change_questions(0, ask("other")).await.unwrap(), None);
    assert_eq!(session.head().tip, tip);
    let withdrawn = SessionEvent::QuestionWithdrawn { asked: known };
    assert!(session.change_questions(known, withdrawn).await.unwrap().is_some());
}

/// Runs work with a deadline of 60 s that works for 30 s, waits for an hour, works for 29 s, and then does not end.
async fn fails_in_time(start: SessionEvent, end: fn(u64) -> SessionEvent) {
    let world = World::default();
    let manager = world.process().await;
    let begun = tokio::time::Instant::now();
    let id = SessionId::from_key("slow");
    let report = manager
        .run_or_resume("slow", config().deadline(Duration::from_secs(60)), async |session| {
            tokio::time::sleep(Duration::from_secs(30)).await;
            let asks = start.kind() == EventKind::Asked;
            let start = if asks {
                change_questions(&session, start).await?
            } else {
                session.start_step(start).await?.expect("it is running").revision
            };
            tokio::time::sleep(Duration::from_secs(3600)).await;
            if asks {
                change_questions(&session, end(start)).await?;
            } else {
                session.end_step(vec![end(start)], Durability::Flushed).await?;
            }
            tokio::time::sleep(Duration::from_secs(29)).await;
            session.checkpoint(&"still in time").await?;
            std::future::pending::<()>().await;
            Ok(())
        })
        .await
        .unwrap();
    let SessionState::Failed { error } = &report.state else { panic!("{:?}", report.state) };
    assert_eq!(error.cause, FailureCause::Timeout);
    assert!(world.kinds(id).await.contains(&"checkpoint_saved"), "the wait spent the deadline");
    let took = begun.elapsed().as_secs();
    assert!((3_660..3_665).contains(&took), "it failed after {took} s");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_does_not_count_a_sleep() {
    let until = Timestamp::from_millis(1_795_253_400_000).unwrap();
    let started = SessionEvent::SleepStarted { step: StepIdentity::nth("night", 1), until };
    fails_in_time(started, |start| SessionEvent::SleepEnded { start, passed: true }).await;
}

#[tokio::test(start_paused = true)]
async fn the_deadline_does_not_count_a_question() {
    fails_in_time(ask("which"), |asked| SessionEvent::QuestionWithdrawn { asked }).await;
}

#[tokio::test(start_paused = true)]
async fn the_deadline_counts_items_next_to_a_question() {
    let world = World::default();
    let manager = world.process().await;
    let begun = tokio::time::Instant::now();
    let report = manager
        .run(config().deadline(Duration::from_secs(60)), async |session| {
            session.start_step(each()).await?;
            session.move_items(Vec::new(), begin(&[1])).await?;
            change_questions(&session, ask("which")).await?;
            std::future::pending::<()>().await;
            Ok(())
        })
        .await
        .unwrap();
    assert!(matches!(&report.state, SessionState::Failed { error } if error.cause == FailureCause::Timeout));
    assert!((60..65).contains(&begun.elapsed().as_secs()));
}

/// Logs of older versions have such pauses: a request continues them, answered or not.
#[tokio::test(start_paused = true)]
async fn a_pause_for_input_ends_by_a_resume_request() {
    for answered in [false, true] {
        let world = World::default();
        let session = started(&world.process().await).await;
        session.pause(PauseReason::AwaitingInput("which one?".to_owned())).await.unwrap();
        let head = world.storage.head(session.id()).await.unwrap().unwrap();
        if answered {
            let input = SessionEvent::InputProvided { value: "this one".into(), by: "ada".to_owned() };
            crate::faults::append(&world.storage, &head, input).await;
        }
        world.process().await.request_resume(session.id()).await.unwrap();
        until(&world, session.id(), |head| matches!(head.state(), SessionState::Running { .. })).await;
    }
}
