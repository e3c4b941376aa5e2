//! File storage for `session-core`: one readable log per session.

mod disk;
#[cfg(feature = "fault-disk")]
pub mod fault;

pub use disk::{Disk, DiskFile, Identity, Kind, LockMode, Open, RealDisk};
