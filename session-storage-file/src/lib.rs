//! File storage for `session-core`: one readable log per session.

mod catch_up;
mod create;
mod disk;
mod durable;
mod error;
#[cfg(feature = "fault-disk")]
pub mod fault;
mod format;
mod handle;
mod lanes;
mod layout;
mod lock;
mod options;
mod pool;
mod quarantine;
mod read;
mod recover;
mod repair;
mod report;
mod scan;
mod slots;
mod storage;
mod store;
mod trash;
mod verdict;

pub use disk::{Disk, DiskFile, Identity, Kind, LockMode, Open, RealDisk};
pub use options::FileStorageOptions;
pub use report::{Acceptance, Loss, Recovered, Repaired, SessionReport, StoreReport};
pub use storage::FileStorage;
pub use verdict::Verdict;
