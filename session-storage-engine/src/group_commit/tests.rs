//! Grouping of jobs, skipped jobs, and the errors of callers that wait when the thread ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, mpsc as std_mpsc};
use std::time::Duration;

use super::*;

fn count(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

/// A gate that blocks the work until the test opens it.
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
    let (sender, groups) = std_mpsc::channel();
    let gate_of_work = Arc::clone(&gate);
    let group = GroupCommit::start("test-group", limits, move |jobs: Vec<Job<u32, u32>>| {
        sender.send(jobs.iter().map(|job| job.request).collect()).unwrap();
        gate_of_work.pass();
        for job in jobs {
            let double = job.request * 2;
            job.reply(double);
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

/// Lets all tasks run as far as they can.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn queued_jobs_are_one_group_and_each_gets_its_reply() {
    let (group, gate, groups) = gated(Limits::default());
    let first = submit(&group, 1, 10);
    settle().await;
    assert_eq!(groups.recv().unwrap(), [1]);
    let rest: Vec<_> = (2..50).map(|n| submit(&group, n, 10)).collect();
    settle().await;
    gate.open();
    assert_eq!(first.await.unwrap(), Ok(2));
    for (n, reply) in (2..).zip(rest) {
        assert_eq!(reply.await.unwrap(), Ok(n * 2));
    }
    assert_eq!(groups.recv().unwrap(), (2..50).collect::<Vec<_>>());
    assert_eq!(group.thread.as_ref().unwrap().thread().name(), Some("test-group"));
}

#[tokio::test]
async fn groups_stay_within_their_limits() {
    let (group, gate, groups) = gated(Limits { jobs: count(3), bytes: 100, queue: count(4) });
    let first = submit(&group, 0, 1);
    settle().await;
    assert_eq!(groups.recv().unwrap(), [0]);
    // Three at most; none after 100 bytes; a larger one alone. Jobs beyond the queue's limit wait outside of it.
    let rest: Vec<_> = [(1, 1), (2, 1), (3, 1), (4, 60), (5, 60), (6, 500), (7, 1)]
        .map(|(n, bytes)| submit(&group, n, bytes))
        .into();
    settle().await;
    gate.open();
    first.await.unwrap().unwrap();
    for reply in rest {
        reply.await.unwrap().unwrap();
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
async fn an_abandoned_job_is_skipped_unless_it_has_started() {
    let (group, gate, groups) = gated(Limits::default());
    let started = submit(&group, 1, 1);
    settle().await;
    assert_eq!(groups.recv().unwrap(), [1]);
    let waits = submit(&group, 2, 1);
    let leaves = submit(&group, 3, 1);
    settle().await;
    started.abort();
    leaves.abort();
    settle().await;
    gate.open();
    assert_eq!(waits.await.unwrap(), Ok(4));
    assert_eq!(groups.recv().unwrap(), [2]);
    // A group whose callers have all gone is skipped, and the thread continues.
    assert_eq!(group.submit(5, 1).await, Ok(10));
    assert_eq!(groups.recv().unwrap(), [5]);
}

#[tokio::test]
async fn a_panic_closes_the_handle_and_every_caller_gets_an_error() {
    let gate = Arc::new(Gate::default());
    let gate_of_work = Arc::clone(&gate);
    let (sender, started) = std_mpsc::channel();
    let group = GroupCommit::start("test-panic", Limits::default(), move |jobs: Vec<Job<u32, u32>>| {
        sender.send(()).unwrap();
        gate_of_work.pass();
        assert!(jobs.is_empty(), "on purpose");
    });
    let group = Arc::new(group.unwrap());
    let first = submit(&group, 1, 1);
    settle().await;
    started.recv().unwrap();
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
async fn dropping_the_last_handle_waits_for_the_thread_to_end() {
    /// Reports when the thread drops the state of the work.
    struct DropFlag(Arc<AtomicBool>);
    impl Drop for DropFlag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = DropFlag(Arc::clone(&dropped));
    let group = GroupCommit::start("test-end", Limits::default(), move |jobs: Vec<Job<u32, u32>>| {
        let _ = &flag;
        std::thread::sleep(Duration::from_millis(1));
        for job in jobs {
            job.reply(0);
        }
    });
    let group = group.unwrap();
    group.submit(1, 1).await.unwrap();
    assert!(!dropped.load(Ordering::SeqCst));
    drop(group);
    assert!(dropped.load(Ordering::SeqCst));
}
