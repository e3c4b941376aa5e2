//! Questions about the items of an `each` whose end is unknown.

use std::sync::Arc;

use session_core::{Session, StepIdentity};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use crate::ask::ask_about_unknown;
use crate::attempt::Attempt;
use crate::decisions::OnUnknown;
use crate::error::StepError;

/// The questions that wait for an answer. Dropped, they are withdrawn.
#[derive(Debug, Default)]
pub(super) struct Questions {
    tasks: JoinSet<(u64, Result<OnUnknown, StepError>)>,
}

/// An item whose end is unknown.
#[derive(Debug)]
pub(super) struct AboutUnknown {
    pub(super) number: u64,
    /// The revision of its start.
    pub(super) start: u64,
    pub(super) text: String,
}

impl Questions {
    /// Asks about an item. `asked` receives the question once it waits.
    pub(super) fn ask(
        &mut self,
        attempt: &Arc<Attempt>,
        session: &Session,
        name: &str,
        about: AboutUnknown,
        asked: Option<UnboundedSender<StepIdentity>>,
    ) {
        let (attempt, session, name) = (Arc::clone(attempt), session.clone(), name.to_owned());
        self.tasks.spawn(async move {
            let AboutUnknown { number, start, text } = about;
            let key = format!("unknown:{start}:{number}");
            let notify = |question: &StepIdentity| {
                // The client is gone if it does not receive it.
                let _ = asked.as_ref().map(|asked| asked.send(question.clone()));
            };
            (number, ask_about_unknown(&attempt, &session, &name, &key, text, &notify).await)
        });
    }

    /// Returns the number of items that wait for an answer.
    pub(super) fn waiting(&self) -> usize {
        self.tasks.len()
    }

    /// Waits for the next decision; for ever if none is to come. The future can be dropped without loss.
    pub(super) async fn next(&mut self) -> Result<(u64, OnUnknown), StepError> {
        loop {
            match self.tasks.join_next().await {
                Some(Ok((number, decision))) => return Ok((number, decision?)),
                // No task panics, or is aborted while this lives.
                Some(Err(_)) => {}
                None => return std::future::pending().await,
            }
        }
    }
}
