//! File storage for `session-core`: one readable log per session.

mod create;
mod disk;
mod durable;
mod error;
mod format;
mod handle;
mod lanes;
mod layout;
mod lock;
mod options;
mod pool;
mod quarantine;
mod read;
mod scan;
mod slots;
mod storage;
mod store;
mod trash;
mod verdict;

pub use disk::{Disk, DiskFile, Identity, Kind, LockMode, Open, RealDisk};
pub use options::FileStorageOptions;
pub use storage::FileStorage;
pub use verdict::Verdict;
