//! What is asked of the thread that writes, and what comes of it.

use session_core::{
    AcceptedLoss, Batch, Durability, Expected, ReconcileReport, RepairReport, SessionId, StorageError, Tip,
};

use crate::change::sealed;
use crate::rows::HeadText;

/// What is asked of the thread.
#[derive(Debug)]
pub(crate) enum Request {
    Append {
        id: SessionId,
        expected: Expected,
        batch: Box<Batch>,
        head: Option<HeadText>,
        durability: Durability,
    },
    Delete {
        id: SessionId,
        tip: Tip,
    },
    Repair {
        id: SessionId,
        acceptance: AcceptedLoss,
    },
    Reconcile,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Done {
    Appended(Tip),
    Deleted,
    Repaired(RepairReport),
    Reconciled(ReconcileReport),
}

pub(crate) type Answer = Result<Done, StorageError>;
pub(crate) type Job = session_storage_engine::Job<Request, Answer>;

impl Request {
    /// Bytes, about.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Append { batch, .. } => {
                batch.records().iter().map(|record| record.line().len() + 1024).sum()
            }
            Self::Delete { .. } | Self::Repair { .. } | Self::Reconcile => 1024,
        }
    }

    pub(crate) const fn id(&self) -> Option<SessionId> {
        match self {
            Self::Append { id, .. } | Self::Delete { id, .. } | Self::Repair { id, .. } => Some(*id),
            Self::Reconcile => None,
        }
    }

    /// Whether it is to survive power loss.
    pub(crate) const fn is_flushed(&self) -> bool {
        !matches!(self, Self::Append { durability: Durability::Buffered, expected: Expected::At(_), .. })
    }

    /// What it comes to where there is no store; `None` if it makes one.
    pub(crate) fn without_store(&self) -> Option<StorageError> {
        match self {
            Self::Append { id, expected, batch, .. } => {
                let fits =
                    batch.check(*id, *expected, None, || Ok(0)).and_then(|()| sealed(*id, None, batch));
                fits.err()
            }
            Self::Delete { id, .. } | Self::Repair { id, .. } => Some(StorageError::NotFound { id: *id }),
            Self::Reconcile => None,
        }
    }
}
