//! Requests to the writer thread, and its responses.

use session_core::backend::{Batch, Expected, Tip};
use session_core::maintenance::{AcceptedLoss, ReconcileReport, RepairReport};
use session_core::{Durability, SessionId, StorageError};

use crate::rows::HeadText;
use crate::transaction::check_chain;

/// A request to the writer thread.
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

/// The response to a request.
#[derive(Debug)]
pub(crate) enum Response {
    Appended(Tip),
    Deleted,
    Repaired(RepairReport),
    Reconciled(ReconcileReport),
}

pub(crate) type Reply = Result<Response, StorageError>;
pub(crate) type Job = session_storage_engine::Job<Request, Reply>;

impl Request {
    /// Returns the approximate size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Append { batch, .. } => {
                // A row and its share of the indexes have a cost of their own.
                usize::try_from(batch.bytes().saturating_add(batch.len().saturating_mul(1024)))
                    .unwrap_or(usize::MAX)
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

    /// Returns `true` if the change must survive power loss.
    pub(crate) const fn is_flushed(&self) -> bool {
        !matches!(self, Self::Append { durability: Durability::Buffered, expected: Expected::At(_), .. })
    }

    /// Returns the error of this request on a missing store; `None` if the request creates the store.
    pub(crate) fn without_store(&self) -> Option<StorageError> {
        match self {
            Self::Append { id, expected, batch, .. } => {
                let fits =
                    batch.check(*id, *expected, None, || Ok(0)).and_then(|()| check_chain(*id, None, batch));
                fits.err()
            }
            Self::Delete { id, .. } | Self::Repair { id, .. } => Some(StorageError::NotFound { id: *id }),
            Self::Reconcile => None,
        }
    }
}
