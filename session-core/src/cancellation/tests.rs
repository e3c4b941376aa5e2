//! Tests of sources, tokens and callbacks, with one and with many threads.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use super::*;

/// Records the reason of each call.
#[derive(Clone, Default)]
struct Calls(Arc<std::sync::Mutex<Vec<String>>>);

impl Calls {
    fn callback(&self) -> impl FnOnce(&str) + Send + use<> {
        let calls = self.clone();
        move |reason| calls.0.lock().unwrap().push(reason.to_owned())
    }

    fn seen(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[test]
fn the_first_reason_stays() {
    let source = CancellationSource::default();
    let token = source.token();
    assert!(!token.is_cancelled() && token.reason().is_none() && token.check().is_ok());
    assert!(source.cancel("disk full"));
    assert!(!source.cancel("never mind"));
    assert!(source.is_cancelled() && source.token().is_cancelled());
    let error = token.check().unwrap_err();
    assert_eq!(error, CancelledError { reason: "disk full".into() });
    assert_eq!(error.to_string(), "the work was cancelled: disk full");
    assert_eq!(SessionError::from(error).code().as_str(), "CANCELLED");
}

#[test]
fn dropping_a_source_cancels_nothing() {
    let source = CancellationSource::new();
    let (token, calls) = (source.token(), Calls::default());
    token.on_cancelled(calls.callback()).forget();
    drop(source);
    assert!(!token.is_cancelled());
    drop(token);
    assert!(calls.seen().is_empty());
}

#[tokio::test]
async fn waiting_returns_the_reason() {
    let source = CancellationSource::new();
    // The future owns its state: it outlives its token, on another task.
    let waiting = tokio::spawn(source.token().cancelled());
    let mut second = Box::pin(source.token().cancelled());
    tokio::select! {
        biased;
        _ = &mut second => panic!("nothing was cancelled"),
        () = tokio::task::yield_now() => {}
    }
    source.cancel("enough");
    assert_eq!(second.await, "enough");
    assert_eq!(waiting.await.unwrap(), "enough");
    assert_eq!(source.token().cancelled().await, "enough");
}

#[test]
fn callbacks_run_once_in_order_and_late_ones_immediately() {
    let source = CancellationSource::new();
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    for n in 0..20 {
        let order = Arc::clone(&order);
        source.token().on_cancelled(move |_| order.lock().unwrap().push(n)).forget();
    }
    source.cancel("a");
    source.cancel("b");
    assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());

    let late = Calls::default();
    drop(source.token().on_cancelled(late.callback()));
    assert_eq!(late.seen(), ["a"]);
}

#[test]
fn one_panicking_callback_does_not_stop_the_next() {
    let source = CancellationSource::new();
    let calls = Calls::default();
    source.token().on_cancelled(|_| panic!("first")).forget();
    source.token().on_cancelled(calls.callback()).forget();
    let child = source.child();
    child.token().on_cancelled(|_| panic!("in a child")).forget();
    child.token().on_cancelled(calls.callback()).forget();
    assert!(source.cancel("stop"));
    source.token().on_cancelled(|_| panic!("late")).forget();
    assert_eq!(calls.seen(), ["stop", "stop"]);
}

#[test]
fn a_dropped_guard_unregisters_its_callback() {
    let source = CancellationSource::new();
    let (kept, taken) = (Calls::default(), Calls::default());
    let guard = source.token().on_cancelled(kept.callback());
    drop(source.token().on_cancelled(taken.callback()));
    source.cancel("stop");
    drop(guard);
    assert_eq!(kept.seen(), ["stop"]);
    assert!(taken.seen().is_empty());
}

#[test]
fn a_callback_may_use_its_source_and_token() {
    // If callbacks ran under a lock, each of these calls would deadlock.
    let source = CancellationSource::new();
    let (again, inner) = (source.clone(), Calls::default());
    let seen = inner.clone();
    source
        .token()
        .on_cancelled(move |reason| {
            let token = again.token();
            assert_eq!(token.reason().as_deref(), Some(reason));
            assert!(!again.cancel("from within"));
            token.on_cancelled(seen.callback()).forget();
            assert!(token.child_source().is_cancelled());
        })
        .forget();
    source.cancel("stop");
    assert_eq!(inner.seen(), ["stop"]);
}

#[test]
fn a_callback_is_dropped_outside_the_lock() {
    struct RegistersOnDrop(CancellationToken);
    impl Drop for RegistersOnDrop {
        fn drop(&mut self) {
            self.0.on_cancelled(|_| {}).forget();
        }
    }
    let source = CancellationSource::new();
    let held = RegistersOnDrop(source.token());
    drop(source.token().on_cancelled(move |_| drop(held)));
    assert!(source.cancel("stop"));
}

#[test]
fn a_child_is_cancelled_with_its_parent_but_not_vice_versa() {
    let parent = CancellationSource::new();
    let (first, second) = (parent.child(), parent.token().child_source());
    assert!(first.cancel("only this part"));
    assert!(!parent.is_cancelled() && !second.is_cancelled());
    parent.cancel("all of it");
    assert_eq!(first.token().reason().unwrap(), "only this part");
    assert_eq!(second.token().reason().unwrap(), "all of it");
    assert!(!second.cancel("late"));
    let late = parent.child();
    assert_eq!(late.token().reason().unwrap(), "all of it");
}

#[test]
fn a_cancellation_passes_through_a_dropped_intermediate() {
    let top = CancellationSource::new();
    let bottom = top.child().child().child().token();
    top.cancel("from the top");
    assert_eq!(bottom.reason().unwrap(), "from the top");
}

#[test]
fn a_waiter_woken_by_a_parent_sees_the_children_cancelled() {
    struct ChecksOnWake(CancellationToken, AtomicBool);
    impl std::task::Wake for ChecksOnWake {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.is_cancelled(), Ordering::SeqCst);
        }
    }
    let parent = CancellationSource::new();
    let checker = Arc::new(ChecksOnWake(parent.child().child().token(), AtomicBool::new(false)));
    let waker = std::task::Waker::from(Arc::clone(&checker));
    let mut waiting = Box::pin(parent.token().cancelled());
    let polled = waiting.as_mut().poll(&mut std::task::Context::from_waker(&waker));
    assert!(polled.is_pending());
    parent.cancel("stop");
    assert!(checker.1.load(Ordering::SeqCst));
}

