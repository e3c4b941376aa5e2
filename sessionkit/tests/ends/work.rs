//! The ways in which work holds its session, and what it sees.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sessionkit::manager::RequestHandling;
use sessionkit::{
    CancellationToken, ErrorCode, Session, SessionConfig, SessionError, SessionId, SessionManagerExt as _,
    StateName, WorkError,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::world::{Way, World};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// A task that waits in a `select!`.
    Task,
    /// A task that makes one session call after the other.
    Polled,
    /// A task that never calls its session and says so.
    Immediate,
    /// A closure under `run`.
    Closure,
    /// A closure under `run_or_resume`.
    Keyed,
    /// A handle that was dropped before the call.
    Dropped,
    /// A program of the runner.
    #[cfg(all(feature = "runner", target_os = "linux"))]
    Program,
}

impl Hold {
    pub(crate) const ALL: &[Self] = &[
        Self::Task,
        Self::Polled,
        Self::Immediate,
        Self::Closure,
        Self::Keyed,
        Self::Dropped,
        #[cfg(all(feature = "runner", target_os = "linux"))]
        Self::Program,
    ];

    /// Returns `true` for work whose end is the result of a call.
    pub(crate) const fn has_result(self) -> bool {
        !matches!(self, Self::Task | Self::Polled | Self::Immediate | Self::Dropped)
    }

    pub(crate) const fn is_program(self) -> bool {
        self.has_result() && !matches!(self, Self::Closure | Self::Keyed)
    }
}

/// The observations of the work after the end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The error of the next call.
    pub(crate) next: Option<ErrorCode>,
    pub(crate) fenced: Option<ErrorCode>,
    /// The outcome of `run`.
    pub(crate) result: Option<Result<StateName, ErrorCode>>,
}

pub(crate) struct Held {
    id: SessionId,
    session: Option<Session>,
    token: CancellationToken,
    callbacks: Arc<AtomicUsize>,
    steps: Arc<AtomicUsize>,
    task: Option<JoinHandle<Seen>>,
}

/// The parts of the session that the test observes, sent by the work when it begins.
type Begun = (SessionId, CancellationToken);

impl Held {
    pub(crate) async fn start(
        world: &World,
        hold: Hold,
        way: Way,
        config: SessionConfig,
        case: &str,
    ) -> Self {
        let manager = Arc::clone(world.store.manager());
        let (callbacks, steps) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (begin, start) = oneshot::channel::<Begun>();
        let mut session = None;
        let task = if hold.is_program() {
            program::start(world, config, begin, &steps).await
        } else if hold.has_result() {
            let key = case.to_owned();
            let steps = Arc::clone(&steps);
            tokio::spawn(async move {
                let work = async |session: Session| {
                    begin.send((session.id(), session.cancellation())).unwrap();
                    wait(&session, hold, &steps).await;
                    if way == Way::Cancel {
                        // A cancelled closure may still save its results.
                        session.checkpoint(&1).await?;
                    }
                    Err::<(), _>(WorkError::new("stopped"))
                };
                let result = if hold == Hold::Closure {
                    manager.run(config, work).await
                } else {
                    manager.run_or_resume(&key, config, work).await
                };
                let result = result.map(|report| report.state.name()).map_err(|error| error.code());
                Seen { result: Some(result), ..Seen::default() }
            })
        } else {
            let id = manager.create_session(config).await.unwrap();
            let started = manager.start_session(id).await.unwrap();
            if hold == Hold::Immediate {
                started.set_request_handling(RequestHandling::Immediate);
            }
            begin.send((id, started.cancellation())).unwrap();
            if hold == Hold::Dropped {
                let token = started.cancellation();
                drop(started);
                token.cancelled().await;
                world.until(id, StateName::Paused, case).await;
                tokio::spawn(async { Seen::default() })
            } else {
                session = Some(started.clone());
                let steps = Arc::clone(&steps);
                tokio::spawn(async move {
                    let error = wait(&started, hold, &steps).await;
                    let next = match error {
                        Some(error) => error,
                        None => started.checkpoint(&1).await.unwrap_err(),
                    };
                    // The end is known by now, so this does not have to wait for it.
                    let fenced = tokio::select! {
                        biased;
                        error = started.fenced() => Some(error.code()),
                        () = std::future::ready(()) => None,
                    };
                    Seen { next: Some(next.code()), fenced, result: None }
                })
            }
        };
        let (id, token) = start.await.unwrap();
        let count = Arc::clone(&callbacks);
        let counted = move |_: &str| {
            count.fetch_add(1, Ordering::SeqCst);
        };
        token.on_cancelled(counted).forget();
        Self { id, session, token, callbacks, steps, task: Some(task) }
    }

