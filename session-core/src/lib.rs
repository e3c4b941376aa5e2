//! Durable sessions for long-running work.

mod callback;
mod cancellation;
mod code;
mod config;
mod error;
mod event;
mod head;
mod id;
pub mod limits;
mod machine;
mod manager;
mod observer;
mod owner;
mod presence;
mod progress;
mod reason;
mod record;
mod storage;
pub mod text;
mod time;

pub use callback::CallbackGuard;
pub use cancellation::{CancellationSource, CancellationToken, CancelledError};
pub use code::ErrorCode;
pub use config::{ExecutionMode, SessionConfig, SessionOptions, check_name};
pub use error::{FailureError, Result, SessionError};
pub use event::{Changes, EventKind, FORMAT, Origin, ProgressReport, SessionEvent};
pub use head::{Head, Totals};
pub use id::{InstanceId, InvalidId, SessionId};
pub use machine::{
    CancelRequest, Lifecycle, PauseRequest, Rejected, Requests, Rule, SessionState, StateName, Who, rule,
};
pub use manager::{
    Answers, CrashedSession, Dispatcher, EventSink, InMemorySessionManager, ManagerOptions,
    ObservableSessionManager, ObserverHealth, PersistedSession, PersistentSessionManager, RecoveryOptions,
    RecoveryOutcome, RecoveryPolicy, RecoveryReport, Session, SessionList, SessionManager, SessionManagerExt,
    SessionReport, WorkError, WorkHandler,
};
pub use observer::{EventContext, SessionObserver};
pub use owner::{Evidence, Owner};
pub use presence::{
    FileSystem, Liveness, Presence, PresenceGuard, ProcessPresence, file_system, this_process,
};
pub use progress::{ProgressTracker, SessionProgress, format_progress};
pub use reason::{Failure, FailureCause, PauseReason, SessionSummary};
pub use record::{Broken, Chain, DecodeError, Draft, Envelope, Record, StoredRecord, Sum, Tip, follows};
pub use storage::{
    Batch, ChangeFeed, Durability, Expected, HeadPage, MemoryStorage, RecordPage, SessionFilter,
    SessionStorage, SessionStorageExt, Sharing, StorageError, StorageProfile,
};
pub use time::{Clock, InvalidTimestamp, SystemClock, Timestamp};
