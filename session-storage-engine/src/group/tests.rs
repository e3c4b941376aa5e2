//! What is done at once, what is left out, and what becomes of those who wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, mpsc as std_mpsc};
use std::time::Duration;

use super::*;

fn count(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

/// Work that stands until it is told to go on, and says what it was given.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn pass(&self) {
        let mut open = self.0.lock().unwrap();
        while !*open {
            open = self.1.wait(open).unwrap();
        }
    }

    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

type Groups = std_mpsc::Receiver<Vec<u32>>;

fn gated(limits: Limits) -> (Arc<GroupCommit<u32, u32>>, Arc<Gate>, Groups) {
    let gate = Arc::new(Gate::default());
    let (said, groups) = std_mpsc::channel();
    let behind = Arc::clone(&gate);
    let group = GroupCommit::start("test-group", limits, move |jobs: Vec<Job<u32, u32>>| {
        said.send(jobs.iter().map(|job| job.request).collect()).unwrap();
        behind.pass();
        for job in jobs {
            let double = job.request * 2;
            job.answer(double);
        }
    });
    (Arc::new(group.unwrap()), gate, groups)
}

fn submit(
    group: &Arc<GroupCommit<u32, u32>>,
    n: u32,
    bytes: usize,
) -> tokio::task::JoinHandle<Result<u32, WorkerGone>> {
    let group = Arc::clone(group);
    tokio::spawn(async move { group.submit(n, bytes).await })
}

/// Lets all tasks go as far as they can.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_queues_up_is_done_at_once_and_each_is_answered() {
    let (group, gate, groups) = gated(Limits::default());
    let first = submit(&group, 1, 10);
    settle().await;
    assert_eq!(groups.recv().unwrap(), [1]);
    let rest: Vec<_> = (2..50).map(|n| submit(&group, n, 10)).collect();
    settle().await;
    gate.open();
    assert_eq!(first.await.unwrap(), Ok(2));
    for (n, answer) in (2..).zip(rest) {
        assert_eq!(answer.await.unwrap(), Ok(n * 2));
    }
    assert_eq!(groups.recv().unwrap(), (2..50).collect::<Vec<_>>());
    assert_eq!(group.thread.as_ref().unwrap().thread().name(), Some("test-group"));
}

#[tokio::test]
async fn a_group_has_its_limits() {
    let (group, gate, groups) = gated(Limits { jobs: count(3), bytes: 100, queue: count(4) });
    let first = submit(&group, 0, 1);
    settle().await;
    assert_eq!(groups.recv().unwrap(), [0]);
    // Three at most; no more behind 100 bytes; a larger one alone. More than the queue holds wait outside of it.
    let rest: Vec<_> = [(1, 1), (2, 1), (3, 1), (4, 60), (5, 60), (6, 500), (7, 1)]
        .map(|(n, bytes)| submit(&group, n, bytes))
        .into();
    settle().await;
    gate.open();
    first.await.unwrap().unwrap();
    for answer in rest {
        answer.await.unwrap().unwrap();
    }
    let done: Vec<Vec<u32>> = groups.try_iter().collect();
    assert_eq!(done.concat(), [1, 2, 3, 4, 5, 6, 7]);
    assert!(done.iter().all(|group| group.len() <= 3), "{done:?}");
    for group in &done {
        let before_last = &group[..group.len() - 1];
        let bytes: usize = before_last.iter().map(|n| [1, 1, 1, 60, 60, 500, 1][*n as usize - 1]).sum();
        assert!(bytes < 100, "{done:?}");
    }
}

#[tokio::test]
async fn a_job_that_nobody_waits_for_is_left_out_unless_it_has_begun() {
    let (group, gate, groups) = gated(Limits::default());
    let begun = submit(&group, 1, 1);
    settle().await;
    assert_eq!(groups.recv().unwrap(), [1]);
    let waits = submit(&group, 2, 1);
    let leaves = submit(&group, 3, 1);
    settle().await;
    begun.abort();
    leaves.abort();
    settle().await;
    gate.open();
    assert_eq!(waits.await.unwrap(), Ok(4));
    assert_eq!(groups.recv().unwrap(), [2]);
    // All of them left: nothing is done, and the thread goes on.
    assert_eq!(group.submit(5, 1).await, Ok(10));
    assert_eq!(groups.recv().unwrap(), [5]);
}

#[tokio::test]
async fn a_panic_closes_the_handle_and_nobody_waits_for_ever() {
    let gate = Arc::new(Gate::default());
    let behind = Arc::clone(&gate);
    let (said, begun) = std_mpsc::channel();
    let group = GroupCommit::start("test-panic", Limits::default(), move |jobs: Vec<Job<u32, u32>>| {
        said.send(()).unwrap();
        behind.pass();
        assert!(jobs.is_empty(), "on purpose");
    });
    let group = Arc::new(group.unwrap());
    let first = submit(&group, 1, 1);
    settle().await;
    begun.recv().unwrap();
    let second = submit(&group, 2, 1);
    settle().await;
    gate.open();
    assert_eq!(first.await.unwrap(), Err(WorkerGone::Unknown));
    assert_eq!(second.await.unwrap(), Err(WorkerGone::NotStarted));
    assert_eq!(group.submit(3, 1).await, Err(WorkerGone::NotStarted));
    let id = SessionId::random();
    assert_eq!(WorkerGone::Unknown.to_error("the writer", id).code().as_str(), "OUTCOME_UNKNOWN");
    assert_eq!(WorkerGone::NotStarted.to_error("the writer", id).code().as_str(), "CLOSED");
}

#[tokio::test]
async fn the_last_handle_ends_the_thread_and_waits_for_what_has_begun() {
    /// Says when the thread lets go of what the work holds.
    struct Held(Arc<AtomicBool>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let gone = Arc::new(AtomicBool::new(false));
    let held = Held(Arc::clone(&gone));
    let group = GroupCommit::start("test-end", Limits::default(), move |jobs: Vec<Job<u32, u32>>| {
        let _ = &held;
        std::thread::sleep(Duration::from_millis(1));
        for job in jobs {
            job.answer(0);
        }
    });
    let group = group.unwrap();
    group.submit(1, 1).await.unwrap();
    assert!(!gone.load(Ordering::SeqCst));
    drop(group);
    assert!(gone.load(Ordering::SeqCst));
}