#[test]
fn dropped_children_are_removed_from_their_parent() {
    let parent = CancellationSource::new();
    let kept = parent.child();
    for _ in 0..1_000 {
        drop(parent.child());
    }
    assert_eq!(parent.node.children(), 1);
    drop(kept);
    assert_eq!(parent.node.children(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_cancels_with_a_reason() {
    let source = CancellationSource::with_timeout(Duration::from_secs(30));
    let (token, child) = (source.token(), source.child());
    tokio::time::advance(Duration::from_secs(29)).await;
    tokio::task::yield_now().await;
    assert!(!token.is_cancelled());
    // The timer also runs when only a token is left.
    drop(source);
    assert_eq!(token.cancelled().await, "timed out after 30s");
    assert!(child.is_cancelled());

    let faster = CancellationSource::with_timeout(Duration::from_secs(30));
    faster.cancel("by hand");
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(faster.token().reason().unwrap(), "by hand");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_leaves_no_task_behind() {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    let dropped = CancellationSource::with_timeout(Duration::from_secs(3_600));
    let cancelled = CancellationSource::with_timeout(Duration::from_secs(3_600));
    assert_eq!(alive(), before + 2);
    drop(dropped);
    cancelled.cancel("done");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(alive(), before);
}

/// Threads concurrently cancel, register callbacks, poll and create children, many times over. In every order there is
/// one first reason, each callback receives it exactly once, and no thread sees a cancellation without a reason.
#[test]
fn threads_agree_on_one_reason_and_lose_no_callback() {
    const ROUNDS: usize = 300;
    const CANCELLERS: usize = 3;
    const REGISTERERS: usize = 3;
    const EACH: usize = 8;
    for round in 0..ROUNDS {
        let source = CancellationSource::new();
        let start = Barrier::new(CANCELLERS + REGISTERERS + 2);
        let (winners, received) = (AtomicUsize::new(0), mpsc::channel::<String>());
        let registered = AtomicUsize::new(0);
        thread::scope(|scope| {
            for n in 0..CANCELLERS {
                let (source, start, winners) = (&source, &start, &winners);
                scope.spawn(move || {
                    start.wait();
                    winners.fetch_add(usize::from(source.cancel(format!("reason {n}"))), Ordering::SeqCst);
                    assert!(source.is_cancelled(), "round {round}: cancel returned before it was");
                });
            }
            for _ in 0..REGISTERERS {
                let (token, start, received) = (source.token(), &start, received.0.clone());
                let registered = &registered;
                scope.spawn(move || {
                    start.wait();
                    for _ in 0..EACH {
                        let (sender, observer) = (received.clone(), token.clone());
                        token
                            .on_cancelled(move |reason| {
                                assert!(observer.is_cancelled());
                                sender.send(reason.to_owned()).unwrap();
                            })
                            .forget();
                        registered.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            let (token, children) = (source.token(), &start);
            scope.spawn(move || {
                children.wait();
                let made: Vec<_> = (0..EACH).map(|_| token.child_source()).collect();
                while !token.is_cancelled() {
                    thread::yield_now();
                }
                let reason = token.reason();
                assert!(reason.is_some(), "round {round}: cancelled without a reason");
                for child in made {
                    assert_eq!(child.token().reason(), reason, "round {round}: a child lags behind");
                }
            });
            let token = source.token();
            let start = &start;
            scope.spawn(move || {
                start.wait();
                while !token.is_cancelled() {
                    thread::yield_now();
                }
                token.check().unwrap_err();
            });
        });
        let reason = source.token().reason().unwrap();
        assert_eq!(winners.into_inner(), 1, "round {round}");
        drop(received.0);
        let received: Vec<String> = received.1.try_iter().collect();
        assert_eq!(
            received.len(),
            registered.into_inner(),
            "round {round}: a callback was lost or ran twice"
        );
        assert!(received.iter().all(|received| *received == reason), "round {round}: {received:?}");
    }
}

/// If a guard is dropped while another thread cancels, the callback runs once or never.
#[test]
fn a_guard_dropped_during_a_cancellation_is_harmless() {
    for round in 0..500 {
        let source = CancellationSource::new();
        let (calls, started) = (Calls::default(), AtomicBool::new(false));
        let guard = source.token().on_cancelled(calls.callback());
        thread::scope(|scope| {
            scope.spawn(|| {
                while !started.load(Ordering::SeqCst) {
                    std::hint::spin_loop();
                }
                source.cancel("stop");
            });
            started.store(true, Ordering::SeqCst);
            drop(guard);
        });
        assert!(calls.seen().len() <= 1, "round {round}");
    }
}
