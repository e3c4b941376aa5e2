//! Appends that begin something: what they begin is given up if nobody waits for them any more.

use session_core::{Result, Session, SessionError, SessionEvent};

/// Records the start of a step, an `each` or a sleep once the session is not paused, and passes its revision to `recorded`.
///
/// Dropped before that, it records nothing. A record that is being written then is completed, and `open` dropped, which
/// gives up what has begun.
pub(crate) async fn start<T: Send + 'static>(
    session: &Session,
    mut open: T,
    started: SessionEvent,
    recorded: impl Fn(&mut T, u64) + Clone + Send + 'static,
) -> Result<T> {
    loop {
        let (owned, event, recorded) = (session.clone(), started.clone(), recorded.clone());
        let (back, is_started) = to_end(async move {
            let tip = owned.start_step(event).await?;
            if let Some(tip) = tip {
                recorded(&mut open, tip.revision);
            }
            Ok::<_, SessionError>((open, tip.is_some()))
        })
        .await?;
        if is_started {
            return Ok(back);
        }
        open = back;
        session.resumed().await?;
    }
}

/// Runs work to its end, also if this future is dropped before: what it returns is dropped then.
pub(crate) async fn to_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