    pub(crate) const fn id(&self) -> SessionId {
        self.id
    }

    pub(crate) const fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    pub(crate) const fn token(&self) -> &CancellationToken {
        &self.token
    }

    pub(crate) fn callbacks(&self) -> usize {
        self.callbacks.load(Ordering::SeqCst)
    }

    pub(crate) fn steps(&self) -> usize {
        self.steps.load(Ordering::SeqCst)
    }

    /// Waits until the work does more steps than before. The timeout is a backstop.
    pub(crate) async fn until_it_continues(&self, before: usize, case: &str) {
        let wait = async {
            while self.steps() <= before {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(60), wait).await.is_ok(), "{case}: never continued");
    }

    /// Waits for the end of the work.
    pub(crate) async fn finish(&mut self, case: &str) -> Seen {
        let task = self.task.take().unwrap();
        let seen = tokio::time::timeout(Duration::from_secs(60), task).await;
        seen.unwrap_or_else(|_| panic!("{case}: the work never ends")).unwrap()
    }

    /// Ends work that goes on.
    pub(crate) async fn stop(&mut self, world: &World) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
        self.session = None;
        let request = sessionkit::CancelRequest::new("the case is over", "test").force();
        let _ = world.store.manager().cancel_session(self.id, request).await;
    }
}

/// Works until the token is cancelled or a call fails, and counts its steps. Returns the error of the call.
async fn wait(session: &Session, hold: Hold, steps: &AtomicUsize) -> Option<SessionError> {
    let token = session.cancellation();
    loop {
        if hold == Hold::Polled {
            if let Err(error) = session.checkpoint(&steps.load(Ordering::SeqCst)).await {
                return Some(error);
            }
        } else if hold != Hold::Immediate {
            tokio::select! {
                biased;
                _ = token.cancelled() => return None,
                paused = session.paused() => drop(paused),
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
            }
            // Returns immediately unless the session is paused. An error comes with the token.
            let _ = session.resumed().await;
        } else {
            tokio::select! {
                _ = token.cancelled() => return None,
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
            }
        }
        steps.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(all(feature = "runner", target_os = "linux"))]
mod program {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use sessionkit::runner::Command;

    use super::*;

    /// Runs a program that counts its steps.
    pub(super) async fn start(
        world: &World,
        config: SessionConfig,
        begin: oneshot::Sender<Begun>,
        steps: &Arc<AtomicUsize>,
    ) -> JoinHandle<Seen> {
        // In a file, because a store in memory keeps no output.
        let counted = tempfile::NamedTempFile::new().unwrap();
        let script = "while :; do echo . >> \"$0\"; sleep 0.005; done";
        let command = Command::new("sh").args(["-c", script]).arg(counted.path().to_str().unwrap());
        let mut running = world.store.runner().unwrap().spawn(config, command).await.unwrap();
        let steps = Arc::clone(steps);
        let counting = tokio::spawn(async move {
            loop {
                let length = counted.as_file().metadata().unwrap().len();
                steps.store(usize::try_from(length).unwrap(), Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        let session = running.session();
        begin.send((session.id(), session.cancellation())).unwrap();
        tokio::spawn(async move {
            let result = running.wait().await;
            counting.abort();
            let result = result.map(|report| report.head.state().name()).map_err(|error| error.code());
            Seen { result: Some(result), ..Seen::default() }
        })
    }
}

#[cfg(not(all(feature = "runner", target_os = "linux")))]
mod program {
    use super::*;

    #[expect(clippy::unused_async, reason = "as with a runner")]
    pub(super) async fn start(
        _: &World,
        _: SessionConfig,
        _: oneshot::Sender<Begun>,
        _: &Arc<AtomicUsize>,
    ) -> JoinHandle<Seen> {
        unreachable!("there is no runner")
    }
}
