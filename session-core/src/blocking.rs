//! Blocking work in asynchronous code.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

/// Runs blocking work on a thread of its own, or on this one where the system starts no thread: late is better than
/// never, and than the panic of [`tokio::task::spawn_blocking`]. Dropping the future does not end work that has begun.
///
/// # Panics
/// If the work does.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (reply, replied) = oneshot::channel();
    // A thread that is not started drops its closure, but not this.
    let work = Arc::new(Mutex::new(Some(work)));
    let take = |work: &Mutex<Option<_>>| {
        let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
        work.take().expect("nobody has taken it before")
    };
    let run = {
        let work = Arc::clone(&work);
        move || drop(reply.send(catch_unwind(AssertUnwindSafe(take(&work)))))
    };
    if let Err(error) = thread::Builder::new().name("session-blocking".to_owned()).spawn(run) {
        tracing::debug!(%error, "could not start a thread for blocking work");
    }
    match replied.await {
        Ok(Ok(value)) => value,
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => take(&work)(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_value_comes_from_another_thread() {
        let here = thread::current().id();
        assert_ne!(blocking(move || thread::current().id()).await, here);
    }

    #[tokio::test]
    async fn a_panic_reaches_the_caller() {
        let outcome = tokio::spawn(blocking(|| panic!("broken"))).await;
        let panic = outcome.expect_err("it panics").into_panic();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"broken"));
    }
}
