//! The outcome of the work of a session.

use crate::event::SessionEvent;
use crate::reason::{Failure, SessionSummary};

/// The outcome with which the work ends its session.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// The work completed. The counters of the summary are filled in from the log.
    Completed(SessionSummary),
    /// The work failed.
    Failed(Failure),
    /// The work was cancelled on request, for this reason.
    Cancelled(String),
}

impl From<Ending> for SessionEvent {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Completed(summary) => Self::Completed { summary },
            Ending::Failed(error) => Self::Failed { error },
            Ending::Cancelled(reason) => Self::Cancelled { reason },
        }
    }
}
