//! See the crate's description.

mod disk;
#[cfg(feature = "fault-disk")]
pub mod fault;

pub use disk::{Disk, DiskFile, Identity, Kind, LockMode, Open};
